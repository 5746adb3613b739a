package sequencer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// wall is the machine's clock, set ahead.
type wall struct{ ahead atomic.Int64 }

func (w *wall) Now() time.Time { return clock.System{}.Now().Add(time.Duration(w.ahead.Load())) }

// shardedLog is a log of real shards over one real SQLite.
type shardedLog struct {
	db      *store.DB
	clock   *wall
	configs []sequencer.Config
}

func newShardedLog(t testing.TB) *shardedLog {
	t.Helper()
	dir := t.TempDir()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "leaves.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l := &shardedLog{db: db, clock: &wall{}}
	for n := 1; n <= 4; n++ {
		l.configs = append(l.configs, sequencer.Config{
			Dir: filepath.Join(dir, fmt.Sprintf("log-%d", n)), Origin: origin, Signer: newKey(t), Leaves: db.ShardLeaves(n),
			Start: time.Unix(int64(n), 0), CheckpointInterval: 100 * time.Millisecond, Clock: l.clock,
		})
	}
	return l
}

func (l *shardedLog) open(t testing.TB, shards int) *sequencer.Log {
	t.Helper()
	log, err := sequencer.OpenLog(t.Context(), l.configs[:shards]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeShards(t, log) })
	return log
}

func closeShards(t testing.TB, log *sequencer.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := log.Close(ctx); err != nil {
		t.Error(err)
	}
}

// follow goes on in the next shard, as the owner of a log does.
func (l *shardedLog) follow(t testing.TB, log *sequencer.Log) {
	t.Helper()
	next := l.configs[len(log.Shards())]
	if err := log.Prepare(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	log.Switch()
	if err := log.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// place says where a body stands.
func place(e *rekorpb.TransparencyLogEntry) string {
	return fmt.Sprintf("%s/%d", hex.EncodeToString(e.GetLogId().GetKeyId())[:8], e.GetLogIndex())
}

func appendOne(t testing.TB, log *sequencer.Log, body []byte) *rekorpb.TransparencyLogEntry {
	t.Helper()
	entry, err := log.Append(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// sound audits every shard and looks for leaves that stand in two.
func (l *shardedLog) sound(t testing.TB, log *sequencer.Log) (entries int) {
	t.Helper()
	seen := map[string]int{}
	for _, shard := range log.Shards() {
		cfg := l.configs[shard.Number-1]
		report, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{Dir: cfg.Dir, Origin: origin, Public: shard.Public})
		if err != nil || !report.Sound() || report.Size != shard.Size {
			t.Errorf("shard %d: %v %+v", shard.Number, err, report)
		}
		s := must[*sequencer.Sequencer](t)(log.Shard(shard.Number))
		for i := range shard.Size {
			entry, err := s.Entry(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(entry, entry.GetCanonicalizedBody(), shard.Public); err != nil {
				t.Errorf("shard %d: %v", shard.Number, err)
			}
			if other, twice := seen[string(entry.GetCanonicalizedBody())]; twice {
				t.Errorf("one body stands in shards %d and %d", other, shard.Number)
			}
			seen[string(entry.GetCanonicalizedBody())] = shard.Number
		}
	}
	return len(seen)
}

// TestSwitchUnderLoad: twenty callers append, most bodies more than once and
// across switches. No call fails and each body has one place.
func TestSwitchUnderLoad(t *testing.T) {
	l := newShardedLog(t)
	log := l.open(t, 1)
	bodies := (forge{newKey(t)}).bodies(t, 2000)
	var mu sync.Mutex
	places := map[int]string{}
	var next atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Each body comes up three times, far enough apart to be new, under
				// way and published.
				turn := int(next.Add(1)) - 1
				for _, n := range []int{turn, turn - 1, turn - 40} {
					if n < 0 || n >= len(bodies) {
						continue
					}
					entry, err := log.Append(context.Background(), bodies[n])
					if err != nil {
						t.Errorf("body %d: %v", n, err)
						return
					}
					mu.Lock()
					if old, ok := places[n]; ok && old != place(entry) {
						t.Errorf("body %d stands at %s and %s", n, old, place(entry))
					}
					places[n] = place(entry)
					mu.Unlock()
				}
			}
		})
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		l.follow(t, log)
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	callers.Wait()
	shards := log.Shards()
	for i, s := range shards {
		if (s.State == sequencer.Frozen) != (i < 3) || (s.State == sequencer.Active) != (i == 3) || s.Size == 0 || s.Fault != nil {
			t.Errorf("shard %d: %+v", i+1, s)
		}
	}
	if n := l.sound(t, log); n != len(places) {
		t.Errorf("%d entries, %d acknowledged", n, len(places))
	}
	for n, want := range places {
		if entry := appendOne(t, log, bodies[n]); place(entry) != want {
			t.Errorf("body %d: %s, was %s", n, place(entry), want)
		}
	}
}

// TestFrozenShard: a frozen shard answers and never grows, also after a
// restart, whoever opens it.
func TestFrozenShard(t *testing.T) {
	l := newShardedLog(t)
	log := l.open(t, 1)
	bodies := (forge{newKey(t)}).bodies(t, 3)
	first := appendOne(t, log, bodies[0])
	s := must[*sequencer.Sequencer](t)(log.Shard(1))
	before := must[[]byte](t)(s.Checkpoint(t.Context()))
	l.follow(t, log)
	later := appendOne(t, log, bodies[1])
	check := func(log *sequencer.Log) {
		t.Helper()
		s := must[*sequencer.Sequencer](t)(log.Shard(1))
		if _, err := s.Append(t.Context(), bodies[2]); !errors.Is(err, sequencer.ErrFrozen) {
			t.Errorf("a frozen shard takes entries: %v", err)
		}
		if got := must[[]byte](t)(s.Checkpoint(t.Context())); !bytes.Equal(got, before) {
			t.Errorf("the last checkpoint changed:\n%s\n%s", before, got)
		}
		for body, want := range map[string]*rekorpb.TransparencyLogEntry{string(bodies[0]): first, string(bodies[1]): later} {
			entry := appendOne(t, log, []byte(body))
			shard := must[*sequencer.Sequencer](t)(log.ShardOf(want.GetLogId().GetKeyId()))
			if place(entry) != place(want) {
				t.Errorf("%s, was %s", place(entry), place(want))
			}
			if entry, found, err := shard.Find(t.Context(), []byte(body)); err != nil || !found || place(entry) != place(want) {
				t.Errorf("not found in its shard: %v", err)
			}
		}
		if err := s.Freeze(t.Context()); err != nil {
			t.Errorf("freezing again: %v", err)
		}
		if _, err := s.ReadTile(t.Context(), "tile/entries/000.p/1"); err != nil {
			t.Error(err)
		}
		if err := log.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	check(log)
	at := log.Shards()[0].FrozenAt
	closeShards(t, log)
	again := l.open(t, 2)
	check(again)
	if got := again.Shards()[0].FrozenAt; got == nil || !got.Equal(*at) {
		t.Errorf("frozen at %v, after a restart at %v", at, got)
	}
	closeShards(t, again)
	if log, err := sequencer.OpenLog(t.Context(), l.configs[0]); !errors.Is(err, sequencer.ErrFrozen) {
		t.Errorf("a log without its last shard opens: %v, %v", log, err)
	}
}

// TestFrozenShardDamaged: a frozen shard whose files were changed says so and
// is served where it is whole; the log goes on.
func TestFrozenShardDamaged(t *testing.T) {
	bodies := (forge{newKey(t)}).bodies(t, 300)
	for name, harm := range map[string]func(t *testing.T, l *testLog){
		"a leaf":        func(t *testing.T, l *testLog) { flip(t, l, "tile/0/001.p/44", 5) },
		"the root":      func(t *testing.T, l *testLog) { flip(t, l, "tile/0/000", 5) },
		"an entry":      func(t *testing.T, l *testLog) { flip(t, l, "tile/entries/000", 40) },
		"no tiles":      func(t *testing.T, l *testLog) { remove(t, l, "tile") },
		"no checkpoint": func(t *testing.T, l *testLog) { remove(t, l, "checkpoint") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newShardedLog(t)
			log := l.open(t, 1)
			var wg sync.WaitGroup
			for _, body := range bodies {
				wg.Go(func() { appendOne(t, log, body) })
			}
			wg.Wait()
			l.follow(t, log)
			closeShards(t, log)
			harm(t, &testLog{dir: l.configs[0].Dir})
			log = l.open(t, 2)
			s := must[*sequencer.Sequencer](t)(log.Shard(1))
			for i := range uint64(len(bodies)) {
				if entry, err := s.Entry(t.Context(), i); err == nil {
					if err := verify(entry, entry.GetCanonicalizedBody(), l.configs[0].Signer.Public()); err != nil {
						t.Errorf("entry %d is answered and does not prove: %v", i, err)
					}
				}
			}
			if log.Shards()[0].Fault == nil {
				t.Error("the damage is not told")
			}
			if err := log.Ready(t.Context()); err != nil {
				t.Errorf("the log does not go on: %v", err)
			}
			appendOne(t, log, (forge{newKey(t)}).body(t, 0))
		})
	}
	t.Run("a leaf, and its index is lost", func(t *testing.T) {
		l := newShardedLog(t)
		log := l.open(t, 1)
		appendOne(t, log, bodies[0])
		l.follow(t, log)
		closeShards(t, log)
		lost := openLeaves(t, filepath.Join(t.TempDir(), "empty.db"))
		l.configs[0].Leaves = lost
		moveAside(t, &testLog{dir: l.configs[0].Dir}, "tile")
		if log, err := sequencer.OpenLog(t.Context(), l.configs[:2]...); err == nil {
			closeShards(t, log)
			t.Error("a log that would take an entry twice opens")
		}
		moveBack(t, &testLog{dir: l.configs[0].Dir}, "tile") // the positive control: the index is made again
		log = l.open(t, 2)
		if size, err := lost.Size(t.Context()); err != nil || size != 1 || log.Shards()[0].Fault != nil {
			t.Errorf("%d leaves, %v, %v", size, err, log.Shards()[0].Fault)
		}
	})
	t.Run("the mark", func(t *testing.T) {
		l := newShardedLog(t)
		log := l.open(t, 1)
		l.follow(t, log)
		closeShards(t, log)
		if err := os.WriteFile(filepath.Join(l.configs[0].Dir, ".state/frozen"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if log, err := sequencer.OpenLog(t.Context(), l.configs[:2]...); !errors.Is(err, sequencer.ErrCorrupt) {
			t.Errorf("%v, %v", log, err)
		}
	})
}

// TestPromise: the log promises what stands in it, at a time at which the key
// of its shard was in use, however late it is asked.
func TestPromise(t *testing.T) {
	l := newShardedLog(t)
	log := l.open(t, 1)
	old := appendOne(t, log, (forge{newKey(t)}).body(t, 0))
	check := func(entry *rekorpb.TransparencyLogEntry, shard int) time.Time {
		t.Helper()
		at, set, err := log.Promise(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.VerifySET(l.configs[shard].Signer.Public(), entry.GetCanonicalizedBody(), at, entry.GetLogIndex(), entry.GetLogId().GetKeyId(), set); err != nil {
			t.Error(err)
		}
		return at
	}
	if at := check(old, 0); time.Since(at) > time.Minute {
		t.Errorf("promised at %v", at)
	}
	l.follow(t, log)
	l.clock.ahead.Store(int64(48 * time.Hour))
	fresh := appendOne(t, log, (forge{newKey(t)}).body(t, 1))
	if at := check(fresh, 1); time.Until(at) < 47*time.Hour {
		t.Errorf("the active shard promises %v", at)
	}
	frozen := *log.Shards()[0].FrozenAt
	if at := check(old, 0); at.After(frozen) || frozen.Sub(at) > 2*time.Second {
		t.Errorf("promised at %v by a key that ended at %v", at, frozen)
	}
	closeShards(t, log)
	log = l.open(t, 2)
	if at := check(old, 0); at.After(frozen) {
		t.Errorf("after a restart: promised at %v by a key that ended at %v", at, frozen)
	}
	for name, change := range map[string]func(*rekorpb.TransparencyLogEntry){
		"another shard": func(e *rekorpb.TransparencyLogEntry) { e.LogId = fresh.GetLogId() },
		"no log":        func(e *rekorpb.TransparencyLogEntry) { e.LogId = nil },
		"another body":  func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody = fresh.GetCanonicalizedBody() },
		"beyond":        func(e *rekorpb.TransparencyLogEntry) { e.LogIndex = 1 },
		"below":         func(e *rekorpb.TransparencyLogEntry) { e.LogIndex = -1 },
	} {
		entry := appendOne(t, log, old.GetCanonicalizedBody())
		change(entry)
		if _, _, err := log.Promise(t.Context(), entry); err == nil {
			t.Errorf("%s: promised", name)
		}
	}
	if fault := log.Shards()[0].Fault; fault != nil {
		t.Errorf("a wrong question was taken for damage: %v", fault)
	}
}

// TestSwitchInterrupted: whatever a process that died left of a switch, opening
// with the new key and going on ends it, and each body keeps its place.
func TestSwitchInterrupted(t *testing.T) {
	body := (forge{newKey(t)}).bodies(t, 3)
	for name, leave := range map[string]func(l *shardedLog, log *sequencer.Log) error{
		"the key alone": func(*shardedLog, *sequencer.Log) error { return nil },
		"prepared": func(l *shardedLog, log *sequencer.Log) error {
			return log.Prepare(t.Context(), l.configs[1])
		},
		"switched": func(l *shardedLog, log *sequencer.Log) error {
			err := log.Prepare(t.Context(), l.configs[1])
			log.Switch()
			appendOne(t, log, body[1])
			return err
		},
		"settled": func(l *shardedLog, log *sequencer.Log) error {
			l.follow(t, log)
			appendOne(t, log, body[1])
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newShardedLog(t)
			log := l.open(t, 1)
			want := place(appendOne(t, log, body[0]))
			if err := leave(l, log); err != nil {
				t.Fatal(err)
			}
			second := appendOne(t, log, body[1])
			// A copy is what the disk holds when the process dies now.
			for i := range l.configs[:2] {
				dead := l.configs[i].Dir
				l.configs[i].Dir = filepath.Join(t.TempDir(), "copy")
				if err := os.CopyFS(l.configs[i].Dir, os.DirFS(dead)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			for range 2 {
				again := l.open(t, 2)
				if got := len(again.Shards()); got != 2 {
					t.Errorf("%d shards", got)
				}
				again.Switch()
				if err := again.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !again.Settled() || again.Shards()[0].State != sequencer.Frozen {
					t.Fatalf("not settled: %+v", again.Shards())
				}
				if got := place(appendOne(t, again, body[0])); got != want {
					t.Errorf("at %s, was at %s", got, want)
				}
				if got := place(appendOne(t, again, body[1])); got != place(second) {
					t.Errorf("at %s, was at %s", got, place(second))
				}
				if got := appendOne(t, again, body[2]); !bytes.Equal(got.GetLogId().GetKeyId(), again.Shards()[1].LogID) {
					t.Error("a new body is not in the new shard")
				}
				l.sound(t, again)
				closeShards(t, again)
			}
		})
	}
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
