//go:build interop

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
)

// The stock witness, and the storage driver's example of a log with a witness
// policy: its conformance server has no such flag.
const (
	omniwitness = "omniwitness-v0.0.0-20260720115447-2e1c6971d19e"
	oneshot     = "tessera-oneshot-v1.0.4"
)

// stockWitness is the stock witness, which can be restarted with more logs.
type stockWitness struct {
	t         *testing.T
	dir       string
	address   string
	vkey, url string
	cmd       *exec.Cmd
}

// startOmniwitness runs the stock witness for a log.
func startOmniwitness(t *testing.T, logVKeys string) *stockWitness {
	t.Helper()
	dir := t.TempDir()
	address, err := freeAddress()
	check(t, err)
	skey, plain, err := note.GenerateKey(rand.Reader, "omniwitness.example.com")
	check(t, err)
	vkey, err := formatsnote.VKeyToCosignatureV1(plain)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "key"), []byte(skey), 0o600))
	w := &stockWitness{t: t, dir: dir, address: address, vkey: vkey, url: "http://" + address}
	t.Cleanup(w.kill)
	w.knows(logVKeys)
	return w
}

func (w *stockWitness) kill() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.cmd = nil
	}
}

// knows starts the witness, again if it runs, with a list of logs.
func (w *stockWitness) knows(logVKeys string) {
	w.t.Helper()
	w.kill()
	list := filepath.Join(w.dir, "logs.yaml")
	yaml := "Logs:\n"
	for _, vkey := range strings.Fields(logVKeys) {
		origin, _, _ := strings.Cut(vkey, "+")
		yaml += fmt.Sprintf("  - Origin: %s\n    URL: http://127.0.0.1:1\n    PublicKey: %s\n", origin, vkey)
	}
	check(w.t, os.WriteFile(list, []byte(yaml), 0o600))
	w.cmd = exec.Command(peer(w.t, omniwitness), "--listen", w.address, "--metrics_listen", "", "--db_file", filepath.Join(w.dir, "db"),
		"--private_key_path", filepath.Join(w.dir, "key"), "--additional_logs", list)
	w.cmd.Env = append(os.Environ(), "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1")
	check(w.t, w.cmd.Start())
	wait(w.t, "the stock witness does not start", func() bool {
		resp, err := http.Post(w.url+"/add-checkpoint", "", strings.NewReader("old 0\n"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusBadRequest
	})
}

// TestInteropWitnesses: the stock witness and ours cosign our log, both needed;
// stock cosign accepts what was signed under such checkpoints, as we do. A copy
// of the log that is older than both know does not start.
func TestInteropWitnesses(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	defer registry.Close()
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	ours, stock := newWitnessProcess(t, p.vkey()), startOmniwitness(t, p.vkey())
	p.witnessedBy(fmt.Sprintf("witness stock %s %s\nwitness ours %s %s\ngroup both all stock ours\nquorum both\n", stock.vkey, stock.url, ours.vkey, ours.url))
	cosignAccepts(t, p, registry)
	wantCosigned(t, p, "127.0.0.1\n", stock.vkey, ours.vkey)
	// The log changes its key: both witnesses are told of the next shard's.
	for range 2 {
		if out, code := p.run("authorities", "rotate", "log"); code != 7 {
			t.Errorf("nobody knows the new key: exit %d %s", code, out)
		}
	}
	vkeys := p.vkey()
	ours.knows(vkeys)
	stock.knows(vkeys)
	p.must("authorities", "rotate", "log")
	cosignAccepts(t, p, registry)
	wantCosigned(t, p, "shard-2-", stock.vkey, ours.vkey)
	p.must("log", "audit", "--data-dir", p.dir)
	p.kill()
	older := filepath.Join(t.TempDir(), "data")
	check(t, os.CopyFS(older, os.DirFS(p.dir)))
	check(t, os.Chmod(filepath.Join(older, "master.key"), 0o600))
	p.start()
	signNew(t, p, registry, "bundle")
	p.kill()
	for i, arg := range p.args {
		if arg == p.dir {
			p.args[i] = older
		}
	}
	cmd := exec.Command(os.Args[0], p.args...)
	cmd.Env = append(os.Environ(), "COUNTERSIGN_TEST_PROCESS=1")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "log is older than its own record") {
		t.Errorf("an older copy served: %v\n%s", err, out)
	}
}

// cosignAccepts signs in both formats; both stock versions and we accept it.
func cosignAccepts(t *testing.T, p *process, registry *localregistry.Registry) {
	t.Helper()
	keyPath, rootPath := publicMaterial(t, p, "release")
	for _, format := range []string{"bundle", "legacy"} {
		image := signNew(t, p, registry, format)
		for _, name := range []string{cosignV2, cosignV3} {
			newCosign(t, name).must(t, "verify", "--key", keyPath, "--trusted-root", rootPath, "--allow-http-registry", image)
		}
		if r := p.verdict(image); r.Verdict != policy.Passed {
			t.Errorf("%s: our own verdict: %s", format, mustJSON(t, r))
		}
	}
}

// wantCosigned: the checkpoint of now is of that origin, and all have cosigned it.
func wantCosigned(t *testing.T, p *process, origin string, witnesses ...string) {
	t.Helper()
	raw, err := p.admin.Checkpoint(context.Background())
	check(t, err)
	if !strings.HasPrefix(string(raw), origin) {
		t.Errorf("want a checkpoint of %q:\n%s", origin, raw)
	}
	for _, witness := range witnesses {
		verifier, err := formatsnote.NewVerifierForCosignatureV1(witness)
		check(t, err)
		if _, err := note.Open(raw, note.VerifierList(verifier)); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	}
}

// TestInteropOurWitness: the storage driver's stock client has its log cosigned
// by our witness, and not another tree under the same key.
func TestInteropOurWitness(t *testing.T) {
	dir := t.TempDir()
	skey, logVKey, err := note.GenerateKey(rand.Reader, "example.com/oneshot")
	check(t, err)
	key, entry, witnesses := filepath.Join(dir, "key"), filepath.Join(dir, "entry"), filepath.Join(dir, "policy")
	check(t, os.WriteFile(key, []byte(skey), 0o600))
	w := newWitnessProcess(t, logVKey)
	check(t, os.WriteFile(witnesses, fmt.Appendf(nil, "witness ours %s %s\nquorum ours\n", w.vkey, w.url), 0o600))
	add := func(storage, content string) ([]byte, error) {
		check(t, os.WriteFile(entry, []byte(content), 0o600))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, peer(t, oneshot), "--storage_dir", filepath.Join(dir, storage), "--entries", entry,
			"--private_key", key, "--witness_policy_file", witnesses)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return out, err
		}
		return os.ReadFile(filepath.Join(dir, storage, "checkpoint"))
	}
	verifier, err := formatsnote.NewVerifierForCosignatureV1(w.vkey)
	check(t, err)
	for n := range 3 {
		raw, err := add("log", fmt.Sprint("entry ", n))
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		if _, err := note.Open(raw, note.VerifierList(verifier)); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	}
	if out, err := add("fork", "another entry"); err == nil {
		t.Errorf("a fork was cosigned:\n%s", out)
	}
}
