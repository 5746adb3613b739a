package slsa_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy/slsa"
)

// Two spellings of one repository are one, and none of two repositories are.
func TestParseSource(t *testing.T) {
	const app = "https://github.com/acme/app"
	for uri, want := range map[string]slsa.Source{
		"git+https://github.com/acme/app@refs/heads/main":   {app, "refs/heads/main"},
		"git+https://GitHub.com:443/acme/app.git":           {app, ""},
		"HTTPS://github.com/acme/app/":                      {app, ""},
		"https://github.com/acme/app.git@refs/tags/v1@2":    {app, "refs/tags/v1@2"},
		"git+https://github.com/Acme/app":                   {"https://github.com/Acme/app", ""},
		"git+http://github.com/acme/app":                    {"http://github.com/acme/app", ""},
		"git+https://gitlab.example/a/b/c@refs/heads/x.git": {"https://gitlab.example/a/b/c", "refs/heads/x.git"},
		"git+https://github.example:8443/acme/app":          {"https://github.example:8443/acme/app", ""},
		"git+https://github.com/acme/app.github.io":         {"https://github.com/acme/app.github.io", ""},
		"ssh://github.com/acme/app":                         {"ssh://github.com/acme/app", ""},
	} {
		got, err := slsa.ParseSource(uri)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
		again, err := slsa.ParseSource(got.Repository)
		if err != nil || again.Repository != got.Repository {
			t.Errorf("%s: not one spelling: %+v, %v", uri, again, err)
		}
	}
	for _, uri := range []string{
		"", "github.com/acme/app", "git+https://", "git+https:///acme/app", "https://github.com", "https://github.com/",
		"https://user@github.com/acme/app", "https://github.com/acme/../app", "https://github.com/./app", "https://github.com//app",
		"https://github.com/acme/app?x", "https://github.com/acme/app#refs/heads/main", "https://github.com/acme%2fapp",
		"https://github.com/acme\\app", "https://github.com/acme/app x", "file:///acme/app", "javascript://github.com/acme/app",
		"git+git+https://github.com/acme/app", "https://github.com/" + strings.Repeat("a", 2000),
	} {
		if got, err := slsa.ParseSource(uri); !errors.Is(err, slsa.ErrSource) || !got.IsZero() {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
}

// Where each build type says its source.
func TestSources(t *testing.T) {
	const app, ref = "https://github.com/acme/app", "refs/heads/main"
	const uri = "git+" + app + "@" + ref
	for _, tt := range []struct{ buildType, external, dependencies, repository, ref string }{
		{"https://actions.github.io/buildtypes/workflow/v1", `{"workflow":{"repository":"` + app + `","ref":"` + ref + `"}}`, `[{"uri":"` + uri + `"}]`, app, ref},
		{"https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1", `{"workflow":{"repository":"` + app + `","ref":"` + ref + `"}}`, `[]`, app, ref},
		{"https://countersign.dev/buildtypes/gitlab/v1", `{"workflow":{"repository":"https://github.com/acme/ci"},"source":{"repository":"` + app + `","ref":"` + ref + `"}}`, `[]`, app, ref},
		{"https://slsa.dev/container-based-build/v0.1?draft", `{"source":{"uri":"` + uri + `","digest":{"sha1":"00"}}}`, `[]`, app, ref},
		{"https://cloud.google.com/build/gcb-buildtypes/google-worker/v1", `{"buildConfigSource":{"repository":"` + app + `","ref":"` + ref + `","path":"x"}}`, `[]`, app, ref},
		{"https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v17.0.0/PROVENANCE.md", `{"source":"` + app + `","entryPoint":"build"}`, `[{"uri":"` + app + `"}]`, app, ""},
		{"https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0", `{}`, `[{"uri":"` + uri + `"},{"uri":"git+https://github.com/acme/lib"}]`, app, ref},
		{"https://own.example/t", `{}`, `[{"uri":"pkg:x/y"},{"uri":"` + uri + `"}]`, app, ref},
		{"https://own.example/t", `{}`, `[{"uri":"` + uri + `"},{"uri":"git+https://github.com/acme/lib"}]`, "", ""},
		{"https://own.example/t", `{}`, `[null,{"uri":"git+https://user@github.com/acme/lib"}]`, "", ""},
		{"https://own.example/t", `{}`, `[]`, "", ""},
		{"https://actions.github.io/buildtypes/workflow/v1", `{"workflow":{"repository":"` + uri + `"}}`, `[]`, "", ""},
		{"https://actions.github.io/buildtypes/workflow/v1", `{"workflow":"` + app + `"}`, `[]`, "", ""},
		{"https://actions.github.io/buildtypes/workflow/v1", `{}`, `[{"uri":"` + uri + `"}]`, "", ""},
		{"https://actions.github.io/buildtypes/workflow/v1", `{"workflow":{"repository":"` + app + `","ref":"` + ref + `"}}`, `[{"uri":"git+` + app + `@refs/heads/evil"}]`, "", ""},
	} {
		raw := `{"buildDefinition":{"buildType":"` + tt.buildType + `","externalParameters":` + tt.external + `,"resolvedDependencies":` + tt.dependencies + `},"runDetails":{"builder":{"id":"b"}}}`
		p, err := slsa.ReadProvenance(predicate.SLSAProvenanceV1, []byte(raw))
		if err != nil || p.Source.Repository != tt.repository || p.Source.Ref != tt.ref {
			t.Errorf("%s: %+v, %v", raw, p.Source, err)
		}
	}
}

func TestEqual(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{`1`, `1.0`, true},
		{`1`, `"1"`, false},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, true},
		{`{"a":null,"b":"","c":{},"d":[]}`, ``, true},
		{`{"a":{"b":{"c":""}}}`, `null`, true},
		{`[1,2]`, `[2,1]`, false},
		{`[1,null]`, `[1]`, false},
		{`[null]`, `[""]`, true},
		{`false`, `null`, false},
		{`0`, ``, false},
		{`{"a":1,"a":1}`, `{"a":1}`, false},
		{`{`, `{`, false},
		{`"A"`, `"\u0041"`, true},
	} {
		if got := slsa.Equal(json.RawMessage(tt.a), json.RawMessage(tt.b)); got != tt.same {
			t.Errorf("%s and %s: %t", tt.a, tt.b, got)
		}
	}
}

func TestParseResource(t *testing.T) {
	for uri, want := range map[string]slsa.Resource{
		"r.example/team/app":                      {Name: "r.example/team/app"},
		"oci://R.example:5000/team/app@sha256:00": {Name: "r.example:5000/team/app", Digest: "sha256:00"},
		"docker://r.example/app:1@sha256:00":      {Name: "r.example/app", Digest: "sha256:00"},
	} {
		if got, ok := slsa.ParseResource(uri); !ok || got != want {
			t.Errorf("%s: %+v, %t", uri, got, ok)
		}
	}
	for _, uri := range []string{"", "app", "r.example/", "r.example/app:1", "r.example/app:", "r.example/app@", "/app", "https://r.example/app", "r.example/a b", "r.example/a?b", "git+https://r.example/app"} {
		if got, ok := slsa.ParseResource(uri); ok && !strings.Contains(got.Name, ":/") {
			t.Errorf("%s: %+v", uri, got)
		}
	}
}

// Whatever the bytes: no panic, a builder and a build type or an error, and a
// source in its one spelling.
func FuzzReadProvenance(f *testing.F) {
	f.Add([]byte(`{"buildDefinition":{"buildType":"https://actions.github.io/buildtypes/workflow/v1","externalParameters":{"workflow":{"repository":"https://github.com/a/b","ref":"r"}},"resolvedDependencies":[null,{"uri":"git+https://github.com/a/b@r"}]},"runDetails":{"builder":{"id":"b"}}}`))
	f.Add([]byte(`{"builder":{"id":"b"},"buildType":"t","invocation":{"configSource":{"uri":"git+https://github.com/a/b@r"},"parameters":[1]},"materials":[{"uri":"git+https://github.com/a/b"}]}`))
	f.Add([]byte(`{"verifier":{"id":"v"},"resourceUri":"r/a@sha256:0","verificationResult":"PASSED","verifiedLevels":["SLSA_BUILD_LEVEL_3"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, predicateType := range []string{predicate.SLSAProvenanceV1, predicate.SLSAProvenanceV02} {
			p, err := slsa.ReadProvenance(predicateType, raw)
			if err != nil {
				if !errors.Is(err, slsa.ErrPredicate) {
					t.Fatal(err)
				}
				continue
			}
			if p.Builder == "" || p.BuildType == "" {
				t.Fatalf("%+v", p)
			}
			if again, err := slsa.ParseSource(p.Source.Repository); !p.Source.IsZero() && (err != nil || again.Repository != p.Source.Repository) {
				t.Fatalf("%+v", p.Source)
			}
			p.Unexpected(nil)
		}
		if s, err := slsa.ReadSummary(raw); err == nil {
			s.Reaches("SLSA_BUILD_LEVEL_2")
			slsa.ParseResource(s.Resource)
		} else if !errors.Is(err, slsa.ErrPredicate) {
			t.Fatal(err)
		}
	})
}
