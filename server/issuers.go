package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
)

type putIssuerInput struct {
	NameInput
	MatchInput
	Body api.IssuerRequest
}

func (s *Server) issuerRoutes() {
	tags := []string{"Issuers"}
	register(s, huma.Operation{
		OperationID: "listIssuers", Method: http.MethodGet, Path: "/v1/issuers", Tags: tags,
		Summary: "List the issuers whose tokens are believed",
	}, s.listIssuers)
	register(s, huma.Operation{
		OperationID: "getIssuer", Method: http.MethodGet, Path: "/v1/issuers/{name}", Tags: tags,
		Summary: "Get an issuer", Responses: notModifiedResponse(),
	}, s.getIssuer)
	register(s, huma.Operation{
		OperationID: "putIssuer", Method: http.MethodPut, Path: "/v1/issuers/{name}", Tags: tags,
		Summary:     "Create or replace an issuer whose tokens are believed",
		Description: "The issuer is asked for its keys when the first of its tokens comes. Its identities have the issuer's roles; what they may sign is said by grants.",
		Responses:   createdResponse(schemaOf[api.Issuer](s, "It was created.")),
	}, s.putIssuer)
	register(s, huma.Operation{
		OperationID: "deleteIssuer", Method: http.MethodDelete, Path: "/v1/issuers/{name}", Tags: tags,
		Summary: "Delete an issuer; its tokens authenticate nobody any more",
	}, s.deleteIssuer)
}

func (s *Server) listIssuers(ctx context.Context, in *PageInput) (*bodyOutput[api.IssuerList], error) {
	entries, next, err := s.cfg.Catalog.IssuerObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.IssuerList]{Body: api.IssuerList{Items: each(entries, wireIssuer), NextCursor: next}}, nil
}

func (s *Server) getIssuer(ctx context.Context, in *getNamedInput) (*managedOutput[api.Issuer], error) {
	e, err := s.cfg.Catalog.IssuerObjects().Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return managed(e, wireIssuer).unless(in.GetInput, e.Revision), nil
}

func (s *Server) putIssuer(ctx context.Context, in *putIssuerInput) (*managedOutput[api.Issuer], error) {
	document, err := json.Marshal(in.Body)
	if err != nil {
		return nil, errors.Join(errInternal, err)
	}
	draft, err := s.cfg.Catalog.DraftIssuer(in.Name, document)
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.IssuerObjects(), "issuer", in.MatchInput, draft)
	if errors.Is(err, store.ErrExists) {
		return nil, &refusal{cause: err, detail: "There is an issuer of that name or URL already."}
	}
	if err != nil {
		return nil, err
	}
	return managed(e, wireIssuer).as(isNew, "/v1/issuers/"+e.Name), nil
}

func (s *Server) deleteIssuer(ctx context.Context, in *deleteNamedInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.IssuerObjects(), "issuer", in.Name, in.MatchInput)
}

func wireIssuer(e catalog.Entry[oidc.Issuer]) api.Issuer {
	i := e.Value
	out := api.Issuer{
		Name: e.Name,
		IssuerRequest: api.IssuerRequest{
			URL: i.URL, Audience: i.Audience, Kind: string(i.Kind), CABundle: i.CABundle, JWKSURL: i.JWKSURL,
			ClaimsMapping: i.ClaimsMapping, Roles: each(i.Roles, roleName), OneTime: i.OneTime,
			InsecureHTTP: i.InsecureHTTP, AllowPrivateAddress: i.AllowPrivateAddress,
		},
		Revision: e.Revision, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
	if i.Provenance != nil {
		out.Provenance = new(wireProvenanceRules(*i.Provenance))
	}
	return out
}

func wireProvenanceRules(r provenance.Rules) api.ProvenanceRules {
	return api.ProvenanceRules{
		Source: r.Source, Ref: r.Ref, Commit: r.Commit, Workflow: r.Workflow, Invocation: r.Invocation,
		Builder: r.Builder, BuildType: r.BuildType,
		Links:    each(r.Links, func(l provenance.Link) api.ProvenanceLink { return api.ProvenanceLink(l) }),
		Builders: each(r.Builders, func(b provenance.BuilderRule) api.BuilderRule { return api.BuilderRule(b) }),
	}
}
