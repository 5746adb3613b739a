package provenance_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/identity"
)

// FuzzBuild: no claim and no addition panics, gets out of its field, or makes a
// provenance that in-toto's types do not read.
func FuzzBuild(f *testing.F) {
	for _, b := range builds() {
		claims, err := json.Marshal(b.input.Identity.Claims)
		if err != nil {
			f.Fatal(err)
		}
		rules, err := json.Marshal(b.input.Rules)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.input.Identity.Kind, b.input.Identity.Issuer, b.input.Identity.Subject, string(claims), string(rules), string(b.input.ExternalParameters), `{"uri":"git+https://github.com/acme/app"}`)
	}
	for _, ref := range []string{"refs/heads/\"},{", "refs/heads/a\nb", "refs/heads/a@b", "refs/heads/https://evil.example/@refs/heads/main", "refs/heads/#?%2e"} {
		claims, err := json.Marshal(github(map[string]string{"ref": ref, "workflow_ref": "acme/app/.github/workflows/release.yml@" + ref}).Claims)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("github", "https://token.actions.githubusercontent.com", "s", string(claims), `{}`, `{"a":"b"}`, `{"name":"x","content":"eA=="}`)
	}
	f.Fuzz(func(t *testing.T, kind, issuer, subject, claims, rules, parameters, dependency string) {
		in := provenance.Input{
			Identity:             identity.Identity{Issuer: issuer, Subject: subject, Kind: kind},
			ExternalParameters:   json.RawMessage(parameters),
			ResolvedDependencies: raws(dependency), Byproducts: raws(dependency),
		}
		if json.Unmarshal([]byte(claims), &in.Identity.Claims) != nil || json.Unmarshal([]byte(rules), &in.Rules) != nil {
			return
		}
		got, err := provenance.Build(in)
		if err != nil {
			var mismatch *provenance.MismatchError
			if !errors.As(err, &mismatch) && !errors.Is(err, provenance.ErrNoClaims) && !errors.Is(err, provenance.ErrInput) && !errors.Is(err, provenance.ErrRules) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		check(t, got)
		inPlace(t, got)
	})
}

// inPlace: the host of the source ends where its path begins, a ref has no
// second URL, and only a self-hosted runner has the prefix.
func inPlace(t *testing.T, got provenance.Result) {
	t.Helper()
	_, rest, _ := strings.Cut(got.Source, "://")
	if strings.ContainsAny(rest, "@?# \"\n\\") || strings.Contains(rest, "://") || strings.Contains(rest, "/../") || strings.HasSuffix(rest, "/..") {
		t.Errorf("source %q", got.Source)
	}
	if got.Ref != "" && (!strings.HasPrefix(got.Ref, "refs/") || strings.ContainsAny(got.Ref, ": \n\\") || strings.Contains(got.Ref, "..")) {
		t.Errorf("ref %q", got.Ref)
	}
	if got.Commit != "" && len(got.Commit) != 40 {
		t.Errorf("commit %q", got.Commit)
	}
	if hosted, selfHosted := strings.HasPrefix(got.Builder, "http"), strings.HasPrefix(got.Builder, provenance.SelfHosted+"http"); hosted == selfHosted {
		t.Errorf("builder %q", got.Builder)
	}
}
