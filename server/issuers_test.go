package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/server/api"
)

// believe starts an issuer and configures it.
func (h *house) believe(name, kind string, change ...func(*api.IssuerRequest)) *testissuer.Issuer {
	h.t.Helper()
	issuer := testissuer.Start(h.t)
	req := api.IssuerRequest{
		URL: issuer.URL, Audience: testissuer.Audience, Kind: kind, InsecureHTTP: true, AllowPrivateAddress: true,
	}
	for _, c := range change {
		c(&req)
	}
	_, err := h.admin.PutIssuer(h.t.Context(), name, req, api.PutOptions{})
	h.must(err)
	return issuer
}

// let grants a workflow of the issuer the key release in the registry.
func (h *house) let(issuer *testissuer.Issuer, subject string, claims map[string]string) {
	h.t.Helper()
	_, err := h.admin.PutGrant(h.t.Context(), "workflow", api.GrantRequest{
		Issuer: issuer.URL, Subject: subject, Claims: claims, Repositories: []string{h.registry.Host + "/team/**"},
		Keys: []string{"release"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	h.must(err)
}

// TestWorkflowSigns: a build signs with a managed key by nothing but its own
// workflow's token, and the policy is content.
func TestWorkflowSigns(t *testing.T) {
	for kind, shape := range map[string]struct {
		token   func(*testissuer.Issuer, map[string]any) string
		subject string
		claims  map[string]string
		other   map[string]any
	}{
		"github": {
			(*testissuer.Issuer).GitHub, "repo:acme/app:ref:refs/heads/*",
			map[string]string{"repository": "acme/app", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main"},
			map[string]any{"job_workflow_ref": "acme/app/.github/workflows/other.yml@refs/heads/main"},
		},
		"gitlab": {
			(*testissuer.Issuer).GitLab, "",
			map[string]string{"project_path": "acme/app", "ref_protected": "true"},
			map[string]any{"ref_protected": "false"},
		},
		"buildkite": {
			(*testissuer.Issuer).Buildkite, "organization:acme:pipeline:app:ref:refs/heads/main:*",
			map[string]string{"organization_slug": "acme", "build_branch": "main"},
			map[string]any{"organization_slug": "mallory"},
		},
		"circleci": {
			(*testissuer.Issuer).CircleCI, "org/8f2a1c44-0e1b-4c3f-9f0e-6a1d2b3c4d5e/**",
			map[string]string{"oidc.circleci.com/vcs-origin": "github.com/acme/app", "oidc.circleci.com/ssh-rerun": "false"},
			map[string]any{"oidc.circleci.com/ssh-rerun": true},
		},
		"kubernetes": {
			(*testissuer.Issuer).Kubernetes, "system:serviceaccount:ci:builder",
			map[string]string{"kubernetes.io.namespace": "ci"},
			map[string]any{"sub": "system:serviceaccount:ci-evil:builder"},
		},
	} {
		t.Run(kind, func(t *testing.T) {
			h := open(t)
			h.furnish()
			issuer := h.believe("ci", kind)
			h.let(issuer, shape.subject, shape.claims)
			ctx, image := t.Context(), h.push(kind)
			token := shape.token(issuer, nil)
			signed, _, err := h.client(token).Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			h.must(err)
			if signed.Signer.Key != "release" || len(signed.Signatures) != 1 {
				t.Errorf("signed: %+v", signed)
			}
			a, err := h.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}})
			h.must(err)
			if a.Verdict != "PASSED" {
				t.Errorf("verdict: %+v", a)
			}
			h.journalNames(issuer.URL, "signature.create", "allowed")

			_, _, err = h.client(shape.token(issuer, shape.other)).Sign(ctx, api.SignatureRequest{Image: h.push("other"), Key: "release"}, api.SignOptions{})
			wantProblem(t, err, http.StatusForbidden, "forbidden")
			h.journalNames(issuer.URL, "signature.create", "denied")
		})
	}
}

func (h *house) journalNames(issuer, action, outcome string) {
	h.t.Helper()
	records, err := h.admin.Audit(h.t.Context(), api.ListOptions{})
	h.must(err)
	if !slices.ContainsFunc(records.Items, func(r api.AuditRecord) bool {
		return r.ActorIssuer == issuer && r.Action == action && r.Outcome == outcome
	}) {
		h.t.Errorf("no record of %s %s by %s", action, outcome, issuer)
	}
}

// TestMeOfAnIdentity: what a build may write into a grant.
func TestMeOfAnIdentity(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("ci", "github")
	h.let(issuer, "repo:acme/app:ref:refs/heads/main", nil)
	me, err := h.client(issuer.GitHub(nil)).Me(t.Context())
	h.must(err)
	if me.Issuer != issuer.URL || me.Subject != "repo:acme/app:ref:refs/heads/main" || me.Kind != "github" ||
		me.Claims["repository"] != "acme/app" || !slices.Equal(me.Roles, []string{"signer"}) || !slices.Equal(me.Grants, []string{"workflow"}) {
		t.Errorf("me: %+v", me)
	}
}

// TestBadIdentityTokens: E6, H5. Each is 401 with its code at every door; the
// control is the token without the change.
func TestBadIdentityTokens(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("ci", "github")
	stranger := testissuer.Start(t)
	key, mallory := issuer.Key(), testissuer.NewKey(t, jose.RS256)
	der, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	h.must(err)
	claims := issuer.Claims(testissuer.GitHubClaims())
	header := func(name string, value any) map[string]any {
		all := map[string]any{"alg": "RS256", "kid": key.ID}
		all[name] = value
		return all
	}
	now := time.Now()
	for name, test := range map[string]struct{ token, code string }{
		"wrong audience":       {issuer.GitHub(map[string]any{"aud": "sigstore"}), "token_audience"},
		"no audience":          {issuer.GitHub(map[string]any{"aud": nil}), "token_audience"},
		"expired":              {issuer.GitHub(map[string]any{"exp": now.Add(-time.Second).Unix()}), "token_expired"},
		"not yet valid":        {issuer.GitHub(map[string]any{"nbf": now.Add(time.Hour).Unix()}), "token_not_yet_valid"},
		"alg none":             {issuer.Forge(header("alg", "none"), claims, key.Sign), "token_algorithm"},
		"alg none, unsigned":   {issuer.Forge(header("alg", "none"), claims, func([]byte) ([]byte, error) { return nil, nil }), "token_malformed"},
		"HS256 by public key":  {issuer.Forge(header("alg", "HS256"), claims, macOf(der)), "token_algorithm"},
		"key in the header":    {issuer.Forge(header("jwk", jose.JSONWebKey{Key: mallory.Private.Public()}), claims, mallory.Sign), "token_malformed"},
		"URL in the header":    {issuer.Forge(header("jku", stranger.URL+"/keys"), claims, stranger.Key().Sign), "token_malformed"},
		"unknown kid":          {issuer.TokenBy(mallory, testissuer.GitHubClaims()), "token_signature"},
		"another's signature":  {issuer.Forge(header("kid", key.ID), claims, mallory.Sign), "token_signature"},
		"unknown issuer":       {stranger.GitHub(nil), "token_issuer_unknown"},
		"not base64":           {"a.b.!", "token_malformed"},
		"not three parts":      {"a.b", "unauthenticated"},
		"dots":                 {strings.Repeat(".", 8<<10), "unauthenticated"},
		"a megabyte of dots":   {strings.Repeat(".", 1<<20), "unauthenticated"},
		"a megabyte in a part": {"a." + strings.Repeat("A", 1<<19) + ".a", "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, route := range []string{"GET /v1/me", "POST /v1/signatures", "POST /v1/verify", "PUT /v1/issuers/x", "GET /v1/trust/trusted_root.json"} {
				method, path, _ := strings.Cut(route, " ")
				got := h.ask(method, path, test.token, "")
				var p api.Problem
				if err := json.Unmarshal(got.body, &p); err != nil || got.status != http.StatusUnauthorized || p.Code != test.code ||
					got.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: %d %.200s, want 401 %s", route, got.status, got.body, test.code)
				}
			}
		})
	}
	if n := len(stranger.Requests()); n != 0 {
		t.Errorf("%d requests to an issuer that is not configured", n)
	}
	_, err = h.client(issuer.GitHub(nil)).Me(t.Context())
	h.must(err)
}

func macOf(secret []byte) func([]byte) ([]byte, error) {
	return func(input []byte) ([]byte, error) {
		m := hmac.New(sha256.New, secret)
		m.Write(input)
		return m.Sum(nil), nil
	}
}

// TestIssuerThatMisleads: I2. Its tokens are not believed and nobody else is
// asked; one that cannot be asked is 503, since the token was not judged.
func TestIssuerThatMisleads(t *testing.T) {
	h := open(t)
	issuer, elsewhere := h.believe("ci", "github"), testissuer.Start(t)
	issuer.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		return true
	})
	_, err := h.client(issuer.GitHub(nil)).Me(t.Context())
	wantProblem(t, err, http.StatusUnauthorized, "issuer_unsafe")
	if n := len(elsewhere.Requests()); n != 0 {
		t.Errorf("%d requests elsewhere", n)
	}
	gone := h.believe("gone", "github")
	gone.Close()
	_, err = h.client(gone.GitHub(nil)).Me(t.Context())
	if p := wantProblem(t, err, http.StatusServiceUnavailable, "issuer_unavailable"); p.RetryAfter <= 0 {
		t.Errorf("%+v", p)
	}
}

// TestIssuerKeepsProvenanceRules: what is said of provenance is kept, shown as
// it was said, and gone when it is said no more.
func TestIssuerKeepsProvenanceRules(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	rules := &api.ProvenanceRules{
		Source: "git+https://git.example/{kubernetes.io.namespace}/app",
		Links: []api.ProvenanceLink{
			{Subject: "system:serviceaccount:ci:*", Source: "git+https://git.example/acme/ci", Builder: "https://builders.example/ci"},
			{Claims: map[string]string{"kubernetes.io.namespace": "shop"}, Source: "git+https://git.example/acme/shop"},
		},
		Builder:   "https://builders.example/{kubernetes.io.namespace}",
		BuildType: "https://builders.example/buildtypes/tekton/v1",
		Builders:  []api.BuilderRule{{Builder: "https://builders.example/*", MaxLevel: 2}, {Builder: "https://builders.example/**"}},
	}
	h.believe("ci", "kubernetes", func(r *api.IssuerRequest) { r.Provenance = rules })
	kept, err := h.admin.Issuer(ctx, "ci")
	h.must(err)
	if diff := cmp.Diff(rules, kept.Provenance); diff != "" {
		t.Error(diff)
	}
	replaced := kept.IssuerRequest
	replaced.Provenance = &api.ProvenanceRules{}
	_, err = h.admin.PutIssuer(ctx, "ci", replaced, api.PutOptions{Revision: kept.Revision})
	h.must(err)
	kept, err = h.admin.Issuer(ctx, "ci")
	h.must(err)
	if kept.Provenance != nil {
		t.Errorf("%+v", kept.Provenance)
	}
}

// TestTokenForOneUse: a replayed jti signs nothing; a repetition of the same
// call under its Idempotency-Key has the same answer.
func TestTokenForOneUse(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("ci", "github", func(r *api.IssuerRequest) { r.OneTime = true })
	h.let(issuer, "repo:acme/app:ref:refs/heads/main", nil)
	ctx, request := t.Context(), api.SignatureRequest{Image: h.push("one"), Key: "release"}
	once := h.client(issuer.GitHub(nil))
	_, err := once.Me(ctx)
	h.must(err)
	_, _, err = once.Sign(ctx, request, api.SignOptions{IdempotencyKey: "a"})
	h.must(err)
	_, replayed, err := once.Sign(ctx, request, api.SignOptions{IdempotencyKey: "a"})
	h.must(err)
	if !replayed {
		t.Error("the repetition was signed anew")
	}
	for _, key := range []string{"b", ""} {
		_, _, err = once.Sign(ctx, request, api.SignOptions{IdempotencyKey: key})
		wantProblem(t, err, http.StatusUnauthorized, "token_replayed")
	}
	_, err = once.Me(ctx)
	h.must(err)
	_, _, err = h.client(issuer.GitHub(nil)).Sign(ctx, request, api.SignOptions{})
	h.must(err)
}

// TestIssuersAreManaged: revisions, one issuer per URL, what is refused, and
// that a deleted one counts no more.
func TestIssuersAreManaged(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	issuer := h.believe("ci", "github")
	kept, err := h.admin.Issuer(ctx, "ci")
	h.must(err)
	if kept.Revision != 1 || kept.URL != issuer.URL || !slices.Equal(kept.Roles, []string{"signer"}) {
		t.Errorf("kept: %+v", kept)
	}
	ci := h.client(issuer.GitHub(nil))
	_, err = ci.Me(ctx)
	h.must(err)
	_, err = h.admin.PutIssuer(ctx, "ci", kept.IssuerRequest, api.PutOptions{})
	wantProblem(t, err, http.StatusPreconditionRequired, "precondition_required")
	_, err = h.admin.PutIssuer(ctx, "twin", kept.IssuerRequest, api.PutOptions{})
	wantProblem(t, err, http.StatusConflict, "already_exists")
	for field, change := range map[string]func(*api.IssuerRequest){
		"body.roles[0]":      func(r *api.IssuerRequest) { r.Roles = []string{"admin"} },
		"body.url":           func(r *api.IssuerRequest) { r.URL = "http://issuer.example"; r.InsecureHTTP = false },
		"body.kind":          func(r *api.IssuerRequest) { r.Kind = "jenkins" },
		"body.audience":      func(r *api.IssuerRequest) { r.Audience = "a b" },
		"body.claimsMapping": func(r *api.IssuerRequest) { r.ClaimsMapping = map[string]string{"a": "b"} },
		"body.caBundle":      func(r *api.IssuerRequest) { r.CABundle = "nothing" },
		"body.provenance.source": func(r *api.IssuerRequest) {
			r.Provenance = &api.ProvenanceRules{Source: "git+https://git.example/acme/app"}
		},
		"body.provenance.builders[0].maxLevel": func(r *api.IssuerRequest) {
			r.Provenance = &api.ProvenanceRules{Builders: []api.BuilderRule{{Builder: "https://github.com/acme/**", MaxLevel: 4}}}
		},
	} {
		bad := kept.IssuerRequest
		change(&bad)
		_, err := h.admin.PutIssuer(ctx, "bad", bad, api.PutOptions{})
		p := wantProblem(t, err, http.StatusBadRequest, "invalid_request")
		if len(p.Errors) == 0 || p.Errors[0].Location != field {
			t.Errorf("%s: %+v", field, p.Errors)
		}
	}
	replaced := kept.IssuerRequest
	replaced.Audience = "another"
	_, err = h.admin.PutIssuer(ctx, "ci", replaced, api.PutOptions{Revision: kept.Revision})
	h.must(err)
	_, err = ci.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, "token_audience")
	list, err := h.admin.Issuers(ctx, api.ListOptions{})
	h.must(err)
	if len(list.Items) != 1 || list.Items[0].Audience != "another" {
		t.Errorf("list: %+v", list)
	}
	h.must(h.admin.Delete(ctx, "issuers", "ci", api.PutOptions{}))
	_, err = ci.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, "token_issuer_unknown")
}

// TestEveryRouteTakesAnIdentitysRole is K3 for identity tokens: the roles are
// the issuer's, whatever the token claims, and a token that is not good opens
// nothing.
func TestEveryRouteTakesAnIdentitysRole(t *testing.T) {
	h := open(t)
	boast := map[string]any{"roles": []string{"admin"}, "role": "admin", "groups": []string{"admin"}}
	issuers := map[string]*testissuer.Issuer{}
	for _, role := range []string{"verifier", "signer", "auditor"} {
		issuers[role] = h.believe(role, "generic", func(r *api.IssuerRequest) { r.Roles = []string{role} })
	}
	expired := issuers["signer"].Token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})
	for _, route := range served(t) {
		if authenticatesItself(route) {
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		if got := h.ask(method, path, expired, ""); got.status != http.StatusUnauthorized {
			t.Errorf("%s with an expired token: %d", route, got.status)
		}
		for role, issuer := range issuers {
			got := h.ask(method, path, issuer.Token(boast), "")
			refused := got.status == http.StatusForbidden && strings.Contains(string(got.body), `"code":"forbidden"`)
			if refused == may(role, route) || got.status == http.StatusUnauthorized {
				t.Errorf("%s as %s: %d %s", route, role, got.status, got.body)
			}
		}
	}
}

// TestIdentityTokensAreNotWritten: K1. No part of a token's secret reaches log,
// journal or database.
func TestIdentityTokensAreNotWritten(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("ci", "github", func(r *api.IssuerRequest) { r.OneTime = true })
	h.let(issuer, "repo:acme/app:ref:refs/heads/main", nil)
	token := issuer.GitHub(nil)
	_, _, err := h.client(token).Sign(t.Context(), api.SignatureRequest{Image: h.push("quiet"), Key: "release"}, api.SignOptions{})
	h.must(err)
	h.ask("GET", "/v1/me", issuer.GitHub(map[string]any{"aud": "x"}), "")
	signature := token[strings.LastIndex(token, ".")+1:]
	seen := h.log.String()
	for _, file := range []string{"countersign.db", "countersign.db-wal"} {
		raw, err := os.ReadFile(filepath.Join(h.dir, file))
		h.must(err)
		seen += string(raw)
	}
	if !strings.Contains(seen, "repo:acme/app") {
		t.Fatal("the subject is nowhere: the test does not look where it is written")
	}
	if strings.Contains(seen, signature[:32]) || strings.Contains(seen, token[:64]) {
		t.Error("a token was written")
	}
}
