//go:build kubernetes

package cluster_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/cluster"
)

// apiServer is a real etcd and kube-apiserver on loopback.
type apiServer struct {
	t    *testing.T
	url  string
	dir  string
	http *http.Client
}

// startReal starts both, or skips the test when COUNTERSIGN_PEERS has no
// kube-apiserver or the machine no etcd.
func startReal(t *testing.T) *apiServer {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(os.Getenv("COUNTERSIGN_PEERS"), "kube-apiserver-*"))
	etcd, err := exec.LookPath("etcd")
	if len(found) == 0 || err != nil {
		t.Skip("no kube-apiserver in COUNTERSIGN_PEERS, or no etcd")
	}
	s := &apiServer{t: t, dir: t.TempDir(), http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // whether it answers is asked, not who it is
	}}}
	client, peer, port := freePort(t), freePort(t), freePort(t)
	s.url = "https://127.0.0.1:" + port
	s.run(etcd, "--name", "e1", "--data-dir", filepath.Join(s.dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", "http://127.0.0.1:"+client, "--advertise-client-urls", "http://127.0.0.1:"+client,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peer, "--initial-cluster", "e1=http://127.0.0.1:"+peer)
	private, public := s.accountKeys()
	tokens := s.file("tokens.csv", []byte("admintoken,admin,admin-uid,\"system:masters\"\ncstoken,countersign,cs-uid\n"))
	s.run(found[len(found)-1], "--etcd-servers=http://127.0.0.1:"+client, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", "--secure-port="+port, "--cert-dir="+filepath.Join(s.dir, "certs"),
		"--service-account-issuer="+s.url, "--service-account-key-file="+public, "--service-account-signing-key-file="+private,
		"--token-auth-file="+tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount")
	for deadline := time.Now().Add(60 * time.Second); s.do(http.MethodGet, "/readyz", "") != http.StatusOK; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the API server is not ready")
		}
	}
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (s *apiServer) run(program string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = nil, nil
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func (s *apiServer) file(name string, content []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *apiServer) accountKeys() (private, public string) {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		s.t.Fatal(err)
	}
	private = s.file("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return private, s.file("sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}

// do sends a request as the administrator; a body is what kubectl apply would
// create.
func (s *apiServer) do(method, path, body string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admintoken")
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	_, _ = answer.ReadFrom(resp.Body)
	if resp.StatusCode > 299 && path != "/readyz" {
		s.t.Logf("%s %s: %s", method, path, answer.String())
	}
	return resp.StatusCode
}

func (s *apiServer) must(method, path, body string) {
	s.t.Helper()
	if code := s.do(method, path, body); code < 200 || code > 299 {
		s.t.Fatalf("%s %s: %d", method, path, code)
	}
}

func (s *apiServer) client(token string) *cluster.Client {
	s.t.Helper()
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],
"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`, s.url, token)
	c, err := cluster.Open(cluster.Config{Kubeconfig: s.file("kubeconfig-"+token, []byte(config))})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// TestRealAPIServer holds the client, and the rights that docs/cluster.md gives it,
// against a real API server.
func TestRealAPIServer(t *testing.T) {
	s := startReal(t)
	c := s.client("cstoken")
	ctx := t.Context()
	if _, err := c.Running(ctx, ""); !errors.Is(err, cluster.ErrForbidden) {
		t.Errorf("without a role: %v", err)
	}
	for _, rules := range []struct{ name, rules string }{
		{"scan", `[{"apiGroups":[""],"resources":["pods"],"verbs":["list"]},{"apiGroups":["apps"],"resources":["replicasets"],"verbs":["list"]},{"apiGroups":["batch"],"resources":["jobs"],"verbs":["list"]}]`},
		{"pull", `[{"apiGroups":[""],"resources":["secrets","serviceaccounts"],"verbs":["get"]}]`},
		{"bundle", `[{"apiGroups":["admissionregistration.k8s.io"],"resources":["validatingwebhookconfigurations","mutatingwebhookconfigurations"],"resourceNames":["countersign"],"verbs":["get","patch"]}]`},
	} {
		s.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterroles", fmt.Sprintf(`{"metadata":{"name":"cs-%s"},"rules":%s}`, rules.name, rules.rules))
		s.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", fmt.Sprintf(
			`{"metadata":{"name":"cs-%s"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cs-%s"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"countersign"}]}`, rules.name, rules.name))
	}
	t.Run("running", func(t *testing.T) { s.running(t, c) })
	t.Run("pull secrets", func(t *testing.T) { s.pullSecrets(t, c) })
	t.Run("bundle", func(t *testing.T) { s.bundle(t, c) })
}

func (s *apiServer) running(t *testing.T, c *cluster.Client) {
	s.must(http.MethodPost, "/api/v1/namespaces", `{"metadata":{"name":"shop"}}`)
	spec := `{"containers":[{"name":"c","image":"r.example.com/app:1"}],"volumes":[{"name":"v","image":{"reference":"r.example.com/data:1"}}]}`
	template := `{"metadata":{"labels":{"a":"b"}},"spec":` + spec + `}`
	s.must(http.MethodPost, "/apis/apps/v1/namespaces/shop/replicasets",
		`{"metadata":{"name":"web-1","ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"u1","controller":true}]},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":`+template+`}}`)
	for i := range 300 {
		s.must(http.MethodPost, "/api/v1/namespaces/shop/pods", fmt.Sprintf(
			`{"metadata":{"name":"web-%d","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1","uid":"u2","controller":true}]},"spec":%s}`, i, spec))
	}
	d := digest("a")
	s.must(http.MethodPatch, "/api/v1/namespaces/shop/pods/web-0/status", `{"status":{"phase":"Running","containerStatuses":[{"name":"c","image":"x","imageID":"r.example.com/app@`+d+`","ready":true,"restartCount":0}]}}`)
	s.must(http.MethodPatch, "/api/v1/namespaces/shop/pods/web-1/status", `{"status":{"phase":"Succeeded"}}`)
	got, err := c.Running(t.Context(), "")
	if err != nil || len(got.Pods) != 299 || got.Truncated {
		t.Fatalf("%d pods, %v", len(got.Pods), err)
	}
	first := got.Pods[slices.IndexFunc(got.Pods, func(p cluster.Pod) bool { return p.Name == "web-0" })]
	if first.Workload.String() != "Deployment/web" || !slices.Contains(first.Images, cluster.Image{Named: "r.example.com/app:1", Runs: "r.example.com/app@" + d}) {
		t.Errorf("%+v", first)
	}
}

func (s *apiServer) pullSecrets(t *testing.T, c *cluster.Client) {
	config := base64.StdEncoding.EncodeToString([]byte(`{"auths":{"r.example.com":{"auth":"dTpw"}}}`))
	s.must(http.MethodPost, "/api/v1/namespaces/shop/secrets", `{"metadata":{"name":"pull"},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"`+config+`"}}`)
	s.must(http.MethodPost, "/api/v1/namespaces/shop/serviceaccounts", `{"metadata":{"name":"runner"},"imagePullSecrets":[{"name":"pull"}]}`)
	k, said := c.Keychain(t.Context(), cluster.Pull{Namespace: "shop", ServiceAccount: "runner", Secrets: []string{"gone"}})
	if got := lent(k, "r.example.com"); !slices.Equal(got, []string{"u:p"}) || len(said) != 1 {
		t.Errorf("%q, %q", got, said)
	}
}

func (s *apiServer) bundle(t *testing.T, c *cluster.Client) {
	for _, kind := range []string{"validating", "mutating"} {
		s.must(http.MethodPost, "/apis/admissionregistration.k8s.io/v1/"+kind+"webhookconfigurations",
			`{"metadata":{"name":"countersign"},"webhooks":[{"name":"w.example.com","admissionReviewVersions":["v1"],"sideEffects":"None","clientConfig":{"url":"https://127.0.0.1:1/x"},"namespaceSelector":{"matchLabels":{"none":"such"}}}]}`)
	}
	pemBundle := authorityPEM(t)
	written, err := c.PutCABundle(t.Context(), []string{"countersign"}, pemBundle)
	if err != nil || len(written) != 2 {
		t.Fatalf("%q, %v", written, err)
	}
	again, err := c.PutCABundle(t.Context(), []string{"countersign"}, pemBundle)
	if err != nil || len(again) != 0 {
		t.Errorf("again: %q, %v", again, err)
	}
}
