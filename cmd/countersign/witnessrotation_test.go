package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// TestRotateWitnessedLog: a witnessed log changes its key. The next shard waits for
// its witness and the log goes on meanwhile; the keys to give to the witness are
// told; a monitor that looks all the time has no alarm. A restored backup goes on
// in a shard that the witness has not known either, although the service that was
// lost had one of the same number.
func TestRotateWitnessedLog(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	hook := newReceiver(t)
	p := newProcess(t, "--monitor-webhook", hook.url, "--monitor-interval", "100ms")
	p.start()
	p.trustAll(registry, "release")
	w := newWitnessProcess(t, p.vkey())
	p.witnessedBy(fmt.Sprintf("witness ours %s %s\nquorum ours\n", w.vkey, w.url))
	// A proxy in front of the service is a mirror of all shards.
	p.kill()
	p.args = append(p.args, "--monitor-also", p.url)
	p.start()
	sign := func(name string) (shard string) {
		t.Helper()
		d, err := registry.PushImage(ctx, "app", "", name)
		check(t, err)
		op, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: registry.Image("app", d), Key: "release"}, api.SignOptions{})
		check(t, err)
		return op.Signatures[0].LogEntry.LogID
	}
	state := filepath.Join(t.TempDir(), "state.json")
	monitor := func(want int) {
		t.Helper()
		if out, code := p.run("log", "monitor", "--once", "--url", p.url, "--state", state); code != want {
			t.Errorf("log monitor: exit %d, want %d\n%s", code, want, out)
		}
	}
	first := sign("one")
	monitor(0)
	saved := filepath.Join(t.TempDir(), "saved.backup")
	if out, code := p.run("backup", "--out", saved); code != 0 {
		t.Fatalf("backup: exit %d %s", code, out)
	}

	if out, code := p.run("authorities", "rotate", "log"); code != 7 {
		t.Errorf("a key that the witness does not know: exit %d %s", code, out)
	}
	if again := sign("two"); again != first {
		t.Error("the new key is used before the witness knows it")
	}
	monitor(6) // nothing is published there, and nothing is wrong
	vkeys := p.vkey()
	if strings.Count(vkeys, "\n") != 2 || !strings.Contains(vkeys, "\nshard-2-") {
		t.Fatalf("keys for the witness:\n%s", vkeys)
	}
	w.knows(vkeys)
	if out, code := p.run("authorities", "rotate", "log"); code != 0 {
		t.Fatalf("the witness knows the key: exit %d %s", code, out)
	}
	if sign("three") == first {
		t.Error("the log goes on under the old key")
	}
	monitor(0)
	note, err := p.admin.Checkpoint(ctx)
	check(t, err)
	if name, _, _ := strings.Cut(w.vkey, "+"); !strings.HasPrefix(string(note), "shard-2-") || !strings.Contains(string(note), "— "+name+" ") {
		t.Errorf("not cosigned:\n%s", note)
	}
	p.caughtUp()
	if told := hook.told(); len(told) > 0 || p.part("monitor") != "ok" {
		t.Errorf("the service's monitor, %s: %+v", p.part("monitor"), told)
	}
	p.kill()
	p.start()
	p.must("log", "audit", "--data-dir", p.dir)
	p.kill()

	// The lost service has logged in its second shard; the restored one begins
	// another second shard.
	master := filepath.Join(p.dir, "master.key")
	restored := filepath.Join(t.TempDir(), "restored")
	if out, code := p.run("restore", saved, "--data-dir", restored, "--master-key", master); code != 0 {
		t.Fatalf("restore: exit %d %s", code, out)
	}
	lost := p.dir
	p.use(restored)
	check(t, copyToken(lost, restored))
	p.cmd = p.command(p.args...)
	check(t, p.cmd.Start())
	status := func() int {
		resp, err := http.Get(p.url + "/readyz")
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	wait(t, "the restored service does not start", func() bool { return status() == http.StatusServiceUnavailable })
	restoredKey := p.must("log", "vkey")
	if !strings.HasPrefix(restoredKey, "shard-2-") || strings.Contains(vkeys, restoredKey) {
		t.Fatalf("the restored log's key: %s", restoredKey)
	}
	w.knows(vkeys + restoredKey)
	wait(t, "the restored log is not cosigned", func() bool { return status() == http.StatusOK })
	sign("four")
	p.must("log", "audit", "--data-dir", p.dir)
}

// use goes on with another data folder.
func (p *process) use(dir string) {
	for i, arg := range p.args {
		if arg == p.dir {
			p.args[i] = dir
		}
	}
	p.dir = dir
}

// copyToken: a backup does not hold the administrator's token, and the database
// knows it.
func copyToken(from, to string) error {
	token, err := os.ReadFile(filepath.Join(from, "admin.token"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "admin.token"), token, 0o600)
}
