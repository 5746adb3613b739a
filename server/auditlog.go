package server

import (
	"context"
	"encoding/hex"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
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
	items := each(records, wireRecord)
	if err := s.addEntries(ctx, items); err != nil {
		return nil, err
	}
	return &bodyOutput[api.AuditList]{Body: api.AuditList{Items: items, NextCursor: next}}, nil
}

// Anchors knows which log entries cover the journal.
type Anchors interface {
	// Covering returns, for the records from first to last, the logged anchors
	// that cover them, in order: a record is covered by the first whose
	// Sequence is not below its own.
	Covering(ctx context.Context, first, last int64) ([]store.Anchor, error)
}

// addEntries names the entry of each record of a page, newest first.
func (s *Server) addEntries(ctx context.Context, page []api.AuditRecord) error {
	if s.cfg.Anchors == nil || len(page) == 0 {
		return nil
	}
	anchors, err := s.cfg.Anchors.Covering(ctx, page[len(page)-1].Sequence, page[0].Sequence)
	if err != nil {
		return err
	}
	for i := range page {
		at := slices.IndexFunc(anchors, func(a store.Anchor) bool { return a.Sequence >= page[i].Sequence })
		if at >= 0 {
			a := anchors[at]
			page[i].Log = &api.AuditEntry{LogID: hex.EncodeToString(a.LogID), LogIndex: a.LogIndex, Sequence: a.Sequence}
		}
	}
	return nil
}

func wireRecord(r audit.Record) api.AuditRecord {
	return api.AuditRecord{
		Sequence: r.Sequence, ID: r.ID, Time: r.Time, Actor: r.Actor, ActorIssuer: r.ActorIssuer, ActorSubject: r.ActorSubject,
		Action: r.Action, Resource: r.Resource, Outcome: r.Outcome, Detail: r.Detail, RequestID: r.RequestID,
		PreviousHash: r.PreviousHash, Hash: r.Hash,
	}
}
