package sequencer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// For batches of any size, the edge that is read, grown and written gives the
// tiles and the root that the tree computes from them, and no file but those.
func TestEdge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := make(map[tlog.Tile][]byte)
		read := func(tile tlog.Tile) ([]byte, error) {
			if raw, ok := files[tile]; ok {
				return raw, nil
			}
			return nil, fs.ErrNotExist
		}
		size := uint64(0)
		for _, batch := range rapid.SliceOfN(rapid.IntRange(1, 700), 1, 8).Draw(t, "batches") {
			e, err := readEdge(size, read)
			if err != nil {
				t.Fatal(err)
			}
			for range batch {
				body := binary.BigEndian.AppendUint64(nil, e.size)
				e.add(body, tlog.LeafHash(body))
			}
			for _, f := range e.files() {
				if files[f.tile] != nil {
					t.Fatalf("%s is written a second time", f.tile.Path())
				}
				files[f.tile] = bytes.Clone(f.content)
			}
			size += uint64(batch)
			if root, err := newTree(size, read).root(); err != nil || !bytes.Equal(root, e.root()) || e.size != size {
				t.Fatalf("root of %d entries: %x, want %x, %v", size, e.root(), root, err)
			}
		}
		hashes, err := leafHashes(read, size-1, size, size)
		if err != nil || !bytes.Equal(hashes[0], tlog.LeafHash(binary.BigEndian.AppendUint64(nil, size-1))) {
			t.Fatalf("last entry: %v", err)
		}
	})
}

// Tessera's own POSIX driver goes on with a log that ours wrote, and ours with
// what that one wrote: neither is tied to the other's program.
func TestTesseraDriverGoesOn(t *testing.T) {
	leaves := &memory{t: t}
	s := openInternal(t, leaves)
	appendMany(t, s, 0, 300)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stock, err := posix.New(ctx, posix.Config{Path: s.cfg.Dir})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tlog.NewCheckpointSigner(s.cfg.Origin, s.cfg.Signer)
	if err != nil {
		t.Fatal(err)
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(minInterval)
	appender, shutdown, _, err := tessera.NewAppender(ctx, stock, opts)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		if _, err := appender.Add(ctx, tessera.NewEntry(number(300+n)))(); err != nil && n%100 == 0 {
			t.Fatal(err)
		}
		if n == 2 {
			break
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	again, err := Open(t.Context(), Config{
		Dir: s.cfg.Dir, Origin: s.cfg.Origin, Signer: s.cfg.Signer, Leaves: leaves,
		CheckpointInterval: minInterval, Clock: clock.System{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close(context.Background()) }()
	appendMany(t, again, 303, 400)
	report, err := Audit(t.Context(), AuditConfig{Dir: s.cfg.Dir, Origin: s.cfg.Origin, Public: s.cfg.Signer.Public()})
	if err != nil || !report.Sound() || report.Size != 400 {
		t.Errorf("%+v, %v", report, err)
	}
}

func number(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// appendMany appends bodies that are no hashedrekord, below the check of it.
func appendMany(t *testing.T, s *Sequencer, from, to int) {
	t.Helper()
	var calls []*call
	for n := from; n < to; n++ {
		c, err := s.join(t.Context(), number(n), tlog.Body{})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	for _, c := range calls {
		if _, err := s.wait(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// Partial tiles go when their full one is published, and proofs go on.
func TestCollect(t *testing.T) {
	s := openInternal(t, &memory{t: t})
	for n := 0; n < 600; n += 60 {
		appendMany(t, s, n, n+60)
	}
	if err := s.driver.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, there := range map[string]bool{
		"tile/entries/000.p": false, "tile/0/000.p": false, "tile/entries/001.p": false,
		"tile/entries/000": true, "tile/0/001": true, "tile/0/002.p/88": true, "tile/1/000.p/2": true,
	} {
		if _, err := os.Stat(filepath.Join(s.cfg.Dir, path)); errors.Is(err, fs.ErrNotExist) == there {
			t.Errorf("%s: %v", path, err)
		}
	}
	if from, err := s.driver.collected(); err != nil || from != 512 {
		t.Errorf("collected up to %d, %v", from, err)
	}
	appendMany(t, s, 600, 601)
}

// When neither the write nor the tree's answer to it can be had, the body is not
// forgotten: it is looked for in the tree before it is added again.
func TestDoubt(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		s := openInternal(t, &memory{t: t})
		appendMany(t, s, 0, 3)
		body := number(77)
		if persisted {
			s.guard.setOpen(false)
			if _, err := s.appender.Add(s.ctx, tessera.NewEntry(body))(); err != nil {
				t.Fatal(err)
			}
		}
		s.suspect()
		c, err := s.join(t.Context(), body, tlog.Body{})
		if err != nil {
			t.Fatal(err)
		}
		s.guard.setOpen(true)
		if entry, err := s.wait(t.Context(), c); err != nil || entry.GetLogIndex() != 3 {
			t.Fatalf("persisted %v: %v, %v", persisted, entry, err)
		}
		if doubt, _ := s.doubted(); (doubt == 0) == persisted {
			t.Errorf("persisted %v: doubt %d", persisted, doubt)
		}
		appendMany(t, s, 3, 4)
		if doubt, size := s.doubted(); doubt != 0 || size != 5 {
			t.Errorf("persisted %v: doubt %d, size %d", persisted, doubt, size)
		}
	}
}

// What waits when the log ends is told so, and a batch is never larger than it
// may be.
func TestQueue(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var sizes []int
	gate := make(chan struct{})
	q := newQueue(4, limits.BatchMaxAge, func(_ context.Context, entries []*tessera.Entry) error {
		<-gate
		sizes = append(sizes, len(entries))
		for i, e := range entries {
			e.MarshalBundleData(uint64(i))
		}
		if len(sizes) == 2 {
			cancel()
		}
		return nil
	})
	var futures []tessera.IndexFuture
	for n := range 10 {
		futures = append(futures, q.add(ctx, tessera.NewEntry(number(n))))
	}
	done := make(chan struct{})
	go func() { q.run(ctx); close(done) }()
	close(gate)
	<-done
	for n, future := range futures {
		if _, err := future(); (err == nil) != (n < 8) {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	if _, err := q.add(ctx, tessera.NewEntry(number(11)))(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
