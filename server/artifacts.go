package server

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
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
	register(s, huma.Operation{
		OperationID: "ingestArtifact", Method: http.MethodPost, Path: "/v1/artifacts/{digest}/ingest", Tags: []string{"Verify"},
		Summary:     "Keep what a registry has about a digest",
		Description: "Reads the signatures and attestations that are attached to the image, keeps those whose signature an authority of a policy in force accepts, and says why the others are refused. Keeping one decides nothing: every verification proves it again.",
	}, s.ingest)
}

func (s *Server) getArtifact(ctx context.Context, in *digestInput) (*bodyOutput[api.Artifact], error) {
	digest, err := attest.ParseDigest(in.Digest)
	if err != nil {
		return nil, &refusal{cause: err, fields: fieldProblem("path.digest", "want sha256: and 64 lowercase hexadecimal digits")}
	}
	items, err := s.cfg.Archive.Overview(ctx, digest, limits.Bundles+1)
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
	children, more, err := s.children(ctx, digest)
	if err != nil {
		return nil, err
	}
	out := api.Artifact{
		Digest: digest.String(), Signatures: []api.ArtifactItem{}, Attestations: byType(items), Children: children,
		Decisions: each(decisions, decisionLine), Truncated: truncated || more || next != "",
	}
	for _, i := range items {
		if i.PredicateType == "" {
			out.Signatures = append(out.Signatures, wireItem(i))
		}
	}
	return &bodyOutput[api.Artifact]{Body: out}, nil
}

// byType groups attestations by their type, in the order of the oldest of each.
func byType(items []archive.Item) []api.ArtifactAttestations {
	out := []api.ArtifactAttestations{}
	for _, i := range items {
		if i.PredicateType == "" {
			continue
		}
		at := slices.IndexFunc(out, func(g api.ArtifactAttestations) bool { return g.PredicateType == i.PredicateType })
		if at < 0 {
			at = len(out)
			out = append(out, api.ArtifactAttestations{PredicateType: i.PredicateType})
		}
		out[at].Items = append(out[at].Items, wireItem(i))
	}
	return out
}

// children are the manifests of an index as far as they were signed or attested
// together with it.
func (s *Server) children(ctx context.Context, digest attest.Digest) (children []api.ArtifactChild, more bool, err error) {
	filter, page := signer.Filter{Digest: digest.String()}, store.Page{Limit: limits.PageDefault}
	signed, next, err := s.cfg.Signer.Signatures(ctx, filter, page)
	if err != nil {
		return nil, false, err
	}
	attested, nextAttested, err := s.cfg.Signer.Attestations(ctx, filter, page)
	if err != nil {
		return nil, false, err
	}
	children = []api.ArtifactChild{}
	for _, result := range append(signed, attested...) {
		for _, x := range result.Signatures {
			child := api.ArtifactChild{Digest: x.Digest, Platform: x.Platform}
			if x.Digest != digest.String() && !slices.Contains(children, child) {
				children = append(children, child)
			}
		}
	}
	return children, next != "" || nextAttested != "", nil
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
