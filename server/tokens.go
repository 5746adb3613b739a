package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/server/api"
)

type createTokenInput struct{ Body api.TokenRequest }

type createdOutput[T any] struct {
	Location string `header:"Location"`
	Body     T
}

func (s *Server) tokenRoutes() {
	tags := []string{"Access"}
	register(s, huma.Operation{
		OperationID: "createToken", Method: http.MethodPost, Path: "/v1/tokens", Tags: tags,
		Summary: "Create an API token; its secret is shown this once", DefaultStatus: http.StatusCreated,
	}, s.createToken)
	register(s, huma.Operation{
		OperationID: "listTokens", Method: http.MethodGet, Path: "/v1/tokens", Tags: tags, Summary: "List API tokens",
	}, s.listTokens)
	register(s, huma.Operation{
		OperationID: "getToken", Method: http.MethodGet, Path: "/v1/tokens/{name}", Tags: tags, Summary: "Get an API token",
	}, s.getToken)
	register(s, huma.Operation{
		OperationID: "deleteToken", Method: http.MethodDelete, Path: "/v1/tokens/{name}", Tags: tags,
		Summary: "Revoke an API token, from the next request on",
	}, s.deleteToken)
}

// meRoute tells callers what they may do here.
func (s *Server) meRoute() {
	register(s, huma.Operation{
		OperationID: "getMe", Method: http.MethodGet, Path: "/v1/me", Tags: []string{"Access"}, Summary: "Who am I and what may I do?",
	}, s.getMe)
}

func (s *Server) createToken(ctx context.Context, in *createTokenInput) (*createdOutput[api.NewToken], error) {
	roles := each(in.Body.Roles, func(r string) identity.Role { return identity.Role(r) })
	var secret string
	var made token.Token
	detail := map[string]string{"roles": strings.Join(in.Body.Roles, " ")}
	err := s.change(ctx, "token.create", "token/"+in.Body.Name, detail, func() (err error) {
		secret, made, err = s.cfg.Tokens.Create(ctx, in.Body.Name, roles, in.Body.ExpiresAt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &createdOutput[api.NewToken]{
		Location: "/v1/tokens/" + made.Name,
		Body:     api.NewToken{Token: wireToken(made), Secret: secret},
	}, nil
}

func (s *Server) listTokens(ctx context.Context, in *PageInput) (*bodyOutput[api.TokenList], error) {
	tokens, next, err := s.cfg.Tokens.List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.TokenList]{Body: api.TokenList{Items: each(tokens, wireToken), NextCursor: next}}, nil
}

func (s *Server) getToken(ctx context.Context, in *NameInput) (*bodyOutput[api.Token], error) {
	t, err := s.cfg.Tokens.Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.Token]{Body: wireToken(t)}, nil
}

func (s *Server) deleteToken(ctx context.Context, in *NameInput) (*struct{}, error) {
	if _, err := s.cfg.Tokens.Get(ctx, in.Name); err != nil {
		return nil, err
	}
	return nil, s.change(ctx, "token.delete", "token/"+in.Name, nil, func() error {
		return s.cfg.Tokens.Revoke(ctx, in.Name)
	})
}

func (s *Server) getMe(ctx context.Context, _ *struct{}) (*bodyOutput[api.Me], error) {
	caller := callerOf(ctx)
	grants, err := s.cfg.Catalog.Grants(ctx)
	if err != nil {
		return nil, err
	}
	me := api.Me{
		Issuer: caller.Issuer, Subject: caller.Subject, Kind: caller.Kind, Claims: caller.Claims, Roles: each(caller.Roles, roleName),
		Rights: s.rights(caller), Grants: []string{},
	}
	for i := range grants {
		if grants[i].Names(caller) {
			me.Grants = append(me.Grants, grants[i].Name)
		}
	}
	slices.Sort(me.Grants)
	return &bodyOutput[api.Me]{Body: me}, nil
}

func wireToken(t token.Token) api.Token {
	return api.Token{Name: t.Name, Roles: each(t.Roles, roleName), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
}

func roleName(r identity.Role) string { return string(r) }
