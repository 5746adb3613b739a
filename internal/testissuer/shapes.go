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
