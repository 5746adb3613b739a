package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog/monitor"
)

// TestLogMonitor: the monitor follows both shards of a served log, knows who
// signed, and compares a copy that is served elsewhere (row B8).
func TestLogMonitor(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	sign := func(name string) {
		d, err := registry.PushImage(ctx, "app", "", name)
		check(t, err)
		_, _, err = p.admin.Sign(ctx, api.SignatureRequest{Image: registry.Image("app", d), Key: "release"}, api.SignOptions{})
		check(t, err)
	}
	sign("one")
	if out, code := p.run("authorities", "rotate", "log"); code != 0 {
		t.Fatalf("rotating the log: exit %d %s", code, out)
	}
	sign("two")
	dir := t.TempDir()
	key, err := p.admin.Key(ctx, "release")
	check(t, err)
	watch := filepath.Join(dir, "watch.yaml")
	// From outside the journal's key is one like any other.
	expected := []string{key.KeyID}
	pemKeys, err := os.ReadFile(filepath.Join(p.dir, "journal.pem"))
	check(t, err)
	for block, rest := pem.Decode(pemKeys); block != nil; block, rest = pem.Decode(rest) {
		expected = append(expected, fmt.Sprintf("%x", sha256.Sum256(block.Bytes)))
	}
	check(t, os.WriteFile(watch, []byte("keys: {expected: ["+strings.Join(expected, ", ")+"]}\n"), 0o600))
	var events []map[string]any
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event map[string]any
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		events = append(events, event)
	}))
	t.Cleanup(hook.Close)
	// A mirror of the folder, as any file server gives it.
	mirror := filepath.Join(dir, "mirror")
	check(t, os.CopyFS(mirror, os.DirFS(filepath.Join(p.dir, "log-2"))))
	elsewhere := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	t.Cleanup(elsewhere.Close)
	root := filepath.Join(p.dir, "trusted_root.json")
	once := func(args ...string) ([]monitor.Alarm, int) {
		t.Helper()
		out, code := p.run(append([]string{
			"log", "monitor", "--once", "--url", p.url, "--trusted-root", root, "--state", filepath.Join(dir, "state.json"), "--webhook", hook.URL,
		}, args...)...)
		var alarms []monitor.Alarm
		for line := range strings.Lines(out) {
			var a monitor.Alarm
			check(t, json.Unmarshal([]byte(line), &a))
			alarms = append(alarms, a)
		}
		return alarms, code
	}
	if alarms, code := once("--watch", watch); code != 0 || len(alarms) > 0 {
		t.Fatalf("control: exit %d %+v", code, alarms)
	}
	_, err = p.admin.AddLogEntry(ctx, logRequest(t))
	check(t, err)
	alarms, code := once("--watch", watch)
	if code != 3 || len(alarms) != 1 || alarms[0].Kind != monitor.UnexpectedKey || len(events) != 1 || events[0]["id"] != alarms[0].ID {
		t.Errorf("another key: exit %d %+v %v", code, alarms, events)
	}
	if alarms, code := once("--watch", watch); code != 0 || len(alarms) > 0 {
		t.Errorf("told: exit %d %+v", code, alarms)
	}
	vkey := filepath.Join(dir, "vkey")
	check(t, os.WriteFile(vkey, []byte(p.vkey()), 0o600))
	plain := func(args ...string) (string, int) {
		return p.run(append([]string{"log", "monitor", "--once", "--key", vkey, "--state", filepath.Join(dir, "plain.json")}, args...)...)
	}
	if out, code := plain("--url", elsewhere.URL); code != 0 {
		t.Errorf("the mirror alone: exit %d %s", code, out)
	}
	if out, code := plain("--url", p.url); code != 0 {
		t.Errorf("the log, with more: exit %d %s", code, out)
	}
	if out, code := plain("--url", p.url, "--also", elsewhere.URL); code != 3 || !strings.Contains(out, "older_checkpoint") {
		t.Errorf("a mirror that stands still: exit %d %s", code, out)
	}
	p.kill()
	if _, code := once(); code != 6 {
		t.Errorf("nobody there: exit %d", code)
	}
	for _, args := range [][]string{{"--state", "x"}, {"--url", "x", "--state", "x"}, {"--url", p.url}, {"--url", p.url, "--state", "x", "--key", root}} {
		if out, code := p.run(append([]string{"log", "monitor", "--once"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d %s", args, code, out)
		}
	}
}
