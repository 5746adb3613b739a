package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/server/api"
)

// TestAnswersFitTheSpec walks through every /v1 call, good and refused, and
// holds each answer against openapi.json.
func TestAnswersFitTheSpec(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	spec := newChecked(t, http.DefaultTransport)
	c, err := api.NewClientWith(api.ClientConfig{URL: h.url, Token: h.secret, Transport: spec})
	h.must(err)
	image := h.push("spec")
	_, _, err = builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release", Formats: []string{"bundle", "legacy"}}, api.SignOptions{})
	h.must(err)
	walkSigning(t, h, c, image)
	walkTrust(t, h, c)
	walkAccess(t, h, c)
	walkRefusals(t, c)
	if len(spec.seen) < 30 {
		t.Errorf("only %d different calls were checked", len(spec.seen))
	}
}

func walkSigning(t *testing.T, h *house, c *api.Client, image string) {
	t.Helper()
	ctx := t.Context()
	_, err := h.admin.PutGrant(ctx, "admin", api.GrantRequest{
		Issuer: "local", Subject: "admin", Repositories: []string{h.registry.Host + "/**"}, Keys: []string{"*"}, Actions: []string{"sign", "attest"},
	}, api.PutOptions{})
	h.must(err)
	s, _, err := c.Sign(ctx, api.SignatureRequest{Image: image, Key: "release", Annotations: map[string]string{"a": "b"}}, api.SignOptions{IdempotencyKey: "spec"})
	h.must(err)
	op, err := c.StartSign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	_, err = c.WaitOperation(ctx, op.ID, 50*time.Millisecond)
	h.must(err)
	_, err = c.Signature(ctx, s.ID)
	h.must(err)
	attestation, _, err := c.Attest(ctx, api.AttestationRequest{
		Image: image, Key: "release", PredicateType: "https://example.com/review/v1", Predicate: []byte(`{"by":null}`), Formats: []string{"bundle", "legacy"},
	}, api.SignOptions{})
	h.must(err)
	_, err = c.Attestation(ctx, attestation.ID)
	h.must(err)
	_, err = c.Attestations(ctx, api.AttestationFilter{})
	h.must(err)
	_, err = c.Signatures(ctx, api.SignatureFilter{})
	h.must(err)
	a, err := c.Verify(ctx, api.VerifyRequest{Images: []string{image, h.push("unsigned")}, Context: map[string]string{"cluster": "x"}})
	h.must(err)
	_, _, err = c.VerifyOne(ctx, image, nil)
	h.must(err)
	_, _, err = c.VerifyOne(ctx, h.push("unsigned"), nil)
	h.must(err)
	_, err = c.Decisions(ctx, api.DecisionFilter{})
	h.must(err)
	_, err = c.Decision(ctx, a.Results[0].DecisionID)
	h.must(err)
	_, err = c.Artifact(ctx, s.Digest)
	h.must(err)
	_, err = c.Ingest(ctx, s.Digest, api.IngestRequest{Image: image})
	h.must(err)
	_, err = c.LogEntry(ctx, s.Signatures[0].LogEntry.Index)
	h.must(err)
	h.awaitIndexed(4)
	found, err := c.SearchLog(ctx, api.LogFilter{Digest: s.Digest})
	h.must(err)
	if len(found.Items) == 0 {
		t.Error("nothing of the log was found")
	}
	_, err = c.LogConsistency(ctx, "", 1, 0)
	h.must(err)
}

func walkTrust(t *testing.T, h *house, c *api.Client) {
	t.Helper()
	ctx := t.Context()
	for _, algorithm := range []string{"ecdsa-p384", "ed25519"} {
		_, err := c.CreateKey(ctx, api.KeyRequest{Name: "walk-" + algorithm, Algorithm: algorithm})
		h.must(err)
	}
	for _, action := range []string{"suspend", "resume", "rotate", "retire"} {
		_, err := c.KeyAction(ctx, "walk-ecdsa-p384", action)
		h.must(err)
	}
	since := time.Now().Add(-time.Hour)
	_, err := c.RevokeKey(ctx, "walk-ed25519", api.RevokeRequest{Reason: "leaked", CompromisedAt: &since})
	h.must(err)
	_, err = c.Keys(ctx, api.ListOptions{Limit: 1})
	h.must(err)
	_, err = c.Key(ctx, "release")
	h.must(err)
	_, err = c.PublicKey(ctx, "release")
	h.must(err)
	_, err = c.Registries(ctx, api.ListOptions{})
	h.must(err)
	r, err := c.Registry(ctx, h.registry.Host)
	h.must(err)
	_, err = c.PutRegistry(ctx, h.registry.Host, api.RegistryRequest{
		Repositories: []string{"team/**", "other"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{Revision: r.Revision})
	h.must(err)
	_, err = c.CheckRegistry(ctx, h.registry.Host, "team/app")
	h.must(err)
	_, err = c.PutIssuer(ctx, "walk", api.IssuerRequest{
		URL: "https://issuer.example", Audience: "countersign", Kind: "generic", ClaimsMapping: map[string]string{"repository": "project.path"},
	}, api.PutOptions{})
	h.must(err)
	_, err = c.Issuers(ctx, api.ListOptions{})
	h.must(err)
	_, err = c.Issuer(ctx, "walk")
	h.must(err)
	h.must(c.Delete(ctx, "issuers", "walk", api.PutOptions{}))
	p, err := c.Policy(ctx, "production")
	h.must(err)
	_, err = c.PutPolicy(ctx, "production", p.Document, api.PutOptions{Revision: p.Revision})
	h.must(err)
	_, err = c.Policies(ctx, api.ListOptions{})
	h.must(err)
	_, err = c.Grants(ctx, api.ListOptions{})
	h.must(err)
	_, err = c.Grant(ctx, "builder")
	h.must(err)
	check, err := c.CheckGrant(ctx, api.GrantCheckRequest{Issuer: "local", Subject: "builder", Repository: h.registry.Host + "/team/app", Key: "release"})
	h.must(err)
	if !check.Allowed || check.Grant != "builder" {
		t.Errorf("grant check: %+v", check)
	}
}

func walkAccess(t *testing.T, h *house, c *api.Client) {
	t.Helper()
	ctx := t.Context()
	expires := time.Now().Add(time.Hour)
	_, err := c.CreateToken(ctx, api.TokenRequest{Name: "walk", Roles: []string{"verifier"}, ExpiresAt: &expires})
	h.must(err)
	_, err = c.Token(ctx, "walk")
	h.must(err)
	_, err = c.Tokens(ctx, api.ListOptions{})
	h.must(err)
	me, err := c.Me(ctx)
	h.must(err)
	if me.Subject != "admin" || len(me.Rights) < 40 || len(me.Grants) != 1 {
		t.Errorf("me: %+v", me)
	}
	_, err = c.Audit(ctx, api.ListOptions{Limit: 5})
	h.must(err)
	h.must(c.Delete(ctx, "tokens", "walk", api.PutOptions{}))
	h.must(c.Delete(ctx, "grants", "admin", api.PutOptions{}))
	h.must(c.Delete(ctx, "policies", "production", api.PutOptions{}))
	h.must(c.Delete(ctx, "registries", h.registry.Host, api.PutOptions{}))
	_, err = c.Health(ctx)
	h.must(err)
	ready, status, err := c.Ready(ctx)
	h.must(err)
	if status != http.StatusOK || ready.Checks["database"] != "ok" {
		t.Errorf("ready: %d %+v", status, ready)
	}
	for _, get := range []func() ([]byte, error){
		func() ([]byte, error) { return c.TrustedRoot(ctx) }, func() ([]byte, error) { return c.SigningConfig(ctx) },
		func() ([]byte, error) { return c.TimestampChain(ctx) },
	} {
		b, err := get()
		h.must(err)
		if len(b) == 0 {
			t.Error("empty answer")
		}
	}
}

func walkRefusals(t *testing.T, c *api.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := c.Key(ctx, "nothing")
	wantProblem(t, err, http.StatusNotFound, "key_not_found")
	_, err = c.Policy(ctx, "nothing")
	wantProblem(t, err, http.StatusNotFound, "not_found")
	_, err = c.Signature(ctx, "nothing")
	wantProblem(t, err, http.StatusNotFound, "not_found")
	_, err = c.Decisions(ctx, api.DecisionFilter{ListOptions: api.ListOptions{Cursor: "nonsense"}})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = c.CreateKey(ctx, api.KeyRequest{Name: "release"})
	wantProblem(t, err, http.StatusConflict, "already_exists")
	_, err = c.CreateKey(ctx, api.KeyRequest{Name: "kms", Backend: "awskms"})
	wantProblem(t, err, http.StatusUnprocessableEntity, "unsupported")
	_, err = c.KeyAction(ctx, "release", "resume")
	wantProblem(t, err, http.StatusConflict, "key_state_conflict")
	_, err = c.Verify(ctx, api.VerifyRequest{Images: []string{"a"}, Timeout: "1h"})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = c.Artifact(ctx, "sha256:zz")
	p := wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Location, "path.") {
		t.Errorf("errors: %+v", p.Errors)
	}
}
