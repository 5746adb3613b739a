package authority_test

import (
	"crypto/elliptic"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/testissuer"
)

// statement is what the verifiers below read of a provenance. They share no
// code with the package that writes it.
type statement struct {
	BuildDefinition struct {
		BuildType          string `json:"buildType"`
		ExternalParameters struct {
			Workflow struct {
				Ref        string `json:"ref"`
				Repository string `json:"repository"`
				Path       string `json:"path"`
				Pipeline   string `json:"pipeline"`
			} `json:"workflow"`
		} `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []struct {
			Name   string            `json:"name,omitempty"`
			URI    string            `json:"uri,omitempty"`
			Digest map[string]string `json:"digest,omitempty"`
		} `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		BuildMetadata struct {
			InvocationID string `json:"invocationId,omitempty"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

// job is a token, the certificate that the authority issues for it, and the
// provenance that is written from it.
func (w *world) job(t *testing.T, issuer *testissuer.Issuer, kind, token string, rules provenance.Rules) (statement, identity.Holder, certificate.Extensions) {
	t.Helper()
	id := identify(t, issuer, kind, token, nil)
	built, err := provenance.Build(provenance.Input{Identity: id, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: id, Public: newKey(t, elliptic.P256()).Public()})
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, issued.Leaf)
	holder, err := identity.ParseHolder(leaf)
	if err != nil {
		t.Fatal(err)
	}
	extensions, err := certificate.ParseExtensions(leaf.Extensions)
	if err != nil {
		t.Fatal(err)
	}
	// slsa-verifier refuses unknown fields of the predicate
	// (verifiers/internal/gha/slsaprovenance/slsaprovenance.go).
	decoder := json.NewDecoder(strings.NewReader(string(built.Predicate)))
	decoder.DisallowUnknownFields()
	var s statement
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("%s: %v", built.Predicate, err)
	}
	return s, holder, extensions
}

// TestProvenanceSaysWhatTheCertificateSays compares the two as a verifier does
// that holds both: every fact that a certificate has is the provenance's, and a
// runner that is not hosted is seen in the builder's name.
func TestProvenanceSaysWhatTheCertificateSays(t *testing.T) {
	w := openWorld(t)
	issuer := testissuer.Start(t)
	host := strings.TrimPrefix(issuer.URL, "http://")
	reused := map[string]any{"job_workflow_ref": "acme/builders/.github/workflows/image.yml@refs/tags/v2", "job_workflow_sha": strings.Repeat("ab", 20)}
	source := provenance.Rules{Source: "git+https://github.com/acme/app"}
	for name, c := range map[string]struct {
		kind, token string
		rules       provenance.Rules
	}{
		"GitHub":     {"github", issuer.GitHub(nil), provenance.Rules{}},
		"GitHub tag": {"github", issuer.GitHub(map[string]any{"ref": "refs/tags/a@1", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/a@1", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/a@1"}), provenance.Rules{}},
		"GitHub tag in another alphabet": {"github", issuer.GitHub(map[string]any{
			"ref": "refs/tags/ü#1", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/ü#1", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/ü#1",
		}), provenance.Rules{}},
		"reusable":    {"github", issuer.GitHub(reused), provenance.Rules{}},
		"self-hosted": {"github", issuer.GitHub(map[string]any{"runner_environment": "self-hosted"}), provenance.Rules{}},
		"GitLab":      {"gitlab", issuer.GitLab(map[string]any{"runner_environment": "gitlab-hosted"}), provenance.Rules{}},
		"GitLab tag":  {"gitlab", issuer.GitLab(map[string]any{"ref_type": "tag", "ref": "v2", "ci_config_ref_uri": host + "/acme/app//.gitlab-ci.yml@refs/tags/v2"}), provenance.Rules{}},
		"Buildkite":   {"buildkite", issuer.Buildkite(nil), source},
		"an agent":    {"buildkite", issuer.Buildkite(map[string]any{"runner_environment": "self-hosted"}), source},
		"CircleCI":    {"circleci", issuer.CircleCI(nil), provenance.Rules{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, holder, extensions := w.job(t, issuer, c.kind, c.token, c.rules)
			builder, selfHosted := strings.CutPrefix(s.RunDetails.Builder.ID, "self-hosted+")
			// The certificate's name is the builder as a URL, its signer URI the
			// builder as it is.
			name, err := url.Parse(builder)
			if err != nil {
				t.Fatal(err)
			}
			if name.String() != holder.Subject || selfHosted != (extensions.RunnerEnvironment == "self-hosted") {
				t.Errorf("builder %s, certificate of %s on %s", s.RunDetails.Builder.ID, holder.Subject, extensions.RunnerEnvironment)
			}
			if extensions.BuildSignerURI != "" && extensions.BuildSignerURI != builder {
				t.Errorf("builder %s, signer %s", builder, extensions.BuildSignerURI)
			}
			if s.RunDetails.BuildMetadata.InvocationID != extensions.RunInvocationURI {
				t.Errorf("invocation %s, certificate %s", s.RunDetails.BuildMetadata.InvocationID, extensions.RunInvocationURI)
			}
			first := s.BuildDefinition.ResolvedDependencies[0]
			repository := extensions.SourceRepositoryURI // Buildkite has none, CircleCI's has no scheme
			if c.kind == "circleci" {
				repository = "https://" + repository
			}
			if repository != "" && first.URI != "git+"+repository+"@"+extensions.SourceRepositoryRef {
				t.Errorf("source %s, certificate %s %s", first.URI, repository, extensions.SourceRepositoryRef)
			}
			if first.Digest["gitCommit"] != extensions.SourceRepositoryDigest {
				t.Errorf("commit %v, certificate %s", first.Digest, extensions.SourceRepositoryDigest)
			}
			workflow := s.BuildDefinition.ExternalParameters.Workflow
			if c.kind == "github" && workflow.Repository+"/"+workflow.Path+"@"+workflow.Ref != extensions.BuildConfigURI {
				t.Errorf("workflow %+v, certificate %s", workflow, extensions.BuildConfigURI)
			}
		})
	}
}

// TestProvenanceMeetsVerifiersOfGitHub: what slsa-verifier v2 asks of the build
// type that `gh attestation` writes. It is not a module that can be built here,
// so its rules are written down again:
//
//   - runDetails.builder.id is NAME@REF of the certificate
//     (verifiers/internal/gha/provenance.go, verifyBuilderIDExactMatch);
//   - git+workflow.repository@workflow.ref equals resolvedDependencies[0].uri
//     and its repository the expected one, with a ref (verifySourceURI, and
//     TriggerURI of v1.0/github_attest.go);
//   - unknown fields of the predicate are refused (slsaprovenance.go).
//
// `gh attestation verify` compares only certificate extensions with its flags
// (pkg/cmd/attestation/verification/extensions.go) and asks for the predicate
// type; --deny-self-hosted-runners reads the runner environment.
func TestProvenanceMeetsVerifiersOfGitHub(t *testing.T) {
	w := openWorld(t)
	issuer := testissuer.Start(t)
	for name, overrides := range map[string]map[string]any{
		"branch":   nil,
		"tag":      {"ref": "refs/tags/v1.0.0", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0"},
		"dispatch": {"event_name": "workflow_dispatch"},
		"reusable": {"job_workflow_ref": "acme/builders/.github/workflows/image.yml@refs/tags/v2", "job_workflow_sha": strings.Repeat("ab", 20)},
	} {
		s, holder, extensions := w.job(t, issuer, "github", issuer.GitHub(overrides), provenance.Rules{})
		if provenance.PredicateType != "https://slsa.dev/provenance/v1" || s.BuildDefinition.BuildType != "https://actions.github.io/buildtypes/workflow/v1" {
			t.Errorf("%s: %s", name, s.BuildDefinition.BuildType)
		}
		expected, _, _ := strings.Cut(holder.Subject, "@")
		if parts := strings.Split(s.RunDetails.Builder.ID, "@"); len(parts) != 2 || parts[0] != expected || s.RunDetails.Builder.ID != holder.Subject {
			t.Errorf("%s: builder %s", name, s.RunDetails.Builder.ID)
		}
		workflow := s.BuildDefinition.ExternalParameters.Workflow
		trigger, source := "git+"+workflow.Repository+"@"+workflow.Ref, s.BuildDefinition.ResolvedDependencies[0].URI
		if trigger != source || !strings.HasPrefix(source, "git+"+extensions.SourceRepositoryURI+"@refs/") {
			t.Errorf("%s: trigger %s, source %s", name, trigger, source)
		}
		github, _ := s.BuildDefinition.InternalParameters["github"].(map[string]any)
		for field, want := range map[string]string{
			"event_name": extensions.BuildTrigger, "repository_id": extensions.SourceRepositoryIdentifier,
			"repository_owner_id": extensions.SourceRepositoryOwnerIdentifier, "runner_environment": extensions.RunnerEnvironment,
		} {
			if github[field] != want {
				t.Errorf("%s: %s is %v, want %s", name, field, github[field], want)
			}
		}
		if len(github) != 4 {
			t.Errorf("%s: @actions/attest writes four parameters: %v", name, github)
		}
	}
}
