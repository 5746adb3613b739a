package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/countersign/countersign/tlog"
)

// How soon the follower looks again.
const (
	// lookSoon: a checkpoint was signed and its file is being written.
	lookSoon = time.Millisecond
	// lookLater bounds the pause after failures. An idle log looks as often,
	// to find a checkpoint file that somebody else wrote.
	lookLater = time.Second
)

// recordTogether is how many leaves at least are written to the index in one
// step, unless there are fewer.
const recordTogether = 4096

// follow is the one goroutine that reads the checkpoint file. The guard wakes
// it when a checkpoint is signed, and it wakes all appends that the new
// checkpoint covers at once.
func (s *Sequencer) follow(ctx context.Context) {
	defer close(s.followed)
	pause := time.NewTimer(0)
	defer pause.Stop()
	delay := lookSoon
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.guard.signed:
		case <-pause.C:
		}
		waiting, err := s.advance(ctx)
		s.lag(err)
		switch {
		case ctx.Err() != nil:
			return
		case isFatal(err):
			s.stop(err)
			return
		case err != nil:
			s.cfg.Logger.WarnContext(ctx, "checkpoint not taken over, trying again", slog.Any("error", err))
			delay = min(2*delay, lookLater)
			pause.Reset(delay)
		case waiting:
			// Nearly at once at first; slower the longer the file system takes.
			pause.Reset(delay)
			delay = min(delay+lookSoon/4, lookLater)
		default:
			delay = lookSoon
			pause.Reset(lookLater)
		}
	}
}

// lag keeps why the published checkpoint is not shown.
func (s *Sequencer) lag(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = err
}

// isFatal tells corruption, which no repetition heals, from trouble that may
// pass.
func isFatal(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrRollback) || errors.Is(err, tlog.ErrCheckpoint)
}

// advance takes over the published checkpoint if it is new: verifies that it
// extends the present one, hashes the new entries from their stored bytes,
// writes them to the leaf index, and only then shows it to appends and
// readers. waiting says that a signed checkpoint has not appeared yet.
func (s *Sequencer) advance(ctx context.Context) (waiting bool, err error) {
	signed, refusal := s.guard.state()
	if isFatal(refusal) {
		return false, refusal
	}
	if err := s.witness.contradiction(); err != nil {
		return false, err
	}
	raw, err := os.ReadFile(filepath.Join(s.cfg.Dir, layout.CheckpointPath))
	if errors.Is(err, fs.ErrNotExist) && s.witness != nil && s.current().raw == nil {
		return true, nil // the first checkpoint waits for its witnesses
	}
	if err != nil {
		return false, fmt.Errorf("reading checkpoint: %w", err)
	}
	v := s.current()
	if bytes.Equal(raw, v.raw) {
		return signed > v.cp.Size, nil
	}
	next, err := s.take(ctx, v, raw)
	if err != nil {
		return false, err
	}
	s.witness.shown(raw)
	s.publish(next)
	return signed > next.cp.Size, nil
}

// take is the view of a checkpoint just read.
func (s *Sequencer) take(ctx context.Context, v *view, raw []byte) (*view, error) {
	cp, err := tlog.OpenCheckpoint(raw, s.verifier)
	if err != nil {
		return nil, err
	}
	if cp.Size < v.cp.Size {
		return nil, fmt.Errorf("%w: checkpoint of %d entries after one of %d", ErrRollback, cp.Size, v.cp.Size)
	}
	t := newTree(cp.Size, s.disk.read)
	if err := t.extends(v.cp, cp.Root); err != nil {
		return nil, err
	}
	var fresh [][]byte
	err = s.index(ctx, t, v.cp.Size, func(hashes [][]byte) { fresh = append(fresh, hashes...) })
	if err != nil {
		return nil, err
	}
	return v.next(raw, cp, t, fresh), nil
}

// index writes the leaf hashes of a tree, from first on, to the leaf index. The
// normal path and recovery at Open are this one function. Each hash is
// computed from the stored entry and compared with the tile.
func (s *Sequencer) index(ctx context.Context, t *tree, first uint64, each func([][]byte)) error {
	var waiting [][]byte
	for at := first; at < t.size; {
		hashes, err := leafHashes(t.read, at, t.size, t.size)
		if err != nil {
			return err
		}
		if err := matchTile(t, at, hashes); err != nil {
			return err
		}
		waiting = append(waiting, hashes...)
		at += uint64(len(hashes))
		// Each record is a flush of the disk.
		if at < t.size && len(waiting) < recordTogether {
			continue
		}
		if err := s.cfg.Leaves.Record(ctx, first, waiting); err != nil {
			return fmt.Errorf("writing the leaf index: %w", err)
		}
		each(waiting)
		first, waiting = at, nil
	}
	return nil
}

func matchTile(t *tree, first uint64, hashes [][]byte) error {
	for i, h := range hashes {
		at := first + uint64(i)
		stored, err := t.stored(0, at)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored, h) {
			return fmt.Errorf("%w: entry %d does not hash to its leaf", ErrCorrupt, at)
		}
	}
	return nil
}

func (s *Sequencer) current() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// publish shows v and wakes everybody who waits.
func (s *Sequencer) publish(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
	close(s.changed)
	s.changed = make(chan struct{})
}

// stop ends the log's service for a reason that needs a person. Readers still
// get what was published before.
func (s *Sequencer) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return
	}
	s.fault = cause
	s.guard.setOpen(false)
	close(s.changed)
	s.changed = make(chan struct{})
	s.cfg.Logger.Error("log has stopped", slog.Any("error", cause))
}
