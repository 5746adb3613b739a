package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/store"
)

// Sign runs the whole sequence and returns the result; replayed reports that
// the result is that of an earlier or concurrent call with the same
// idempotency key. The operation goes on when ctx ends: the error then is a
// *PendingError if the operation is kept, else the context's.
//
// Other errors are those of this package. A *PendingError also reports a
// passing fault after the signatures were kept; the signer repeats by itself.
func (s *Signer) Sign(ctx context.Context, caller identity.Identity, r Request) (result Result, replayed bool, err error) {
	f, joined, err := s.start(ctx, caller, r, false)
	if err != nil {
		return Result{}, false, err
	}
	result, replayed, err = f.wait(ctx)
	return result, replayed || joined, err
}

// Start decides, journals, keeps the operation and returns it while it runs:
// the answer is durable, so the operation is done or fails even if the process
// dies now. Refusals are returned as errors like those of Sign. When the
// idempotency key names an operation that is there already, that one is
// returned.
func (s *Signer) Start(ctx context.Context, caller identity.Identity, r Request) (Operation, error) {
	f, _, err := s.start(ctx, caller, r, true)
	if err != nil {
		return Operation{}, err
	}
	select {
	case <-f.accepted:
	case <-ctx.Done():
		return Operation{}, ctx.Err()
	}
	if op, _, kept := f.look(); kept {
		return op, nil
	}
	// The flight ended without an operation, so its outcome is final.
	<-f.done
	return Operation{}, f.err
}

func (s *Signer) start(ctx context.Context, caller identity.Identity, r Request, keepFirst bool) (*flight, bool, error) {
	p, err := prepare(caller, r)
	if err != nil {
		return nil, false, err
	}
	f := newFlight(s.cfg.NewID(), p.hash)
	f.predicate = len(p.Predicate)
	return s.fly(ctx, f, retryKey{p.scope, p.IdempotencyKey}, func(ctx context.Context, f *flight) outcome {
		return s.request(ctx, f, p, keepFirst)
	})
}

// request is the work of a flight that a request began.
func (s *Signer) request(ctx context.Context, f *flight, p prepared, keepFirst bool) outcome {
	if p.IdempotencyKey != "" {
		stored, err := s.cfg.Operations.Find(ctx, p.scope, p.IdempotencyKey)
		if err == nil {
			return s.again(ctx, f, p, stored)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return outcome{err: fmt.Errorf("%w: %w", ErrStore, err)}
		}
	}
	if s.cfg.Log.ReadOnly() {
		return outcome{err: ErrReadOnly}
	}
	w := s.newWork(f, p)
	if err := s.permit(ctx, w); err != nil {
		return outcome{err: err}
	}
	if keepFirst {
		if earlier, err := s.keep(ctx, w); err != nil {
			return s.settle(ctx, w, err)
		} else if earlier != nil {
			return s.again(ctx, f, p, *earlier)
		}
	}
	return s.run(ctx, w)
}

// again answers from an operation that the store has already, or goes on with
// it where it stands. A failed one is tried again: the caller asks for it, and
// the bytes are the same.
func (s *Signer) again(ctx context.Context, f *flight, p prepared, stored store.Operation) outcome {
	if !bytes.Equal(stored.RequestHash, p.hash) {
		return outcome{err: ErrIdempotencyReused}
	}
	s.adopt(f, stored.ID)
	if stored.State == StateDone {
		return replay(f, stored)
	}
	w, err := s.loadWork(f, stored)
	if err != nil {
		return outcome{err: err}
	}
	if p.summary == nil {
		// The scope holds the caller: it is the same one, authenticated anew.
		w.doc.prove(p.caller, s.cfg.Clock.Now())
	}
	if w.doc.Request.Action == policy.ActionProvenance && !w.doc.signed() {
		// Another run of the same pipeline has the same scope and other claims:
		// what is signed now must be of who is certified now.
		w.doc.Request.Predicate, w.doc.SLSA = nil, nil
	}
	out := s.run(ctx, w)
	out.replayed = true
	return out
}

// replay answers from a finished operation.
func replay(f *flight, stored store.Operation) outcome {
	op, err := view(stored)
	if err != nil {
		return outcome{err: err}
	}
	f.publish(op)
	f.keep()
	result, err := parseResult(stored.Result)
	return outcome{result: result, replayed: true, err: err}
}

// resumeStored goes on with a stored operation.
func (s *Signer) resumeStored(ctx context.Context, f *flight, stored store.Operation) outcome {
	w, err := s.loadWork(f, stored)
	if err != nil {
		return outcome{err: err}
	}
	return s.run(ctx, w)
}
