//go:build kubernetes

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Peers of the Kubernetes suite, as testdata/peers/kubernetes names them.
const (
	kubeAPIServer = "kube-apiserver-v1.37.2"
	kubeCTL       = "kubectl-v1.37.2"
)

// kubePeer is the path of a peer of this suite. It is always there: a suite that
// skips itself without its peers proves nothing.
func kubePeer(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(os.Getenv("COUNTERSIGN_PEERS"), name))
	check(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run make e2e-kubernetes, which builds it", err)
	}
	return path
}

// notRun says aloud what a build cannot show, and why.
func notRun(t testing.TB, what string) {
	t.Helper()
	fmt.Fprintf(os.Stderr, "NOT RUN: %s\n", what)
	t.Skip(what)
}

// testCluster is a real kube-apiserver on a real etcd. There are no controllers and
// no nodes: what it admits stays pending.
type testCluster struct {
	t         testing.TB
	dir, url  string
	etcdURL   string
	etcd, api *exec.Cmd
	arguments []string
	client    *http.Client
}

const clusterToken = "e2e-administrator"

// newCluster starts etcd and the API server; admission is an
// AdmissionConfiguration, or empty.
func newCluster(t testing.TB, admission string, plugins ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 32,
	}}}
	t.Cleanup(c.stop)
	c.startEtcd()
	address, err := freeAddress()
	check(t, err)
	_, port, _ := strings.Cut(address, ":")
	c.url = "https://" + address
	c.arguments = []string{
		"--etcd-servers=" + c.etcdURL, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--secure-port=" + port, "--cert-dir=" + filepath.Join(c.dir, "certs"), "--service-account-issuer=" + c.url,
		"--service-account-key-file=" + c.writeKey("sa.key"), "--service-account-signing-key-file=" + filepath.Join(c.dir, "sa.key"),
		"--token-auth-file=" + c.write("tokens.csv", clusterToken+`,admin,admin-uid,"system:masters"`+"\n"),
		"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount",
	}
	if admission != "" {
		c.arguments = append(c.arguments, "--admission-control-config-file="+c.write("admission.yaml", admission))
	}
	if len(plugins) > 0 {
		c.arguments = append(c.arguments, "--enable-admission-plugins="+strings.Join(plugins, ","))
	}
	c.start()
	return c
}

func (c *testCluster) write(name, content string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	check(c.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (c *testCluster) writeKey(name string) string {
	c.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(c.t, err)
	return c.write(name, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
}

func (c *testCluster) startEtcd() {
	c.t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		c.t.Fatalf("%v; apt-get install etcd-server", err)
	}
	client, err := freeAddress()
	check(c.t, err)
	peer, err := freeAddress()
	check(c.t, err)
	c.etcdURL = "http://" + client
	c.etcd = c.run(path, "etcd.log", "--name", "e1", "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", c.etcdURL, "--advertise-client-urls", c.etcdURL, "--listen-peer-urls", "http://"+peer,
		"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "e1=http://"+peer)
	c.await(c.etcdURL+"/health", "etcd.log")
}

// start runs the API server and waits until it is ready.
func (c *testCluster) start() {
	c.t.Helper()
	c.api = c.run(kubePeer(c.t, kubeAPIServer), "apiserver.log", c.arguments...)
	c.await(c.url+"/readyz", "apiserver.log")
}

func (c *testCluster) run(path, log string, args ...string) *exec.Cmd {
	c.t.Helper()
	out, err := os.OpenFile(filepath.Join(c.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(c.t, err)
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(c.t, cmd.Start())
	return cmd
}

func (c *testCluster) await(url, log string) {
	c.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		check(c.t, err)
		req.Header.Set("Authorization", "Bearer "+clusterToken)
		resp, err := c.client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(filepath.Join(c.dir, log))
			c.t.Fatalf("%s is not ready: %v\n%s", url, err, said[max(0, len(said)-4000):])
		}
	}
}

// stopAPI ends the API server as an upgrade would.
func (c *testCluster) stopAPI() {
	if c.api != nil {
		_ = c.api.Process.Kill()
		_ = c.api.Wait()
		c.api = nil
	}
}

func (c *testCluster) stop() {
	c.stopAPI()
	if c.etcd != nil {
		_ = c.etcd.Process.Kill()
		_ = c.etcd.Wait()
		c.etcd = nil
	}
}

// answer is what the API server said.
type answer struct {
	status   int
	message  string
	object   map[string]any
	warnings []string
}

func (a answer) ok() bool { return a.status/100 == 2 }

// ask calls the API server as a client library does.
func (c *testCluster) ask(method, path, contentType string, body any) answer {
	c.t.Helper()
	a, err := c.try(method, path, contentType, body)
	check(c.t, err)
	return a
}

func (c *testCluster) try(method, path, contentType string, body any) (answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, c.url+path, bytes.NewReader(encoded))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+clusterToken)
	req.Header.Set("Content-Type", contentType)
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, warnings: resp.Header.Values("Warning")}
	if err := json.Unmarshal(raw, &a.object); err != nil {
		return a, fmt.Errorf("%s: %w", raw, err)
	}
	a.message, _ = a.object["message"].(string)
	return a, nil
}

func (c *testCluster) create(path string, object any) answer {
	c.t.Helper()
	return c.ask(http.MethodPost, path, "application/json", object)
}

// kubectl runs the stock client and returns what it printed, and whether it
// succeeded.
func (c *testCluster) kubectl(stdin string, args ...string) (string, bool) {
	c.t.Helper()
	cmd := exec.Command(kubePeer(c.t, kubeCTL), append([]string{
		"--server=" + c.url, "--token=" + clusterToken, "--insecure-skip-tls-verify",
	}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "KUBECONFIG="+filepath.Join(c.dir, "none"))
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return string(out), err == nil
}

func (c *testCluster) mustKubectl(stdin string, args ...string) string {
	c.t.Helper()
	out, ok := c.kubectl(stdin, args...)
	if !ok {
		c.t.Fatalf("kubectl %v:\n%s", args, out)
	}
	return out
}

// refused wants kubectl to fail with every word said.
func (c *testCluster) refused(words []string, args ...string) {
	c.t.Helper()
	out, ok := c.kubectl("", args...)
	if ok {
		c.t.Errorf("kubectl %v succeeded:\n%s", args, out)
		return
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			c.t.Errorf("kubectl %v does not say %q:\n%s", args, word, out)
		}
	}
}

// namespace makes a namespace.
func (c *testCluster) namespace(name string) {
	c.t.Helper()
	if a := c.create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}); !a.ok() && a.status != http.StatusConflict {
		c.t.Fatalf("namespace %s: %d %s", name, a.status, a.message)
	}
}
