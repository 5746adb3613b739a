package server

import (
	"fmt"
	"maps"
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
	// once: a token for one use authenticates one call of this kind.
	once bool
	// itself: the handler authenticates the caller as its protocol has it.
	itself bool
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
// changing it takes security; tokens take an admin. Signers and verifiers read
// what their own work needs.
func roleTable(cfg Config) map[route]access {
	table := map[route]access{}
	for _, part := range []map[route]access{workRoles(cfg), admissionRoles(cfg), trustRoles(), authorityRoles(cfg), accessRoles(), publicRoles(cfg)} {
		maps.Copy(table, part)
	}
	return table
}

// workRoles are of signing and verifying.
func workRoles(cfg Config) map[route]access {
	verify := access{roles: []identity.Role{identity.Verifier}, anonymous: cfg.AnonymousVerify}
	blob := verify
	blob.body = limits.BlobBody
	read := by(identity.Signer, identity.Verifier, identity.Auditor)
	events := by(identity.Signer, identity.Auditor)
	events.stream = true
	return map[route]access{
		{http.MethodPost, "/v1/signatures"}:           {roles: []identity.Role{identity.Signer}, once: true},
		{http.MethodPost, "/v1/attestations"}:         {roles: []identity.Role{identity.Signer}, once: true, body: limits.AttestationBody},
		{http.MethodPost, "/v1/provenance"}:           {roles: []identity.Role{identity.Signer}, once: true, body: limits.AttestationBody},
		{http.MethodGet, "/v1/attestations"}:          read,
		{http.MethodGet, "/v1/attestations/:id"}:      read,
		{http.MethodGet, "/v1/signatures"}:            read,
		{http.MethodGet, "/v1/signatures/:id"}:        read,
		{http.MethodGet, "/v1/operations/:id"}:        by(identity.Signer, identity.Auditor),
		{http.MethodGet, "/v1/operations/:id/events"}: events,
		{http.MethodPost, "/v1/verify"}:               verify,
		{http.MethodGet, "/v1/verify"}:                verify,
		{http.MethodPost, "/v1/verify/blob"}:          blob,
		{http.MethodGet, "/v1/artifacts/:digest"}:     read,

		{http.MethodPost, "/v1/artifacts/:digest/ingest"}: changedBy(identity.Signer, identity.Security),
		{http.MethodGet, "/v1/decisions"}:                 by(identity.Auditor),
		{http.MethodGet, "/v1/decisions/:id"}:             by(identity.Verifier, identity.Auditor),
		{http.MethodGet, "/v1/audit"}:                     by(identity.Auditor),
	}
}

// admissionRoles are of every admission protocol, which are as open as
// verification.
func admissionRoles(cfg Config) map[route]access {
	table := map[route]access{}
	for _, r := range new(Server).admissionTable() {
		table[route{http.MethodPost, r.path}] = access{
			roles: []identity.Role{identity.Verifier}, anonymous: cfg.AnonymousVerify, body: limits.AdmissionBody,
		}
	}
	return table
}

// trustRoles are of keys, registries, policies, grants, issuers and trust roots.
func trustRoles() map[route]access {
	table := map[route]access{
		{http.MethodPost, "/v1/keys"}:                   changedBy(identity.Security),
		{http.MethodPost, "/v1/registries/:host/check"}: changedBy(identity.Security),
		{http.MethodPost, "/v1/grants/check"}:           by(identity.Auditor),
		{http.MethodPost, "/v1/policies/import"}:        by(identity.Security),
		{http.MethodPost, "/v1/policies/:name/test"}:    by(identity.Security),
		{http.MethodGet, "/v1/forecast"}:                by(identity.Auditor),
	}
	for _, path := range []string{"/v1/keys", "/v1/keys/:name", "/v1/keys/:name/public"} {
		table[route{http.MethodGet, path}] = by(identity.Signer, identity.Verifier, identity.Auditor)
	}
	for _, verb := range []string{"rotate", "suspend", "resume", "retire", "revoke"} {
		table[route{http.MethodPost, "/v1/keys/:name/" + verb}] = changedBy(identity.Security)
	}
	for _, c := range []struct {
		path, object string
		read         access
	}{
		{"/v1/registries", "/v1/registries/:host", by(identity.Auditor)},
		{"/v1/policies", "/v1/policies/:name", by(identity.Verifier, identity.Auditor)},
		{"/v1/grants", "/v1/grants/:name", by(identity.Auditor)},
		{"/v1/issuers", "/v1/issuers/:name", by(identity.Auditor)},
		{"/v1/trust-roots", "/v1/trust-roots/:name", by(identity.Auditor)},
		{"/v1/exceptions", "/v1/exceptions/:name", by(identity.Verifier, identity.Auditor)},
	} {
		table[route{http.MethodGet, c.path}] = c.read
		table[route{http.MethodGet, c.object}] = c.read
		table[route{http.MethodPut, c.object}] = changedBy(identity.Security)
		table[route{http.MethodDelete, c.object}] = changedBy(identity.Security)
	}
	return table
}

// authorityRoles are of the service's own authorities and of the protocols that
// they speak, where there are any.
func authorityRoles(cfg Config) map[route]access {
	open := access{anonymous: true}
	table := map[route]access{}
	if cfg.Authorities != nil {
		table[route{http.MethodGet, "/v1/authorities"}] = by(identity.Auditor)
		for _, path := range []string{"/v1/authorities/:name/rotate", "/v1/authorities/:name/revoke", "/v1/authorities/ca/request", "/v1/authorities/ca/import"} {
			table[route{http.MethodPost, path}] = changedBy(identity.Admin)
		}
	}
	if cfg.LogModes != nil {
		table[route{http.MethodGet, logModePath}] = by(identity.Signer, identity.Verifier, identity.Auditor)
		table[route{http.MethodPut, logModePath}] = changedBy(identity.Admin)
	}
	if cfg.Backup != nil {
		table[route{http.MethodPost, backupPath}] = access{roles: []identity.Role{identity.Admin}, changes: true, stream: true}
	}
	if cfg.Certificates != nil {
		certificate := access{anonymous: true, itself: true, body: limits.CertificateBody}
		table[route{http.MethodPost, fulcioV2Path}] = certificate
		table[route{http.MethodPost, fulcioV1Path}] = certificate
		table[route{http.MethodGet, fulcioBundlePath}] = open
		table[route{http.MethodGet, fulcioConfigPath}] = open
	}
	if cfg.TUF != nil {
		table[route{http.MethodGet, tufPath}] = open
	}
	return table
}

// accessRoles are of tokens and of the caller's own rights.
func accessRoles() map[route]access {
	return map[route]access{
		{http.MethodPost, "/v1/tokens"}:         changedBy(identity.Admin),
		{http.MethodGet, "/v1/tokens"}:          by(identity.Auditor),
		{http.MethodGet, "/v1/tokens/:name"}:    by(identity.Auditor),
		{http.MethodDelete, "/v1/tokens/:name"}: changedBy(identity.Admin),
		{http.MethodGet, "/v1/me"}:              {anyone: true},
	}
}

// publicRoles are of what anybody may read, and of the log's write side and
// the metrics, which a setting may open.
func publicRoles(cfg Config) map[route]access {
	table := map[route]access{
		{http.MethodPost, "/api/v2/log/entries"}: {
			roles: []identity.Role{identity.Signer}, anonymous: cfg.AnonymousLogWrites, body: limits.LogEntryBody,
		},
		{http.MethodPost, shardsPath + "/api/v2/log/entries"}: {anonymous: true, body: limits.LogEntryBody},
		{http.MethodPost, "/api/v1/timestamp"}:                {anonymous: true, body: limits.TimestampQuery},
		{http.MethodGet, "/metrics"}:                          {roles: []identity.Role{identity.Auditor}, anonymous: cfg.AnonymousMetrics},
	}
	for _, path := range []string{
		"/api/v2/checkpoint", "/api/v2/tile/*path", "/v1/log/entries", "/v1/log/entries/:index", "/v1/log/consistency", "/api/v1/timestamp/certchain",
		shardsPath + "/api/v2/checkpoint", shardsPath + "/api/v2/tile/*path",
		"/v1/trust/trusted_root.json", "/v1/trust/signing_config.json", "/v1/trust/notation", tlsCAPath, "/healthz", readyPath, "/openapi.json",
	} {
		table[route{http.MethodGet, path}] = access{anonymous: true}
	}
	return table
}

// served are the routes that have a handler.
func (s *Server) served() map[route]bool {
	served := map[route]bool{}
	for _, r := range s.engine.Routes() {
		served[route{r.Method, r.Path}] = true
	}
	return served
}

// checkRoutes refuses a server whose routes and role table differ.
func (s *Server) checkRoutes() error {
	served := s.served()
	for r := range served {
		if _, ok := s.access[r]; !ok {
			return fmt.Errorf("route %s %s has no entry in the role table", r.method, r.path)
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
