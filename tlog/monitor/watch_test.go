package monitor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
)

// signed is an entry by a key.
func signed(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	message := []byte(rand.Text())
	digest := sha256.Sum256(message)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	must(t, err)
	body, err := tlog.HashedRekordV002(key.Public(), message, sig)
	must(t, err)
	return body
}

func newKey(t testing.TB) (key *ecdsa.PrivateKey, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	sum := sha256.Sum256(der)
	return key, hex.EncodeToString(sum[:])
}

// TestWatchKeys: what is not expected, and what is forbidden, is told once, with
// its index; the expected key is the control.
func TestWatchKeys(t *testing.T) {
	good, goodID := newKey(t)
	bad, badID := newKey(t)
	s := newServed(t).add(signed(t, good))
	w := newWatched(t, s, "keys: {expected: ["+goodID+"]}")
	w.expect("control")
	s.add(signed(t, good), signed(t, bad), signed(t, good))
	w.expect("another key", monitor.UnexpectedKey)
	if a := w.told[0]; a.Index == nil || *a.Index != 2 || a.KeyID != badID || a.Source == "" {
		t.Errorf("%+v", a)
	}
	w.expect("told")
	w.cfg.Watch, _ = monitor.ParseWatch([]byte("keys: {forbidden: [" + badID + "]}"))
	s.add(signed(t, good), signed(t, bad))
	w.expect("forbidden key", monitor.ForbiddenKey)
	s.add([]byte("nobody knows"))
	w.expect("unreadable", monitor.UnreadableEntry)
}

// TestNothingIsBelievedOfAnUnprovenEntry: an entry that the signed root does not
// cover raises no alarm about who signed (row B5).
func TestNothingIsBelievedOfAnUnprovenEntry(t *testing.T) {
	good, goodID := newKey(t)
	bad, _ := newKey(t)
	s := newServed(t).add(signed(t, good))
	w := newWatched(t, s, "keys: {expected: ["+goodID+"]}")
	w.expect("control")
	s.add(signed(t, good))
	s.put("tile/entries/000.p/2", bundle([][]byte{s.entries[0], signed(t, bad)}))
	w.expect("forged bundle", monitor.EntryChanged)
}

// TestUndeliveredAlarm: what was not delivered is raised again under the same id,
// and what was is not.
func TestUndeliveredAlarm(t *testing.T) {
	good, goodID := newKey(t)
	bad, _ := newKey(t)
	s := newServed(t).add(signed(t, good))
	w := newWatched(t, s, "keys: {expected: ["+goodID+"]}")
	w.expect("control")
	s.add(signed(t, bad))
	w.fails = errors.New("nobody there")
	m, err := monitor.New(w.cfg)
	must(t, err)
	if n, err := m.Pass(t.Context()); !errors.Is(err, w.fails) || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	w.fails = nil
	if n, err := m.Pass(t.Context()); err != nil || n != 1 || len(w.told) != 1 {
		t.Errorf("%d %v %v", n, err, w.told)
	}
	if n, err := m.Pass(t.Context()); err != nil || n != 0 || len(w.told) != 1 {
		t.Errorf("again: %d %v %v", n, err, w.told)
	}
	if lint, err := testutil.CollectAndLint(m); err != nil || len(lint) > 0 {
		t.Errorf("metrics: %v %v", lint, err)
	}
}

// TestRun: a contradiction is told while the monitor runs, once.
func TestRun(t *testing.T) {
	s := newServed(t).add(entries(0, 10)...)
	w := newWatched(t, s, "")
	told := make(chan monitor.Alarm, 10)
	w.cfg.Raise = func(_ context.Context, a monitor.Alarm) error { told <- a; return nil }
	m, err := monitor.New(w.cfg)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, 100*time.Millisecond) }()
	for {
		if _, err := os.Stat(w.cfg.State); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.put("checkpoint", s.sign(10, make([]byte, 32)))
	select {
	case a := <-told:
		if a.Kind != monitor.SplitView || len(a.Checkpoints) != 2 {
			t.Errorf("%+v", a)
		}
	case <-time.After(30 * time.Second):
		t.Error("no alarm")
	}
	stop()
	must(t, <-done)
	if err := m.Run(ctx, time.Millisecond); !errors.Is(err, monitor.ErrConfig) {
		t.Errorf("interval of 1 ms: %v", err)
	}
}

// TestState: a state that is damaged, or of a key that is not the log's, is never
// taken for none.
func TestState(t *testing.T) {
	s := newServed(t).add(entries(0, 10)...)
	w := newWatched(t, s, "")
	w.expect("control")
	kept := file(t, w.cfg.State)
	for name, content := range map[string][]byte{"empty": nil, "cut": kept[:len(kept)/2], "other": []byte("{}"), "unknown field": []byte(`{"logs":{},"x":1}`)} {
		must(t, os.WriteFile(w.cfg.State, content, 0o600))
		if _, err := monitor.New(w.cfg); !errors.Is(err, monitor.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.WriteFile(w.cfg.State, bytes.Replace(kept, []byte(`\n10\n`), []byte(`\n9\n`), 1), 0o600))
	m, err := monitor.New(w.cfg)
	must(t, err)
	if _, err := m.Pass(t.Context()); !errors.Is(err, monitor.ErrState) {
		t.Errorf("edited: %v", err)
	}
}

func TestParseWatch(t *testing.T) {
	_, id := newKey(t)
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"all of it":        {"identities:\n  expected:\n  - {issuer: https://i, subject: s}\n  - {issuer: https://i, subjectRegexp: 'a+'}\n  forbidden:\n  - {issuer: https://i, subject: x}\nkeys: {expected: [" + id + "], forbidden: []}\n", true},
		"empty":            {"", false},
		"no rule":          {"keys: {expected: []}", false},
		"unknown field":    {"keys: {expect: [" + id + "]}", false},
		"duplicate field":  {"keys: {expected: [" + id + "]}\nkeys: {expected: []}", false},
		"short key":        {"keys: {expected: [ab]}", false},
		"upper case":       {"keys: {expected: [" + strings.ToUpper(id) + "]}", false},
		"no issuer":        {"identities: {expected: [{subject: s}]}", false},
		"no subject":       {"identities: {expected: [{issuer: i}]}", false},
		"both subjects":    {"identities: {expected: [{issuer: i, subject: s, subjectRegexp: s}]}", false},
		"bad regexp":       {"identities: {expected: [{issuer: i, subjectRegexp: '('}]}", false},
		"regexp that ends": {"identities: {expected: [{issuer: i, subjectRegexp: 'a)|(?:b'}]}", false},
		"null":             {"keys: {expected: null}", false},
	} {
		if _, err := monitor.ParseWatch([]byte(test.text)); test.ok != (err == nil) || (err != nil && !errors.Is(err, monitor.ErrWatch)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseWatch: a watch or an error of its kind.
func FuzzParseWatch(f *testing.F) {
	f.Add([]byte("identities: {expected: [{issuer: https://i, subjectRegexp: 'a+'}]}"))
	f.Add([]byte(`{"keys":{"forbidden":["00"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := monitor.ParseWatch(raw)
		if (w == nil) != (err != nil) || (err != nil && !errors.Is(err, monitor.ErrWatch)) {
			t.Errorf("%v %v", w, err)
		}
	})
}

// TestWebhook: a CloudEvents 1.0 event in structured mode, tried again while the
// receiver fails, and given up.
func TestWebhook(t *testing.T) {
	var bodies [][]byte
	answers := []int{http.StatusBadGateway, http.StatusTooManyRequests, http.StatusAccepted}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != "application/cloudevents+json" || r.Method != http.MethodPost {
			t.Errorf("%s %s", r.Method, got)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies = append(bodies, body)
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer server.Close()
	index := uint64(7)
	hook := monitor.NewWebhook(server.URL, "https://monitor.example.com")
	alarm := monitor.Alarm{ID: "abc", Kind: monitor.UnexpectedKey, Origin: origin, Index: &index, Time: time.Unix(1_700_000_000, 0).UTC()}
	must(t, hook.Deliver(t.Context(), alarm))
	if len(bodies) != 3 || !bytes.Equal(bodies[0], bodies[2]) {
		t.Fatalf("%d deliveries", len(bodies))
	}
	var event map[string]any
	must(t, json.Unmarshal(bodies[0], &event))
	for name, want := range map[string]string{
		"specversion": "1.0", "id": "abc", "source": "https://monitor.example.com", "type": "dev.countersign.log.unexpected_key",
		"subject": origin, "datacontenttype": "application/json", "time": "2023-11-14T22:13:20Z",
	} {
		if event[name] != want {
			t.Errorf("%s is %v, want %s", name, event[name], want)
		}
	}
	if data, _ := event["data"].(map[string]any); data["index"] != 7.0 {
		t.Errorf("data %v", event["data"])
	}
	answers = []int{500, 500, 500, 500}
	if err := hook.Deliver(t.Context(), alarm); err == nil || len(answers) != 0 {
		t.Errorf("%v, %d tries left", err, len(answers))
	}
}
