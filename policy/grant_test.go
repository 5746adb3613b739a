package policy_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
)

const ciGrant = `
issuer: https://token.actions.githubusercontent.com
subject: "repo:acme/*:ref:refs/heads/main"
claims: {repository_owner: acme}
repositories: ["registry.example.com/acme/**"]
keys: [release, "ci-*"]
actions: [sign, attest]
predicateTypes: ["https://slsa.dev/provenance/*"]
`

func mustGrant(t testing.TB, name, text string) policy.Grant {
	t.Helper()
	g, err := policy.ParseGrant([]byte(text))
	if err != nil {
		t.Fatalf("ParseGrant: %v\n%s", err, text)
	}
	g.Name = name
	return *g
}

func TestParseGrant(t *testing.T) {
	g := mustGrant(t, "ci", ciGrant)
	want := `{"actions":["sign","attest"],"claims":{"repository_owner":"acme"},` +
		`"issuer":"https://token.actions.githubusercontent.com","keys":["release","ci-*"],` +
		`"predicateTypes":["https://slsa.dev/provenance/*"],"repositories":["registry.example.com/acme/**"],` +
		`"subject":"repo:acme/*:ref:refs/heads/main"}`
	b, err := json.Marshal(&g)
	if err != nil || string(b) != want || string(g.Document()) != want {
		t.Errorf("%s\n%s\n%v", b, g.Document(), err)
	}
	again := mustGrant(t, "ci", string(g.Document()))
	if diff := cmp.Diff(string(g.Document()), string(again.Document())); diff != "" {
		t.Error(diff)
	}
}

// Rows E1, E5, F4 for grants; each case edits the control once.
func TestParseGrantRefuses(t *testing.T) {
	tests := []struct{ name, old, new, pointer string }{
		{"E1 unknown field", "keys:", "Keys: [x]\nkeys:", "/Keys"},
		{"A9 duplicate", "issuer:", "issuer: x\nissuer:", "/issuer"},
		{"no issuer", "issuer: https://token.actions.githubusercontent.com\n", "", "/issuer"},
		{"empty issuer", "https://token.actions.githubusercontent.com", `""`, "/issuer"},
		{"E5 nobody", "subject: \"repo:acme/*:ref:refs/heads/main\"\nclaims: {repository_owner: acme}\n", "", "/subject"},
		{"E5 empty subject", `"repo:acme/*:ref:refs/heads/main"`, `""`, "/subject"},
		{"E5 null subject", `"repo:acme/*:ref:refs/heads/main"`, "", "/subject"},
		{"bad pattern", "repo:acme/*:", "repo:acme/**:", "/subject"},
		{"E5 empty claims", "{repository_owner: acme}", "{}", "/claims"},
		{"E5 empty claim", "{repository_owner: acme}", `{repository_owner: ""}`, "/claims/repository_owner"},
		{"claim is no text", "{repository_owner: acme}", "{repository_owner: true}", "/claims/repository_owner"},
		{"E5 no repositories", `["registry.example.com/acme/**"]`, "[]", "/repositories"},
		{"E3 every host", `"registry.example.com/acme/**"`, `"**/acme/app"`, "/repositories/0"},
		{"host only", `"registry.example.com/acme/**"`, `"registry.example.com"`, "/repositories/0"},
		{"E5 no keys", `[release, "ci-*"]`, "[]", "/keys"},
		{"empty key", `[release, "ci-*"]`, `[""]`, "/keys/0"},
		{"F4 no actions", "[sign, attest]", "[]", "/actions"},
		{"unknown action", "[sign, attest]", "[sign, '*']", "/actions/1"},
		{"action twice", "[sign, attest]", "[attest, attest]", "/actions/1"},
		{"E5 no predicate types", `["https://slsa.dev/provenance/*"]`, "[]", "/predicateTypes"},
		{"predicate types of signatures", "[sign, attest]", "[sign]", "/predicateTypes"},
		{"E2 wildcard host", `"https://slsa.dev/provenance/*"`, `"https://*.slsa.dev/provenance/*"`, "/predicateTypes/0"},
		{"wildcard scheme", `"https://slsa.dev/provenance/*"`, `"*://slsa.dev/provenance/v1"`, "/predicateTypes/0"},
	}
	mustGrant(t, "control", ciGrant)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(ciGrant, tt.old) {
				t.Fatalf("the control has no %q", tt.old)
			}
			g, err := policy.ParseGrant([]byte(strings.Replace(ciGrant, tt.old, tt.new, 1)))
			if g != nil || !errors.Is(err, policy.ErrGrant) {
				t.Fatalf("%v, %v", g, err)
			}
			if at, ok := errors.AsType[*policy.FieldError](err); !ok || at.Pointer != tt.pointer {
				t.Errorf("error %q, want a fault at %s", err, tt.pointer)
			}
		})
	}
}

func ci() identity.Identity {
	return identity.Identity{
		Issuer:  "https://token.actions.githubusercontent.com",
		Subject: "repo:acme/app:ref:refs/heads/main",
		Claims:  map[string]string{"repository_owner": "acme", "repository": "acme/app"},
		Roles:   []identity.Role{identity.Signer},
	}
}

// Every part of an ask must be covered; each case differs from the control in
// one.
func TestPermit(t *testing.T) {
	ask := policy.Ask{Action: policy.ActionSign, Repository: "registry.example.com/acme/app", Key: "release"}
	tests := []struct {
		name   string
		edit   func(*identity.Identity, *policy.Ask)
		want   bool
		detail string
	}{
		{"control", func(*identity.Identity, *policy.Ask) {}, true, "allowed by grant ci"},
		{"pattern key", func(_ *identity.Identity, a *policy.Ask) { a.Key = "ci-7" }, true, "allowed by grant ci"},
		{"admin", func(i *identity.Identity, _ *policy.Ask) { i.Roles = []identity.Role{identity.Admin} }, true, "allowed by grant ci"},
		{"attest", func(_ *identity.Identity, a *policy.Ask) {
			a.Action, a.PredicateType = policy.ActionAttest, "https://slsa.dev/provenance/v1"
		}, true, "allowed by grant ci"},
		{"nobody", func(i *identity.Identity, _ *policy.Ask) { *i = identity.Identity{} }, false, "nobody is authenticated"},
		{"no role", func(i *identity.Identity, _ *policy.Ask) { i.Roles = nil }, false, "the role signer is missing"},
		{"another role", func(i *identity.Identity, _ *policy.Ask) { i.Roles = []identity.Role{identity.Security} }, false, "the role signer is missing"},
		{"another issuer", func(i *identity.Identity, _ *policy.Ask) { i.Issuer += "/" }, false, "no grant names this identity"},
		{"E2 issuer in a query", func(i *identity.Identity, _ *policy.Ask) { i.Issuer = "https://evil.io/?x=" + i.Issuer }, false, "no grant names this identity"},
		{"another branch", func(i *identity.Identity, _ *policy.Ask) { i.Subject += "2" }, false, "no grant names this identity"},
		{"E2 subject inside another", func(i *identity.Identity, _ *policy.Ask) { i.Subject = "repo:evil/" + i.Subject }, false, "no grant names this identity"},
		{"no subject", func(i *identity.Identity, _ *policy.Ask) { i.Subject = "" }, false, "no grant names this identity"},
		{"claim missing", func(i *identity.Identity, _ *policy.Ask) { delete(i.Claims, "repository_owner") }, false, "no grant names this identity"},
		{"claim differs", func(i *identity.Identity, _ *policy.Ask) { i.Claims["repository_owner"] = "acme2" }, false, "no grant names this identity"},
		{"E5 prefix repository", func(_ *identity.Identity, a *policy.Ask) { a.Repository = "registry.example.com/acme-evil/app" }, false, "no grant lets this identity sign in this repository"},
		{"E3 another host", func(_ *identity.Identity, a *policy.Ask) { a.Repository = "evil.io/registry.example.com/acme/app" }, false, "no grant lets this identity sign in this repository"},
		{"no repository", func(_ *identity.Identity, a *policy.Ask) { a.Repository = "" }, false, "no grant lets this identity sign in this repository"},
		{"another key", func(_ *identity.Identity, a *policy.Ask) { a.Key = "release2" }, false, "no grant lets this identity use this key in this repository"},
		{"no key", func(_ *identity.Identity, a *policy.Ask) { a.Key = "" }, false, "no grant lets this identity use this key in this repository"},
		{"another action", func(_ *identity.Identity, a *policy.Ask) { a.Action = policy.ActionProvenance }, false, "no grant lets this identity do this with this key in this repository"},
		{"no action", func(_ *identity.Identity, a *policy.Ask) { a.Action = "" }, false, "no grant lets this identity do this with this key in this repository"},
		{"another predicate", func(_ *identity.Identity, a *policy.Ask) {
			a.Action, a.PredicateType = policy.ActionAttest, "https://slsa.dev/provenance/v1/x"
		}, false, "no grant lets this identity attest this predicate type with this key in this repository"},
		{"no predicate", func(_ *identity.Identity, a *policy.Ask) { a.Action = policy.ActionAttest }, false, "no grant lets this identity attest this predicate type with this key in this repository"},
	}
	grants := []policy.Grant{mustGrant(t, "ci", ciGrant)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, a := ci(), ask
			tt.edit(&id, &a)
			want := policy.Permission{Allowed: tt.want, Detail: tt.detail}
			if tt.want {
				want.Grant = "ci"
			}
			if diff := cmp.Diff(want, policy.Permit(grants, id, a)); diff != "" {
				t.Error(diff)
			}
			named := tt.detail != "no grant names this identity" && !id.IsZero()
			if got := grants[0].Names(id); got != named {
				t.Errorf("Names = %v", got)
			}
		})
	}
}

// Grants do not add up, and a grant nobody parsed allows nothing (F4).
func TestPermitWithSeveralGrants(t *testing.T) {
	ask := policy.Ask{Action: policy.ActionSign, Repository: "r.example/a/x", Key: "k1"}
	id := identity.Identity{Issuer: identity.Local, Subject: "build", Roles: []identity.Role{identity.Signer}}
	text := func(repository, key string) string {
		return "{issuer: local, subject: build, repositories: [r.example/" + repository + "], keys: [" + key + "], actions: [sign]}"
	}
	grant := func(name, repository, key string) policy.Grant {
		return mustGrant(t, name, strings.Trim(strings.ReplaceAll(text(repository, key), ", ", "\n"), "{}"))
	}
	wrongKey, wrongRepository, right := grant("1", "a/x", "k2"), grant("2", "b/x", "k1"), grant("3", "a/*", "k1")
	forged := policy.Grant{Issuer: identity.Local, Subject: "build", Repositories: []string{"r.example/a/x"}, Keys: []string{"k1"}, Actions: []policy.Action{policy.ActionSign}}
	for _, tt := range []struct {
		grants []policy.Grant
		want   string
	}{
		{nil, ""},
		{[]policy.Grant{{}}, ""},
		{[]policy.Grant{forged}, ""},
		{[]policy.Grant{wrongKey, wrongRepository}, ""},
		{[]policy.Grant{wrongKey, wrongRepository, right}, "3"},
		{[]policy.Grant{right, right}, "3"},
	} {
		got := policy.Permit(tt.grants, id, ask)
		if got.Grant != tt.want || got.Allowed != (tt.want != "") || got.Detail == "" {
			t.Errorf("%+v, want grant %q", got, tt.want)
		}
	}
}

// Rows E2, E3 for free text: URLs and paths.
func TestSubjectPatterns(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"build", []string{"build"}, []string{"", "build ", "Build", "rebuild"}},
		{"https://gitlab.com/acme/*", []string{"https://gitlab.com/acme/app"}, []string{
			"http://gitlab.com/acme/app", "https://gitlab.com/acme", "https://gitlab.com/acme/app/x",
			"https://gitlab.com.evil.io/acme/app", "https://evil.io/https://gitlab.com/acme/app", "gitlab.com/acme/app",
		}},
		{"https://gitlab.com/*/ci", []string{"https://gitlab.com/acme/ci"}, []string{
			"https://evil.io/gitlab.com/acme/ci", "https://evil.io?x=https://gitlab.com/acme/ci", "https://gitlab.com//ci/ci",
		}},
		{"https://gitlab.com/acme/app", []string{"https://gitlab.com/acme/app"}, []string{"https://gitlab.com/acme/app/"}},
		{"**", []string{"x", "a/b"}, []string{""}},
	}
	ask := policy.Ask{Action: policy.ActionSign, Repository: "r.example/x", Key: "k"}
	for _, tt := range tests {
		g := mustGrant(t, "g", "issuer: i\nsubject: \""+tt.pattern+"\"\nrepositories: [r.example/x]\nkeys: [k]\nactions: [sign]\n")
		may := func(subject string) bool {
			id := identity.Identity{Issuer: "i", Subject: subject, Roles: []identity.Role{identity.Signer}}
			return policy.Permit([]policy.Grant{g}, id, ask).Allowed
		}
		for _, s := range tt.yes {
			if !may(s) {
				t.Errorf("%s does not match %q", tt.pattern, s)
			}
		}
		for _, s := range tt.no {
			if may(s) {
				t.Errorf("%s matches %q", tt.pattern, s)
			}
		}
	}
}

// E4: no second spelling of a path is covered by a pattern of another, in
// repositories, subjects, claims and predicate types; `[`, `!` and `^` are
// letters of subjects and refused in repositories.
func TestE4Grants(t *testing.T) {
	permits := func(grant, repository, subject, owner string) bool {
		id := identity.Identity{
			Issuer: "https://token.actions.githubusercontent.com", Subject: subject,
			Claims: map[string]string{"repository_owner": owner}, Roles: []identity.Role{identity.Signer},
		}
		return policy.Permit([]policy.Grant{mustGrant(t, "ci", grant)}, id,
			policy.Ask{Action: policy.ActionSign, Repository: repository, Key: "release"}).Allowed
	}
	const repository, subject = "registry.example.com/acme/app", "repo:acme/app:ref:refs/heads/main"
	if !permits(ciGrant, repository, subject, "acme") {
		t.Fatal("the control is refused")
	}
	for _, other := range []string{
		"registry.example.com/acme/../other", "registry.example.com/acme/x/../../other", "registry.example.com/acme//app",
		"registry.example.com/acme/%2e%2e/other", "registry.example.com/acme/app.", "registry.example.com/acme/App", "registry.example.com/acme/./app",
	} {
		if permits(ciGrant, other, subject, "acme") {
			t.Errorf("repository %s", other)
		}
	}
	wide := strings.Replace(ciGrant, `"repo:acme/*:ref:refs/heads/main"`, `"https://h.example/acme/**"`, 1)
	if !permits(wide, repository, "https://h.example/acme/app/x", "acme") {
		t.Error("the control of subjects is refused")
	}
	for _, other := range []string{"https://h.example/acme/../other", "https://h.example/acme/%2E%2e/other", "https://h.example/acme/."} {
		if permits(wide, repository, other, "acme") {
			t.Errorf("subject %s", other)
		}
	}
	literal := strings.Replace(ciGrant, "repository_owner: acme", `repository_owner: "[!a]*"`, 1)
	if permits(literal, repository, subject, "b") || permits(literal, repository, subject, "!") || !permits(literal, repository, subject, "[!a]x") {
		t.Error("[!a] is not taken literally")
	}
	for _, bad := range []string{"registry.example.com/[!a]*", "registry.example.com/[^a]", "registry.example.com/acme/../**", "registry.example.com/Acme/**", "registry.example.com/!acme/**"} {
		if _, err := policy.ParseGrant([]byte(strings.Replace(ciGrant, "registry.example.com/acme/**", bad, 1))); !errors.Is(err, policy.ErrGrant) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Law 5: a grant that says nothing of types does not make its holder a builder
// or a verifier, in any spelling of those types; one that names them does, and
// provenance from claims needs no such name.
func TestPermitSpeaksForBuilders(t *testing.T) {
	const plain = "issuer: local\nsubject: admin\nrepositories: [\"registry.example.com/**\"]\nkeys: [release]\nactions: [attest, provenance]\n"
	silent, named := mustGrant(t, "silent", plain), mustGrant(t, "named", plain+"predicateTypes: [\"https://slsa.dev/**\"]\n")
	admin := identity.Identity{Issuer: "local", Subject: "admin", Roles: []identity.Role{identity.Admin}}
	for uri, want := range map[string][2]bool{
		"https://slsa.dev/provenance/v0.1":           {false, true},
		"https://slsa.dev/provenance/v0.2":           {false, true},
		"https://slsa.dev/provenance/v1":             {false, true},
		"https://slsa.dev/verification_summary/v0.2": {false, true},
		"https://slsa.dev/verification_summary/v1":   {false, true},
		"https://spdx.dev/Document":                  {true, false},
	} {
		ask := policy.Ask{Action: policy.ActionAttest, Repository: "registry.example.com/app", Key: "release", PredicateType: uri}
		for i, g := range []policy.Grant{silent, named} {
			if got := policy.Permit([]policy.Grant{g}, admin, ask); got.Allowed != want[i] {
				t.Errorf("%s, grant %s: %+v", uri, g.Name, got)
			}
		}
		ask.Action = policy.ActionProvenance
		if got := policy.Permit([]policy.Grant{silent}, admin, ask); !got.Allowed {
			t.Errorf("%s from claims: %+v", uri, got)
		}
	}
}
