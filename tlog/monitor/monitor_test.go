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
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
)

const origin = "log.example.com"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a log as files in the tlog-tiles layout, which a test may harm.
type served struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	entries [][]byte

	mu    sync.Mutex
	files map[string][]byte
	down  bool
}

func newServed(t testing.TB) *served {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &served{t: t, key: key, files: map[string][]byte{}}
}

func (s *served) verifier() note.Verifier {
	v, err := tlog.NewCheckpointVerifier(origin, s.key.Public())
	must(s.t, err)
	return v
}

// fork is another log of the same key, with the first n entries in common.
func (s *served) fork(n int) *served {
	return &served{t: s.t, key: s.key, entries: append([][]byte(nil), s.entries[:n]...), files: map[string][]byte{}}
}

// add logs entries and serves the tree over all of them.
func (s *served) add(entries ...[]byte) *served {
	s.t.Helper()
	s.entries = append(s.entries, entries...)
	size := uint64(len(s.entries))
	hashes := make([][]byte, 0, size)
	for _, e := range s.entries {
		hashes = append(hashes, tlog.LeafHash(e))
	}
	for level := uint64(0); len(hashes) > 0; level++ {
		var above [][]byte
		for at := 0; at < len(hashes); at += tlog.TileWidth {
			group := hashes[at:min(at+tlog.TileWidth, len(hashes))]
			tile := tlog.Tile{Level: level, Index: uint64(at / tlog.TileWidth), Width: len(group)}
			s.put(tile.Path(), bytes.Join(group, nil))
			if level == 0 {
				tile.Entries = true
				s.put(tile.Path(), bundle(s.entries[at:at+len(group)]))
			}
			if len(group) == tlog.TileWidth {
				above = append(above, rootOf(s.t, group))
			}
		}
		hashes = above
	}
	s.put("checkpoint", s.sign(size, s.root()))
	return s
}

func (s *served) root() []byte {
	hashes := make([][]byte, 0, len(s.entries))
	for _, e := range s.entries {
		hashes = append(hashes, tlog.LeafHash(e))
	}
	return rootOf(s.t, hashes)
}

func rootOf(t testing.TB, hashes [][]byte) []byte {
	t.Helper()
	if len(hashes) == 0 {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, h := range hashes {
		must(t, r.Append(h, nil))
	}
	root, err := r.GetRootHash(nil)
	must(t, err)
	return root
}

func bundle(entries [][]byte) []byte {
	var out []byte
	for _, e := range entries {
		out = binary.BigEndian.AppendUint16(out, uint16(len(e)))
		out = append(out, e...)
	}
	return out
}

func (s *served) sign(size uint64, root []byte) []byte {
	signer, err := tlog.NewCheckpointSigner(origin, s.key)
	must(s.t, err)
	signed, err := note.Sign(&note.Note{Text: string(tlog.Checkpoint{Origin: origin, Size: size, Root: root}.Marshal())}, signer)
	must(s.t, err)
	return signed
}

func (s *served) put(path string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *served) get(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path]
}

// ServeHTTP serves it as a plain tlog-tiles log.
func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
	switch {
	case s.down:
		w.WriteHeader(http.StatusBadGateway)
	case !ok:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(content)
	}
}

func (s *served) source() monitor.Source {
	server := httptest.NewServer(s)
	s.t.Cleanup(server.Close)
	return monitor.Source{URL: server.URL, Fetch: monitor.FetchURL(server.Client(), server.URL)}
}

// watched is a monitor over a served log, restarted for each pass, as --once is.
type watched struct {
	t     testing.TB
	cfg   monitor.Config
	told  []monitor.Alarm
	fails error
}

func newWatched(t testing.TB, s *served, watch string, also ...monitor.Source) *watched {
	t.Helper()
	w := &watched{t: t}
	w.cfg = monitor.Config{
		Logs:  []monitor.Log{{Verifier: s.verifier(), Source: s.source(), Also: also}},
		State: filepath.Join(t.TempDir(), "state.json"), Clock: clock.System{},
		Raise: func(_ context.Context, a monitor.Alarm) error {
			if w.fails == nil {
				w.told = append(w.told, a)
			}
			return w.fails
		},
	}
	if watch != "" {
		var err error
		w.cfg.Watch, err = monitor.ParseWatch([]byte(watch))
		must(t, err)
	}
	return w
}

// pass returns the kinds of alarms of one pass.
func (w *watched) pass() []monitor.Kind {
	w.t.Helper()
	w.told = nil
	m, err := monitor.New(w.cfg)
	must(w.t, err)
	n, err := m.Pass(w.t.Context())
	must(w.t, err)
	if n != len(w.told) {
		w.t.Errorf("%d alarms, %d were raised", n, len(w.told))
	}
	kinds := []monitor.Kind{}
	for _, a := range w.told {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

func (w *watched) expect(what string, want ...monitor.Kind) {
	w.t.Helper()
	if got := w.pass(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: %v, want %v; %+v", what, got, want, w.told)
	}
}

func entries(from, n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, fmt.Appendf(nil, "entry %d", from+i))
	}
	return out
}

// TestFollows: growth over bundles, tiles and levels, from the first entry and
// from now, with a mirror that lags less than one pass.
func TestFollows(t *testing.T) {
	for _, fromNow := range []bool{false, true} {
		s := newServed(t).add()
		mirror := s.fork(0).add()
		w := newWatched(t, s, "", mirror.source())
		w.cfg.FromNow = fromNow
		at := 0
		for _, n := range []int{0, 1, 5, 250, 0, 256, 300} {
			s.add(entries(at, n)...)
			w.expect(fmt.Sprint("grown by ", n))
			mirror.add(entries(at, n)...)
			at += n
			w.expect("mirror has it too")
		}
		ahead := entries(at, 7)
		mirror.add(ahead...)
		w.expect("mirror ahead")
		s.add(ahead...)
		w.expect("both there")
	}
}

// TestContradictions is row B8: two checkpoints of one size, an older one, and
// trees that do not fit are alarms each, again in every process, and nothing is
// kept past them; the log as it was is the control.
func TestContradictions(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(s *served)
		want monitor.Kind
	}{
		{"another root for one size", func(s *served) { s.put("checkpoint", s.sign(300, make([]byte, 32))) }, monitor.SplitView},
		{"an older checkpoint", func(s *served) { s.put("checkpoint", s.fork(200).add().get("checkpoint")) }, monitor.OlderCheckpoint},
		{"another history", func(s *served) {
			other := s.fork(299).add(entries(1000, 50)...)
			s.files = other.files
		}, monitor.SplitView},
		{"another history of the first entry", func(s *served) {
			other := s.fork(0).add(entries(1000, 400)...)
			s.files = other.files
		}, monitor.SplitView},
		{"new root that nothing makes", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("checkpoint", s.sign(310, make([]byte, 32)))
		}, monitor.SplitView},
		{"another key", func(s *served) {
			other := newServed(s.t).add(s.entries...)
			s.put("checkpoint", other.get("checkpoint"))
		}, monitor.BadCheckpoint},
		{"not a note", func(s *served) { s.put("checkpoint", []byte("hello\n")) }, monitor.BadCheckpoint},
		// Row B5: tiles and entries that are not those of the signed root.
		{"a new entry changed", func(s *served) {
			s.add(entries(300, 10)...)
			s.flip("tile/entries/001.p/54", 500)
		}, monitor.EntryChanged},
		{"a new hash changed", func(s *served) {
			s.add(entries(300, 10)...)
			s.flip("tile/0/001.p/54", 53*32)
		}, monitor.TileChanged},
		{"a tile above changed", func(s *served) {
			s.add(entries(300, 300)...)
			s.flip("tile/1/000.p/2", 40)
		}, monitor.TileChanged},
		{"a tile cut short", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("tile/0/001.p/54", s.get("tile/0/001.p/54")[:32])
		}, monitor.TileChanged},
		{"a bundle cut short", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("tile/entries/001.p/54", s.get("tile/entries/001.p/54")[:32])
		}, monitor.TileChanged},
		{"a bundle missing", func(s *served) {
			s.add(entries(300, 10)...)
			delete(s.files, "tile/entries/001.p/54")
		}, monitor.Missing},
	} {
		s := newServed(t).add(entries(0, 300)...)
		w := newWatched(t, s, "")
		w.expect("control")
		kept := file(t, w.cfg.State)
		good := s.get("checkpoint")
		test.harm(s)
		w.expect(test.name, test.want)
		w.expect(test.name+", again", test.want)
		if now := file(t, w.cfg.State); !bytes.Equal(now, kept) {
			t.Errorf("%s: the state moved past it", test.name)
		}
		for _, raw := range w.told[0].Checkpoints {
			if raw == "" {
				t.Errorf("%s: empty evidence", test.name)
			}
		}
		s.files = s.fork(300).add().files
		s.put("checkpoint", good)
		w.expect(test.name + ", repaired")
	}
}

func (s *served) flip(path string, at int) {
	b := bytes.Clone(s.get(path))
	if at >= len(b) {
		s.t.Fatalf("%s has %d bytes", path, len(b))
	}
	b[at] ^= 1
	s.put(path, b)
}

func file(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// TestElsewhere is row B8 from outside: what another place serves must be the
// same log.
func TestElsewhere(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(s, mirror *served)
		want []monitor.Kind
	}{
		{"the same", func(*served, *served) {}, nil},
		{"another root for one size", func(s, mirror *served) { mirror.files = s.fork(99).add(entries(900, 1)...).files }, []monitor.Kind{monitor.SplitView}},
		{"larger, another history", func(s, mirror *served) { mirror.files = s.fork(99).add(entries(900, 9)...).files }, []monitor.Kind{monitor.SplitView}},
		{"older than it was", func(s, mirror *served) { mirror.files = s.fork(50).add().files }, []monitor.Kind{monitor.OlderCheckpoint}},
		{"smaller, another history", func(s, mirror *served) {
			s.add(entries(100, 20)...)
			mirror.files = s.fork(99).add(entries(900, 6)...).files
		}, []monitor.Kind{monitor.SplitView}},
		{"not signed by the log", func(_, mirror *served) { mirror.put("checkpoint", []byte("x\n")) }, []monitor.Kind{monitor.BadCheckpoint}},
	} {
		s := newServed(t).add(entries(0, 100)...)
		mirror := s.fork(100).add()
		w := newWatched(t, s, "", mirror.source())
		w.expect("control")
		test.harm(s, mirror)
		w.expect(test.name, test.want...)
		if len(test.want) > 0 && w.told[0].Source != w.cfg.Logs[0].Also[0].URL {
			t.Errorf("%s: blamed %s", test.name, w.told[0].Source)
		}
	}
}

// TestElsewhereAheadWithoutTiles: a checkpoint that only one place shows is
// remembered, and the log must have it by the next pass.
func TestElsewhereAheadWithoutTiles(t *testing.T) {
	s := newServed(t).add(entries(0, 100)...)
	w := newWatched(t, s, "")
	mirror := s.fork(100)
	mirror.put("checkpoint", s.get("checkpoint"))
	w.cfg.Logs[0].Also = []monitor.Source{mirror.source()}
	w.expect("control")
	mirror.put("checkpoint", s.fork(99).add(entries(900, 9)...).get("checkpoint"))
	w.expect("ahead, unproven")
	w.expect("the log does not get there", monitor.OlderCheckpoint)
	s.add(entries(100, 50)...)
	w.expect("the log gets elsewhere", monitor.SplitView)
}

// TestUnreachableIsNoAlarm: nor is it a clean pass.
func TestUnreachableIsNoAlarm(t *testing.T) {
	s := newServed(t).add(entries(0, 10)...)
	w := newWatched(t, s, "")
	w.expect("control")
	s.down = true
	m, err := monitor.New(w.cfg)
	must(t, err)
	if n, err := m.Pass(t.Context()); err == nil || n != 0 {
		t.Errorf("%d alarms, %v", n, err)
	}
	s.down = false
	w.expect("back")
}

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
