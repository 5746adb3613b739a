package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/internal/testissuer"
)

const github = `{"url":"https://token.actions.githubusercontent.com","audience":"https://sign.example.com","kind":"github"}`

func TestParseIssuer(t *testing.T) {
	i, err := oidc.ParseIssuer("ci", []byte(github))
	if err != nil {
		t.Fatal(err)
	}
	want := oidc.Issuer{
		Name: "ci", URL: "https://token.actions.githubusercontent.com", Audience: "https://sign.example.com",
		Kind: oidc.GitHub, Roles: []identity.Role{identity.Signer},
	}
	if diff := cmp.Diff(want, i); diff != "" {
		t.Error(diff)
	}
	again(t, i)
}

// again holds the law of Document.
func again(t *testing.T, i oidc.Issuer) {
	t.Helper()
	document, err := i.Document()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := oidc.ParseIssuer(i.Name, document)
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if diff := cmp.Diff(i, parsed); diff != "" {
		t.Errorf("%s: %s", document, diff)
	}
}

// TestIssuersThatAreRefused changes one field of a good document.
func TestIssuersThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		pointer string
		value   any
	}{
		"no URL":                  {"/url", ""},
		"plain http":              {"/url", "http://issuer.example"},
		"another scheme":          {"/url", "ftp://issuer.example"},
		"no host":                 {"/url", "https:///path"},
		"opaque":                  {"/url", "https:issuer.example"},
		"a port alone":            {"/url", "https://:443"},
		"a user":                  {"/url", "https://user@issuer.example"},
		"a query":                 {"/url", "https://issuer.example?x=1"},
		"an empty query":          {"/url", "https://issuer.example?"},
		"a fragment":              {"/url", "https://issuer.example#x"},
		"an empty fragment":       {"/url", "https://issuer.example#"},
		"a space":                 {"/url", "https://issuer.example/a b"},
		"a line break":            {"/url", "https://issuer.example/\n"},
		"another alphabet":        {"/url", "https://іssuer.example"},
		"a long one":              {"/url", "https://issuer.example/" + strings.Repeat("a", limits.Pattern)},
		"no audience":             {"/audience", ""},
		"an audience with spaces": {"/audience", "a b"},
		"an unknown kind":         {"/kind", "GitHub"},
		"no kind":                 {"/kind", ""},
		"a bundle of nothing":     {"/caBundle", "hello"},
		"keys over plain http":    {"/jwksUrl", "http://issuer.example/keys"},
		"keys in a file":          {"/jwksUrl", "file:///etc/passwd"},
		"a mapping for github":    {"/claimsMapping", map[string]string{"repository": "repo"}},
		"a source for github":     {"/provenance/source", map[string]any{"source": "git+https://git.example/a/b"}},
		"a builder of level 4":    {"/provenance/builders/0/maxLevel", map[string]any{"builders": []any{map[string]any{"builder": "https://x.example/**", "maxLevel": 4}}}},
		"a rule's unknown field":  {"/provenance/level", map[string]any{"level": 3}},
		"an administrator":        {"/roles/0", []string{"admin"}},
		"security":                {"/roles/1", []string{"signer", "security"}},
		"a role twice":            {"/roles/1", []string{"signer", "signer"}},
		"an unknown role":         {"/roles/0", []string{"root"}},
		"an unknown field":        {"/name", "x"},
		"null":                    {"/caBundle", nil},
		"another type":            {"/oneTime", "yes"},
		"one role":                {"/roles", "signer"},
	} {
		document := map[string]any{}
		if err := json.Unmarshal([]byte(github), &document); err != nil {
			t.Fatal(err)
		}
		field, _, _ := strings.Cut(test.pointer[1:], "/")
		document[field] = test.value
		raw, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		i, err := oidc.ParseIssuer("x", raw)
		var where *strictjson.FieldError
		if !errors.Is(err, oidc.ErrIssuer) || !errors.As(err, &where) || where.Pointer != test.pointer {
			t.Errorf("%s: %+v %v", name, i, err)
		}
	}
	for name, raw := range map[string]string{
		"nothing": "", "a list": "[]", "a second document": github + github, "a name twice": strings.Replace(github, "{", `{"kind":"gitlab",`, 1),
		"another case": strings.Replace(github, `"url"`, `"URL"`, 1), "mapped iss": generic(`{"sub":"email"}`), "an empty name": generic(`{"":"email"}`),
	} {
		if _, err := oidc.ParseIssuer("x", []byte(raw)); !errors.Is(err, oidc.ErrIssuer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err := oidc.ParseIssuer("x", []byte(generic(`{"repository":"project.path"}`))); err != nil || i.ClaimsMapping["repository"] != "project.path" {
		t.Errorf("the control: %+v %v", i, err)
	}
}

func generic(mapping string) string {
	return strings.Replace(strings.Replace(github, `"github"`, `"generic"`, 1), "{", `{"claimsMapping":`+mapping+`,`, 1)
}

// FuzzParseIssuer: what parses is written and read again as the same.
func FuzzParseIssuer(f *testing.F) {
	f.Add([]byte(github))
	f.Add([]byte(generic(`{"repository":"project.path"}`)))
	f.Add([]byte(`{"url":"http://127.0.0.1:1/a/","audience":"a","kind":"kubernetes","insecureHttp":true,"allowPrivateAddress":true,"oneTime":true,"roles":["signer","verifier"],"jwksUrl":"http://10.0.0.1/openid/v1/jwks"}`))
	f.Add([]byte(`{"url":"https://h","audience":"a","kind":"generic","roles":[],"claimsMapping":{}}`))
	f.Add([]byte(`{"url":"https://h","audience":"a","kind":"buildkite","provenance":{"source":"git+https://h/a/{b}","links":[{"subject":"s*","claims":{},"source":"git+https://h/a"}],"builders":[]}}`))
	f.Add([]byte(`{"url":"https://h","audience":"a","kind":"circleci","provenance":{"links":[],"builders":[]}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		i, err := oidc.ParseIssuer("fuzz", document)
		if err != nil {
			if !errors.Is(err, oidc.ErrIssuer) {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(oidc.Issuer{}, i); diff != "" {
				t.Errorf("a refused document returns something: %s", diff)
			}
			return
		}
		for _, role := range i.Roles {
			if role == identity.Admin || role == identity.Security {
				t.Errorf("an issuer of role %s", role)
			}
		}
		again(t, i)
	})
}

// FuzzAuthenticate: a text that the issuer did not sign authenticates nobody,
// whatever it is like, and is refused with a reason.
func FuzzAuthenticate(f *testing.F) {
	i := testissuer.Start(f)
	h := open(f)
	h.believe(i, oidc.Generic, nil)
	good := i.GitHub(nil)
	if _, err := h.Authenticate(context.Background(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(strings.Repeat(".", 64))
	f.Add(i.Forge(map[string]any{"alg": "none"}, i.Claims(nil), func([]byte) ([]byte, error) { return []byte{0}, nil }))
	f.Add(i.Forge(map[string]any{"alg": "RS256", "jwk": i.KeySet().Keys[0]}, i.Claims(nil), i.Key().Sign))
	f.Add(i.Forge(map[string]any{"alg": "RS256"}, map[string]any{"iss": i.URL, "aud": []string{"a", "b"}, "exp": 1e12}, func([]byte) ([]byte, error) { return []byte{1}, nil }))
	f.Fuzz(func(t *testing.T, text string) {
		id, err := h.Authenticate(context.Background(), text)
		if err == nil {
			if text != good {
				t.Errorf("%q authenticates %s", text, id)
			}
			return
		}
		if !errors.Is(err, oidc.ErrInvalid) || !id.IsZero() {
			t.Errorf("%q: %+v %v", text, id, err)
		}
	})
}

// FuzzClaims: a signed token has a verdict, whatever its payload; the claims of
// one that is good are what it says.
func FuzzClaims(f *testing.F) {
	i := testissuer.Start(f)
	h := open(f)
	h.believe(i, oidc.Generic, nil)
	for _, more := range []string{
		`{"a":{"b":[1,true,null,"x"]}}`, `{"aud":["countersign"]}`, `{"aud":["countersign","b"]}`, `{"exp":1e400}`, `{"a.b":1,"a":{"b":2}}`,
		`{"sub":"\u0000"}`, `{"":{"":1}}`, `{"nbf":-1}`, `[]`,
	} {
		f.Add(more)
	}
	f.Fuzz(func(t *testing.T, more string) {
		var claims map[string]any
		if json.Unmarshal([]byte(more), &claims) != nil || len(more) > 4096 {
			t.Skip()
		}
		delete(claims, "iss")
		id, err := h.Authenticate(context.Background(), i.Token(claims))
		if err != nil {
			if !errors.Is(err, oidc.ErrInvalid) || !id.IsZero() {
				t.Errorf("%+v %v", id, err)
			}
			return
		}
		if id.Issuer != i.URL || id.Subject == "" || id.Claims["sub"] != id.Subject || len(id.Claims) > limits.Claims {
			t.Errorf("%+v", id)
		}
	})
}
