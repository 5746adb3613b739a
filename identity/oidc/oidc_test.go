package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testissuer"
)

// house is a verifier that believes the issuers in it, and a clock that tests
// move.
type house struct {
	*oidc.Verifier
	t testing.TB

	mu      sync.Mutex
	issuers map[string]oidc.Issuer
	later   time.Duration
}

func open(t testing.TB, change ...func(*oidc.Config)) *house {
	t.Helper()
	h := &house{t: t, issuers: map[string]oidc.Issuer{}}
	cfg := oidc.Config{Issuers: h, Used: &memory{bound: map[string]string{}}, Clock: h}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if h.Verifier, err = oidc.New(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return clock.System{}.Now().Add(h.later)
}

func (h *house) wait(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.later += d
}

func (h *house) ByURL(_ context.Context, url string) (oidc.Issuer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i, ok := h.issuers[url]; ok {
		return i, nil
	}
	return oidc.Issuer{}, oidc.ErrUnknownIssuer
}

// believe configures an issuer through its document.
func (h *house) believe(i *testissuer.Issuer, kind oidc.Kind, more map[string]any) {
	h.t.Helper()
	document := map[string]any{
		"url": i.URL, "audience": testissuer.Audience, "kind": kind, "insecureHttp": true, "allowPrivateAddress": true,
	}
	if i.CABundle != "" {
		document["caBundle"] = i.CABundle
		delete(document, "insecureHttp")
	}
	for name, value := range more {
		document[name] = value
	}
	raw, err := json.Marshal(document)
	if err != nil {
		h.t.Fatal(err)
	}
	parsed, err := oidc.ParseIssuer("test", raw)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.issuers[parsed.URL] = parsed
}

// accepts is the positive control of what must be refused.
func (h *house) accepts(jwt string) identity.Identity {
	h.t.Helper()
	id, err := h.Authenticate(context.Background(), jwt)
	if err != nil {
		h.t.Fatalf("a good token is refused: %v", err)
	}
	return id
}

func (h *house) refuses(jwt string, want error) {
	h.t.Helper()
	id, err := h.Authenticate(context.Background(), jwt)
	if !errors.Is(err, want) {
		h.t.Errorf("want %v, got %v", want, err)
	}
	if !errors.Is(want, oidc.ErrIssuerUnavailable) && !errors.Is(err, oidc.ErrInvalid) {
		h.t.Errorf("%v is not ErrInvalid", err)
	}
	if !id.IsZero() || id.Roles != nil {
		h.t.Errorf("a refused token has an identity: %+v", id)
	}
}

// memory remembers uses as a database does.
type memory struct {
	mu    sync.Mutex
	bound map[string]string
}

func (m *memory) Use(_ context.Context, id, purpose string, now, until time.Time) (bool, error) {
	if !now.Before(until) {
		return false, errors.New("an expired token is remembered")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.bound[id]; ok {
		return known == purpose, nil
	}
	m.bound[id] = purpose
	return true, nil
}

func TestIdentityOfEachKind(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	for kind, test := range map[oidc.Kind]struct {
		token   string
		subject string
		claims  map[string]string
	}{
		oidc.GitHub: {i.GitHub(nil), "repo:acme/app:ref:refs/heads/main", map[string]string{
			"repository": "acme/app", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
			"runner_environment": "github-hosted", "base_ref": "",
		}},
		oidc.GitLab: {i.GitLab(nil), "project_path:acme/app:ref_type:branch:ref:main", map[string]string{
			"project_path": "acme/app", "pipeline_source": "push", "runner_id": "1",
		}},
		oidc.Kubernetes: {i.Kubernetes(nil), "system:serviceaccount:ci:builder", map[string]string{
			"kubernetes.io.namespace": "ci", "kubernetes.io.serviceaccount.name": "builder", "aud.0": testissuer.Audience,
		}},
	} {
		h.believe(i, kind, map[string]any{"roles": []string{"signer", "verifier"}})
		id := h.accepts(test.token)
		if id.Issuer != i.URL || id.Subject != test.subject || id.Kind != string(kind) {
			t.Errorf("%s: %+v", kind, id)
		}
		if diff := cmp.Diff([]identity.Role{identity.Signer, identity.Verifier}, id.Roles); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
		for name, want := range test.claims {
			if got, has := id.Claims[name]; !has || got != want {
				t.Errorf("%s: claim %s is %q, want %q", kind, name, got, want)
			}
		}
	}
}

func TestEveryAlgorithm(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.Generic, nil)
	for _, algorithm := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.EdDSA,
	} {
		i.SetKeys(testissuer.NewKey(t, algorithm))
		h.wait(time.Minute)
		h.accepts(i.Token(map[string]any{"exp": h.Now().Add(time.Minute).Unix()}))
	}
}

// TestClaims: what claims become, and that none can pass for another.
func TestClaims(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.Generic, map[string]any{"claimsMapping": map[string]string{
		"repository": "project.path", "ref": "missing", "groups.first": "groups.0",
	}})
	id := h.accepts(i.Token(map[string]any{
		"project": map[string]any{"path": "acme/app"}, "repository": "evil/app", "ref": "refs/heads/main",
		"n": json.RawMessage("12345678901234567890"), "yes": true, "nothing": json.RawMessage("null"), "groups": []any{"a", []string{"b"}},
	}))
	for name, want := range map[string]string{
		"repository": "acme/app", "project.path": "acme/app", "n": "12345678901234567890", "yes": "true",
		"groups.0": "a", "groups.1.0": "b", "groups.first": "a", "iss": i.URL,
	} {
		if got := id.Claims[name]; got != want {
			t.Errorf("claim %s is %q, want %q", name, got, want)
		}
	}
	for _, absent := range []string{"ref", "nothing", "groups"} {
		if got, has := id.Claims[absent]; has {
			t.Errorf("claim %s is %q, want none", absent, got)
		}
	}
	h.refuses(i.Token(map[string]any{"a.b": "x", "a": map[string]any{"b": "y"}}), oidc.ErrMalformed)
}

// TestPrivateAuthority: an issuer behind a certificate of its own authority,
// which is believed for it and by default not.
func TestPrivateAuthority(t *testing.T) {
	h, i := open(t), testissuer.StartTLS(t)
	h.believe(i, oidc.GitLab, map[string]any{"caBundle": ""})
	h.refuses(i.GitLab(nil), oidc.ErrIssuerUnavailable)
	h.believe(i, oidc.GitLab, nil)
	h.accepts(i.GitLab(nil))
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := oidc.New(oidc.Config{}); err == nil {
		t.Error("a verifier without issuers")
	}
}
