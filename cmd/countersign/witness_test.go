package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// witnessProcess is a real `countersign witness`.
type witnessProcess struct {
	t    testing.TB
	args []string
	url  string
	vkey string
	cmd  *exec.Cmd
}

// newWitnessProcess starts a witness of the logs in a list of verifier keys.
func newWitnessProcess(t testing.TB, logs string) *witnessProcess {
	t.Helper()
	dir := t.TempDir()
	address, err := freeAddress()
	check(t, err)
	list := filepath.Join(dir, "logs")
	check(t, os.WriteFile(list, []byte(logs), 0o600))
	w := &witnessProcess{t: t, url: "http://" + address}
	w.args = []string{
		"witness", "--data-dir", filepath.Join(dir, "data"), "--listen", address, "--log", list,
		"--name", "witness.example.com/" + filepath.Base(dir), "--log-level", "error",
	}
	t.Cleanup(w.kill)
	w.start()
	return w
}

func (w *witnessProcess) start() {
	w.t.Helper()
	w.cmd = exec.Command(os.Args[0], w.args...)
	w.cmd.Env = append(os.Environ(), "COUNTERSIGN_TEST_PROCESS=1")
	out, err := w.cmd.StdoutPipe()
	check(w.t, err)
	check(w.t, w.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(w.t, err)
	w.vkey = strings.TrimSpace(line)
}

func (w *witnessProcess) kill() {
	if w.cmd == nil {
		return
	}
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
	w.cmd = nil
}

// knows restarts the witness with other logs.
func (w *witnessProcess) knows(logs string) {
	w.t.Helper()
	w.kill()
	list := w.args[slices.Index(w.args, "--log")+1]
	check(w.t, os.WriteFile(list, []byte(logs), 0o600))
	w.start()
}

// vkey is the log's verifier key, which witnesses are given.
func (p *process) vkey() string {
	p.t.Helper()
	out, code := p.run("log", "vkey")
	if code != 0 {
		p.t.Fatalf("log vkey: exit %d", code)
	}
	return out
}

// witnessedBy restarts the service with a policy.
func (p *process) witnessedBy(policy string) {
	p.t.Helper()
	p.kill()
	path := filepath.Join(filepath.Dir(p.dir), "witnesses")
	check(p.t, os.WriteFile(path, []byte(policy), 0o600))
	p.args = append(p.args, "--log-witness-policy", path, "--log-witness-timeout", "2s")
	p.start()
}

// TestServeWithWitness: the whole way through two processes. A witness that is
// killed has the log answer 503 with a reason; one that is back has it go on.
func TestServeWithWitness(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	w := newWitnessProcess(t, p.vkey())
	p.witnessedBy(fmt.Sprintf("witness ours %s %s\nquorum ours\n", w.vkey, w.url))
	sign := func(name string) error {
		d, err := registry.PushImage(ctx, "app", "", name)
		check(t, err)
		_, _, err = p.admin.Sign(ctx, api.SignatureRequest{Image: registry.Image("app", d), Key: "release"}, api.SignOptions{})
		return err
	}
	check(t, sign("one"))
	note, err := p.admin.Checkpoint(ctx)
	check(t, err)
	if name, _, _ := strings.Cut(w.vkey, "+"); !strings.Contains(string(note), "— "+name+" ") {
		t.Errorf("not cosigned:\n%s", note)
	}
	w.kill()
	_ = sign("two") // it may be answered as pending
	ready := func() bool {
		resp, err := http.Get(p.url + "/readyz")
		check(t, err)
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	wait(t, "ready without its witness", func() bool { return !ready() })
	var problem *api.Problem
	if _, err := p.admin.AddLogEntry(ctx, logRequest(t)); !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || problem.Code != "log_unwitnessed" || problem.RetryAfter == 0 {
		t.Errorf("an entry without the witness: %v", err)
	}
	p.kill()
	w.start()
	p.start()
	check(t, sign("three"))
	w.kill()
	if out, code := p.run("log", "audit", "--data-dir", p.dir); code != 0 {
		t.Errorf("audit: exit %d\n%s", code, out)
	}
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestWitnessUsage(t *testing.T) {
	p := newProcess(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	check(t, os.WriteFile(bad, []byte("nonsense\n"), 0o600))
	for name, args := range map[string][]string{
		"no log":        {"--data-dir", dir},
		"no such file":  {"--data-dir", dir, "--log", filepath.Join(dir, "none")},
		"not a key":     {"--data-dir", dir, "--log", bad},
		"not PEM":       {"--data-dir", dir, "--log", "log.example.com=" + bad},
		"open to all":   {"--data-dir", dir, "--log", bad, "--listen", "0.0.0.0:0"},
		"half of a TLS": {"--data-dir", dir, "--log", bad, "--tls-cert", bad},
	} {
		if out, code := p.run(append([]string{"witness"}, args...)...); code != 2 {
			t.Errorf("%s: exit %d %s", name, code, out)
		}
	}
}

// logRequest is a Rekor v2 request for an entry that is not there yet.
func logRequest(t testing.TB) []byte {
	t.Helper()
	return newLogKey(t).request(t)
}
