package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// TestMain lets the test binary play the program itself: for scripts by its
// name, for tests that kill a real process by COUNTERSIGN_TEST_PROCESS.
func TestMain(m *testing.M) {
	if os.Getenv("COUNTERSIGN_TEST_PROCESS") != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"countersign": main, verifierName: main})
}

// process is a real `countersign serve` on its own data folder.
type process struct {
	t     testing.TB
	dir   string
	url   string
	args  []string
	cmd   *exec.Cmd
	admin *api.Client
	// binary, shell and attributes say how it is started, if not as the test
	// binary itself; shell is a script that gets the command line.
	binary     string
	shell      string
	attributes *syscall.SysProcAttr
}

// newProcess picks an address and a folder and starts nothing yet.
func newProcess(t testing.TB, args ...string) *process {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	p := &process{t: t, dir: filepath.Join(t.TempDir(), "data"), url: "http://" + address}
	p.args = append([]string{"serve", "--listen", address, "--data-dir", p.dir, "--log-level", "error"}, args...)
	t.Cleanup(p.kill)
	return p
}

// in moves the data folder of a process that was not started yet.
func (p *process) in(dir string) *process {
	p.args[slices.Index(p.args, p.dir)] = dir
	p.dir = dir
	return p
}

// command is a command line of the program.
func (p *process) command(args ...string) *exec.Cmd {
	binary := cmp.Or(p.binary, os.Args[0])
	cmd := exec.Command(binary, args...)
	if p.shell != "" {
		cmd = exec.Command("/bin/sh", append([]string{"-c", p.shell, binary}, args...)...)
	}
	cmd.Env = append(os.Environ(), "COUNTERSIGN_TEST_PROCESS=1")
	cmd.Stderr = os.Stderr
	return cmd
}

// start runs the process and waits until it is ready.
func (p *process) start() {
	p.t.Helper()
	p.cmd = p.command(p.args...)
	p.cmd.SysProcAttr = p.attributes
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := p.client().Get(p.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the service is not ready: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	var err error
	p.admin, err = api.NewClientWith(api.ClientConfig{URL: p.url, Token: p.token(), Transport: p.client().Transport})
	if err != nil {
		p.t.Fatal(err)
	}
}

// secure has the process serve TLS with a certificate that it makes itself.
func (p *process) secure() *process {
	p.url = "https" + strings.TrimPrefix(p.url, "http")
	p.args = append(p.args, "--tls-self-signed")
	return p
}

// client believes whom the process says in its data folder.
func (p *process) client() *http.Client {
	if strings.HasPrefix(p.url, "http:") {
		return http.DefaultClient
	}
	transport, err := tlsFiles{authorities: p.bundle()}.transport()
	if err != nil { // not written yet: nobody is believed
		transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	}
	return &http.Client{Transport: transport}
}

// bundle is the file that says whom to believe for the process's certificate.
func (p *process) bundle() string { return filepath.Join(p.dir, "tls-ca.pem") }

// token is the first administrator's.
func (p *process) token() string {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(p.dir, "admin.token"))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// kill ends the process as a power failure would end it.
func (p *process) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// must runs a command line that must succeed.
func (p *process) must(args ...string) string {
	p.t.Helper()
	out, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

// run executes one command line of the program and returns what it printed.
func (p *process) run(args ...string) (stdout string, code int) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "COUNTERSIGN_TEST_PROCESS=1", "COUNTERSIGN_URL="+p.url)
	if strings.HasPrefix(p.url, "https:") {
		cmd.Env = append(cmd.Env, "COUNTERSIGN_CACERT="+p.bundle())
	}
	if token, err := os.ReadFile(filepath.Join(p.dir, "admin.token")); err == nil {
		cmd.Env = append(cmd.Env, "COUNTERSIGN_TOKEN="+strings.TrimSpace(string(token)))
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// trustAll lists the registry, makes a key, and demands its signature.
func (p *process) trustAll(registry *localregistry.Registry, key string) {
	p.t.Helper()
	ctx := context.Background()
	_, err := p.admin.PutRegistry(ctx, registry.Host, api.RegistryRequest{
		Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	check(p.t, err)
	_, err = p.admin.CreateKey(ctx, api.KeyRequest{Name: key})
	check(p.t, err)
	_, err = p.admin.PutGrant(ctx, "everything", api.GrantRequest{
		Issuer: "local", Subject: "admin", Keys: []string{key}, Actions: []string{"sign"},
		Repositories: []string{registry.Host + "/**"},
	}, api.PutOptions{})
	check(p.t, err)
	p.policy(registry, "managed", fmt.Sprintf(`{key: {name: %s}}`, key))
}

// policy demands a signature by one authority for every image of a registry.
func (p *process) policy(registry *localregistry.Registry, name, authority string) {
	p.t.Helper()
	p.requiring(registry, name, authority, "{all: [{signature: {by: signer}}]}")
}

// requiring makes a policy with one authority, signer, and a requirement.
func (p *process) requiring(registry *localregistry.Registry, name, authority, require string) {
	p.t.Helper()
	document := fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: %s}
spec:
  match: {images: [%q]}
  mode: enforce
  authorities: {signer: %s}
  require: %s
`, name, registry.Host+"/**", authority, require)
	_, err := putPolicy(context.Background(), p.admin, name, []byte(document))
	check(p.t, err)
}

// verdict asks about one image.
func (p *process) verdict(image string) api.VerifyResult {
	p.t.Helper()
	answer, err := p.admin.Verify(context.Background(), api.VerifyRequest{Images: []string{image}})
	check(p.t, err)
	return answer.Results[0]
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	check(t, err)
	return string(out)
}
