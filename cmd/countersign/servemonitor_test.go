package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog/monitor"
)

// receiver takes the events of a webhook. It refuses while broken.
type receiver struct {
	url string

	mu     sync.Mutex
	broken bool
	alarms []monitor.Alarm
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var event struct{ Data monitor.Alarm }
		if err := json.NewDecoder(req.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.broken {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		r.alarms = append(r.alarms, event.Data)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) breaks(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

func (r *receiver) told() []monitor.Alarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]monitor.Alarm(nil), r.alarms...)
}

func (p *process) get(path string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.url+path, http.NoBody)
	check(p.t, err)
	req.Header.Set("Authorization", "Bearer "+p.token())
	resp, err := http.DefaultClient.Do(req)
	check(p.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	check(p.t, err)
	return string(raw)
}

// caughtUp waits until the monitor has verified all of the log.
func (p *process) caughtUp() {
	p.t.Helper()
	wait(p.t, "the monitor does not get to the end of the log", func() bool {
		note, err := p.admin.Checkpoint(context.Background())
		check(p.t, err)
		size := strings.Split(string(note), "\n")[1]
		for line := range strings.Lines(p.get("/metrics")) {
			if !strings.HasPrefix(line, "countersign_monitor_verified_size{") {
				continue
			}
			value, err := strconv.ParseFloat(strings.Fields(line)[1], 64)
			check(p.t, err)
			if fmt.Sprint(uint64(value)) == size {
				return true
			}
		}
		return false
	})
}

// journalled are the alarms of the audit journal, newest first.
func (p *process) journalled() (alarms []api.AuditRecord) {
	p.t.Helper()
	list, err := p.admin.Audit(context.Background(), api.ListOptions{Limit: 100})
	check(p.t, err)
	for _, r := range list.Items {
		if r.Action == "log.alarm" {
			alarms = append(alarms, r)
		}
	}
	return alarms
}

func (p *process) part(name string) string {
	p.t.Helper()
	var health api.Health
	check(p.t, json.Unmarshal([]byte(p.get("/readyz")), &health))
	return health.Checks[name]
}

// TestServeMonitors: the service follows its own log. What a stranger signs is
// told once, everywhere, although telling it makes entries of the service's own
// keys, and although the receiver was away and the process died.
func TestServeMonitors(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	hook := newReceiver(t)
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	key, err := p.admin.Key(ctx, "release")
	check(t, err)
	watch := filepath.Join(t.TempDir(), "watch.yaml")
	check(t, os.WriteFile(watch, []byte("keys: {expected: ["+key.KeyID+"]}\n"), 0o600))
	p.kill()
	// All of it is looked at under the new rules: whoever configures them wants
	// to know of the past too.
	check(t, os.RemoveAll(filepath.Join(p.dir, "monitor")))
	p.args = append(p.args, "--monitor-watch", watch, "--monitor-webhook", hook.url, "--monitor-interval", "100ms")
	p.start()
	d, err := registry.PushImage(ctx, "app", "", "one")
	check(t, err)
	_, _, err = p.admin.Sign(ctx, api.SignatureRequest{Image: registry.Image("app", d), Key: "release"}, api.SignOptions{})
	check(t, err)
	p.verdict(registry.Image("app", d))
	p.caughtUp()
	if told, lines := hook.told(), p.journalled(); len(told) > 0 || len(lines) > 0 {
		t.Fatalf("control: %+v %+v", told, lines)
	}

	hook.breaks(true)
	_, err = p.admin.AddLogEntry(ctx, logRequest(t))
	check(t, err)
	wait(t, "no line in the journal", func() bool { return len(p.journalled()) > 0 })
	p.kill()
	hook.breaks(false)
	p.start()
	wait(t, "no event", func() bool { return len(hook.told()) > 0 })
	wait(t, "the line is not anchored", func() bool { return p.journalled()[0].Log != nil })
	p.caughtUp()
	told, lines := hook.told(), p.journalled()
	if len(told) != 1 || told[0].Kind != monitor.UnexpectedKey || told[0].Index == nil || told[0].Source != p.url {
		t.Fatalf("events: %+v", told)
	}
	if len(lines) != 1 || lines[0].Outcome != "done" || lines[0].Detail["kind"] != "unexpected_key" || lines[0].Detail["shard"] != "1" ||
		lines[0].Detail["index"] != fmt.Sprint(*told[0].Index) || lines[0].Detail["alarm"] != told[0].ID {
		t.Errorf("lines: %+v", lines)
	}
	if metrics := p.get("/metrics"); !strings.Contains(metrics, `countersign_monitor_alarms_total{kind="unexpected_key"} 1`) {
		t.Error("no metric")
	}
	// Who signed is no fault of the log.
	if got := p.part("monitor"); got != "ok" {
		t.Errorf("readyz: %s", got)
	}

	// A new shard and a new key of the journal are followed without being told.
	for _, authority := range []string{"log", "journal"} {
		if out, code := p.run("authorities", "rotate", authority); code != 0 {
			t.Fatalf("rotating %s: exit %d %s", authority, code, out)
		}
	}
	wait(t, "the second shard is not followed", func() bool {
		return strings.Count(p.get("/metrics"), "countersign_monitor_verified_size{") == 2
	})
	wait(t, "the rotation is not anchored", func() bool {
		list, err := p.admin.Audit(ctx, api.ListOptions{Limit: 1})
		check(t, err)
		return list.Items[0].Log != nil
	})
	p.caughtUp()
	if told := hook.told(); len(told) != 1 {
		t.Errorf("after the rotation: %+v", told)
	}
}

// TestServeMonitorsContradictions is row B8 in the service itself: a mirror that
// serves an older log is told once however the log grows, /readyz says so and
// stays ready, and says nothing any more once it is repaired.
func TestServeMonitorsContradictions(t *testing.T) {
	ctx := context.Background()
	hook := newReceiver(t)
	p := newProcess(t)
	mirror := filepath.Join(t.TempDir(), "mirror")
	elsewhere := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	t.Cleanup(elsewhere.Close)
	copied := func() {
		check(t, os.RemoveAll(mirror))
		check(t, os.CopyFS(mirror, os.DirFS(filepath.Join(p.dir, "log"))))
	}
	p.args = append(p.args, "--monitor-webhook", hook.url, "--monitor-interval", "100ms", "--monitor-also", elsewhere.URL)
	p.start()
	log := func() {
		_, err := p.admin.AddLogEntry(ctx, logRequest(t))
		check(t, err)
	}
	log()
	p.kill()
	copied()
	p.start()
	p.caughtUp()
	if got := p.part("monitor"); got != "ok" || len(hook.told()) > 0 {
		t.Fatalf("control: %s %+v", got, hook.told())
	}
	log()
	wait(t, "not damaged", func() bool { return p.part("monitor") == "damaged" })
	wait(t, "no event", func() bool { return len(hook.told()) > 0 })
	wait(t, "the line is not anchored", func() bool { return len(p.journalled()) > 0 && p.journalled()[0].Log != nil })
	log()
	passes := p.alarmPasses()
	wait(t, "the monitor stands still", func() bool { return p.alarmPasses() >= passes+3 })
	if told := hook.told(); len(told) != 1 || told[0].Kind != monitor.OlderCheckpoint || told[0].Source != elsewhere.URL || len(p.journalled()) != 1 {
		t.Errorf("told: %+v", told)
	}
	copied()
	wait(t, "still damaged", func() bool { return p.part("monitor") == "ok" })

	// A state that cannot be used is never taken for none.
	p.kill()
	check(t, os.WriteFile(filepath.Join(p.dir, "monitor", "state.json"), []byte("{}"), 0o600))
	p.start()
	if got := p.part("monitor"); got != "damaged" {
		t.Errorf("damaged state: %s", got)
	}
}

// alarmPasses is how many passes have found something.
func (p *process) alarmPasses() int {
	p.t.Helper()
	for line := range strings.Lines(p.get("/metrics")) {
		if strings.HasPrefix(line, "countersign_monitor_passes_total{") && strings.Contains(line, `outcome="alarm"`) {
			n, err := strconv.Atoi(strings.Fields(line)[1])
			check(p.t, err)
			return n
		}
	}
	return 0
}

// TestServeMonitorSettings: what is misspelt is refused at the start.
func TestServeMonitorSettings(t *testing.T) {
	p := newProcess(t)
	bad := filepath.Join(t.TempDir(), "watch.yaml")
	check(t, os.WriteFile(bad, []byte("keys: {expect: []}\n"), 0o600))
	for _, args := range [][]string{
		{"--monitor-watch", bad},
		{"--monitor-watch", bad + ".none"},
		{"--monitor-webhook", "example.com"},
		{"--monitor-also", "https://a.example.com,b.example.com"},
		{"--monitor-interval", "0s"},
	} {
		if out, code := p.run(append([]string{"serve", "--data-dir", p.dir, "--listen", "127.0.0.1:0"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d %s", args, code, out)
		}
	}
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Errorf("the data folder was touched: %v", err)
	}
}

// TestServeMonitorsDamage is row B5 in the service itself: a stored entry that is
// not the signed one is told, by a monitor that looks at all of the log anew.
func TestServeMonitorsDamage(t *testing.T) {
	ctx := context.Background()
	hook := newReceiver(t)
	p := newProcess(t, "--monitor-webhook", hook.url, "--monitor-interval", "100ms")
	p.start()
	key := newLogKey(t)
	requests := make(chan []byte)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for request := range requests {
				if _, err := p.admin.AddLogEntry(ctx, request); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 260 {
		requests <- key.request(t)
	}
	close(requests)
	wg.Wait()
	p.caughtUp()
	p.kill()
	path := filepath.Join(p.dir, "log", "tile", "entries", "000")
	good, err := os.ReadFile(path)
	check(t, err)
	harmed := bytes.Clone(good)
	harmed[1000] ^= 1
	check(t, os.Chmod(path, 0o600))
	check(t, os.WriteFile(path, harmed, 0o600))
	check(t, os.RemoveAll(filepath.Join(p.dir, "monitor")))
	p.start()
	wait(t, "not damaged", func() bool { return p.part("monitor") == "damaged" })
	wait(t, "no event", func() bool { return len(hook.told()) > 0 })
	wait(t, "no line in the journal", func() bool { return len(p.journalled()) > 0 })
	if told := hook.told(); len(told) != 1 || told[0].Kind != monitor.EntryChanged {
		t.Errorf("told: %+v", told)
	}
	check(t, os.WriteFile(path, good, 0o600))
	wait(t, "still damaged", func() bool { return p.part("monitor") == "ok" })
	if lines := p.journalled(); len(lines) != 1 || lines[0].Detail["kind"] != "entry_changed" {
		t.Errorf("lines: %+v", lines)
	}
}

// TestLogMonitorWitnesses: with a policy, a checkpoint that lacks its quorum is an
// alarm; the policy that the log is witnessed by is the control.
func TestLogMonitorWitnesses(t *testing.T) {
	p := newProcess(t)
	p.start()
	w, other := newWitnessProcess(t, p.vkey()), newWitnessProcess(t, p.vkey())
	policy := func(w *witnessProcess) string { return fmt.Sprintf("witness w %s %s\nquorum w\n", w.vkey, w.url) }
	p.witnessedBy(policy(w))
	_, err := p.admin.AddLogEntry(context.Background(), logRequest(t))
	check(t, err)
	dir := t.TempDir()
	once := func(name, policy string) (string, int) {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(policy), 0o600))
		return p.run("log", "monitor", "--once", "--url", p.url, "--state", path+".state", "--witness-policy", path)
	}
	if out, code := once("ours", policy(w)); code != 0 {
		t.Errorf("control: exit %d %s", code, out)
	}
	if out, code := once("other", policy(other)); code != 3 || !strings.Contains(out, `"kind":"unwitnessed"`) {
		t.Errorf("another witness: exit %d %s", code, out)
	}
	if out, code := once("bad", "quorum none\n"); code != 2 {
		t.Errorf("a policy that asks for nothing: exit %d %s", code, out)
	}
}
