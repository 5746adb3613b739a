package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

type putGrantInput struct {
	NameInput
	MatchInput
	Body api.GrantRequest
}

type checkGrantInput struct{ Body api.GrantCheckRequest }

func (s *Server) grantRoutes() {
	tags := []string{"Grants"}
	register(s, huma.Operation{
		OperationID: "listGrants", Method: http.MethodGet, Path: "/v1/grants", Tags: tags, Summary: "List grants",
	}, s.listGrants)
	register(s, huma.Operation{
		OperationID: "getGrant", Method: http.MethodGet, Path: "/v1/grants/{name}", Tags: tags,
		Summary: "Get a grant", Responses: notModifiedResponse(),
	}, s.getGrant)
	register(s, huma.Operation{
		OperationID: "putGrant", Method: http.MethodPut, Path: "/v1/grants/{name}", Tags: tags,
		Summary:   "Create or replace a grant: who may sign what with which key",
		Responses: createdResponse(schemaOf[api.Grant](s, "It was created.")),
	}, s.putGrant)
	register(s, huma.Operation{
		OperationID: "deleteGrant", Method: http.MethodDelete, Path: "/v1/grants/{name}", Tags: tags, Summary: "Delete a grant",
	}, s.deleteGrant)
	register(s, huma.Operation{
		OperationID: "checkGrant", Method: http.MethodPost, Path: "/v1/grants/check", Tags: tags,
		Summary: "Ask whether somebody may sign something, and by which grant",
	}, s.checkGrant)
}

func (s *Server) listGrants(ctx context.Context, in *PageInput) (*bodyOutput[api.GrantList], error) {
	entries, next, err := s.cfg.Catalog.GrantObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.GrantList]{Body: api.GrantList{Items: each(entries, wireGrant), NextCursor: next}}, nil
}

func (s *Server) getGrant(ctx context.Context, in *getNamedInput) (*managedOutput[api.Grant], error) {
	e, err := s.cfg.Catalog.GrantObjects().Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return managed(e, wireGrant).unless(in.GetInput, e.Revision), nil
}

func (s *Server) putGrant(ctx context.Context, in *putGrantInput) (*managedOutput[api.Grant], error) {
	document, err := json.Marshal(in.Body)
	if err != nil {
		return nil, errors.Join(errInternal, err)
	}
	draft, err := s.cfg.Catalog.DraftGrant(in.Name, document)
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.GrantObjects(), "grant", in.MatchInput, draft)
	if err != nil {
		return nil, err
	}
	return managed(e, wireGrant).as(isNew, "/v1/grants/"+e.Name), nil
}

func (s *Server) deleteGrant(ctx context.Context, in *deleteNamedInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.GrantObjects(), "grant", in.Name, in.MatchInput)
}

// checkGrant supposes the role signer: what is asked is what the grants say.
func (s *Server) checkGrant(ctx context.Context, in *checkGrantInput) (*bodyOutput[api.GrantCheck], error) {
	grants, err := s.cfg.Catalog.Grants(ctx)
	if err != nil {
		return nil, err
	}
	action := policy.Action(in.Body.Action)
	if action == "" {
		action = policy.ActionSign
	}
	who := identity.Identity{
		Issuer: in.Body.Issuer, Subject: in.Body.Subject, Claims: in.Body.Claims, Roles: []identity.Role{identity.Signer},
	}
	p := policy.Permit(grants, who, policy.Ask{
		Action: action, Repository: in.Body.Repository, Key: in.Body.Key, PredicateType: in.Body.PredicateType,
	})
	return &bodyOutput[api.GrantCheck]{Body: api.GrantCheck{Allowed: p.Allowed, Grant: p.Grant, Detail: p.Detail}}, nil
}

func wireGrant(e catalog.Entry[*policy.Grant]) api.Grant {
	g := e.Value
	return api.Grant{
		Name: e.Name,
		GrantRequest: api.GrantRequest{
			Issuer: g.Issuer, Subject: g.Subject, Claims: g.Claims, Repositories: each(g.Repositories, same),
			Keys: each(g.Keys, same), PredicateTypes: g.PredicateTypes,
			Actions: each(g.Actions, func(a policy.Action) string { return string(a) }),
		},
		Revision: e.Revision, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}
