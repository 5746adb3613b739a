package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

type putExceptionInput struct {
	NameInput
	MatchInput
	Body api.ExceptionRequest
}

func (s *Server) exceptionRoutes() {
	tags := []string{"Policies"}
	register(s, huma.Operation{
		OperationID: "listExceptions", Method: http.MethodGet, Path: "/v1/exceptions", Tags: tags, Summary: "List exceptions to policies, also those that expired",
	}, s.listExceptions)
	register(s, huma.Operation{
		OperationID: "getException", Method: http.MethodGet, Path: "/v1/exceptions/{name}", Tags: tags,
		Summary: "Get an exception", Responses: notModifiedResponse(),
	}, s.getException)
	register(s, huma.Operation{
		OperationID: "putException", Method: http.MethodPut, Path: "/v1/exceptions/{name}", Tags: tags,
		Summary: "Let images pass a policy that fails them, until a moment and for a reason",
		Description: "It helps where a policy FAILED an image for what was found of it. A registry that is not listed, other bytes than the digest names, " +
			"a signature by a revoked key, an image that no policy covers, and whatever could not be decided are not helped.",
		Responses: createdResponse(schemaOf[api.Exception](s, "It was created.")),
	}, s.putException)
	register(s, huma.Operation{
		OperationID: "deleteException", Method: http.MethodDelete, Path: "/v1/exceptions/{name}", Tags: tags, Summary: "Delete an exception; the policy counts again at once",
	}, s.deleteException)
}

func (s *Server) listExceptions(ctx context.Context, in *PageInput) (*bodyOutput[api.ExceptionList], error) {
	entries, next, err := s.cfg.Catalog.ExceptionObjects().List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.ExceptionList]{Body: api.ExceptionList{Items: each(entries, s.wireException), NextCursor: next}}, nil
}

func (s *Server) getException(ctx context.Context, in *getNamedInput) (*managedOutput[api.Exception], error) {
	e, err := s.cfg.Catalog.ExceptionObjects().Get(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return managed(e, s.wireException).unless(in.GetInput, e.Revision), nil
}

func (s *Server) putException(ctx context.Context, in *putExceptionInput) (*managedOutput[api.Exception], error) {
	document, err := json.Marshal(in.Body)
	if err != nil {
		return nil, errors.Join(errInternal, err)
	}
	draft, err := s.cfg.Catalog.DraftException(ctx, in.Name, document, s.cfg.Clock.Now())
	if err != nil {
		return nil, err
	}
	e, isNew, err := putManaged(ctx, s, s.cfg.Catalog.ExceptionObjects(), catalog.KindException, in.MatchInput, draft)
	if err != nil {
		return nil, err
	}
	return managed(e, s.wireException).as(isNew, "/v1/exceptions/"+e.Name), nil
}

func (s *Server) deleteException(ctx context.Context, in *deleteNamedInput) (*struct{}, error) {
	return nil, deleteManaged(ctx, s, s.cfg.Catalog.ExceptionObjects(), catalog.KindException, in.Name, in.MatchInput)
}

func (s *Server) wireException(e catalog.Entry[*policy.Exception]) api.Exception {
	x := e.Value
	return api.Exception{
		Name: e.Name, ExceptionRequest: api.ExceptionRequest{
			Digests: x.Digests, Images: x.Images, Policy: x.Policy, Reason: x.Reason, ExpiresAt: x.ExpiresAt,
		},
		Expired:  !s.cfg.Clock.Now().Before(x.ExpiresAt),
		Revision: e.Revision, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}
