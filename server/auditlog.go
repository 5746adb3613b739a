package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/server/api"
)

func (s *Server) auditRoutes() {
	register(s, huma.Operation{
		OperationID: "listAudit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{"Audit"},
		Summary: "List who did what, newest first",
	}, s.listAudit)
}

func (s *Server) listAudit(ctx context.Context, in *PageInput) (*bodyOutput[api.AuditList], error) {
	records, next, err := s.cfg.Journal.List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.AuditList]{Body: api.AuditList{Items: each(records, wireRecord), NextCursor: next}}, nil
}

func wireRecord(r audit.Record) api.AuditRecord { return api.AuditRecord(r) }
