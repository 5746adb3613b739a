package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
)

const (
	githubIssuer  = "https://token.actions.githubusercontent.com"
	githubSubject = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
)

// identityPolicy is a policy with one identity authority.
func identityPolicy(identity string) string {
	return `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    ci: {identity: ` + identity + `}
  require: {signature: {by: ci}}
`
}

func TestIdentityAuthority(t *testing.T) {
	p := mustParse(t, identityPolicy(`{issuer: "`+githubIssuer+`", subjectPattern: "https://github.com/acme/*/.github/workflows/release.yml@refs/heads/*", claims: {repository: acme/*, runnerEnvironment: github-hosted}, trustRoot: sigstore}`))
	ci := p.Authorities["ci"]
	if ci.Key != nil || ci.Log != policy.LogRequired || ci.Identity.TrustRoot != "sigstore" {
		t.Fatalf("%+v", ci)
	}
	if again := mustParse(t, string(p.Document())); !cmp.Equal(string(again.Document()), string(p.Document())) {
		t.Error("the document parses to another policy")
	}
	plain := mustParse(t, identityPolicy(`{issuer: "`+githubIssuer+`", subject: "`+githubSubject+`"}`))
	if root := plain.Authorities["ci"].Identity.TrustRoot; root != policy.SelfRoot {
		t.Errorf("trust root %q", root)
	}
	if !strings.Contains(string(plain.Document()), `"trustRoot":"self"`) {
		t.Errorf("the default is not written out: %s", plain.Document())
	}
}

// Rows E1 (unknown fields), E2 (patterns), E5 (empty constraints).
func TestIdentityRefuses(t *testing.T) {
	const issuer, subject = `issuer: "https://i.example"`, `subject: "https://s.example/x"`
	tests := []struct{ name, identity, pointer string }{
		{"E1 subjectRegExp", `{` + issuer + `, subjectRegExp: "^x"}`, "/identity/subjectRegExp"},
		{"E1 field in another case", `{` + issuer + `, Subject: x}`, "/identity/Subject"},
		{"E1 unknown claim", `{` + issuer + `, claims: {repo: acme/app}}`, "/identity/claims/repo"},
		{"E5 nothing", `{}`, "/identity/issuer"},
		{"E5 no issuer", `{` + subject + `}`, "/identity/issuer"},
		{"E5 empty issuer", `{issuer: "", ` + subject + `}`, "/identity/issuer"},
		{"E2 issuer with a wildcard", `{issuer: "https://*.example", ` + subject + `}`, "/identity/issuer"},
		{"E5 everybody at the issuer", `{` + issuer + `}`, "/identity"},
		{"E5 empty subject", `{` + issuer + `, subject: ""}`, "/identity/subject"},
		{"E5 empty pattern", `{` + issuer + `, subjectPattern: ""}`, "/identity/subjectPattern"},
		{"E5 pattern of anything", `{` + issuer + `, subjectPattern: "**"}`, "/identity/subjectPattern"},
		{"E5 pattern of anything in two segments", `{` + issuer + `, subjectPattern: "*/**"}`, "/identity/subjectPattern"},
		{"E5 empty claims", `{` + issuer + `, ` + subject + `, claims: {}}`, "/identity/claims"},
		{"E5 empty claim", `{` + issuer + `, ` + subject + `, claims: {repository: ""}}`, "/identity/claims/repository"},
		{"E5 claim of anything", `{` + issuer + `, claims: {repository: "**"}}`, "/identity/claims/repository"},
		{"E2 wildcard host", `{` + issuer + `, subjectPattern: "https://*.example/x"}`, "/identity/subjectPattern"},
		{"wildcard in an exact subject", `{` + issuer + `, subject: "https://s.example/*"}`, "/identity/subject"},
		{"subject and pattern", `{` + issuer + `, ` + subject + `, subjectPattern: "https://s.example/*"}`, "/identity"},
		{"empty trust root", `{` + issuer + `, ` + subject + `, trustRoot: ""}`, "/identity/trustRoot"},
		{"trust root with a path", `{` + issuer + `, ` + subject + `, trustRoot: "../x"}`, "/identity/trustRoot"},
		{"without log", `{` + issuer + `, ` + subject + `}, log: optional`, "/log"},
	}
	mustParse(t, identityPolicy(`{`+issuer+`, `+subject+`}`))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse([]byte(identityPolicy(tt.identity)))
			at, located := errors.AsType[*policy.FieldError](err)
			if !located || at.Pointer != "/spec/authorities/ci"+tt.pointer {
				t.Errorf("error %v, want a fault at %s", err, tt.pointer)
			}
			t.Attr("verdict", "FAILED invalid_request")
		})
	}
	twice := strings.Replace(identityPolicy(`{`+issuer+`, `+subject+`}`), "  require", "    other: {identity: {"+issuer+", "+subject+", trustRoot: self}}\n  require", 1)
	if _, err := policy.Parse([]byte(twice)); err == nil || !strings.Contains(err.Error(), "identity of authority ci") {
		t.Errorf("C2: one identity under two names: %v", err)
	}
}

func TestIdentityMismatch(t *testing.T) {
	good := func() identity.Holder {
		return identity.Holder{Issuer: githubIssuer, Subject: githubSubject, Claims: map[string]string{
			"repository": "acme/app", "ref": "refs/heads/main",
		}}
	}
	exact := `{issuer: "` + githubIssuer + `", subject: "` + githubSubject + `"}`
	pattern := `{issuer: "` + githubIssuer + `", subjectPattern: "https://github.com/acme/*/.github/workflows/*"}`
	release := `{issuer: "` + githubIssuer + `", subjectPattern: "https://github.com/acme/*/.github/workflows/*@refs/heads/*"}`
	claims := `{issuer: "` + githubIssuer + `", claims: {repository: acme/*, ref: refs/heads/main}}`
	tests := []struct {
		name, identity string
		edit           func(*identity.Holder)
		want           string
	}{
		{"exact", exact, func(*identity.Holder) {}, ""},
		{"pattern", release, func(*identity.Holder) {}, ""},
		{"claims", claims, func(*identity.Holder) {}, ""},
		{"another issuer", exact, func(h *identity.Holder) { h.Issuer = "https://evil.io" }, "issuer"},
		{"E2 issuer in a query", exact, func(h *identity.Holder) { h.Issuer = "https://evil.io/?x=" + githubIssuer }, "issuer"},
		{"issuer with a slash", exact, func(h *identity.Holder) { h.Issuer += "/" }, "issuer"},
		{"E5 longer subject", exact, func(h *identity.Holder) { h.Subject += "2" }, "subject"},
		{"E2 subject in a query", exact, func(h *identity.Holder) { h.Subject = "https://evil.io/?x=" + githubSubject }, "subject"},
		{"E2 pattern in a query", release, func(h *identity.Holder) { h.Subject = "https://evil.io/?x=" + githubSubject }, "subject"},
		{"E3 host behind a path", release, func(h *identity.Holder) {
			h.Subject = "https://evil.io/github.com/acme/app/.github/workflows/x@refs/heads/main"
		}, "subject"},
		{"E3 a segment more", pattern, func(h *identity.Holder) { h.Subject = "https://github.com/acme/evil/app/.github/workflows/release.yml" }, "subject"},
		{"E5 prefix of an owner", release, func(h *identity.Holder) { h.Subject = strings.Replace(githubSubject, "acme/", "acme-evil/", 1) }, "subject"},
		{"another case", exact, func(h *identity.Holder) { h.Subject = strings.ToUpper(h.Subject) }, "subject"},
		{"E5 prefix of a repository", claims, func(h *identity.Holder) { h.Claims["repository"] = "acme-evil/app" }, "claims.repository"},
		{"claim missing", claims, func(h *identity.Holder) { delete(h.Claims, "ref") }, "claims.ref"},
		{"claim empty", claims, func(h *identity.Holder) { h.Claims["ref"] = "" }, "claims.ref"},
		{"nobody", exact, func(h *identity.Holder) { *h = identity.Holder{} }, "issuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			holder := good()
			tt.edit(&holder)
			if got := mustParse(t, identityPolicy(tt.identity)).Authorities["ci"].Identity.Mismatch(holder); got != tt.want {
				t.Errorf("mismatch %q, want %q", got, tt.want)
			}
		})
	}
	var zero policy.IdentityAuthority
	if zero.Mismatch(good()) == "" || zero.Mismatch(identity.Holder{}) == "" {
		t.Error("the zero value matches somebody")
	}
}
