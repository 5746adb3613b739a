package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
)

type digestInput struct {
	Digest string `path:"digest" maxLength:"128" doc:"sha256: and 64 hexadecimal digits."`
}

func (s *Server) artifactRoutes() {
	register(s, huma.Operation{
		OperationID: "getArtifact", Method: http.MethodGet, Path: "/v1/artifacts/{digest}", Tags: []string{"Verify"},
		Summary: "Get everything known of a digest: signatures, log entries, decisions",
	}, s.getArtifact)
}

func (s *Server) getArtifact(ctx context.Context, in *digestInput) (*bodyOutput[api.Artifact], error) {
	digest, err := attest.ParseDigest(in.Digest)
	if err != nil {
		return nil, &refusal{cause: err, fields: fieldProblem("path.digest", "want sha256: and 64 lowercase hexadecimal digits")}
	}
	items, err := s.cfg.Archive.BySubject(ctx, digest, limits.Bundles+1)
	if err != nil {
		return nil, err
	}
	truncated := len(items) > limits.Bundles
	items = items[:min(len(items), limits.Bundles)]
	decisions, next, err := s.cfg.Archive.Decisions(ctx, store.DecisionFilter{Digest: digest.String()}, store.Page{Limit: limits.PageDefault})
	if err != nil {
		return nil, err
	}
	if len(items) == 0 && len(decisions) == 0 {
		return nil, store.ErrNotFound
	}
	return &bodyOutput[api.Artifact]{Body: api.Artifact{
		Digest: digest.String(), Signatures: each(items, wireItem), Decisions: each(decisions, decisionLine),
		Truncated: truncated || next != "",
	}}, nil
}

func wireItem(i archive.Item) api.ArtifactItem {
	out := api.ArtifactItem{
		ID: i.ID, Repository: i.Repository, Format: i.Format, PredicateType: i.PredicateType, KeyID: i.KeyID,
		Signer: i.Signer, LogIndex: i.LogIndex, Operation: i.Operation, Bundle: i.Bundle, CreatedAt: i.CreatedAt,
	}
	if i.Legacy != nil {
		out.Legacy = &api.Legacy{Payload: i.Legacy.Payload, Annotations: i.Legacy.Annotations}
	}
	return out
}
