package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
)

// buildProvenance makes the predicate of a request for provenance from the
// caller's verified claims, once: the claims are those of the request. It is a
// part of the decision, so that an attempt to claim another build is
// journalled as refused.
func (s *Signer) buildProvenance(ctx context.Context, w *work) error {
	request := &w.doc.Request
	if request.Action != policy.ActionProvenance || w.doc.SLSA != nil {
		return nil
	}
	caller := w.doc.identity()
	var rules provenance.Rules
	if s.cfg.ProvenanceRules != nil {
		var err error
		if rules, err = s.cfg.ProvenanceRules(ctx, caller.Issuer); err != nil {
			return fmt.Errorf("%w: reading the issuer's rules: %w", ErrStore, err)
		}
	}
	built, err := provenance.Build(provenance.Input{
		Identity: caller, Rules: rules, ExternalParameters: request.ExternalParameters,
		ResolvedDependencies: request.ResolvedDependencies, Byproducts: request.Byproducts,
	})
	if err != nil {
		return fromProvenance(err)
	}
	if err := checkPredicate(provenance.PredicateType, built.Predicate); err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	request.Predicate = built.Predicate
	w.doc.SLSA = &SLSA{BuildLevel: built.Level, Reasons: built.Reasons}
	return nil
}

// fromProvenance gives the builder's error this package's meaning.
func fromProvenance(err error) error {
	var mismatch *provenance.MismatchError
	var field *strictjson.FieldError
	switch {
	case errors.As(err, &mismatch):
		return fmt.Errorf("%w: %w", ErrClaimMismatch, err)
	case errors.Is(err, provenance.ErrNoClaims):
		return fmt.Errorf("%w: %w", ErrClaims, err)
	case errors.Is(err, provenance.ErrInput) && errors.As(err, &field):
		return &RequestError{Field: field.Pointer, Detail: field.Problem}
	case errors.Is(err, provenance.ErrInput):
		return &RequestError{Field: "/externalParameters", Detail: err.Error()}
	}
	return fmt.Errorf("%w: %w", ErrInternal, err)
}
