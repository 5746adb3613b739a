package server

import (
	"context"
	"slices"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server/api"
)

// JournalPurpose is the purpose of the keys that anchor the audit journal.
const JournalPurpose = "journal"

// serviceKeys lists the keys that speak for the service and stand in no trusted
// root, oldest first; each ends where the next one of its purpose begins.
func (s *Server) serviceKeys(ctx context.Context) ([]api.Authority, error) {
	all, err := s.cfg.Keys.Service(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b keys.Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var list []api.Authority
	for _, key := range all {
		if !slices.Contains(key.Purposes, JournalPurpose) {
			continue
		}
		if last := len(list) - 1; last >= 0 {
			end := key.CreatedAt
			list[last].End = &end
		}
		v := key.CurrentVersion()
		list = append(list, api.Authority{Name: JournalPurpose, ID: v.KeyID, Subject: key.Name, Start: key.CreatedAt, PublicKey: v.PublicPEM})
	}
	return list, nil
}
