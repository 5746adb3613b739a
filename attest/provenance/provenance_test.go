package provenance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/internal/testissuer"
)

var update = flag.Bool("update", false, "rewrite golden files")

// flat makes an identity's claims of a token's.
func flat(claims map[string]any, overrides map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range claims {
		switch v := value.(type) {
		case map[string]any:
			for inner, below := range flat(v, nil) {
				out[name+"."+inner] = below
			}
		case []string:
			for i, item := range v {
				out[fmt.Sprintf("%s.%d", name, i)] = item
			}
		default:
			out[name] = fmt.Sprint(v)
		}
	}
	for name, value := range overrides {
		if out[name] = value; value == "" {
			delete(out, name)
		}
	}
	return out
}

func of(kind, issuer string, claims map[string]any, overrides map[string]string) identity.Identity {
	c := flat(claims, overrides)
	return identity.Identity{Issuer: issuer, Subject: c["sub"], Kind: kind, Claims: c}
}

func github(overrides map[string]string) identity.Identity {
	return of("github", "https://token.actions.githubusercontent.com", testissuer.GitHubClaims(), overrides)
}

func gitlab(issuer string, overrides map[string]string) identity.Identity {
	return of("gitlab", issuer, testissuer.GitLabClaims(issuer), overrides)
}

func kubernetes() identity.Identity {
	return of("kubernetes", "https://oidc.eks.eu-central-1.amazonaws.com/id/0123", testissuer.KubernetesClaims(), nil)
}

func buildkite(overrides map[string]string) identity.Identity {
	return of("buildkite", "https://agent.buildkite.com", testissuer.BuildkiteClaims(), overrides)
}

func circleci(overrides map[string]string) identity.Identity {
	return of("circleci", "https://oidc.circleci.com/org/8f2a1c44-0e1b-4c3f-9f0e-6a1d2b3c4d5e", testissuer.CircleCIClaims(), overrides)
}

func generic(overrides map[string]string) identity.Identity {
	return of("generic", "https://ci.example.com", map[string]any{
		"sub": "pipeline/4711", "repositoryUri": "https://git.example.com/acme/app", "ref": "refs/heads/main",
		"sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "buildSignerUri": "https://ci.example.com/pipelines/4711",
		"buildConfigUri": "https://ci.example.com/pipelines/4711/config", "runUri": "https://ci.example.com/runs/9", "trigger": "push",
	}, overrides)
}

var (
	source  = provenance.Rules{Source: "git+https://github.com/acme/app"}
	reused  = map[string]string{"job_workflow_ref": "acme/builders/.github/workflows/image.yml@refs/tags/v2", "job_workflow_sha": "aa218f56b14c9653891f9e74264a383fa43fefbd"}
	trusted = provenance.Rules{Builders: []provenance.BuilderRule{
		{Builder: "https://github.com/acme/builders/.github/workflows/*@refs/tags/*", MaxLevel: 3},
		{Builder: "self-hosted+https://github.com/acme/builders/**", MaxLevel: 3},
	}}
)

func with(base map[string]string, more map[string]string) map[string]string {
	out := maps.Clone(base)
	maps.Copy(out, more)
	return out
}

type recorded struct {
	name  string
	input provenance.Input
	level int
	codes []string
}

// builds are the recorded shapes, each with the level it is granted and why.
func builds() []recorded {
	const gitlabCom = "https://gitlab.com"
	in := func(id identity.Identity, rules provenance.Rules) provenance.Input {
		return provenance.Input{Identity: id, Rules: rules}
	}
	none := provenance.Rules{}
	unlisted := []string{"builder_not_listed", "workflow_not_isolated"}
	unseen := append(slices.Clone(unlisted), "inputs_not_visible")
	selfHosted := append([]string{"runner_self_hosted"}, unlisted...)
	selfHostedUnseen := append([]string{"runner_self_hosted"}, unseen...)
	return []recorded{
		{"github-push", in(github(nil), none), 2, unlisted},
		{"github-tag", in(github(map[string]string{
			"ref": "refs/tags/@acme/app@1.2.0", "ref_type": "tag",
			"workflow_ref":     "acme/app/.github/workflows/re@lease.yml@refs/tags/@acme/app@1.2.0",
			"job_workflow_ref": "acme/app/.github/workflows/re@lease.yml@refs/tags/@acme/app@1.2.0",
		}), none), 2, unlisted},
		{"github-dispatch", in(github(map[string]string{"event_name": "workflow_dispatch"}), none), 2, unseen},
		{"github-pull-request", in(github(map[string]string{
			"event_name": "pull_request", "ref": "refs/pull/7/merge", "head_ref": "topic", "base_ref": "main",
			"workflow_ref":     "acme/app/.github/workflows/release.yml@refs/pull/7/merge",
			"job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/pull/7/merge",
		}), none), 2, unseen},
		{"github-reusable", in(github(reused), trusted), 3, []string{"isolated_builder"}},
		{"github-reusable-dispatch", in(github(with(reused, map[string]string{"event_name": "workflow_dispatch"})), trusted), 2, []string{"inputs_not_visible"}},
		{"github-reusable-self-hosted", in(github(with(reused, map[string]string{"runner_environment": "self-hosted"})), trusted), 2, []string{"runner_self_hosted"}},
		{"github-reusable-unlisted", in(github(reused), none), 2, []string{"builder_not_listed"}},
		{"github-self-hosted", in(github(map[string]string{"runner_environment": "self-hosted"}), none), 1, selfHosted},
		{"github-enterprise", in(of("github", "https://ghes.example/_services/token", testissuer.GitHubClaims(), map[string]string{"runner_environment": "self-hosted"}), none), 1, selfHosted},
		{"gitlab-branch", in(gitlab(gitlabCom, map[string]string{"runner_environment": "gitlab-hosted"}), none), 2, unseen},
		{"gitlab-tag", in(gitlab(gitlabCom, map[string]string{
			"runner_environment": "gitlab-hosted", "ref_type": "tag", "ref": "v1@rc", "ref_path": "refs/tags/v1@rc",
			"ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1@rc",
		}), none), 2, unseen},
		{"gitlab-merge-request", in(gitlab(gitlabCom, map[string]string{
			"runner_environment": "gitlab-hosted", "pipeline_source": "merge_request_event", "job_project_path": "acme/app", "job_project_id": "20",
			"ref": "topic", "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/topic",
		}), none), 2, unseen},
		{"gitlab-merge-request-fork", in(gitlab(gitlabCom, map[string]string{
			"runner_environment": "gitlab-hosted", "pipeline_source": "merge_request_event",
			"project_path": "mallory/app", "project_id": "666", "job_project_path": "acme/app", "job_project_id": "20",
			"ref": "topic", "ci_config_ref_uri": "gitlab.com/mallory/app//.gitlab-ci.yml@refs/heads/topic",
		}), none), 1, append(slices.Clone(unseen), "merge_request_fork")},
		{"gitlab-merge-request-old", in(gitlab(gitlabCom, map[string]string{
			"runner_environment": "gitlab-hosted", "pipeline_source": "merge_request_event",
		}), none), 1, append(slices.Clone(unseen), "merge_request_unclear")},
		{"gitlab-self-managed", in(gitlab("https://git.example:8443/gitlab", map[string]string{
			"ci_config_ref_uri": "git.example:8443/gitlab/platform/ci//images/build.yml@refs/heads/main",
		}), none), 1, selfHostedUnseen},
		{"kubernetes", in(kubernetes(), provenance.Rules{
			Links:    []provenance.Link{{Subject: "system:serviceaccount:ci:build*", Source: "git+https://git.example.com/{kubernetes.io.namespace}/app"}},
			Builders: []provenance.BuilderRule{{Builder: "https://oidc.eks.eu-central-1.amazonaws.com/id/0123/namespaces/ci/serviceaccounts/*", MaxLevel: 2}},
		}), 2, []string{"builder_rule", "runner_unknown", "workflow_not_isolated", "inputs_not_visible", "commit_unknown"}},
		{"buildkite", in(buildkite(nil), provenance.Rules{Source: "git+https://github.com/acme/{pipeline_slug}"}), 2, unseen},
		{"buildkite-self-hosted", in(buildkite(map[string]string{
			"runner_environment": "self-hosted", "build_tag": "v1.0.0", "build_commit": "HEAD",
			"sub": "organization:acme:pipeline:app:ref:refs/tags/v1.0.0:commit:HEAD:step:",
		}), source), 1, append(slices.Clone(selfHostedUnseen), "commit_unknown")},
		{"circleci", in(circleci(nil), none), 1, append([]string{"runner_unknown"}, append(slices.Clone(unseen), "commit_unknown")...)},
		{"generic", in(generic(nil), none), 1, append([]string{"runner_unknown"}, unseen...)},
		{"generic-mapped", in(of("generic", "https://ci.example.com", map[string]any{
			"sub": "pipeline/4711", "project.path": "acme/app", "git.branch": "main", "git.commit": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
			"pipeline": "4711", "run": "9", "runnerEnvironment": "self-hosted",
		}, nil), provenance.Rules{
			Source: "git+https://git.example.com/{project.path}", Ref: "refs/heads/{git.branch}", Commit: "{git.commit}",
			Workflow: "https://ci.example.com/pipelines/{pipeline}/config", Invocation: "https://ci.example.com/runs/{run}",
			Builder: "https://ci.example.com/pipelines/{pipeline}", BuildType: "https://ci.example.com/buildtypes/pipeline/v1",
		}), 1, selfHostedUnseen},
		{"additions", provenance.Input{
			Identity: github(reused), Rules: trusted,
			ExternalParameters: json.RawMessage(`{"workflow":{"ref":"refs/heads/main"},"inputs":{"version":"1.0","big":12345678901234567890},"a":1}`),
			ResolvedDependencies: []json.RawMessage{
				json.RawMessage(`{"uri":"git+ssh://git@GitHub.com/acme/app.git","digest":{"gitCommit":"6dcb09b5b57875f334f61aebed695e2e4193db5e"}}`),
				json.RawMessage(`{"uri":"pkg:docker/alpine@3.22","digest":{"sha256":"` + strings.Repeat("ab", 32) + `"}}`),
			},
			Byproducts: []json.RawMessage{json.RawMessage(`{"name":"build.log","digest":{"sha256":"` + strings.Repeat("cd", 32) + `"}}`)},
			FinishedAt: time.Date(2026, 11, 25, 3, 0, 0, 5, time.FixedZone("x", 3600)),
		}, 2, []string{"caller_parameters"}},
	}
}

// TestBuilds writes each recorded shape as its golden file has it. Row E8: a
// merge request from a fork, and one of a GitLab that does not say so, are not
// granted what the project's own is.
func TestBuilds(t *testing.T) {
	for _, b := range builds() {
		t.Run(b.name, func(t *testing.T) {
			got, err := provenance.Build(b.input)
			if err != nil {
				t.Fatal(err)
			}
			if got.Level != b.level || !slices.Equal(got.Codes, b.codes) || len(got.Reasons) != len(got.Codes) {
				t.Errorf("level %d because %v %q, want %d because %v", got.Level, got.Codes, got.Reasons, b.level, b.codes)
			}
			check(t, got)
			golden(t, b.name, got)
		})
	}
}

// golden compares with testdata.
func golden(t *testing.T, name string, got provenance.Result) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, got.Predicate, "", "  "); err != nil {
		t.Fatal(err)
	}
	indented.WriteByte('\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, indented.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), indented.String()); diff != "" {
		t.Error(diff)
	}
}

// check holds what is true of every provenance: in-toto's own types read it,
// and the result says what is in it.
func check(t testing.TB, got provenance.Result) {
	t.Helper()
	if err := predicate.Check(provenance.PredicateType, got.Predicate); err != nil {
		t.Error(err)
	}
	var theirs slsa.Provenance
	if err := protojson.Unmarshal(got.Predicate, &theirs); err != nil {
		t.Fatalf("%s: %v", got.Predicate, err)
	}
	if err := theirs.Validate(); err != nil {
		t.Errorf("%s: %v", got.Predicate, err)
	}
	if err := strictjson.Check(got.Predicate); err != nil {
		t.Error(err)
	}
	uri := got.Source
	if got.Ref != "" {
		uri += "@" + got.Ref
	}
	first := theirs.GetBuildDefinition().GetResolvedDependencies()[0]
	if first.GetUri() != uri || first.GetDigest()["gitCommit"] != got.Commit || theirs.GetRunDetails().GetBuilder().GetId() != got.Builder ||
		theirs.GetBuildDefinition().GetBuildType() != got.BuildType {
		t.Errorf("%s\nis not %+v", got.Predicate, got)
	}
	if got.Level < 0 || got.Level > 3 || len(got.Reasons) == 0 || len(got.Predicate) > limits.Provenance {
		t.Errorf("%+v", got)
	}
}

// TestSameInputSameBytes: order of names and white space in what the caller
// adds do not matter.
func TestSameInputSameBytes(t *testing.T) {
	a := provenance.Input{Identity: github(nil), ExternalParameters: json.RawMessage(`{"b":{"y":1,"x":[1, 2]},"a":"t"}`)}
	b := a
	b.ExternalParameters = json.RawMessage(` {"a" : "t", "b":{"x":[1,2],"y":1}}`)
	first, err := provenance.Build(a)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		again, err := provenance.Build(b)
		if err != nil || !bytes.Equal(first.Predicate, again.Predicate) {
			t.Fatalf("%s\n%s\n%v", first.Predicate, again.Predicate, err)
		}
	}
}

// TestRefused: a token that says too little, or two things, carries nothing.
// Row E2.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		id    identity.Identity
		rules provenance.Rules
		claim string
	}{
		"API token":                      {identity.Identity{Issuer: identity.Local, Subject: "ci"}, source, ""},
		"nobody":                         {identity.Identity{}, source, ""},
		"no kind":                        {identity.Identity{Issuer: "https://x.example", Subject: "s"}, source, ""},
		"GitHub without a commit":        {github(map[string]string{"sha": ""}), provenance.Rules{}, "sha"},
		"GitHub, a SHA-256 commit":       {github(map[string]string{"sha": strings.Repeat("ab", 32)}), provenance.Rules{}, "sha"},
		"GitHub, another runner":         {github(map[string]string{"runner_environment": "hosted"}), provenance.Rules{}, "runner_environment"},
		"GitHub, a ref with a URL":       {github(map[string]string{"ref": "refs/heads/x://evil.example"}), provenance.Rules{}, "ref"},
		"GitHub, a ref with a newline":   {github(map[string]string{"ref": "refs/heads/a\nb"}), provenance.Rules{}, "ref"},
		"GitHub, a short ref":            {github(map[string]string{"ref": "main"}), provenance.Rules{}, "ref"},
		"GitHub, a repository upwards":   {github(map[string]string{"repository": "acme/.."}), provenance.Rules{}, "repository"},
		"GitHub, three segments":         {github(map[string]string{"repository": "acme/app@x"}), provenance.Rules{}, "repository"},
		"GitHub, a workflow without @":   {github(map[string]string{"workflow_ref": "acme/app/.github/workflows/x.yml"}), provenance.Rules{}, "workflow_ref"},
		"GitHub, a file with a space":    {github(map[string]string{"job_workflow_ref": "acme/app/.github/workflows/my build.yml@refs/heads/main"}), provenance.Rules{}, "job_workflow_ref"},
		"an issuer that is no URL":       {of("github", "token.actions.githubusercontent.com", testissuer.GitHubClaims(), nil), provenance.Rules{}, "iss"},
		"GitHub, two readings":           {github(map[string]string{"workflow_ref": "acme/app/dynamic/x@refs/heads/a@refs/heads/b"}), provenance.Rules{}, "workflow_ref"},
		"GitHub, a job of no workflow":   {github(map[string]string{"job_workflow_ref": "acme@refs/heads/main"}), provenance.Rules{}, "job_workflow_ref"},
		"GitLab, neither branch nor tag": {gitlab("https://gitlab.com", map[string]string{"ref_type": "merge_request"}), provenance.Rules{}, "ref_type"},
		"GitLab, another host":           {gitlab("https://gitlab.com", map[string]string{"ci_config_ref_uri": "evil.example/acme/app//.gitlab-ci.yml@refs/heads/main"}), provenance.Rules{}, "ci_config_ref_uri"},
		"GitLab, no definition":          {gitlab("https://gitlab.com", map[string]string{"ci_config_ref_uri": ""}), provenance.Rules{}, "ci_config_ref_uri"},
		"GitLab, a path upwards":         {gitlab("https://gitlab.com", map[string]string{"ci_config_ref_uri": "gitlab.com/acme/app//../x.yml@refs/heads/main"}), provenance.Rules{}, "ci_config_ref_uri"},
		"Kubernetes without a link":      {kubernetes(), provenance.Rules{}, "provenance.source"},
		"Kubernetes, another's link":     {kubernetes(), provenance.Rules{Links: []provenance.Link{{Subject: "system:serviceaccount:ci:other", Source: source.Source}}}, "provenance.source"},
		"Buildkite without a link":       {buildkite(nil), provenance.Rules{}, "provenance.source"},
		"Buildkite, a fork's branch":     {buildkite(map[string]string{"build_branch": "mallory:main", "sub": "x"}), source, "build_branch"},
		"Buildkite, another ref in sub":  {buildkite(map[string]string{"build_branch": "topic"}), source, "sub"},
		"Buildkite, another commit":      {buildkite(map[string]string{"build_commit": strings.Repeat("0", 40)}), source, "sub"},
		"Buildkite, another pipeline":    {buildkite(map[string]string{"pipeline_slug": "prod"}), source, "sub"},
		"CircleCI after ssh":             {circleci(map[string]string{"oidc.circleci.com/ssh-rerun": "true"}), provenance.Rules{}, "oidc.circleci.com/ssh-rerun"},
		"CircleCI, ssh not denied":       {circleci(map[string]string{"oidc.circleci.com/ssh-rerun": ""}), provenance.Rules{}, "oidc.circleci.com/ssh-rerun"},
		"CircleCI by webhook":            {circleci(map[string]string{"oidc.circleci.com/vcs-origin": ""}), provenance.Rules{}, "oidc.circleci.com/vcs-origin"},
		"CircleCI, a user in the host":   {circleci(map[string]string{"oidc.circleci.com/vcs-origin": "github.com@evil.example/acme/app"}), provenance.Rules{}, "oidc.circleci.com/vcs-origin"},
		"generic without a repository":   {generic(map[string]string{"repositoryUri": ""}), provenance.Rules{}, "repositoryUri"},
		"generic, a ref in the source":   {generic(map[string]string{"repositoryUri": "https://git.example.com/acme/app@x"}), provenance.Rules{}, "repositoryUri"},
		"generic, a path upwards":        {generic(map[string]string{"p": "../mallory"}), provenance.Rules{Source: "git+https://git.example.com/acme/{p}"}, "p"},
		"generic, another's builder":     {generic(map[string]string{"buildSignerUri": "https://github.com/acme/app/.github/workflows/x.yml@refs/heads/main"}), provenance.Rules{}, "buildSignerUri"},
		"generic, a scheme of ours":      {generic(map[string]string{"buildSignerUri": "self-hosted+https://ci.example.com/x"}), provenance.Rules{}, "buildSignerUri"},
	} {
		_, err := provenance.Build(provenance.Input{Identity: c.id, Rules: c.rules})
		var claim *provenance.ClaimError
		if !errors.Is(err, provenance.ErrNoClaims) || c.claim != "" && (!errors.As(err, &claim) || claim.Claim != c.claim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBuilderIDsOfModes: jobs that differ in issuer, workflow or who operates
// the runner have different builder ids, and no pattern of one matches the
// other's.
func TestBuilderIDsOfModes(t *testing.T) {
	seen := map[string]string{}
	for name, id := range map[string]identity.Identity{
		"hosted":            github(nil),
		"self-hosted":       github(map[string]string{"runner_environment": "self-hosted"}),
		"workflow":          github(map[string]string{"job_workflow_ref": "acme/app/.github/workflows/other.yml@refs/heads/main"}),
		"branch":            github(map[string]string{"job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/self-hosted"}),
		"enterprise":        of("github", "https://ghes.example/_services/token", testissuer.GitHubClaims(), nil),
		"cluster":           kubernetes(),
		"other cluster":     of("kubernetes", "https://oidc.eks.eu-central-1.amazonaws.com/id/9", testissuer.KubernetesClaims(), nil),
		"GitLab":            gitlab("https://gitlab.com", map[string]string{"runner_environment": "gitlab-hosted"}),
		"GitLab of my own":  gitlab("https://git.example", map[string]string{"runner_environment": "gitlab-hosted"}),
		"GitLab, my runner": gitlab("https://gitlab.com", nil),
	} {
		rules := provenance.Rules{}
		if id.Kind == "kubernetes" {
			rules = source
		}
		got, err := provenance.Build(provenance.Input{Identity: id, Rules: rules})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if other, taken := seen[got.Builder]; taken {
			t.Errorf("%s and %s are both %s", name, other, got.Builder)
		}
		seen[got.Builder] = name
	}
	everything := provenance.Rules{Builders: []provenance.BuilderRule{{Builder: "https://github.com/acme/**", MaxLevel: 3}}}
	got, err := provenance.Build(provenance.Input{Identity: github(with(reused, map[string]string{"runner_environment": "self-hosted"})), Rules: everything})
	if err != nil || got.Level != 1 {
		t.Errorf("a pattern of hosted builders matches a self-hosted one: %+v, %v", got, err)
	}
}
