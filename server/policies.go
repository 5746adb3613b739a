package server

import (
	"bytes"
	"context"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// NameInput is the path of one named object.
type NameInput struct {
	Name string `path:"name" maxLength:"128"`
}

type getNamedInput struct {
	NameInput
	GetInput
}

type deleteNamedInput struct {
	NameInput
	MatchInput
}

type putPolicyInput struct {
	NameInput
	MatchInput
	ContentType string `header:"Content-Type" maxLength:"256" hidden:"true"`
	RawBody     []byte `contentType:"application/yaml"`
}

func (s *Server) policyRoutes() {
	tags := []string{"Policies"}
	register(s, huma.Operation{
		OperationID: "listPolicies", Method: http.MethodGet, Path: "/v1/policies", Tags: tags, Summary: "List trust policies",
	}, s.listPolicies)
	register(s, huma.Operation{
		OperationID: "getPolicy", Method: http.MethodGet, Path: "/v1/policies/{name}", Tags: tags,
		Summary: "Get a trust policy", Responses: notModifiedResponse(),
	}, s.getPolicy)
	register(s, huma.Operation{
		OperationID: "putPolicy", Method: http.MethodPut, Path: "/v1/policies/{name}", Tags: tags,
		Summary:     "Create or replace a trust policy",
		Description: "The body is a TrustPolicy in YAML or JSON whose metadata.name is the name in the path.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/yaml": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		SkipValidateBody: true,
		Responses:        createdResponse(schemaOf[api.Policy](s, "It was created.")),
	}, s.putPolicy)
	// huma would decode a body it knows as JSON; the policy parser reads both.
	s.api.OpenAPI().Paths["/v1/policies/{name}"].Put.RequestBody.Content["application/json"] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	}
	register(s, huma.Operation{
		OperationID: "deletePolicy", Method: http.MethodDelete, Path: "/v1/policies/{name}", Tags: tags,
		Summary: "Delete a trust policy; images that no policy matches are FAILED",
	}, s.deletePolicy)
}

func (s *Server) listPolicies(ctx context.Context, in *PageInput) (*bodyOutput[api.PolicyList], error) {
	entries, next, err := s.cfg.Catalog.PolicyObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.PolicyList]{Body: api.PolicyList{Items: each(entries, wirePolicy), NextCursor: next}}, nil
}

func (s *Server) getPolicy(ctx context.Context, in *getNamedInput) (*managedOutput[api.Policy], error) {
	e, err := s.cfg.Catalog.PolicyObjects().Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return managed(e, wirePolicy).unless(in.GetInput, e.Revision), nil
}

func (s *Server) putPolicy(ctx context.Context, in *putPolicyInput) (*managedOutput[api.Policy], error) {
	if !isDocument(in.ContentType) {
		return nil, errMediaType
	}
	// The buffer is huma's and is used again.
	draft, err := s.cfg.Catalog.DraftPolicy(in.Name, bytes.Clone(in.RawBody))
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.PolicyObjects(), "policy", in.MatchInput, draft)
	if err != nil {
		return nil, err
	}
	return managed(e, wirePolicy).as(isNew, "/v1/policies/"+e.Name), nil
}

// isDocument reports whether a media type is YAML (RFC 9512, or one of the
// names before it) or JSON.
func isDocument(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch mediaType {
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json":
		return true
	}
	return false
}

func (s *Server) deletePolicy(ctx context.Context, in *deleteNamedInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.PolicyObjects(), "policy", in.Name, in.MatchInput)
}

func wirePolicy(e catalog.Entry[*policy.Policy]) api.Policy {
	return api.Policy{
		Name: e.Name, Mode: string(e.Value.Mode), Document: e.Value.Document(),
		Revision: e.Revision, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}
