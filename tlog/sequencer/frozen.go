package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
)

// markFile lies in the state directory of a frozen shard.
const markFile = "frozen"

// mark is what freezes a shard: from the moment it is on disk no key signs a
// checkpoint for this directory again.
type mark struct {
	// FrozenAt is the last moment that a promise of this shard may name.
	FrozenAt time.Time `json:"frozenAt"`
	// Checkpoint is the last one, a signed note. It is served from here, so
	// that a changed file shows.
	Checkpoint string `json:"checkpoint"`
}

func (s *Sequencer) markPath() string { return filepath.Join(s.cfg.Dir, stateDir, markFile) }

func (s *Sequencer) readMark() (mark, bool, error) { return readMark(s.markPath()) }

func readMark(path string) (m mark, found bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, false, nil
	}
	if err != nil {
		return mark{}, false, fmt.Errorf("reading the mark of a frozen log: %w", err)
	}
	if err := strictjson.Unmarshal(raw, &m); err != nil || m.FrozenAt.IsZero() {
		return mark{}, false, fmt.Errorf("%w: %s does not say when the log was frozen", ErrCorrupt, path)
	}
	return m, true, nil
}

// seal takes nothing new from now on. It returns at once and when it returns,
// every body that is in the shard or will be is found by Find.
func (s *Sequencer) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
}

// Freeze ends the shard for good: it takes nothing new, finishes what is under
// way, publishes a checkpoint over all of it, and never signs another, also
// after a restart. Reading goes on. Until the mark is on disk a crash leaves an
// ordinary shard that Freeze may be called for again; calling it for a frozen
// one does nothing. It fails when the shard has stopped, is closed, or ctx ends
// first.
func (s *Sequencer) Freeze(ctx context.Context) error {
	s.halting.Lock()
	defer s.halting.Unlock()
	s.mu.Lock()
	closed, frozen := s.closed, s.frozen
	s.sealed = true
	s.mu.Unlock()
	switch {
	case frozen:
		return nil
	case closed:
		return ErrClosed
	}
	if !s.halted {
		if err := s.finish(ctx); err != nil {
			return fmt.Errorf("freezing the log: %w", err)
		}
		s.halt()
	}
	m := mark{FrozenAt: s.lastMoment(), Checkpoint: string(s.current().raw)}
	if err := writeMark(s.markPath(), m); err != nil {
		return fmt.Errorf("freezing the log: %w", err)
	}
	s.mu.Lock()
	s.frozen = true
	s.mu.Unlock()
	return nil
}

// finish returns when a published checkpoint covers everything that was taken.
func (s *Sequencer) finish(ctx context.Context) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	// Entries of a batch whose callers were told of a failure may be in the
	// tree as well; they stay, under the last checkpoint.
	if err := s.awaitPublished(ctx); err != nil {
		return err
	}
	return s.shutdown(ctx)
}

// lastMoment is fixed under the lock that promises take their time under, so
// that none names a later one.
func (s *Sequencer) lastMoment() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endedAt.IsZero() {
		s.endedAt = s.cfg.Clock.Now().UTC()
	}
	return s.endedAt
}

// writeMark replaces the file in one durable step.
func writeMark(path string, m mark) error {
	content, err := strictjson.Marshal(m)
	if err != nil {
		return err
	}
	return replaceFile(path, content)
}

// openFrozen opens a shard for reading: no driver runs and nothing is signed
// but promises about what is there. What the mark cannot prove is refused; what
// the stored tree contradicts is kept as the shard's fault, because the rest of
// the log does not depend on it.
func (s *Sequencer) openFrozen(ctx context.Context, m mark) error {
	cp, err := tlog.OpenCheckpoint([]byte(m.Checkpoint), s.verifier)
	if err != nil {
		return fmt.Errorf("last checkpoint of a frozen log: %w", err)
	}
	t := newTree(cp.Size, s.disk.read)
	s.view = (&view{tree: newTree(0, s.disk.read)}).next([]byte(m.Checkpoint), cp, t, nil)
	s.sealed, s.frozen, s.halted, s.endedAt = true, true, true, m.FrozenAt
	s.cancel = func() {}
	err = s.checkFrozen(ctx, cp, t)
	if err == nil {
		return nil
	}
	// Whoever repeats an append must find its entry, so the index must be whole
	// even where the tree is not.
	indexed, ierr := s.cfg.Leaves.Size(ctx)
	if !damage(err) || ierr != nil || indexed < cp.Size {
		return errors.Join(err, ierr)
	}
	s.blame(err)
	return nil
}

// damage tells files that contradict each other from trouble that may pass.
func damage(err error) bool { return isFatal(err) || errors.Is(err, fs.ErrNotExist) }

// checkFrozen compares the stored tree with the last checkpoint, and completes
// the leaf index from it, as recover does.
func (s *Sequencer) checkFrozen(ctx context.Context, cp tlog.Checkpoint, t *tree) error {
	raw, err := os.ReadFile(filepath.Join(s.cfg.Dir, layout.CheckpointPath))
	if err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	published, err := tlog.OpenCheckpoint(raw, s.verifier)
	if err != nil {
		return fmt.Errorf("published checkpoint: %w", err)
	}
	if published.Size != cp.Size || !bytes.Equal(published.Root, cp.Root) {
		return fmt.Errorf("%w: the published checkpoint is not the last one", ErrCorrupt)
	}
	if err := t.extends(tlog.Checkpoint{}, cp.Root); err != nil {
		return err
	}
	indexed, err := s.cfg.Leaves.Size(ctx)
	if err != nil {
		return fmt.Errorf("asking the leaf index: %w", err)
	}
	if indexed > cp.Size {
		return fmt.Errorf("%w: the frozen tree has %d entries, the leaf index %d", ErrRollback, cp.Size, indexed)
	}
	if err := s.sameLog(ctx, t, indexed); err != nil {
		return err
	}
	return s.index(ctx, t, indexed, func([][]byte) {})
}

// blame keeps the first fault of a frozen shard.
func (s *Sequencer) blame(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		s.fault = err
		s.cfg.Logger.Error("a frozen log shard is damaged", "dir", s.cfg.Dir, "error", err)
	}
}

// Fault is why the log has stopped or, of a frozen one, what is wrong with its
// files; nil while nothing is known to be.
func (s *Sequencer) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// FrozenAt is when the shard was frozen; false while it is not, for good.
func (s *Sequencer) FrozenAt() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endedAt, s.frozen
}

// Find returns the entry of a body that is in the shard or on its way there,
// with a fresh proof, and false for any other. Once the shard takes nothing
// new the answer false is final.
func (s *Sequencer) Find(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, bool, error) {
	kind, err := parse(body)
	if err != nil {
		return nil, false, err
	}
	leaf := leafKey(tlog.LeafHash(body))
	s.mu.Lock()
	c := s.inflight[leaf]
	s.mu.Unlock()
	if c != nil {
		entry, err := s.wait(ctx, c)
		return entry, err == nil, err
	}
	// A call leaves inflight only when its leaf is in the index.
	index, found, err := s.cfg.Leaves.Find(ctx, leaf[:])
	if err != nil {
		return nil, false, fmt.Errorf("asking the leaf index: %w", err)
	}
	if !found {
		return nil, false, nil
	}
	v, err := s.covering(index)
	if err != nil {
		return nil, false, err
	}
	entry, err := v.prove(index, body, kind, s.logID)
	return entry, err == nil, s.noted(err)
}

// covering is a view of an indexed entry: the index is written just before the
// checkpoint is shown, and of a frozen shard there is one view only.
func (s *Sequencer) covering(index uint64) (*view, error) {
	if _, frozen := s.FrozenAt(); frozen {
		return s.current(), nil
	}
	return s.await(index, true)
}

// noted remembers damage that a reader of a frozen shard met.
func (s *Sequencer) noted(err error) error {
	s.mu.Lock()
	frozen := s.frozen
	s.mu.Unlock()
	if frozen && damage(err) {
		s.blame(err)
	}
	return err
}
