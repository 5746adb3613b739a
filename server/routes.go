package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
)

// route names a handler as gin does: method and path pattern.
type route struct{ method, path string }

// access says who may use a route.
type access struct {
	// anonymous routes need no credentials; credentials that are sent anyway
	// must be good.
	anonymous bool
	// anyone admits every authenticated caller.
	anyone bool
	// roles admit their holders (identity.Identity.Has).
	roles []identity.Role
	// changes: refused attempts are journalled.
	changes bool
	// body bounds the request body; 0 means limits.RequestBody.
	body int64
	// stream: the answer may take longer than limits.RequestTimeout.
	stream bool
}

func (a access) permits(caller identity.Identity) bool {
	return !caller.IsZero() && (a.anonymous || a.anyone || caller.Has(a.roles...))
}

func (a access) names() string {
	names := make([]string, 0, len(a.roles)+1)
	for _, r := range a.roles {
		names = append(names, string(r))
	}
	if !slices.Contains(a.roles, identity.Admin) {
		names = append(names, string(identity.Admin))
	}
	return strings.Join(names, ", ")
}

func by(roles ...identity.Role) access { return access{roles: roles} }

func changedBy(roles ...identity.Role) access { return access{roles: roles, changes: true} }

// roleTable is who may do what. Reading the state of trust takes an auditor;
// changing it takes security; tokens take an admin. Names of a managed object's
// readers that need it for their work (a signer its keys and grants) are added
// one by one.
func roleTable(cfg Config) map[route]access {
	const (
		verifier, signer   = identity.Verifier, identity.Signer
		auditor, security  = identity.Auditor, identity.Security
		get, post, put     = http.MethodGet, http.MethodPost, http.MethodPut
		remove             = http.MethodDelete
		signatures, tokens = "/v1/signatures", "/v1/tokens"
		keys, registries   = "/v1/keys", "/v1/registries"
		policies, grants   = "/v1/policies", "/v1/grants"
	)
	open := access{anonymous: true}
	verify := access{roles: []identity.Role{verifier}, anonymous: cfg.AnonymousVerify}
	admission := verify
	admission.body = limits.AdmissionBody
	logWrite := access{roles: []identity.Role{signer}, anonymous: cfg.AnonymousLogWrites, body: limits.LogEntryBody}
	stamp := access{anonymous: true, body: limits.TimestampQuery}
	events := access{roles: []identity.Role{signer, auditor}, stream: true}

	return map[route]access{
		{post, signatures}:                 by(signer),
		{get, signatures}:                  by(signer, verifier, auditor),
		{get, signatures + "/:id"}:         by(signer, verifier, auditor),
		{get, "/v1/operations/:id"}:        by(signer, auditor),
		{get, "/v1/operations/:id/events"}: events,

		{post, "/v1/verify"}:             verify,
		{get, "/v1/verify"}:              verify,
		{post, "/v1/admission/validate"}: admission,

		{post, keys}:                    changedBy(security),
		{get, keys}:                     by(signer, verifier, auditor),
		{get, keys + "/:name"}:          by(signer, verifier, auditor),
		{get, keys + "/:name/public"}:   by(signer, verifier, auditor),
		{post, keys + "/:name/rotate"}:  changedBy(security),
		{post, keys + "/:name/suspend"}: changedBy(security),
		{post, keys + "/:name/resume"}:  changedBy(security),
		{post, keys + "/:name/retire"}:  changedBy(security),
		{post, keys + "/:name/revoke"}:  changedBy(security),

		{get, registries}:                      by(auditor),
		{get, registries + "/:host"}:           by(auditor),
		{put, registries + "/:host"}:           changedBy(security),
		{remove, registries + "/:host"}:        changedBy(security),
		{post, registries + "/:host/check"}:    changedBy(security),
		{get, policies}:                        by(verifier, auditor),
		{get, policies + "/:name"}:             by(verifier, auditor),
		{put, policies + "/:name"}:             changedBy(security),
		{remove, policies + "/:name"}:          changedBy(security),
		{get, grants}:                          by(auditor),
		{get, grants + "/:name"}:               by(auditor),
		{put, grants + "/:name"}:               changedBy(security),
		{remove, grants + "/:name"}:            changedBy(security),
		{post, grants + "/check"}:              by(auditor),
		{post, tokens}:                         changedBy(identity.Admin),
		{get, tokens}:                          by(auditor),
		{get, tokens + "/:name"}:               by(auditor),
		{remove, tokens + "/:name"}:            changedBy(identity.Admin),
		{get, "/v1/me"}:                        {anyone: true},
		{get, "/v1/artifacts/:digest"}:         by(signer, verifier, auditor),
		{get, "/v1/decisions"}:                 by(auditor),
		{get, "/v1/decisions/:id"}:             by(verifier, auditor),
		{get, "/v1/audit"}:                     by(auditor),
		{get, "/v1/log/entries/:index"}:        open,
		{get, "/v1/trust/trusted_root.json"}:   open,
		{get, "/v1/trust/signing_config.json"}: open,

		{get, "/api/v2/checkpoint"}:          open,
		{get, "/api/v2/tile/*path"}:          open,
		{post, "/api/v2/log/entries"}:        logWrite,
		{post, "/api/v1/timestamp"}:          stamp,
		{get, "/api/v1/timestamp/certchain"}: open,

		{get, "/healthz"}:      open,
		{get, "/readyz"}:       open,
		{get, "/openapi.json"}: open,
		{get, "/metrics"}:      {roles: []identity.Role{auditor}, anonymous: cfg.AnonymousMetrics},
	}
}

// checkRoutes refuses a server whose routes and role table differ.
func (s *Server) checkRoutes() error {
	served := map[route]bool{}
	for _, r := range s.engine.Routes() {
		served[route{r.Method, r.Path}] = true
		if _, ok := s.access[route{r.Method, r.Path}]; !ok {
			return fmt.Errorf("route %s %s has no entry in the role table", r.Method, r.Path)
		}
	}
	for r, a := range s.access {
		if !served[r] {
			return fmt.Errorf("the role table names %s %s, which is not served", r.method, r.path)
		}
		if !a.anonymous && !a.anyone && len(a.roles) == 0 {
			return fmt.Errorf("the role table admits nobody to %s %s", r.method, r.path)
		}
	}
	return nil
}

// rights lists the calls that an identity may make.
func (s *Server) rights(caller identity.Identity) []string {
	rights := []string{}
	for r, a := range s.access {
		if a.permits(caller) {
			rights = append(rights, r.method+" "+r.path)
		}
	}
	slices.Sort(rights)
	return rights
}
