package sequencer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/countersign/countersign/tlog"
)

// Still calls f while the log stands still, with every shard as it is then: all
// that was taken is published and in the leaf index, and what comes meanwhile
// waits. f should only note where things stand, since callers wait for it. A log
// in the middle of a rotation is refused with ErrFrozen: repeat the rotation
// first.
func (l *Log) Still(ctx context.Context, f func(shards []Shard) error) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if !l.Settled() {
		return fmt.Errorf("%w: a rotation of the log is not finished", ErrFrozen)
	}
	return l.active().still(ctx, func() error { return f(l.Shards()) })
}

func (s *Sequencer) still(ctx context.Context, f func() error) error {
	s.mu.Lock()
	if err := s.usable(); err != nil {
		s.mu.Unlock()
		return err
	}
	gate := make(chan struct{})
	s.gate = gate
	running := make([]*call, 0, len(s.inflight))
	for _, c := range s.inflight {
		running = append(running, c)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.gate = nil
		s.mu.Unlock()
		close(gate)
	}()
	for _, c := range running {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Entries whose callers were told of a failure may be in the tree, too.
	if err := s.awaitPublished(ctx); err != nil {
		return err
	}
	return f()
}

// pass waits while the log stands still. It returns with s.mu held, unless it
// returns an error.
func (s *Sequencer) pass(ctx context.Context) error {
	for {
		s.mu.Lock()
		gate := s.gate
		if gate == nil {
			return nil
		}
		s.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the log: %w", ctx.Err())
		}
	}
}

// Files are the paths of what a tree of that size consists of, in the tlog-tiles
// layout: entry bundles first, then the tiles level by level.
func Files(size uint64) iter.Seq[string] {
	return func(yield func(string) bool) {
		kinds := []tlog.Tile{{Entries: true}}
		for level := uint64(0); level < 8 && size>>(8*level) > 0; level++ {
			kinds = append(kinds, tlog.Tile{Level: level})
		}
		for _, t := range kinds {
			for t.Width = t.WidthAt(size); t.Width > 0; t.Width = t.WidthAt(size) {
				if !yield(t.Path()) {
					return
				}
				t.Index++
			}
		}
	}
}

// EndCopy freezes a copy of a shard at its checkpoint, without its key: the
// original may have gone on after the copy was made, so nothing may be signed
// after this checkpoint from here. at is the last moment that a promise of the
// original may name.
func EndCopy(dir string, checkpoint []byte, at time.Time) error {
	path := filepath.Join(dir, stateDir, markFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as in acquire
		return fmt.Errorf("ending a copy of the log: %w", err)
	}
	if err := writeMark(path, mark{FrozenAt: at.UTC(), Checkpoint: string(checkpoint)}); err != nil {
		return fmt.Errorf("ending a copy of the log: %w", err)
	}
	return nil
}

// OriginOf is the origin that the shard in a directory was made with, unverified,
// as its last checkpoint names it; empty when it has none yet.
func OriginOf(dir string) (string, error) {
	m, frozen, err := (&Sequencer{cfg: Config{Dir: dir}}).readMark()
	if err != nil {
		return "", err
	}
	if frozen {
		return tlog.OriginLine([]byte(m.Checkpoint)), nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, layout.CheckpointPath))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading checkpoint: %w", err)
	}
	return tlog.OriginLine(raw), nil
}

// IsFrozen reports whether the shard in a directory is frozen.
func IsFrozen(dir string) (bool, error) {
	_, found, err := (&Sequencer{cfg: Config{Dir: dir}}).readMark()
	return found, err
}
