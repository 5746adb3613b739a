package provenance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

const (
	commit = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
	other  = "0000000000000000000000000000000000000001"
)

func raws(items ...string) (out []json.RawMessage) {
	for _, item := range items {
		out = append(out, json.RawMessage(item))
	}
	return out
}

// TestContradictions: what the caller says and the claims deny is refused, each
// field by its pointer; the same said truly is the control. Row E9.
func TestContradictions(t *testing.T) {
	const builder = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
	for name, c := range map[string]struct {
		parameters   string
		dependencies []json.RawMessage
		want         []string
	}{
		"all as it is": {
			parameters: `{"workflow":{"ref":"refs/heads/main","repository":"https://github.com/acme/app","path":".github/workflows/release.yml"},
			 "builder":{"id":"` + builder + `"},"buildType":"https://actions.github.io/buildtypes/workflow/v1","ref":"refs/heads/main","sha":"` + commit + `",
			 "invocationId":"https://github.com/acme/app/actions/runs/8675309001/attempts/1","source":"https://github.com/acme/app"}`,
			dependencies: raws(`{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"gitCommit":"`+commit+`","sha1":"`+commit+`"}}`,
				`{"uri":"https://github.com/acme/app/","digest":{"sha1":"`+commit+`"}}`,
				`{"uri":"git+https://github.com/acme/app@`+commit+`","digest":{"gitCommit":"`+commit+`"}}`),
		},
		"ref":                 {parameters: `{"workflow":{"ref":"refs/heads/prod"}}`, want: []string{"/externalParameters/workflow/ref"}},
		"ref and path":        {parameters: `{"workflow":{"ref":"refs/tags/v1","path":"x.yml"}}`, want: []string{"/externalParameters/workflow/path", "/externalParameters/workflow/ref"}},
		"repository":          {parameters: `{"workflow":{"repository":"https://github.com/mallory/app"}}`, want: []string{"/externalParameters/workflow/repository"}},
		"more of a workflow":  {parameters: `{"workflow":{"inputs":{"a":"b"}}}`, want: []string{"/externalParameters/workflow/inputs"}},
		"a workflow as text":  {parameters: `{"workflow":"x.yml"}`, want: []string{"/externalParameters/workflow"}},
		"an empty ref":        {parameters: `{"workflow":{"ref":""}}`, want: []string{"/externalParameters/workflow/ref"}},
		"another case":        {parameters: `{"Workflow":{"ref":"refs/heads/main"}}`, want: []string{"/externalParameters/Workflow"}},
		"builder":             {parameters: `{"builder":{"id":"https://github.com/acme/builders/.github/workflows/image.yml@refs/tags/v2"}}`, want: []string{"/externalParameters/builder/id"}},
		"builder id":          {parameters: `{"builder_id":"` + builder + `"}`, want: []string{"/externalParameters/builder_id"}},
		"builder's version":   {parameters: `{"builder":{"id":"` + builder + `","version":{"x":"1"}}}`, want: []string{"/externalParameters/builder/version"}},
		"build type":          {parameters: `{"buildType":"https://slsa.dev/container-based-build/v0.1?draft"}`, want: []string{"/externalParameters/buildType"}},
		"run details":         {parameters: `{"runDetails":{"builder":{"id":"x"}}}`, want: []string{"/externalParameters/runDetails"}},
		"a pointer's escapes": {parameters: `{"workflow":{"a/b~c":1}}`, want: []string{"/externalParameters/workflow/a~1b~0c"}},
		"invocation":          {parameters: `{"invocationId":"x"}`, want: []string{"/externalParameters/invocationId"}},
		"commit":              {parameters: `{"commit":"` + other + `"}`, want: []string{"/externalParameters/commit"}},
		"another commit":      {dependencies: raws(`{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"gitCommit":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/digest"}},
		"another spelling":    {dependencies: raws(`{"name":"ok","content":"b2s="}`, `{"uri":"ssh://git@GITHUB.com:22/Acme/app.git","digest":{"sha1":"`+other+`"}}`), want: []string{"/resolvedDependencies/1/digest"}},
		"slashes":             {dependencies: raws(`{"uri":"https://github.com//acme//app/","digest":{"gitCommit":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/digest"}},
		"escaped":             {dependencies: raws(`{"uri":"git+https://github.com/acme/%61pp","digest":{"gitCommit":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/digest"}},
		"package URL":         {dependencies: raws(`{"uri":"pkg:github/acme/app@` + other + `","digest":{"gitCommit":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/uri"}},
		"by its location":     {dependencies: raws(`{"name":"src","downloadLocation":"https://github.com/acme/app.git","digest":{"gitCommit":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/digest"}},
		"two commits":         {dependencies: raws(`{"uri":"https://github.com/acme/app","digest":{"gitCommit":"` + commit + `","sha1":"` + other + `"}}`), want: []string{"/resolvedDependencies/0/digest"}},
		"no commit":           {dependencies: raws(`{"uri":"https://github.com/acme/app"}`), want: []string{"/resolvedDependencies/0/digest"}},
		"another ref":         {dependencies: raws(`{"uri":"git+https://github.com/acme/app@refs/tags/v9","digest":{"gitCommit":"` + commit + `"}}`), want: []string{"/resolvedDependencies/0/uri"}},
		"several at once": {
			parameters: `{"builderId":"x","workflow":{"ref":"y"}}`, dependencies: raws(`{"uri":"https://github.com/acme/app"}`),
			want: []string{"/externalParameters/builderId", "/externalParameters/workflow/ref", "/resolvedDependencies/0/digest"},
		},
	} {
		got, err := provenance.Build(provenance.Input{Identity: github(nil), ExternalParameters: json.RawMessage(c.parameters), ResolvedDependencies: c.dependencies})
		var mismatch *provenance.MismatchError
		var pointers []string
		if errors.As(err, &mismatch) {
			for _, f := range mismatch.Fields {
				pointers = append(pointers, f.Pointer)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(pointers, c.want) {
			t.Errorf("%s: %v, want %v", name, pointers, c.want)
		}
		plain, err := provenance.Build(provenance.Input{Identity: github(nil)})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.want) == 0 && string(got.Predicate) != string(plain.Predicate) {
			t.Errorf("%s: what is equal to the claims adds something:\n%s\n%s", name, got.Predicate, plain.Predicate)
		}
	}
}

// TestUnknownCommit: where no claim has the commit, the caller may say it, and
// the level says that nobody else did.
func TestUnknownCommit(t *testing.T) {
	got, err := provenance.Build(provenance.Input{
		Identity: circleci(nil), ResolvedDependencies: raws(`{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"gitCommit":"` + commit + `"}}`),
	})
	if err != nil || got.Commit != "" || !slices.Contains(got.Codes, "commit_unknown") || !strings.Contains(string(got.Predicate), commit) {
		t.Errorf("%+v, %v", got, err)
	}
	check(t, got)
}

// TestMalformedAdditions: bounds and forms of what the caller adds, each with
// its place.
func TestMalformedAdditions(t *testing.T) {
	many := make([]json.RawMessage, limits.ProvenanceDescriptors+1)
	for i := range many {
		many[i] = json.RawMessage(`{"uri":"https://x.example/"}`)
	}
	members := map[string]int{}
	for i := range limits.ProvenanceParameters + 1 {
		members[fmt.Sprint("p", i)] = i
	}
	tooMany, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		input   provenance.Input
		pointer string
	}{
		"a list":          {provenance.Input{ExternalParameters: json.RawMessage(`[]`)}, "/externalParameters"},
		"null":            {provenance.Input{ExternalParameters: json.RawMessage(`null`)}, "/externalParameters"},
		"a null inside":   {provenance.Input{ExternalParameters: json.RawMessage(`{"a":null}`)}, "/externalParameters"},
		"twice":           {provenance.Input{ExternalParameters: json.RawMessage(`{"a":1,"a":2}`)}, "/externalParameters"},
		"no name":         {provenance.Input{ExternalParameters: json.RawMessage(`{"":1}`)}, "/externalParameters"},
		"large":           {provenance.Input{ExternalParameters: json.RawMessage(`{"a":"` + strings.Repeat("x", limits.ProvenanceParameterBytes) + `"}`)}, "/externalParameters"},
		"many":            {provenance.Input{ExternalParameters: tooMany}, "/externalParameters"},
		"deep":            {provenance.Input{ExternalParameters: json.RawMessage(`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`)}, "/externalParameters"},
		"an unknown name": {provenance.Input{ResolvedDependencies: raws(`{"uri":"https://x.example/","builder":"y"}`)}, "/resolvedDependencies/0"},
		"says nothing":    {provenance.Input{ResolvedDependencies: raws(`{"mediaType":"text/plain"}`)}, "/resolvedDependencies/0"},
		"a name alone":    {provenance.Input{ResolvedDependencies: raws(`{"name":"x"}`)}, "/resolvedDependencies/0"},
		"content alone":   {provenance.Input{Byproducts: raws(`{"content":"b2s="}`)}, "/byproducts/0"},
		"no base64":       {provenance.Input{ResolvedDependencies: raws(`{"uri":"https://x.example/","content":"%"}`)}, "/resolvedDependencies/0/content"},
		"scp's form":      {provenance.Input{ResolvedDependencies: raws(`{"uri":"ssh://git@github.com:acme/app.git"}`)}, "/resolvedDependencies/0/uri"},
		"a space":         {provenance.Input{ResolvedDependencies: raws(`{"uri":"https://x.example/a b"}`)}, "/resolvedDependencies/0/uri"},
		"no URI":          {provenance.Input{ResolvedDependencies: raws(`{"uri":"x"}`)}, "/resolvedDependencies/0/uri"},
		"short digest":    {provenance.Input{Byproducts: raws(`{"uri":"x:a"}`, `{"digest":{"sha256":"ab"}}`)}, "/byproducts/1/digest"},
		"capital digest":  {provenance.Input{Byproducts: raws(`{"digest":{"sha1":"` + strings.Repeat("AB", 20) + `"}}`)}, "/byproducts/0/digest"},
		"large item":      {provenance.Input{Byproducts: raws(`{"name":"` + strings.Repeat("x", limits.ProvenanceDescriptor) + `"}`)}, "/byproducts/0"},
		"many items":      {provenance.Input{Byproducts: many}, "/byproducts"},
	} {
		c.input.Identity = github(nil)
		_, err := provenance.Build(c.input)
		var place *strictjson.FieldError
		if !errors.Is(err, provenance.ErrInput) || !errors.As(err, &place) || place.Pointer != c.pointer {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRules: each field that a kind may not use, or that is malformed, is
// refused with its place; a good one is the control.
func TestRules(t *testing.T) {
	link := func(l provenance.Link) provenance.Rules { return provenance.Rules{Links: []provenance.Link{l}} }
	rule := func(pattern string, level int) provenance.Rules {
		return provenance.Rules{Builders: []provenance.BuilderRule{{Builder: pattern, MaxLevel: level}}}
	}
	for name, c := range map[string]struct {
		kind    string
		rules   provenance.Rules
		pointer string
	}{
		"control":                   {"github", trusted, ""},
		"control, links":            {"kubernetes", link(provenance.Link{Subject: "system:serviceaccount:ci:*", Source: source.Source, Builder: "https://ci.example/{kubernetes.io.namespace}"}), ""},
		"control, one claim":        {"generic", provenance.Rules{Source: "git+{repo}", Builder: "{workflow}"}, ""},
		"a source for GitHub":       {"github", source, "/source"},
		"a builder for GitLab":      {"gitlab", provenance.Rules{Builder: "https://x.example/"}, "/builder"},
		"a builder for Buildkite":   {"buildkite", link(provenance.Link{Subject: "x", Source: source.Source, Builder: "https://x.example/"}), "/links/0/builder"},
		"links for CircleCI":        {"circleci", link(provenance.Link{Subject: "x", Source: source.Source}), "/links"},
		"a commit for Kubernetes":   {"kubernetes", provenance.Rules{Commit: "{x}"}, "/commit"},
		"no git":                    {"generic", provenance.Rules{Source: "https://x.example/a/b"}, "/source"},
		"a ref in the source":       {"generic", provenance.Rules{Source: "git+https://x.example/a/b@main"}, "/source"},
		"a claim in the host":       {"generic", provenance.Rules{Source: "git+https://{host}/a/b"}, "/source"},
		"a claim at the host's end": {"generic", provenance.Rules{Source: "git+https://x.example{host}/a"}, "/source"},
		"a user":                    {"generic", provenance.Rules{Builder: "https://u@x.example/a"}, "/builder"},
		"an open brace":             {"generic", provenance.Rules{Ref: "refs/heads/{x"}, "/ref"},
		"a closed brace":            {"generic", provenance.Rules{Ref: "refs/heads/x}"}, "/ref"},
		"a claim in a build type":   {"generic", provenance.Rules{BuildType: "urn:x"}, "/buildType"},
		"everybody's link":          {"generic", link(provenance.Link{Source: source.Source}), "/links/0"},
		"a link to nothing":         {"generic", link(provenance.Link{Subject: "x"}), "/links/0/source"},
		"a link's bad pattern":      {"generic", link(provenance.Link{Claims: map[string]string{"a": "x**"}, Source: source.Source}), "/links/0/claims"},
		"no builder":                {"github", rule("", 1), "/builders/0/builder"},
		"a builder's host":          {"github", rule("https://*.example/x", 1), "/builders/0/builder"},
		"level 4":                   {"github", rule("https://x.example/**", 4), "/builders/0/maxLevel"},
		"level -1":                  {"github", rule("https://x.example/**", -1), "/builders/0/maxLevel"},
	} {
		err := c.rules.Validate(c.kind)
		var place *strictjson.FieldError
		if c.pointer == "" && err != nil || c.pointer != "" && (!errors.Is(err, provenance.ErrRules) || !errors.As(err, &place) || place.Pointer != c.pointer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := provenance.Build(provenance.Input{Identity: github(nil), Rules: source}); !errors.Is(err, provenance.ErrRules) {
		t.Errorf("Build takes rules that are not valid: %v", err)
	}
}

// TestLevels: the first rule that matches counts, and none of them makes 3 of a
// build whose inputs are not seen or that the tenant could influence.
func TestLevels(t *testing.T) {
	rules := func(pairs ...provenance.BuilderRule) provenance.Rules { return provenance.Rules{Builders: pairs} }
	all := provenance.BuilderRule{Builder: "https://github.com/**", MaxLevel: 3}
	for name, c := range map[string]struct {
		claims map[string]string
		rules  provenance.Rules
		level  int
	}{
		"three":                          {reused, rules(all), 3},
		"three for a release":            {with(reused, map[string]string{"event_name": "release"}), rules(all), 3},
		"not on a schedule":              {with(reused, map[string]string{"event_name": "schedule"}), rules(all), 2},
		"not by dispatch":                {with(reused, map[string]string{"event_name": "repository_dispatch"}), rules(all), 2},
		"not of a pull request":          {with(reused, map[string]string{"event_name": "pull_request_target"}), rules(all), 2},
		"not by the tenant's workflow":   {nil, rules(all), 2},
		"not by another in the source":   {map[string]string{"job_workflow_ref": "acme/app/.github/workflows/build.yml@refs/heads/main"}, rules(all), 2},
		"not by one in another spelling": {map[string]string{"job_workflow_ref": "Acme/App/.github/workflows/build.yml@refs/heads/main"}, rules(all), 2},
		"the first rule":                 {reused, rules(provenance.BuilderRule{Builder: "https://github.com/acme/builders/**", MaxLevel: 1}, all), 1},
		"a rule of zero":                 {reused, rules(provenance.BuilderRule{Builder: "https://github.com/acme/builders/**"}, all), 0},
		"a rule of another":              {reused, rules(provenance.BuilderRule{Builder: "https://github.com/acme/builders/.github/workflows/image.yml@refs/tags/v1", MaxLevel: 3}), 2},
	} {
		got, err := provenance.Build(provenance.Input{Identity: github(c.claims), Rules: c.rules})
		if err != nil || got.Level != c.level {
			t.Errorf("%s: level %d, want %d: %v %v", name, got.Level, c.level, got.Codes, err)
			continue
		}
		var p struct {
			BuildDefinition struct {
				InternalParameters struct {
					Countersign struct {
						BuildLevel int      `json:"buildLevel"`
						Reasons    []string `json:"reasons"`
					} `json:"countersign"`
				} `json:"internalParameters"`
			} `json:"buildDefinition"`
		}
		if err := json.Unmarshal(got.Predicate, &p); err != nil {
			t.Fatal(err)
		}
		if signed := p.BuildDefinition.InternalParameters.Countersign; signed.BuildLevel != got.Level || !slices.Equal(signed.Reasons, got.Codes) {
			t.Errorf("%s: the predicate says %+v", name, signed)
		}
	}
}
