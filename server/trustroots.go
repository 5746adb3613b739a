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
	"github.com/countersign/countersign/trust"
)

type putTrustRootInput struct {
	NameInput
	MatchInput
	ContentType string `header:"Content-Type" maxLength:"256" hidden:"true"`
	RawBody     []byte `contentType:"application/octet-stream"`
}

func (s *Server) trustRootRoutes() {
	tags := []string{"Trust roots"}
	register(s, huma.Operation{
		OperationID: "listTrustRoots", Method: http.MethodGet, Path: "/v1/trust-roots", Tags: tags,
		Summary: "List the trusted roots of others", Description: "Ours is not among them; it is /v1/trust-roots/self.",
	}, s.listTrustRoots)
	register(s, huma.Operation{
		OperationID: "getTrustRoot", Method: http.MethodGet, Path: "/v1/trust-roots/{name}", Tags: tags,
		Summary: "Get a trusted root; self is ours", Responses: notModifiedResponse(),
	}, s.getTrustRoot)
	register(s, huma.Operation{
		OperationID: "putTrustRoot", Method: http.MethodPut, Path: "/v1/trust-roots/{name}", Tags: tags,
		Summary:     "Create or replace a trusted root of somebody else",
		Description: "The body is a Sigstore trusted_root.json (media type version 0.1). Policies name it as trustRoot. Nothing in it is fetched.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		SkipValidateBody: true,
		Responses:        createdResponse(schemaOf[api.TrustRoot](s, "It was created.")),
	}, s.putTrustRoot)
	// huma would decode a body it knows as JSON; the trusted root's parser does
	// that itself.
	s.api.OpenAPI().Paths["/v1/trust-roots/{name}"].Put.RequestBody.Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
	}
	register(s, huma.Operation{
		OperationID: "deleteTrustRoot", Method: http.MethodDelete, Path: "/v1/trust-roots/{name}", Tags: tags,
		Summary: "Delete a trusted root; policies that name it fail",
	}, s.deleteTrustRoot)
}

func (s *Server) listTrustRoots(ctx context.Context, in *PageInput) (*bodyOutput[api.TrustRootList], error) {
	entries, next, err := s.cfg.Catalog.TrustRootObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.TrustRootList]{Body: api.TrustRootList{Items: each(entries, wireTrustRoot), NextCursor: next}}, nil
}

func (s *Server) getTrustRoot(ctx context.Context, in *getNamedInput) (*managedOutput[api.TrustRoot], error) {
	if in.Name == policy.SelfRoot {
		return s.ownTrustRoot()
	}
	e, err := s.cfg.Catalog.TrustRootObjects().Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return managed(e, wireTrustRoot).unless(in.GetInput, e.Revision), nil
}

// ownTrustRoot has no revision: it follows from our keys.
func (s *Server) ownTrustRoot() (*managedOutput[api.TrustRoot], error) {
	root := s.cfg.Trust()
	document, err := root.MarshalTrustedRoot()
	if err != nil {
		return nil, err
	}
	return &managedOutput[api.TrustRoot]{Status: http.StatusOK, Body: trustRootBody(policy.SelfRoot, root, document)}, nil
}

func (s *Server) putTrustRoot(ctx context.Context, in *putTrustRootInput) (*managedOutput[api.TrustRoot], error) {
	if mediaType, _, err := mime.ParseMediaType(in.ContentType); in.ContentType != "" && (err != nil || mediaType != "application/json") {
		return nil, errMediaType
	}
	// The buffer is huma's and is used again.
	draft, err := s.cfg.Catalog.DraftTrustRoot(in.Name, bytes.Clone(in.RawBody))
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.TrustRootObjects(), catalog.KindTrustRoot, in.MatchInput, draft)
	if err != nil {
		return nil, err
	}
	return managed(e, wireTrustRoot).as(isNew, "/v1/trust-roots/"+e.Name), nil
}

func (s *Server) deleteTrustRoot(ctx context.Context, in *deleteNamedInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.TrustRootObjects(), catalog.KindTrustRoot, in.Name, in.MatchInput)
}

func wireTrustRoot(e catalog.Entry[catalog.TrustRoot]) api.TrustRoot {
	out := trustRootBody(e.Name, e.Value.Root, e.Value.Document)
	out.Revision, out.CreatedAt, out.UpdatedAt = e.Revision, e.CreatedAt, e.UpdatedAt
	return out
}

func trustRootBody(name string, root trust.Root, document []byte) api.TrustRoot {
	return api.TrustRoot{
		Name: name, TrustedRoot: bytes.Clone(document),
		Logs:                   each(root.Logs, func(l trust.Log) string { return l.BaseURL }),
		CTLogs:                 each(root.CTLogs, func(l trust.Log) string { return l.BaseURL }),
		TimestampAuthorities:   each(root.TimestampAuthorities, func(a trust.TimestampAuthority) string { return a.URI }),
		CertificateAuthorities: each(root.CertificateAuthorities, func(a trust.CertificateAuthority) string { return a.URI }),
	}
}
