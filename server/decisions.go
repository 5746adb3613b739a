package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
)

type decisionFilter struct {
	PageInput
	Verdict string `query:"verdict" enum:"PASSED,FAILED" doc:"Only this verdict."`
	Digest  string `query:"digest" maxLength:"128" doc:"Only decisions on this digest."`
	Image   string `query:"image" maxLength:"1024" doc:"Only decisions on this image as it was asked."`
}

func (s *Server) decisionRoutes() {
	tags := []string{"Audit"}
	register(s, huma.Operation{
		OperationID: "listDecisions", Method: http.MethodGet, Path: "/v1/decisions", Tags: tags,
		Summary: "List what was answered, newest first",
	}, s.listDecisions)
	register(s, huma.Operation{
		OperationID: "getDecision", Method: http.MethodGet, Path: "/v1/decisions/{id}", Tags: tags,
		Summary: "Get an answer with its reasons",
	}, s.getDecision)
}

func (s *Server) listDecisions(ctx context.Context, in *decisionFilter) (*bodyOutput[api.DecisionList], error) {
	filter := store.DecisionFilter{Verdict: in.Verdict, Digest: in.Digest, Image: in.Image}
	decisions, next, err := s.cfg.Archive.Decisions(ctx, filter, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.DecisionList]{Body: api.DecisionList{Items: each(decisions, decisionLine), NextCursor: next}}, nil
}

// getDecision shows a decision to who asked for it and to auditors. To anybody
// else it does not exist.
func (s *Server) getDecision(ctx context.Context, in *IDInput) (*bodyOutput[api.Decision], error) {
	d, err := s.cfg.Archive.Decision(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	caller := callerOf(ctx)
	if d.Caller != caller.String() && !caller.Has(identity.Auditor) {
		return nil, store.ErrNotFound
	}
	out := decisionLine(d)
	out.Result = d.Result
	return &bodyOutput[api.Decision]{Body: out}, nil
}

// decisionLine is a decision without the whole answer.
func decisionLine(d archive.Decision) api.Decision {
	return api.Decision{
		ID: d.ID, Image: d.Image, Pinned: d.Pinned, Digest: d.Digest, Repository: d.Repository,
		Verdict: d.Verdict, Policy: d.Policy, Caller: d.Caller, Context: d.Context, CreatedAt: d.CreatedAt,
	}
}
