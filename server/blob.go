package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/verifier"
)

type blobInput struct{ Body api.BlobRequest }

func (s *Server) blobRoutes() {
	register(s, huma.Operation{
		OperationID: "verifyBlob", Method: http.MethodPost, Path: "/v1/verify/blob", Tags: []string{"Verify"},
		Summary:          "Ask whether a blob may be used, by its digest and its bundle",
		Responses:        map[string]*huma.Response{"200": schemaOf[api.VerifyAnswer](s, "The verdict, as the one result; FAILED is an answer too.")},
		SkipValidateBody: true, // see foreignParts
	}, s.verifyBlob)
}

func (s *Server) verifyBlob(ctx context.Context, in *blobInput) (*bodyOutput[api.VerifyAnswer], error) {
	request, err := blobRequest(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	answer, err := s.cfg.Verifier.VerifyBlob(ctx, request)
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.VerifyAnswer]{Body: wireAnswer(answer)}, nil
}

func blobRequest(ctx context.Context, r api.BlobRequest) (out verifier.BlobRequest, err error) {
	out = verifier.BlobRequest{
		Artifact: r.Artifact, Bundle: r.Bundle, Name: r.Name, Policy: r.Policy, Context: r.Context, Caller: callerOf(ctx),
	}
	if out.Digest, err = attest.ParseDigest(r.Digest); err != nil {
		return out, badField("body.digest", "must be sha256: and 64 lowercase hexadecimal digits")
	}
	if r.Timeout != "" {
		if out.Timeout, err = time.ParseDuration(r.Timeout); err != nil || out.Timeout <= 0 {
			return out, badField("body.timeout", "must be a duration such as 5s")
		}
	}
	if len(r.Authority) == 0 {
		if r.PredicateType != "" {
			return out, badField("body.predicateType", "needs an authority: a policy says what it requires")
		}
		return out, nil
	}
	out.Inline, err = inlinePolicy(r)
	return out, err
}

func inlinePolicy(r api.BlobRequest) (*policy.Policy, error) {
	kind := ""
	if r.PredicateType != "" {
		var err error
		if kind, err = predicate.ParseType(r.PredicateType); err != nil {
			return nil, badField("body.predicateType", "want a URI or one of the short names in docs/attestations.md")
		}
	}
	p, err := policy.Inline(r.Authority, kind)
	if err != nil {
		fields := fieldsOf(err)
		for i := range fields {
			fields[i].Location = "body.authority" + fields[i].Location[len("body"):]
		}
		return nil, &refusal{cause: errRequest, fields: fields}
	}
	return p, nil
}
