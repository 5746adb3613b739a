package testissuer

import (
	"maps"
	"strings"
)

// GitHub signs a token with the claims of a GitHub Actions job; overrides
// replace or add some, and a nil value removes one.
func (i *Issuer) GitHub(overrides map[string]any) string {
	return i.Token(over(GitHubClaims(), overrides))
}

// GitLab signs a token with the claims of a GitLab CI/CD job.
func (i *Issuer) GitLab(overrides map[string]any) string {
	return i.Token(over(GitLabClaims(i.URL), overrides))
}

// Kubernetes signs a token with the claims of a service account, as the API
// server projects it into a pod.
func (i *Issuer) Kubernetes(overrides map[string]any) string {
	return i.Token(over(KubernetesClaims(), overrides))
}

// Buildkite signs a token with the claims of a Buildkite job.
func (i *Issuer) Buildkite(overrides map[string]any) string {
	return i.Token(over(BuildkiteClaims(), overrides))
}

// CircleCI signs a token with the claims of a CircleCI job.
func (i *Issuer) CircleCI(overrides map[string]any) string {
	return i.Token(over(CircleCIClaims(), overrides))
}

// over lays overrides over claims, with the nil ones for Token to remove.
func over(claims, overrides map[string]any) map[string]any {
	maps.Copy(claims, overrides)
	return claims
}

// GitHubClaims are those of a push to the main branch of acme/app.
// https://docs.github.com/en/actions/reference/security/oidc
func GitHubClaims() map[string]any {
	return map[string]any{
		"sub":                   "repo:acme/app:ref:refs/heads/main",
		"actor":                 "octocat",
		"actor_id":              "583231",
		"base_ref":              "",
		"check_run_id":          "52345678901",
		"event_name":            "push",
		"head_ref":              "",
		"job_workflow_ref":      "acme/app/.github/workflows/release.yml@refs/heads/main",
		"job_workflow_sha":      "6dcb09b5b57875f334f61aebed695e2e4193db5e",
		"ref":                   "refs/heads/main",
		"ref_protected":         "true",
		"ref_type":              "branch",
		"repository":            "acme/app",
		"repository_id":         "123456789",
		"repository_owner":      "acme",
		"repository_owner_id":   "987654",
		"repository_visibility": "private",
		"run_attempt":           "1",
		"run_id":                "8675309001",
		"run_number":            "42",
		"runner_environment":    "github-hosted",
		"sha":                   "6dcb09b5b57875f334f61aebed695e2e4193db5e",
		"workflow":              "release",
		"workflow_ref":          "acme/app/.github/workflows/release.yml@refs/heads/main",
		"workflow_sha":          "6dcb09b5b57875f334f61aebed695e2e4193db5e",
	}
}

// GitLabClaims are those of a branch pipeline of acme/app on the instance at
// url. https://docs.gitlab.com/ci/secrets/id_token_authentication/
func GitLabClaims(url string) map[string]any {
	_, host, _ := strings.Cut(url, "://")
	return map[string]any{
		"sub":                   "project_path:acme/app:ref_type:branch:ref:main",
		"ci_config_ref_uri":     host + "/acme/app//.gitlab-ci.yml@refs/heads/main",
		"ci_config_sha":         "714a629c0b401fdce83e847fc9589983fc6f46bc",
		"environment":           "production",
		"environment_protected": "true",
		"deployment_tier":       "production",
		"job_id":                "1212",
		"namespace_id":          "72",
		"namespace_path":        "acme",
		"pipeline_id":           "574",
		"pipeline_source":       "push",
		"project_id":            "20",
		"project_path":          "acme/app",
		"project_visibility":    "private",
		"ref":                   "main",
		"ref_path":              "refs/heads/main",
		"ref_protected":         "true",
		"ref_type":              "branch",
		"runner_environment":    "self-hosted",
		"runner_id":             1,
		"sha":                   "714a629c0b401fdce83e847fc9589983fc6f46bc",
		"user_access_level":     "developer",
		"user_email":            "sample-user@acme.example",
		"user_id":               "1",
		"user_login":            "sample-user",
	}
}

// BuildkiteClaims are those of a build of the main branch by the pipeline app.
// https://buildkite.com/docs/agent/cli/reference/oidc
func BuildkiteClaims() map[string]any {
	return map[string]any{
		"sub":                "organization:acme:pipeline:app:ref:refs/heads/main:commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:build",
		"agent_id":           "0184990a-4782-42b5-afc1-16715b10b8ff",
		"build_branch":       "main",
		"build_commit":       "9f3182061f1e2cca4702c368cbc039b7dc9d4485",
		"build_number":       17,
		"build_source":       "webhook",
		"job_id":             "0184990a-477b-4fa8-9968-496074483cee",
		"organization_id":    "0184990a-4773-4b7e-9b0d-5f6d5c2a8d11",
		"organization_slug":  "acme",
		"pipeline_id":        "0184990a-4775-4d1c-8a6e-2b9a1d0f7c22",
		"pipeline_slug":      "app",
		"runner_environment": "buildkite-hosted",
		"step_key":           "build",
	}
}

// CircleCIClaims are those of a job of acme/app, as $CIRCLE_OIDC_TOKEN_V2 has
// them. https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/
func CircleCIClaims() map[string]any {
	return map[string]any{
		"sub": "org/8f2a1c44-0e1b-4c3f-9f0e-6a1d2b3c4d5e/project/1b7e6f3a-5d2c-4e8b-9a70-0c1d2e3f4a5b/user/c0ffee00-1111-4222-8333-444455556666" +
			"/vcs-origin/github.com/acme/app/vcs-ref/refs/heads/main",
		"oidc.circleci.com/context-ids":            []string{"a74579f1-2e7d-451e-b009-5c082ad2729e"},
		"oidc.circleci.com/job-id":                 "2c3d4e5f-6a7b-4c8d-9e0f-1a2b3c4d5e6f",
		"oidc.circleci.com/org-id":                 "8f2a1c44-0e1b-4c3f-9f0e-6a1d2b3c4d5e",
		"oidc.circleci.com/pipeline-definition-id": "7d6c5b4a-3f2e-4d1c-8b9a-0f1e2d3c4b5a",
		"oidc.circleci.com/pipeline-id":            "5e4d3c2b-1a0f-4e9d-8c7b-6a5f4e3d2c1b",
		"oidc.circleci.com/project-id":             "1b7e6f3a-5d2c-4e8b-9a70-0c1d2e3f4a5b",
		"oidc.circleci.com/ssh-rerun":              false,
		"oidc.circleci.com/vcs-origin":             "github.com/acme/app",
		"oidc.circleci.com/vcs-ref":                "refs/heads/main",
		"oidc.circleci.com/workflow-id":            "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d",
	}
}

// KubernetesClaims are those of service account builder in namespace ci.
// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
func KubernetesClaims() map[string]any {
	return map[string]any{
		"sub": "system:serviceaccount:ci:builder",
		"aud": []string{Audience},
		"kubernetes.io": map[string]any{
			"namespace":      "ci",
			"node":           map[string]any{"name": "node-1", "uid": "b1f0ea2e-66c7-4c5a-9b1d-1c1c1f6f2b11"},
			"pod":            map[string]any{"name": "build-7c9f", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
			"serviceaccount": map[string]any{"name": "builder", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
		},
	}
}
