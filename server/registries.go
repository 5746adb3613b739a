package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
)

// HostInput is the path of one registry.
type HostInput struct {
	Host string `path:"host" maxLength:"255" doc:"HOST[:PORT]"`
}

type getRegistryInput struct {
	HostInput
	GetInput
}

type putRegistryInput struct {
	HostInput
	MatchInput
	Body api.RegistryRequest
}

type deleteRegistryInput struct {
	HostInput
	MatchInput
}

type checkRegistryInput struct {
	HostInput
	Body *api.RegistryCheckRequest
}

func (s *Server) registryRoutes() {
	tags := []string{"Registries"}
	register(s, huma.Operation{
		OperationID: "listRegistries", Method: http.MethodGet, Path: "/v1/registries", Tags: tags,
		Summary: "List the registries that may be contacted",
	}, s.listRegistries)
	register(s, huma.Operation{
		OperationID: "getRegistry", Method: http.MethodGet, Path: "/v1/registries/{host}", Tags: tags,
		Summary: "Get a registry", Responses: notModifiedResponse(),
	}, s.getRegistry)
	register(s, huma.Operation{
		OperationID: "putRegistry", Method: http.MethodPut, Path: "/v1/registries/{host}", Tags: tags,
		Summary:     "List or replace a registry",
		Description: "Replaces the whole entry: credentials that are left out are removed. No answer shows credentials.",
		Responses:   createdResponse(schemaOf[api.Registry](s, "It was created.")),
	}, s.putRegistry)
	register(s, huma.Operation{
		OperationID: "deleteRegistry", Method: http.MethodDelete, Path: "/v1/registries/{host}", Tags: tags,
		Summary: "Delete a registry; it is not contacted any more",
	}, s.deleteRegistry)
	register(s, huma.Operation{
		OperationID: "checkRegistry", Method: http.MethodPost, Path: "/v1/registries/{host}/check", Tags: tags,
		Summary: "Look at a registry: reach, authentication, referrers API, write right",
	}, s.checkRegistry)
}

func createdResponse(r *huma.Response) map[string]*huma.Response {
	return map[string]*huma.Response{"201": r}
}

func (s *Server) listRegistries(ctx context.Context, in *PageInput) (*bodyOutput[api.RegistryList], error) {
	entries, next, err := s.cfg.Catalog.RegistryObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.RegistryList]{Body: api.RegistryList{Items: each(entries, wireRegistry), NextCursor: next}}, nil
}

func (s *Server) getRegistry(ctx context.Context, in *getRegistryInput) (*managedOutput[api.Registry], error) {
	e, err := s.cfg.Catalog.RegistryObjects().Get(ctx, in.Host)
	if err != nil {
		return nil, err
	}
	return managed(e, wireRegistry).unless(in.GetInput, e.Revision), nil
}

func (s *Server) putRegistry(ctx context.Context, in *putRegistryInput) (*managedOutput[api.Registry], error) {
	document, err := json.Marshal(in.Body)
	if err != nil {
		return nil, errors.Join(errInternal, err)
	}
	draft, err := s.cfg.Catalog.DraftRegistry(in.Host, document)
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.RegistryObjects(), "registry", in.MatchInput, draft)
	if err != nil {
		return nil, err
	}
	return managed(e, wireRegistry).as(isNew, "/v1/registries/"+e.Name), nil
}

func (s *Server) deleteRegistry(ctx context.Context, in *deleteRegistryInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.RegistryObjects(), "registry", in.Host, in.MatchInput)
}

func (s *Server) checkRegistry(ctx context.Context, in *checkRegistryInput) (*bodyOutput[api.RegistryCheck], error) {
	if err := s.journal(ctx, "registry.check", "registry/"+in.Host, "allowed", nil); err != nil {
		return nil, err
	}
	repository := ""
	if in.Body != nil {
		repository = in.Body.Repository
	}
	report, err := s.cfg.Registry.Check(ctx, in.Host, repository)
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.RegistryCheck]{Body: api.RegistryCheck{
		Reachable: report.Reachable, Authenticated: report.Authenticated, Referrers: report.Referrers, Write: report.Write,
		Details: report.Detail,
	}}, nil
}

// wireRegistry leaves every credential behind, the user name too.
func wireRegistry(e catalog.Entry[registry.Rule]) api.Registry {
	return api.Registry{
		Host: e.Name, Repositories: each(e.Value.Repositories, same), InsecureHTTP: e.Value.InsecureHTTP,
		CABundle: e.Value.CABundle, HasCredentials: e.Value.Credentials != nil, Mirrors: each(e.Value.Mirrors, same),
		AllowPrivateAddress: e.Value.AllowPrivateAddress,
		Revision:            e.Revision, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}
