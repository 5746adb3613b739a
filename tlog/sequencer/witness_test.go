package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/tlog/witness"
)

// testWitness is a real witness behind HTTP that can be away.
type testWitness struct {
	key  *witness.Key
	url  string
	away atomic.Bool

	objects store.Objects
	handler atomic.Pointer[http.Handler]
}

func newWitness(t testing.TB, l *testLog, name string) *testWitness {
	t.Helper()
	vkey, err := tlog.MarshalVerifierKey(origin, l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return newWitnessOf(t, name, vkey)
}

// newWitnessOf is a witness of the logs with those verifier keys.
func newWitnessOf(t testing.TB, name string, vkeys ...string) *testWitness {
	t.Helper()
	dir := t.TempDir()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "w.db"))
	if err != nil {
		t.Fatal(err)
	}
	out := &testWitness{objects: db.Objects()}
	if out.key, err = witness.OpenKey(filepath.Join(dir, "w.key"), name); err != nil {
		t.Fatal(err)
	}
	out.knows(t, vkeys...)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if out.away.Load() {
			panic(http.ErrAbortHandler)
		}
		(*out.handler.Load()).ServeHTTP(rw, r)
	}))
	out.url = server.URL
	t.Cleanup(func() {
		server.Close()
		db.Close()
	})
	return out
}

// knows starts the witness again with other logs.
func (w *testWitness) knows(t testing.TB, vkeys ...string) {
	t.Helper()
	logs, err := witness.ParseLogs(strings.Join(vkeys, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := witness.New(witness.Config{Logs: logs, Key: w.key, Objects: w.objects})
	if err != nil {
		t.Fatal(err)
	}
	handler := fresh.Handler()
	w.handler.Store(&handler)
}

// witnesses makes a policy of any number of them; n must cosign.
func witnesses(t testing.TB, n int, failOpen bool, members ...*testWitness) *sequencer.Witnesses {
	t.Helper()
	var text, names strings.Builder
	for i, w := range members {
		fmt.Fprintf(&text, "witness w%d %s %s\n", i, w.key.VKey(), w.url)
		fmt.Fprintf(&names, " w%d", i)
	}
	fmt.Fprintf(&text, "group all-of-them %d%s\nquorum all-of-them\n", n, names.String())
	policy, err := sequencer.ParseWitnessPolicy([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	out, err := sequencer.NewWitnesses(sequencer.WitnessConfig{Policy: policy, FailOpen: failOpen, Timeout: 2 * time.Second, Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (l *testLog) openWith(t testing.TB, w *sequencer.Witnesses) *sequencer.Sequencer {
	t.Helper()
	cfg := l.config()
	cfg.Witnesses = w
	s, err := sequencer.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, s) })
	return s
}

// cosignatures counts whose cosignatures a checkpoint carries.
func cosignatures(t testing.TB, raw []byte, members ...*testWitness) int {
	t.Helper()
	n := 0
	for _, w := range members {
		verifier, err := formatsnote.NewVerifierForCosignatureV1(w.key.VKey())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := note.Open(raw, note.VerifierList(verifier)); err == nil {
			n++
		}
	}
	return n
}

// eventually waits for what happens by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestWitnessed: two of three cosign what is published; the third may be away.
// The notes are read by our own parsers, and by the log at its next start.
func TestWitnessed(t *testing.T) {
	l := newTestLog(t)
	f := forge{newKey(t)}
	a, b, c := newWitness(t, l, "a.example.com"), newWitness(t, l, "b.example.com"), newWitness(t, l, "c.example.com")
	c.away.Store(true)
	config := witnesses(t, 2, false, a, b, c)
	s := l.openWith(t, config)
	for n := range uint64(3) {
		body := f.body(t, n)
		entry, err := s.Append(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(entry, body, l.key.Public()); err != nil {
			t.Error(err)
		}
		envelope := []byte(entry.GetInclusionProof().GetCheckpoint().GetEnvelope())
		if got := cosignatures(t, envelope, a, b, c); got != 2 {
			t.Errorf("%d cosignatures under the checkpoint of an answer:\n%s", got, envelope)
		}
	}
	if err := errors.Join(s.Witnessed(), s.Ready(t.Context())); err != nil {
		t.Error(err)
	}
	if lint, err := testutil.CollectAndLint(config); err != nil || len(lint) > 0 {
		t.Errorf("metrics: %v %v", lint, err)
	}
	closeLog(t, s)
	c.away.Store(false)
	// The third was left behind; it is told the way.
	s = l.openWith(t, witnesses(t, 3, false, a, b, c))
	if _, err := s.Append(t.Context(), f.body(t, 10)); err != nil {
		t.Fatal(err)
	}
	raw, err := s.Checkpoint(t.Context())
	if err != nil || cosignatures(t, raw, a, b, c) != 3 {
		t.Errorf("%v\n%s", err, raw)
	}
	if report := l.audit(t, nil); !report.Sound() || report.Size != 4 {
		t.Errorf("%+v", report)
	}
}

// TestFailsClosed: without the quorum nothing is published and everybody is sent
// away; with it the log is back by itself, and who asks again has one entry.
func TestFailsClosed(t *testing.T) {
	l := newTestLog(t)
	bodies := (forge{newKey(t)}).bodies(t, 4)
	a, b := newWitness(t, l, "a.example.com"), newWitness(t, l, "b.example.com")
	s := l.openWith(t, witnesses(t, 2, false, a, b))
	ctx := t.Context()
	if _, err := s.Append(ctx, bodies[0]); err != nil {
		t.Fatal(err)
	}
	before, err := s.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.away.Store(true)
	for n := range uint64(4) {
		if _, err := s.Append(ctx, bodies[1+n%2]); !errors.Is(err, sequencer.ErrUnwitnessed) {
			t.Errorf("append %d without a quorum: %v", n, err)
		}
	}
	if err := s.Ready(ctx); !errors.Is(err, sequencer.ErrUnwitnessed) {
		t.Errorf("ready without a quorum: %v", err)
	}
	if now, err := s.Checkpoint(ctx); err != nil || string(now) != string(before) {
		t.Errorf("published without a quorum: %v\n%s", err, now)
	}
	if _, err := s.Entry(ctx, 0); err != nil {
		t.Errorf("reading while witnesses are away: %v", err)
	}
	if entry, err := s.Append(ctx, bodies[0]); err != nil || entry.GetLogIndex() != 0 {
		t.Errorf("a retry of what is published: %v", err)
	}
	b.away.Store(false)
	eventually(t, "the log is not back", func() bool { return s.Ready(ctx) == nil })
	for n := range uint64(4) {
		if _, err := s.Append(ctx, bodies[n]); err != nil {
			t.Fatal(err)
		}
	}
	if report := l.audit(t, before); !report.Sound() || report.Size != 4 {
		t.Errorf("%+v", report)
	}
}

// TestFailsClosedAtStart: without witnesses a log opens for reading, new or old,
// and is back by itself.
func TestFailsClosedAtStart(t *testing.T) {
	for _, entries := range []int{0, 5} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			l := newTestLog(t)
			if entries > 0 {
				l = grown(t, entries)
			}
			a := newWitness(t, l, "a.example.com")
			a.away.Store(true)
			s := l.openWith(t, witnesses(t, 1, false, a))
			ctx := t.Context()
			if _, err := s.Checkpoint(ctx); (entries == 0) != errors.Is(err, sequencer.ErrUnwitnessed) {
				t.Errorf("checkpoint: %v", err)
			}
			body := (forge{newKey(t)}).body(t, 100)
			if _, err := s.Append(ctx, body); !errors.Is(err, sequencer.ErrUnwitnessed) {
				t.Errorf("append: %v", err)
			}
			if err := s.Ready(ctx); !errors.Is(err, sequencer.ErrUnwitnessed) {
				t.Errorf("ready: %v", err)
			}
			a.away.Store(false)
			eventually(t, "the log is not back", func() bool { return s.Ready(ctx) == nil })
			entry, err := s.Append(ctx, body)
			if err != nil || entry.GetLogIndex() != int64(entries) {
				t.Fatalf("%v %v", entry.GetLogIndex(), err)
			}
			if report := l.audit(t, nil); !report.Sound() {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestClosesWhileUnwitnessed: a log without its witnesses stops as it should,
// and what it was handed is there when it is back.
func TestClosesWhileUnwitnessed(t *testing.T) {
	l := newTestLog(t)
	a := newWitness(t, l, "a.example.com")
	config := witnesses(t, 1, false, a)
	s := l.openWith(t, config)
	a.away.Store(true)
	body := (forge{newKey(t)}).body(t, 1)
	if _, err := s.Append(t.Context(), body); !errors.Is(err, sequencer.ErrUnwitnessed) {
		t.Fatal(err)
	}
	closeLog(t, s)
	s = l.openWith(t, config)
	if _, err := s.Append(t.Context(), body); !errors.Is(err, sequencer.ErrUnwitnessed) {
		t.Errorf("still away: %v", err)
	}
	a.away.Store(false)
	eventually(t, "the log is not back", func() bool { return s.Ready(t.Context()) == nil })
	if _, err := s.Append(t.Context(), body); err != nil {
		t.Fatal(err)
	}
	if report := l.audit(t, nil); !report.Sound() || report.Size != 1 {
		t.Errorf("%+v", report)
	}
}

func TestFailsOpen(t *testing.T) {
	l := newTestLog(t)
	f := forge{newKey(t)}
	a := newWitness(t, l, "a.example.com")
	a.away.Store(true)
	s := l.openWith(t, witnesses(t, 1, true, a))
	if _, err := s.Append(t.Context(), f.body(t, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := s.Witnessed(); !errors.Is(err, sequencer.ErrUnwitnessed) {
		t.Errorf("witnessed: %v", err)
	}
	a.away.Store(false)
	if _, err := s.Append(t.Context(), f.body(t, 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not witnessed", func() bool { return s.Witnessed() == nil })
}

// copied is a backup of a closed log.
func (l *testLog) copied(t *testing.T) *testLog {
	t.Helper()
	out := &testLog{dir: filepath.Join(t.TempDir(), "log"), key: l.key}
	if err := os.CopyFS(out.dir, os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	// The index is written again from the tree.
	out.leaves = openLeaves(t, filepath.Join(t.TempDir(), "leaves.db"))
	return out
}

// TestRefusesToForkUnderWitness is row B8 from the log's side: an older copy of
// everything, or another tree under the same key, is consistent in itself; a
// witness that has seen more keeps it from being signed. The controls are the
// log itself, and the copy before the log went on.
func TestRefusesToForkUnderWitness(t *testing.T) {
	l := newTestLog(t)
	f := forge{newKey(t)}
	a := newWitness(t, l, "a.example.com")
	config := witnesses(t, 1, false, a)
	s := l.openWith(t, config)
	appendEach(t, s, f.bodies(t, 10))
	closeLog(t, s)
	older := l.copied(t)
	control := older.openWith(t, config)
	closeLog(t, control)
	s = l.openWith(t, config)
	if _, err := s.Append(t.Context(), f.body(t, 500)); err != nil {
		t.Fatal(err)
	}
	closeLog(t, s)
	cfg := older.config()
	cfg.Witnesses = config
	if err := older.refuse(t, cfg); !errors.Is(err, sequencer.ErrRollback) || !strings.Contains(err.Error(), "w0") {
		t.Errorf("an older copy: %v", err)
	}
	for name, n := range map[string]int{"same size": 11, "larger": 20, "smaller": 5} {
		other := newTestLog(t)
		other.key = l.key
		plain := other.open(t)
		appendEach(t, plain, (forge{newKey(t)}).bodies(t, n))
		closeLog(t, plain)
		cfg := other.config()
		cfg.Witnesses = config
		if err := other.refuse(t, cfg); !errors.Is(err, sequencer.ErrRollback) {
			t.Errorf("another tree, %s: %v", name, err)
		}
	}
	// A new log in the old one's name, with nothing on disk.
	empty := newTestLog(t)
	empty.key = l.key
	cfg = empty.config()
	cfg.Witnesses = config
	if err := empty.refuse(t, cfg); !errors.Is(err, sequencer.ErrRollback) {
		t.Errorf("an empty folder: %v", err)
	}
	closeLog(t, l.openWith(t, config))
}

// TestForkIsFoundWhenTheWitnessIsBack: a witness that was away at the start
// stops an older copy as soon as it is there, before anything was published.
func TestForkIsFoundWhenTheWitnessIsBack(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		t.Run(fmt.Sprint("fail open ", failOpen), func(t *testing.T) {
			l := newTestLog(t)
			f := forge{newKey(t)}
			a := newWitness(t, l, "a.example.com")
			s := l.openWith(t, witnesses(t, 1, false, a))
			appendEach(t, s, f.bodies(t, 5))
			closeLog(t, s)
			older := l.copied(t)
			s = l.openWith(t, witnesses(t, 1, false, a))
			if _, err := s.Append(t.Context(), f.body(t, 500)); err != nil {
				t.Fatal(err)
			}
			closeLog(t, s)
			a.away.Store(true)
			s = older.openWith(t, witnesses(t, 1, failOpen, a))
			a.away.Store(false)
			eventually(t, "it goes on", func() bool { return errors.Is(s.Fault(), sequencer.ErrRollback) })
			if _, err := s.Append(context.Background(), f.body(t, 501)); !errors.Is(err, sequencer.ErrStopped) {
				t.Errorf("append: %v", err)
			}
		})
	}
}

// TestWitnessAheadOfACrash: what was cosigned and not published before a crash
// is published after it.
func TestWitnessAheadOfACrash(t *testing.T) {
	l := newTestLog(t)
	f := forge{newKey(t)}
	a := newWitness(t, l, "a.example.com")
	config := witnesses(t, 1, false, a)
	s := l.openWith(t, config)
	appendEach(t, s, f.bodies(t, 5))
	before := l.file(t, "checkpoint")
	if _, err := s.Append(t.Context(), f.body(t, 500)); err != nil {
		t.Fatal(err)
	}
	closeLog(t, s)
	l.write(t, "checkpoint", before)
	s = l.openWith(t, config)
	eventually(t, "not published", func() bool { size, err := s.Size(t.Context()); return err == nil && size == 6 })
	if report := l.audit(t, before); !report.Sound() || report.Size != 6 {
		t.Errorf("%+v", report)
	}
}
