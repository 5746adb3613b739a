package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// journalled is the journal's word for an action.
func journalled(action policy.Action) string {
	switch action {
	case policy.ActionAttest:
		return "attestation.create"
	case policy.ActionProvenance:
		return "provenance.create"
	case actionSummary:
		return "summary.create"
	}
	return "signature.create"
}

// permit decides whether the caller may sign this repository with this key,
// and journals the decision before it returns. Nothing is contacted and no key
// is looked up before: who may not use a name learns nothing about it. When
// the journal cannot be written the answer is ErrJournal, whatever the
// decision was.
func (s *Signer) permit(ctx context.Context, w *work) error {
	w.begin(StepPermit)
	detail, decision := s.decide(ctx, w)
	if decision != nil && !permanent(decision) {
		return decision
	}
	outcome := audit.Allowed
	if decision != nil {
		outcome, detail = audit.Denied, Code(decision)
	}
	if err := s.journal(ctx, w, outcome, map[string]string{"decision": detail}); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	w.permitted = decision == nil
	return decision
}

// decide returns the name of the grant that permits, or why nothing does.
func (s *Signer) decide(ctx context.Context, w *work) (grant string, err error) {
	rule, err := s.cfg.Rules.Rule(ctx, w.reference.Host)
	switch {
	case errors.Is(err, registry.ErrNotListed):
		return "", fmt.Errorf("%w: %w", ErrRegistryNotListed, err)
	case err != nil:
		return "", fmt.Errorf("%w: reading registry rules: %w", ErrStore, err)
	case !rule.Allows(w.reference.Repository):
		return "", ErrRegistryNotListed
	}
	if w.summarizes() {
		return decideSummary(w.doc.identity())
	}
	grants, err := s.cfg.Grants(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: reading grants: %w", ErrStore, err)
	}
	ask := policy.Ask{
		Action: policy.ActionSign, Repository: w.reference.Name(), Key: w.doc.Request.Key,
		PredicateType: w.op.PredicateType,
	}
	if w.doc.Request.Action != "" {
		ask.Action = w.doc.Request.Action
	}
	permission := policy.Permit(grants, w.doc.identity(), ask)
	if !permission.Allowed {
		return "", &ForbiddenError{Detail: permission.Detail}
	}
	return permission.Grant, s.buildProvenance(ctx, w)
}

func (s *Signer) journal(ctx context.Context, w *work, outcome string, more map[string]string) error {
	caller := w.doc.identity()
	detail := map[string]string{
		OperationDetail: w.op.ID, "image": w.doc.Image, "key": w.doc.Request.Key,
	}
	if w.op.PredicateType != "" {
		detail["predicateType"] = w.op.PredicateType
	}
	if w.doc.Summary != nil && w.doc.Summary.Decision != "" {
		detail["verdict"] = w.doc.Summary.Decision
	}
	for k, v := range more {
		if v != "" {
			detail[k] = v
		}
	}
	_, err := s.cfg.Journal.Append(ctx, audit.Record{
		Actor: caller.String(), ActorIssuer: caller.Issuer, ActorSubject: caller.Subject,
		Action: journalled(w.doc.Request.Action), Resource: w.reference.Name(), Outcome: outcome,
		Detail: detail, RequestID: audit.RequestID(ctx),
	})
	return err
}
