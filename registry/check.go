package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/countersign/countersign/attest"
)

// CheckReport says what a registry lets us do. A false with no Detail of the
// same name was not tried, because something before it failed.
type CheckReport struct {
	// Reachable: it answered.
	Reachable bool `json:"reachable"`
	// Authenticated: it accepted the credentials, or needs none.
	Authenticated bool `json:"authenticated"`
	// Referrers: it has the referrers API; without it the fallback tag is used.
	Referrers bool `json:"referrers"`
	// Write: it lets us begin an upload to the repository.
	Write bool `json:"write"`
	// Detail says why something is false, by the JSON name above.
	Detail map[string]string `json:"detail,omitempty"`
}

// Check asks a listed registry what it allows, without leaving anything there:
// an upload is begun and cancelled. With an empty repository the rule's first
// pattern names one, "countersign-check" for each wildcard. The error is
// ErrNotListed or the rule store's; what the registry does wrong is in the
// report.
func (c *Client) Check(ctx context.Context, host, repository string) (CheckReport, error) {
	host = normalHost(host)
	if !validHost(host) || (repository != "" && !validRepository(repository)) {
		return CheckReport{}, ErrReference
	}
	o, err := c.origin(ctx, host, repository)
	if err != nil {
		return CheckReport{}, err
	}
	r := CheckReport{Detail: map[string]string{}}
	if !r.base(ctx, source{origin: o, actions: actionsPull}) {
		return r, nil
	}
	probed := repository == ""
	if probed {
		repository = probe(o.rule.Repositories[0])
	}
	r.referrers(ctx, source{origin: o, repository: repository, actions: actionsPull})
	if probed && !r.Referrers {
		// Registries that have the API do not have it for a repository that
		// does not exist.
		r.Detail["referrers"] = "not seen: name a repository that exists to be sure"
	}
	r.write(ctx, source{origin: o, repository: repository, actions: actionsPush})
	return r, nil
}

// probe is a repository that a pattern allows.
func probe(pattern string) string {
	return strings.NewReplacer("**", probeName, "*", probeName).Replace(pattern)
}

const probeName = "countersign-check"

// base asks for /v2/, which every registry has.
func (r *CheckReport) base(ctx context.Context, s source) bool {
	a, err := s.read(ctx, s.get("/v2/", "", 0))
	if err == nil {
		err = s.expect(a, "/v2/", http.StatusOK)
	}
	r.Reachable = err == nil || errors.Is(err, ErrDenied)
	r.Authenticated = err == nil
	switch {
	case !r.Reachable:
		r.Detail["reachable"] = err.Error()
	case !r.Authenticated:
		r.Detail["authenticated"] = err.Error()
	}
	return err == nil
}

func (r *CheckReport) referrers(ctx context.Context, s source) {
	_, supported, err := s.referrersAPI(ctx, attest.DigestOf(nil))
	r.Referrers = supported && err == nil
	switch {
	case err != nil:
		r.Detail["referrers"] = err.Error()
	case !supported:
		r.Detail["referrers"] = "no referrers API for this repository; the fallback tag is used"
	}
}

// write begins an upload and gives it up.
func (r *CheckReport) write(ctx context.Context, s source) {
	location, err := s.startUpload(ctx)
	if err != nil {
		r.Detail["write"] = err.Error()
		return
	}
	r.Write = true
	_, err = s.do(ctx, call{method: http.MethodDelete, url: location, scope: scope{s.repository, s.actions}})
	if err != nil {
		// Registries expire abandoned uploads by themselves.
		s.config.Logger.DebugContext(ctx, "upload not cancelled", "registry", s.rule.Host, "error", fmt.Sprint(err))
	}
}
