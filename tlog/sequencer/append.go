package sequencer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/transparency-dev/tessera"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// leafKey is a leaf hash as a map key.
type leafKey [sha256.Size]byte

// call is one body on its way into the log. It stays registered until its
// entry is published and in the leaf index, so a second append of the body
// joins it or finds the index, and there is no moment in between.
type call struct {
	body  []byte
	kind  tlog.Body
	leaf  leafKey
	since time.Time

	// held is closed when the entry is in the tree and a checkpoint is waited for.
	held chan struct{}
	// done is closed when entry or err is set.
	done  chan struct{}
	entry *rekorpb.TransparencyLogEntry
	err   error
}

// Append puts a hashedrekord body in the log, if it is not there yet, and
// returns its entry with a verified inclusion proof under a published
// checkpoint. See the package comment for what that promises.
//
// When ctx ends first, its error is returned and the entry may still be
// logged; appending the same body again is always safe and gives the same
// index. Other errors: tlog.ErrBody for a body that is no canonical
// hashedrekord, ErrTooLarge, ErrPushback when too many wait (nothing was done),
// ErrStorage and ErrBehind while the disk does not take it, ErrUnwitnessed while
// the log's witnesses do not cosign (with both the entry may be in the tree, and
// appending it again is safe), ErrClosed, ErrStopped, ErrFrozen.
func (s *Sequencer) Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	kind, err := parse(body)
	if err != nil {
		return nil, err
	}
	c, err := s.join(ctx, body, kind)
	if err != nil {
		return nil, err
	}
	return s.wait(ctx, c)
}

func parse(body []byte) (tlog.Body, error) {
	if len(body) > limits.LogEntry {
		return tlog.Body{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(body), limits.LogEntry)
	}
	return tlog.ParseBody(body)
}

// patience is how long a caller waits before it is told that the log does not
// publish.
const patience = time.Second

// wait is the outcome of a call, or the caller's own end. While the disk does not
// take a checkpoint, or witnesses do not cosign, nobody is kept waiting, but the
// call goes on: forgetting it before its leaf is in the index would let a retry
// log it twice.
func (s *Sequencer) wait(ctx context.Context, c *call) (*rekorpb.TransparencyLogEntry, error) {
	look := time.NewTicker(patience)
	defer look.Stop()
	held, failed := c.held, (<-chan struct{})(nil)
	for !c.ended() {
		select {
		case <-c.done:
		case <-held:
			held, failed = nil, s.witness.failed()
		case <-failed:
			if err := s.witness.why(); err != nil {
				return nil, err
			}
			failed = s.witness.failed()
		case <-look.C:
			s.mu.Lock()
			err := s.trouble()
			s.mu.Unlock()
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the log: %w", ctx.Err())
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	return proto.Clone(c.entry).(*rekorpb.TransparencyLogEntry), nil
}

// trouble is why entries are not published just now, or nil. The caller holds
// s.mu.
func (s *Sequencer) trouble() error {
	if s.driver == nil {
		return nil
	}
	// The driver fails for this reason, too, and does not know it.
	if err := s.witness.why(); err != nil {
		return err
	}
	if err := errors.Join(s.driver.trouble(), s.behind); err != nil {
		return fmt.Errorf("%w: %w", ErrBehind, err)
	}
	return nil
}

// ended reports whether entry or err is set.
func (c *call) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// join returns the running call of this body, or starts it. The work is not
// the first caller's: it goes on when that one leaves.
func (s *Sequencer) join(ctx context.Context, body []byte, kind tlog.Body) (*call, error) {
	leaf := leafKey(tlog.LeafHash(body))
	if err := s.pass(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	if c, ok := s.inflight[leaf]; ok {
		return c, nil
	}
	if len(s.inflight) >= limits.LogPushback {
		return nil, ErrPushback
	}
	c := &call{body: bytes.Clone(body), kind: kind, leaf: leaf, since: s.cfg.Clock.Now(), held: make(chan struct{}), done: make(chan struct{})}
	s.inflight[leaf] = c
	s.calls.Add(1)
	go s.run(c)
	return c, nil
}

// usable is nil while appends are accepted. The caller holds s.mu.
func (s *Sequencer) usable() error {
	switch {
	case s.sealed:
		return ErrFrozen
	case s.fault != nil:
		return fmt.Errorf("%w: %w", ErrStopped, s.fault)
	case s.closed:
		return ErrClosed
	}
	return nil
}

func (s *Sequencer) run(c *call) {
	defer s.calls.Done()
	c.entry, c.err = s.sequence(c)
	if errors.Is(c.err, ErrCorrupt) {
		s.stop(c.err)
	}
	s.mu.Lock()
	delete(s.inflight, c.leaf)
	s.mu.Unlock()
	close(c.done)
}

func (s *Sequencer) sequence(c *call) (*rekorpb.TransparencyLogEntry, error) {
	// Taken before the index is asked: what is published in between is found
	// in the tree.
	doubt, from := s.doubted()
	index, found, err := s.cfg.Leaves.Find(s.ctx, c.leaf[:])
	if err != nil {
		return nil, fmt.Errorf("asking the leaf index: %w", err)
	}
	if !found && doubt > 0 {
		if index, found, err = s.locate(c.leaf, from); err != nil {
			return nil, fmt.Errorf("looking for what a failed write left: %w", err)
		}
	}
	added := !found
	if added {
		if err := s.witness.why(); err != nil {
			return nil, err
		}
		if index, err = s.add(c); err != nil {
			return nil, err
		}
	}
	if index >= s.current().cp.Size {
		close(c.held)
	}
	v, err := s.await(index, false)
	if err != nil {
		return nil, err
	}
	if added {
		s.resolve(doubt)
	}
	return v.prove(index, c.body, c.kind, s.logID)
}

// add hands the body to the driver and waits until its batch is in the tree.
func (s *Sequencer) add(c *call) (uint64, error) {
	from := s.current().cp.Size
	index, err := s.appender.Add(s.ctx, tessera.NewEntry(c.body))()
	if err == nil {
		return index.Index, nil
	}
	// A batch can fail after its effect: the state file was replaced and only
	// the directory's fsync reported an error. Whether the entry is in the
	// tree is a question for the tree; forgetting it here would let a retry
	// log it twice.
	at, found, lerr := s.locate(c.leaf, from)
	switch {
	case isFatal(lerr):
		s.stop(lerr)
		return 0, fmt.Errorf("%w: %w", ErrStopped, lerr)
	case lerr != nil:
		// The tree cannot be read either. The call ends before anybody can
		// append the body again, and that one asks the tree first.
		s.suspect()
		return 0, fmt.Errorf("appending to the log: %w", errors.Join(err, lerr))
	case found:
		return at, nil
	}
	return 0, fmt.Errorf("appending to the log: %w", err)
}

// suspect notes a batch of which it is not known whether it is in the tree.
func (s *Sequencer) suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts++
	s.doubt = s.doubts
}

// doubted is the newest doubt, 0 for none, and the published size.
func (s *Sequencer) doubted() (doubt, size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubt, s.view.cp.Size
}

// resolve ends a doubt that was there before an entry was added that is
// published now: all that stands before it in the tree is in the leaf index.
func (s *Sequencer) resolve(doubt uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubt == doubt {
		s.doubt = 0
	}
}

// locate looks for a leaf among the entries of the tree from a published size
// on. An error means that the tree cannot answer.
func (s *Sequencer) locate(leaf leafKey, at uint64) (index uint64, found bool, err error) {
	size, err := s.reader.IntegratedSize(s.ctx)
	if err != nil {
		return 0, false, err
	}
	if size < at {
		return 0, false, fmt.Errorf("%w: tree of %d entries under a checkpoint of %d", ErrRollback, size, at)
	}
	for at < size {
		hashes, err := leafHashes(s.disk.read, at, size, size)
		if err != nil {
			return 0, false, err
		}
		for i, h := range hashes {
			if leafKey(h) == leaf {
				return at + uint64(i), true, nil
			}
		}
		at += uint64(len(hashes))
	}
	return 0, false, nil
}

// await returns the first view at hand that covers index. impatient does not
// wait for witnesses that do not cosign.
func (s *Sequencer) await(index uint64, impatient bool) (*view, error) {
	for {
		var hurried <-chan struct{}
		if impatient {
			hurried = s.witness.failed()
		}
		s.mu.Lock()
		v, changed, fault := s.view, s.changed, s.fault
		s.mu.Unlock()
		switch {
		case fault != nil:
			return nil, fmt.Errorf("%w: %w", ErrStopped, fault)
		case index < v.cp.Size:
			return v, nil
		}
		select {
		case <-changed:
		case <-hurried:
			if err := s.witness.why(); err != nil {
				return nil, err
			}
		case <-s.ctx.Done():
			return nil, ErrClosed
		}
	}
}
