package signer

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/countersign/countersign/internal/limits"
)

// flight is one operation in hand, from a request or from the store. Whoever
// asks for the same thing meanwhile waits for it instead of doing it again.
type flight struct {
	id   string
	hash []byte
	// predicate is how many bytes of predicate the work has in hand.
	predicate int
	// interrupt ends the work's context.
	interrupt context.CancelFunc
	// accepted is closed when the operation is durably kept, or after done.
	accepted chan struct{}
	accept   sync.Once
	// done is closed at the end; result, replayed and err are final then.
	done     chan struct{}
	result   Result
	replayed bool
	err      error

	mu sync.Mutex
	// Guarded by mu. changed is closed and replaced with each view.
	kept    bool
	view    Operation
	changed chan struct{}
}

func newFlight(id string, hash []byte) *flight {
	return &flight{
		id: id, hash: hash,
		accepted: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
	}
}

// publish shows watchers where the operation stands.
func (f *flight) publish(op Operation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view = op
	close(f.changed)
	f.changed = make(chan struct{})
}

// keep records that the store has the operation: from here on it may be seen.
func (f *flight) keep() {
	f.mu.Lock()
	f.kept = true
	f.mu.Unlock()
	f.accept.Do(func() { close(f.accepted) })
}

// look returns the current view if the operation may be seen, and a channel
// that is closed when it changes.
func (f *flight) look() (view Operation, changed <-chan struct{}, seen bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view, f.changed, f.kept
}

func (f *flight) end(result Result, replayed bool, err error) {
	f.result, f.replayed, f.err = result, replayed, err
	close(f.done)
	f.accept.Do(func() { close(f.accepted) })
}

// wait returns the flight's outcome, or a PendingError when ctx ends first and
// the operation is kept.
func (f *flight) wait(ctx context.Context) (Result, bool, error) {
	select {
	case <-f.done:
		return f.result, f.replayed, f.err
	case <-ctx.Done():
	}
	if _, _, seen := f.look(); seen {
		return Result{}, false, &PendingError{Operation: f.id, Cause: ctx.Err()}
	}
	return Result{}, false, ctx.Err()
}

// outcome is how a flight's work ended.
type outcome struct {
	result   Result
	replayed bool
	err      error
}

// claim registers a flight for the retry key (if it has one) and the id, or
// returns the one that holds either of them.
func (s *Signer) claim(f *flight, key retryKey) (holder *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrBusy
	}
	if key.key != "" {
		if other := s.byRetry[key]; other != nil {
			return other, nil
		}
	}
	if other := s.byID[f.id]; other != nil {
		return other, nil
	}
	// A predicate that is larger than all may have together runs alone.
	if f.predicate > 0 && s.predicates > 0 && s.predicates+f.predicate > limits.PredicatesInHand {
		return nil, ErrBusy
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	s.predicates += f.predicate
	s.wg.Add(1)
	s.byID[f.id] = f
	if key.key != "" {
		s.byRetry[key] = f
	}
	return f, nil
}

func (s *Signer) release(f *flight, key retryKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, f.id)
	if key.key != "" {
		delete(s.byRetry, key)
	}
	s.predicates -= f.predicate
	<-s.slots
	s.wg.Done()
}

// adopt makes the flight the one of a stored operation that its retry key
// names. No other flight can hold that id: it would hold the retry key too.
func (s *Signer) adopt(f *flight, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, f.id)
	f.id = id
	s.byID[id] = f
}

func (s *Signer) flightOf(id string) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// fly runs work in the background, or joins a flight that has the same hash.
// The work outlives ctx and keeps its values; it is bounded by its own time
// and by Close.
func (s *Signer) fly(ctx context.Context, f *flight, key retryKey, work func(context.Context, *flight) outcome) (holder *flight, joined bool, err error) {
	var run context.Context
	run, f.interrupt = context.WithTimeout(context.WithoutCancel(ctx), limits.RequestTimeout)
	holder, err = s.claim(f, key)
	if err != nil || holder != f {
		f.interrupt()
	}
	if err != nil {
		return nil, false, err
	}
	if holder != f {
		if !bytes.Equal(holder.hash, f.hash) {
			return nil, false, ErrIdempotencyReused
		}
		return holder, true, nil
	}
	go func() {
		defer f.interrupt()
		var out outcome
		if err := contain(func() error { out = work(run, f); return nil }); err != nil {
			out = outcome{err: err}
		}
		// Released before the outcome is told: who asks again after it must
		// find the store's answer, not a flight that has ended.
		s.release(f, key)
		f.end(out.result, out.replayed, out.err)
	}()
	return f, false, nil
}

// contain turns a panic into ErrInternal: the work runs outside the server's
// own recovery, and a fault in one operation must not end the others. What the
// operation had kept stays pending.
func contain(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", ErrInternal, p, debug.Stack())
		}
	}()
	return do()
}
