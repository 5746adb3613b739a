package signer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/countersign/countersign/store"
)

// watchInterval is how often Watch asks the store about an operation that no
// flight of this process has in hand.
const watchInterval = time.Second

// Filter selects signatures or attestations; empty fields select all.
type Filter struct {
	// Digest is the digest that was signed: of the image or index named in
	// the request.
	Digest string
	// Repository is host/repository.
	Repository string
	// Signer is the managed key's name, or the subject of the certificate that
	// signed.
	Signer string
	// PredicateType is a URI; Attestations only.
	PredicateType string
}

// Operation returns an operation as it is now, or ErrNotFound.
func (s *Signer) Operation(ctx context.Context, id string) (Operation, error) {
	op, _, err := s.look(ctx, id)
	return op, err
}

// Signature returns the result of a finished signing, or ErrNotFound.
func (s *Signer) Signature(ctx context.Context, id string) (Result, error) {
	return s.finished(ctx, kindSignature, id)
}

// Attestation returns the result of a finished attestation, or ErrNotFound.
func (s *Signer) Attestation(ctx context.Context, id string) (Result, error) {
	return s.finished(ctx, kindAttestation, id)
}

func (s *Signer) finished(ctx context.Context, kind, id string) (Result, error) {
	op, err := s.stored(ctx, id)
	if err != nil {
		return Result{}, err
	}
	if op.Kind != kind || op.State != StateDone {
		return Result{}, ErrNotFound
	}
	return parseResult(op.Result)
}

// Signatures lists the results of finished operations, newest first, and the
// cursor of the next page or "".
func (s *Signer) Signatures(ctx context.Context, filter Filter, page store.Page) ([]Result, string, error) {
	ops, next, err := s.cfg.Operations.List(ctx, store.OperationFilter{
		Kind: kindSignature, State: StateDone,
		Digest: filter.Digest, Repository: filter.Repository, Signer: filter.Signer,
	}, page)
	if err != nil {
		return nil, "", fmt.Errorf("listing signatures: %w", err)
	}
	results := make([]Result, 0, len(ops))
	for _, op := range ops {
		r, err := parseResult(op.Result)
		if err != nil {
			return nil, "", err
		}
		results = append(results, r)
	}
	return results, next, nil
}

// Attestations lists finished attestations, newest first, and the cursor of the
// next page or "". They come without bundles, checkpoints and statements: a page
// of those would be hundreds of megabytes.
func (s *Signer) Attestations(ctx context.Context, filter Filter, page store.Page) ([]Result, string, error) {
	ops, next, err := s.cfg.Operations.List(ctx, store.OperationFilter{
		Kind: kindAttestation, State: StateDone,
		Digest: filter.Digest, Repository: filter.Repository, Signer: filter.Signer, PredicateType: filter.PredicateType,
		WithoutResult: true,
	}, page)
	if err != nil {
		return nil, "", fmt.Errorf("listing attestations: %w", err)
	}
	results := make([]Result, 0, len(ops))
	for _, op := range ops {
		r, err := summary(op)
		if err != nil {
			return nil, "", err
		}
		results = append(results, r)
	}
	return results, next, nil
}

// summary is a result as a finished operation's document knows it.
func summary(op store.Operation) (Result, error) {
	d, err := parseDocument(op.Body)
	if err != nil {
		return Result{}, err
	}
	who, err := d.signatory()
	if err != nil {
		return Result{}, err
	}
	r := Result{
		ID: op.ID, Image: d.Image, Digest: op.Digest, PredicateType: op.PredicateType, Signer: who, SLSA: d.SLSA,
		CreatedAt: d.CreatedAt,
	}
	for _, t := range d.Targets {
		r.Signatures = append(r.Signatures, Signature{
			Digest: t.Digest, Platform: t.Platform, Format: t.Format, Referrer: t.Referrer,
			LogEntry: LogEntry{LogID: t.LogID, Index: t.LogIndex},
		})
	}
	return r, nil
}

// Watch yields the operation as it is, then each time it changes, until it is
// finished, ctx ends or yield fails. It returns ErrNotFound, the context's
// error or yield's.
func (s *Signer) Watch(ctx context.Context, id string, yield func(Operation) error) error {
	var last Operation
	for first := true; ; first = false {
		op, changed, err := s.look(ctx, id)
		if err != nil {
			return err
		}
		if first || !reflect.DeepEqual(op, last) {
			if err := yield(op); err != nil {
				return err
			}
			last = op
		}
		if op.Finished() {
			return nil
		}
		if err := pause(ctx, changed, watchInterval); err != nil {
			return err
		}
	}
}

// pause returns when changed is closed, at the latest after the interval.
func pause(ctx context.Context, changed <-chan struct{}, interval time.Duration) error {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// look prefers what this process has in hand to what is stored. The channel
// is nil when it is not in hand.
func (s *Signer) look(ctx context.Context, id string) (Operation, <-chan struct{}, error) {
	if f := s.flightOf(id); f != nil {
		if op, changed, seen := f.look(); seen {
			return op, changed, nil
		}
	}
	stored, err := s.stored(ctx, id)
	if err != nil {
		return Operation{}, nil, err
	}
	op, err := view(stored)
	return op, nil, err
}

func (s *Signer) stored(ctx context.Context, id string) (store.Operation, error) {
	op, err := s.cfg.Operations.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Operation{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	case err != nil:
		return store.Operation{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return op, nil
}
