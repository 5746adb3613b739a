package signer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

const (
	// resumeParallel bounds operations taken up at the same time, so that a
	// start after an outage leaves room for new requests.
	resumeParallel = 16
	// rescanInterval is how often Run looks for pending operations that
	// nobody in this process has scheduled.
	rescanInterval = time.Minute
)

// Resume takes up every pending operation once, with the function that new
// requests run through, and returns when each was attempted. What fails for a
// passing reason is left to Run. Call it once at start, before requests are
// answered or beside them: a request with the same idempotency key joins.
//
// With several processes on one database only one may call it while others
// run: two that complete the same operation attach two (valid) bundles.
func (s *Signer) Resume(ctx context.Context) error {
	ids, err := s.pending(ctx, s.cfg.Clock.Now())
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(resumeParallel)
	for _, id := range ids {
		group.Go(func() error { s.takeUp(ctx, id); return nil })
	}
	return group.Wait()
}

// Run repeats pending operations when they are due until ctx ends. It also
// finds those that another process left behind.
func (s *Signer) Run(ctx context.Context) error {
	rescan := time.NewTicker(rescanInterval)
	defer rescan.Stop()
	var group errgroup.Group
	group.SetLimit(resumeParallel)
	defer group.Wait() //nolint:errcheck // takeUp reports by itself
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rescan.C:
			s.rescan(ctx)
		case <-s.retries.wake:
		}
		for _, id := range s.retries.due() {
			group.Go(func() error { s.takeUp(ctx, id); return nil })
		}
	}
}

// rescan schedules pending operations that nothing here knows of. An operation
// that another live process works on or will repeat was changed more recently
// than the longest pause between its attempts.
func (s *Signer) rescan(ctx context.Context) {
	ids, err := s.pending(ctx, s.cfg.Clock.Now().Add(-s.cfg.RetryMax-2*limits.RequestTimeout))
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "looking for pending operations", "error", err)
		return
	}
	for _, id := range ids {
		if s.flightOf(id) == nil {
			s.retries.scheduleNew(id)
		}
	}
}

// pending lists the ids of pending operations last changed before or at a time.
func (s *Signer) pending(ctx context.Context, unchangedSince time.Time) ([]string, error) {
	var ids []string
	page := store.Page{Limit: limits.PageMax}
	for {
		ops, next, err := s.cfg.Operations.List(ctx, store.OperationFilter{
			State: StatePending, WithoutBody: true, WithoutResult: true,
		}, page)
		if err != nil {
			return nil, fmt.Errorf("%w: listing pending operations: %w", ErrStore, err)
		}
		for _, op := range ops {
			if !op.UpdatedAt.After(unchangedSince) {
				ids = append(ids, op.ID)
			}
		}
		if next == "" {
			return ids, nil
		}
		page.Cursor = next
	}
}

// takeUp runs a pending operation, unless it is in hand or no longer pending.
func (s *Signer) takeUp(ctx context.Context, id string) {
	stored, err := s.cfg.Operations.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return
	case err != nil:
		s.cfg.Logger.WarnContext(ctx, "reading a pending operation", "operation", id, "error", err)
		s.retries.schedule(id, 1)
		return
	case stored.State != StatePending:
		return
	}
	f := newFlight(id, stored.RequestHash)
	if stored.Kind == kindAttestation {
		f.predicate = len(stored.Body)
	}
	f, joined, err := s.fly(ctx, f, retryKey{stored.Scope, stored.IdempotencyKey}, func(ctx context.Context, f *flight) outcome {
		return s.takeUpClaimed(ctx, f)
	})
	switch {
	case err != nil:
		// Busy, or a request with another body holds the idempotency key for
		// the moment it takes to refuse it.
		s.retries.schedule(id, 1)
	case !joined:
		_, _, _ = f.wait(ctx) // the flight settles its own errors
	}
}

// takeUpClaimed reads the operation again: between the first reading and the
// claim another flight may have finished it.
func (s *Signer) takeUpClaimed(ctx context.Context, f *flight) outcome {
	stored, err := s.stored(ctx, f.id)
	if err != nil {
		s.retries.schedule(f.id, 1)
		return outcome{err: err}
	}
	if stored.State == StateDone {
		return replay(f, stored)
	}
	return s.resumeStored(ctx, f, stored)
}

// retries says when pending operations are due.
type retries struct {
	min, max time.Duration
	// wake has a value when something may be due.
	wake chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	waiting map[string]*time.Timer
	ready   map[string]struct{}
}

func newRetries(shortest, longest time.Duration) *retries {
	return &retries{
		min: shortest, max: longest, wake: make(chan struct{}, 1),
		waiting: map[string]*time.Timer{}, ready: map[string]struct{}{},
	}
}

// schedule makes an operation due after a pause.
func (r *retries) schedule(id string, attempts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.waiting[id]; t != nil {
		t.Stop()
	}
	r.waiting[id] = time.AfterFunc(r.pause(attempts), func() { r.fire(id) })
}

// pause doubles with each attempt, from min to max.
func (r *retries) pause(attempts int) time.Duration {
	wait := r.min
	for n := 1; n < attempts && wait < r.max; n++ {
		wait *= 2
	}
	return min(wait, r.max)
}

// scheduleNew schedules an operation that is not scheduled yet.
func (r *retries) scheduleNew(id string) {
	r.mu.Lock()
	_, known := r.waiting[id]
	r.mu.Unlock()
	if !known {
		r.schedule(id, 1)
	}
}

func (r *retries) fire(id string) {
	r.mu.Lock()
	delete(r.waiting, id)
	r.ready[id] = struct{}{}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// drop forgets an operation that needs no retry.
func (r *retries) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.waiting[id]; t != nil {
		t.Stop()
		delete(r.waiting, id)
	}
	delete(r.ready, id)
}

// due takes what is due now.
func (r *retries) due() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Sorted(maps.Keys(r.ready))
	clear(r.ready)
	return ids
}
