package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// work is one operation in hand: what is stored, the document it is stored
// from, and what was read meanwhile. One goroutine owns it.
type work struct {
	s         *Signer
	flight    *flight
	op        store.Operation
	doc       document
	reference registry.Reference
	// algorithm is that of the key in envelopes of the Notary Project.
	algorithm notary.Algorithm
	// permitted is true when this attempt decided that the caller may.
	permitted bool
	// stored is true when the store has the operation.
	stored bool
	// manifests are those read in this attempt.
	manifests map[attest.Digest]registry.Manifest
}

func (s *Signer) newWork(f *flight, p prepared) *work {
	now := s.cfg.Clock.Now().Truncate(time.Millisecond)
	w := &work{
		s: s, flight: f, reference: p.reference,
		op: store.Operation{
			ID: f.id, Kind: kind(p.Action), Scope: p.scope, IdempotencyKey: p.IdempotencyKey,
			RequestHash: p.hash, State: StatePending, Repository: p.reference.Name(),
			Digest: p.reference.Digest.String(), Signer: p.Key, PredicateType: p.PredicateType, CreatedAt: now, UpdatedAt: now,
		},
		doc: document{
			Request: p.Request, Image: p.reference.String(), CreatedAt: now, Summary: p.summary,
		},
		manifests: map[attest.Digest]registry.Manifest{},
	}
	w.doc.prove(p.caller, now)
	return w
}

// loadWork takes up a stored operation where its document stands.
func (s *Signer) loadWork(f *flight, stored store.Operation) (*work, error) {
	doc, err := parseDocument(stored.Body)
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(doc.Image)
	if err != nil {
		return nil, fmt.Errorf("%w: reading a stored operation: %w", ErrInternal, err)
	}
	doc.restart()
	w := &work{
		s: s, flight: f, op: stored, doc: doc, reference: ref, stored: true,
		manifests: map[attest.Digest]registry.Manifest{},
	}
	w.op.State = StatePending
	w.show()
	f.keep()
	return w, nil
}

// begin begins a step and shows it to watchers.
func (w *work) begin(step string) {
	w.doc.begin(step, w.s.cfg.Clock.Now())
	w.show()
}

func (w *work) show() {
	view := w.doc.view(w.op)
	if view.State == StatePending {
		view.State = StateRunning
	}
	w.flight.publish(view)
}

// showEnd shows watchers how the attempt left the operation.
func (w *work) showEnd() {
	view := w.doc.view(w.op)
	if w.op.State == StateDone {
		view.Result = slices.Clone(w.op.Result)
	}
	w.flight.publish(view)
}

// keep makes the operation durable for the first time (step 4). It returns the
// earlier operation when another process kept one for the same idempotency key
// first; ours then has had no effect and is dropped.
func (s *Signer) keep(ctx context.Context, w *work) (earlier *store.Operation, err error) {
	if w.op.Body, err = w.doc.marshal(); err != nil {
		return nil, err
	}
	stored, existed, err := s.cfg.Operations.Begin(ctx, w.op)
	if err != nil {
		return nil, fromStore(err)
	}
	if existed && stored.ID != w.op.ID {
		return &stored, nil
	}
	w.stored = true
	w.flight.keep()
	return nil, nil
}

// save writes the document as it is now. It needs no lock: this process has
// the operation in hand, and the bytes that matter never change once written.
func (s *Signer) save(ctx context.Context, w *work) (err error) {
	if w.op.Body, err = w.doc.marshal(); err != nil {
		return err
	}
	w.op.UpdatedAt = s.cfg.Clock.Now()
	if err := s.cfg.Operations.Update(ctx, w.op); err != nil {
		return fromStore(err)
	}
	return nil
}

// settle gives an attempt's error its consequence: an operation that is not
// kept ends with it; a kept one fails for good or stays pending and is
// repeated.
func (s *Signer) settle(ctx context.Context, w *work, cause error) outcome {
	w.doc.end(StateFailed, s.cfg.Clock.Now())
	if !w.stored {
		if errors.Is(cause, ErrStore) {
			// The store may have kept it although it said no.
			s.retries.schedule(w.op.ID, 0)
		}
		return outcome{err: cause}
	}
	// The attempt's own time may be what ran out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	f := faultOf(cause)
	w.doc.Failure = &Failure{Code: f.code, Detail: safeDetail(cause)}
	if f.permanent {
		return s.fail(ctx, w, cause)
	}
	w.doc.Attempts++
	s.cfg.Logger.WarnContext(ctx, "signing operation is pending", "operation", w.op.ID, "attempts", w.doc.Attempts, "error", cause)
	if err := s.save(ctx, w); err != nil {
		s.cfg.Logger.WarnContext(ctx, "keeping the state of a pending operation", "operation", w.op.ID, "error", err)
	}
	s.retries.schedule(w.op.ID, w.doc.Attempts)
	w.showEnd()
	return outcome{err: &PendingError{Operation: w.op.ID, Cause: cause}}
}

const settleTimeout = 10 * time.Second

// fail ends an operation for good. While the store cannot take that, it stays
// pending and fails again later.
func (s *Signer) fail(ctx context.Context, w *work, cause error) outcome {
	s.cfg.Logger.WarnContext(ctx, "signing operation failed", "operation", w.op.ID, "error", cause)
	w.op.State = StateFailed
	w.op.Result = nil
	if err := s.save(ctx, w); err != nil {
		w.op.State = StatePending
		w.showEnd()
		s.retries.schedule(w.op.ID, w.doc.Attempts)
		return outcome{err: &PendingError{Operation: w.op.ID, Cause: errors.Join(cause, err)}}
	}
	s.retries.drop(w.op.ID)
	s.journalLate(ctx, w, audit.Failed, map[string]string{"reason": w.doc.Failure.Code})
	w.showEnd()
	return outcome{err: cause}
}

// journalLate records how an act ended. The act was decided and journalled
// before it began and cannot be undone now, so an unwritable journal is
// reported and does not turn the answer.
func (s *Signer) journalLate(ctx context.Context, w *work, outcome string, more map[string]string) {
	if err := s.journal(ctx, w, outcome, more); err != nil {
		s.cfg.Logger.ErrorContext(ctx, "journalling the end of a signing operation", "operation", w.op.ID, "outcome", outcome, "error", err)
	}
}

// safeDetail is the words for the caller: causes may quote hosts and stay in
// the log.
func safeDetail(err error) string {
	var request *RequestError
	var forbidden *ForbiddenError
	switch {
	case errors.As(err, &request):
		return request.Error()
	case errors.As(err, &forbidden):
		return forbidden.Error()
	}
	for _, f := range faults() {
		if errors.Is(err, f.err) {
			return f.err.Error()
		}
	}
	return ErrInternal.Error()
}
