package server

import (
	"context"
	"maps"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
)

type attestInput struct {
	SignHeaders
	Body api.AttestationRequest
}

type provenanceInput struct {
	SignHeaders
	Body api.ProvenanceRequest
}

type attestationFilter struct {
	PageInput
	Digest        string `query:"digest" maxLength:"128" doc:"Only attestations of this digest."`
	Repository    string `query:"repository" maxLength:"512" doc:"Only attestations in this HOST/REPOSITORY."`
	PredicateType string `query:"predicateType" maxLength:"1024" doc:"Only attestations of this type: a URI or a short name."`
	Key           string `query:"key" maxLength:"128" doc:"Only attestations by this key."`
	Identity      string `query:"identity" maxLength:"1024" doc:"Only attestations with a certificate of this subject."`
}

func (s *Server) attestationRoutes() {
	answers := map[string]*huma.Response{
		"201": schemaOf[api.Attestation](s, "The attestation."),
		"202": schemaOf[api.Operation](s, "The operation, begun or still pending; Location names it."),
	}
	register(s, huma.Operation{
		OperationID: "createAttestation", Method: http.MethodPost, Path: "/v1/attestations", Tags: []string{"Sign"},
		Summary: "Attest a predicate about an image", DefaultStatus: http.StatusCreated, Responses: maps.Clone(answers),
		Description:      "Signs a statement with the predicate as it was sent, logs, timestamps and attaches it. A tag is resolved once.",
		SkipValidateBody: true, // see foreignParts
	}, s.createAttestation)
	register(s, huma.Operation{
		OperationID: "createProvenance", Method: http.MethodPost, Path: "/v1/provenance", Tags: []string{"Sign"},
		Summary: "Attest how an image was built", DefaultStatus: http.StatusCreated, Responses: maps.Clone(answers),
		Description:      "Makes SLSA provenance from the claims of the caller's identity token and attests it. Fields that contradict the claims are refused.",
		SkipValidateBody: true,
	}, s.createProvenance)
	register(s, huma.Operation{
		OperationID: "listAttestations", Method: http.MethodGet, Path: "/v1/attestations", Tags: []string{"Sign"},
		Summary: "List attestations, newest first",
	}, s.listAttestations)
	register(s, huma.Operation{
		OperationID: "getAttestation", Method: http.MethodGet, Path: "/v1/attestations/{id}", Tags: []string{"Sign"},
		Summary: "Get an attestation", Responses: map[string]*huma.Response{"200": schemaOf[api.Attestation](s, "The attestation.")},
	}, s.getAttestation)
}

func (s *Server) createAttestation(ctx context.Context, in *attestInput) (*rawOutput, error) {
	return s.sign(ctx, in.SignHeaders, "/v1/attestations/", signer.Request{
		Action: policy.ActionAttest, Image: in.Body.Image, Key: in.Body.Key,
		PredicateType: in.Body.PredicateType, Predicate: in.Body.Predicate,
		Recursive: in.Body.Recursive, Formats: in.Body.Formats,
	})
}

func (s *Server) createProvenance(ctx context.Context, in *provenanceInput) (*rawOutput, error) {
	return s.sign(ctx, in.SignHeaders, "/v1/attestations/", signer.Request{
		Action: policy.ActionProvenance, Image: in.Body.Image, Key: in.Body.Key,
		ExternalParameters: in.Body.ExternalParameters, ResolvedDependencies: in.Body.ResolvedDependencies,
		Byproducts: in.Body.Byproducts, Recursive: in.Body.Recursive, Formats: in.Body.Formats,
	})
}

func (s *Server) listAttestations(ctx context.Context, in *attestationFilter) (*bodyOutput[api.AttestationList], error) {
	who, err := signedFilter(in.Key, in.Identity)
	if err != nil {
		return nil, err
	}
	predicateType, err := typeFilter(in.PredicateType)
	if err != nil {
		return nil, err
	}
	results, next, err := s.cfg.Signer.Attestations(ctx, signer.Filter{
		Digest: in.Digest, Repository: in.Repository, Signer: who, PredicateType: predicateType,
	}, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.AttestationList]{Body: api.AttestationList{Items: each(results, attestationLine), NextCursor: next}}, nil
}

func (s *Server) getAttestation(ctx context.Context, in *IDInput) (*rawOutput, error) {
	result, err := s.cfg.Signer.Attestation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &rawOutput{Status: http.StatusOK, ContentType: "application/json", Body: result.Body()}, nil
}

// attestationLine is an attestation without its content.
func attestationLine(r signer.Result) api.Attestation {
	out := api.Attestation{
		ID: r.ID, Image: r.Image, Digest: r.Digest, PredicateType: r.PredicateType, CreatedAt: r.CreatedAt,
		Signer: signedBy(r.Signer), Signatures: each(r.Signatures, itemLine),
	}
	if r.SLSA != nil {
		out.SLSA = &api.SLSA{BuildLevel: r.SLSA.BuildLevel, Reasons: r.SLSA.Reasons}
	}
	return out
}

// typeFilter writes a short name out.
func typeFilter(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	uri, err := predicate.ParseType(s)
	if err != nil {
		return "", &refusal{cause: errRequest, fields: fieldProblem("query.predicateType", "want a URI or one of the short names in docs/attestations.md")}
	}
	return uri, nil
}
