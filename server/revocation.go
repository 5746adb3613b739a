package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/server/api"
)

// ErrAuthorityLog says that the log's key is not revoked as those of the others are.
var ErrAuthorityLog = errors.New("not done for the log")

// Revoker takes keys of the service's own authorities out of the trusted root.
type Revoker interface {
	// Revoke stops believing a key of ca, ct or tsa: the one with that id (of
	// RevokedAuthority), or the current one when id is empty, which another one
	// replaces at once. Errors: ErrAuthority, ErrAuthorityLog,
	// authority.ErrRevocation, authority.ErrGeneration.
	Revoke(ctx context.Context, name, id string, why authority.Revocation) error
	// Revoked are the keys that were revoked.
	Revoked() []RevokedAuthority
}

// RevokedAuthority is a key of an authority that is not believed any more.
type RevokedAuthority struct {
	Name, ID, Subject string
	Start             time.Time
	End               *time.Time
	Revocation        authority.Revocation
}

type revokeAuthorityInput struct {
	NameInput
	Body api.AuthorityRevocation
}

func (s *Server) revocationRoute() {
	register(s, huma.Operation{
		OperationID: "revokeAuthority", Method: http.MethodPost, Path: "/v1/authorities/{name}/revoke", Tags: []string{"Trust"},
		Summary: "Stop believing a key of ca, ct or tsa, since compromisedAt or altogether; a new one takes over",
	}, s.revokeAuthority)
}

func (s *Server) revokeAuthority(ctx context.Context, in *revokeAuthorityInput) (*bodyOutput[api.AuthorityList], error) {
	detail := map[string]string{"reason": in.Body.Reason}
	if in.Body.ID != "" {
		detail["id"] = in.Body.ID
	}
	if in.Body.CompromisedAt != nil {
		detail["compromisedAt"] = in.Body.CompromisedAt.UTC().Format(time.RFC3339Nano)
	}
	err := s.change(ctx, "authority.revoke", "authority/"+in.Name, detail, func() error {
		return s.cfg.Authorities.Revoke(ctx, in.Name, in.Body.ID, authority.Revocation{
			Reason: in.Body.Reason, CompromisedAt: in.Body.CompromisedAt,
		})
	})
	if errors.Is(err, ErrAuthorityLog) {
		return nil, &refusal{cause: err, detail: "The log's key is not revoked here: close its shard, and a new one takes over."}
	}
	if err != nil {
		return nil, err
	}
	return s.authorities(ctx)
}

// authorities are those of the trusted root, the revoked ones, which may not be
// in it any more, and the keys that speak for the service alone.
func (s *Server) authorities(ctx context.Context) (*bodyOutput[api.AuthorityList], error) {
	list := wireAuthorities(s.cfg.Trust())
	for _, r := range s.cfg.Authorities.Revoked() {
		i := slices.IndexFunc(list.Items, func(a api.Authority) bool { return a.Name == r.Name && a.ID == r.ID })
		if i < 0 {
			i = len(list.Items)
			list.Items = append(list.Items, api.Authority{Name: r.Name, ID: r.ID, Subject: r.Subject, Start: r.Start, End: r.End})
		}
		item, at := &list.Items[i], r.Revocation.At
		item.RevokedAt, item.RevokedReason, item.CompromisedAt = &at, r.Revocation.Reason, r.Revocation.CompromisedAt
	}
	held, err := s.serviceKeys(ctx)
	if err != nil {
		return nil, err
	}
	list.Items = append(list.Items, held...)
	return &bodyOutput[api.AuthorityList]{Body: list}, nil
}
