package sequencer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// grown is a closed log of n entries.
func grown(t *testing.T, n int) *testLog {
	t.Helper()
	l := newTestLog(t)
	s := l.open(t)
	appendEach(t, s, (forge{newKey(t)}).bodies(t, n))
	closeLog(t, s)
	return l
}

func TestOpenRefusesConfig(t *testing.T) {
	l := newTestLog(t)
	for name, change := range map[string]func(*sequencer.Config){
		"no directory":      func(c *sequencer.Config) { c.Dir = "" },
		"no signer":         func(c *sequencer.Config) { c.Signer = nil },
		"no leaf index":     func(c *sequencer.Config) { c.Leaves = nil },
		"no clock":          func(c *sequencer.Config) { c.Clock = nil },
		"interval too low":  func(c *sequencer.Config) { c.CheckpointInterval = 99 * time.Millisecond },
		"interval too high": func(c *sequencer.Config) { c.CheckpointInterval = 501 * time.Millisecond },
	} {
		cfg := l.config()
		change(&cfg)
		if err := l.refuse(t, cfg); !errors.Is(err, sequencer.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := l.config()
	cfg.Origin = "log.example.com:8181"
	if err := l.refuse(t, cfg); !errors.Is(err, tlog.ErrOrigin) {
		t.Errorf("origin with a port: %v", err)
	}
}

// A log whose stored state is not what this key and index promised is not
// touched. Each case has the same log opening cleanly as its control.
func TestOpenRefusesState(t *testing.T) {
	const n = 40
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, l *testLog, cfg *sequencer.Config)
		want   error
	}{
		{"wrong key", func(t *testing.T, _ *testLog, cfg *sequencer.Config) { cfg.Signer = newKey(t) }, tlog.ErrCheckpoint},
		{"wrong origin", func(_ *testing.T, _ *testLog, cfg *sequencer.Config) { cfg.Origin = "other.example.com" }, tlog.ErrCheckpoint},
		{"corrupted checkpoint", func(t *testing.T, l *testLog, _ *sequencer.Config) {
			raw := l.file(t, "checkpoint")
			raw[len(origin)+1] ^= 1
			l.write(t, "checkpoint", raw)
		}, tlog.ErrCheckpoint},
		{"empty checkpoint", func(t *testing.T, l *testLog, _ *sequencer.Config) { l.write(t, "checkpoint", nil) }, tlog.ErrCheckpoint},
		{"checkpoint removed", func(t *testing.T, l *testLog, _ *sequencer.Config) { remove(t, l, "checkpoint") }, sequencer.ErrRollback},
		{"directory emptied", func(t *testing.T, l *testLog, _ *sequencer.Config) { remove(t, l, "") }, sequencer.ErrRollback},
		{"tree state removed", func(t *testing.T, l *testLog, _ *sequencer.Config) { remove(t, l, ".state/treeState") }, sequencer.ErrRollback},
		{"tree smaller than the index", func(t *testing.T, l *testLog, _ *sequencer.Config) {
			if err := l.leaves.Record(t.Context(), n, [][]byte{tlog.LeafHash([]byte("lost entry"))}); err != nil {
				t.Fatal(err)
			}
		}, sequencer.ErrRollback},
		{"tree state rolled back", func(t *testing.T, l *testLog, _ *sequencer.Config) {
			l.write(t, ".state/treeState", []byte(`{"size":10,"root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
		}, sequencer.ErrRollback},
		{"index of another log", func(t *testing.T, l *testLog, cfg *sequencer.Config) {
			cfg.Leaves = openLeaves(t, filepath.Join(t.TempDir(), "other.db"))
			if err := cfg.Leaves.Record(t.Context(), 0, [][]byte{tlog.LeafHash([]byte("other"))}); err != nil {
				t.Fatal(err)
			}
		}, sequencer.ErrRollback},
		// B5: a tile changed under an unchanged checkpoint.
		{"tile changed", func(t *testing.T, l *testLog, _ *sequencer.Config) { flip(t, l, "tile/0/000.p/40", 100) }, sequencer.ErrCorrupt},
		{"entry changed", func(t *testing.T, l *testLog, cfg *sequencer.Config) {
			flip(t, l, "tile/entries/000.p/40", 100)
			cfg.Leaves = openLeaves(t, filepath.Join(t.TempDir(), "empty.db"))
		}, sequencer.ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := grown(t, n)
			closeLog(t, l.open(t))
			cfg := l.config()
			test.damage(t, l, &cfg)
			if err := l.refuse(t, cfg); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	if err := l.refuse(t, l.config()); !errors.Is(err, sequencer.ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	closeLog(t, s)
	closeLog(t, l.open(t))
}

// A state file that was exchanged under a running log stops it before it
// signs a fork.
func TestRunningLogStopsRatherThanFork(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	f := forge{newKey(t)}
	if _, err := s.Append(t.Context(), f.body(t, 2000)); err != nil {
		t.Fatal(err)
	}
	older := l.file(t, ".state/treeState")
	appendEach(t, s, f.bodies(t, 20))
	before := l.file(t, "checkpoint")

	l.write(t, ".state/treeState", older)
	_, err := s.Append(t.Context(), f.body(t, 1000))
	if !errors.Is(err, sequencer.ErrStopped) && !errors.Is(err, sequencer.ErrCorrupt) {
		t.Fatalf("append on a rolled back tree: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, sequencer.ErrStopped) {
		t.Errorf("ready: %v", err)
	}
	if after := l.file(t, "checkpoint"); !bytes.Equal(before, after) {
		t.Errorf("a checkpoint was signed over a rolled back tree:\n%s", after)
	}
}

// A checkpoint file that somebody else wrote is not believed.
func TestForeignCheckpointStopsTheLog(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	f := forge{newKey(t)}
	appendEach(t, s, f.bodies(t, 3))
	signer, err := tlog.NewCheckpointSigner(origin, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	cp := tlog.Checkpoint{Origin: origin, Size: 4, Root: make([]byte, 32)}
	forged, err := note.Sign(&note.Note{Text: string(cp.Marshal())}, signer)
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "checkpoint", forged)
	// The driver now believes that four entries are published; the next batch
	// wakes the follower, which finds the forgery or the real successor.
	_, err = s.Append(t.Context(), f.body(t, 1000))
	if err != nil && !errors.Is(err, sequencer.ErrStopped) && !errors.Is(err, sequencer.ErrBehind) {
		t.Errorf("append: %v", err)
	}
	served, cerr := s.Checkpoint(t.Context())
	if cerr != nil {
		t.Fatal(cerr)
	}
	if bytes.Equal(served, forged) {
		t.Error("a forged checkpoint was served")
	}
}

func remove(t *testing.T, l *testLog, path string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(l.dir, path)); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of a stored file.
func flip(t *testing.T, l *testLog, path string, at int) {
	t.Helper()
	raw := l.file(t, path)
	raw[at] ^= 1
	l.write(t, path, raw)
}

func moveAside(t *testing.T, l *testLog, path string) {
	t.Helper()
	if err := os.Rename(filepath.Join(l.dir, path), filepath.Join(l.dir, path+".aside")); err != nil {
		t.Fatal(err)
	}
}

func moveBack(t *testing.T, l *testLog, path string) {
	t.Helper()
	if err := os.Rename(filepath.Join(l.dir, path+".aside"), filepath.Join(l.dir, path)); err != nil {
		t.Fatal(err)
	}
}
