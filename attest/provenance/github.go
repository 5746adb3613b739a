package provenance

import (
	"slices"
	"strings"

	"github.com/countersign/countersign/identity"
)

// GitHubBuildType is what `@actions/attest` writes
// (https://github.com/actions/buildtypes).
const GitHubBuildType = "https://actions.github.io/buildtypes/workflow/v1"

// github is what `@actions/attest` writes of the same token, and the commits of
// workflows that are not the source's.
func (f *facts) github(id identity.Identity, c *claimReader) {
	base := identity.GitHubServer(id.Issuer)
	f.buildType = GitHubBuildType
	f.repository = base + "/" + c.path("repository")
	f.ref, f.commit = c.ref("ref"), c.commit("sha")
	called := c.githubWorkflow("workflow_ref")
	job := c.githubWorkflow("job_workflow_ref")
	f.workflow = workflow{Ref: called.ref, Repository: base + "/" + called.repository, Path: called.path}
	f.builder = base + "/" + c.need("job_workflow_ref")
	f.runner(c, "github-hosted")
	f.invocation = f.repository + "/actions/runs/" + c.word("run_id") + "/attempts/" + c.word("run_attempt")
	f.internal = map[string]string{
		"event_name":          c.need("event_name"),
		"repository_id":       c.need("repository_id"),
		"repository_owner_id": c.need("repository_owner_id"),
		"runner_environment":  c.need("runner_environment"),
	}
	f.define(f.workflow.Repository, called.ref, c.commit("workflow_sha"))
	if job != called {
		f.define(base+"/"+job.repository, job.ref, c.commit("job_workflow_sha"))
	}
	f.isolated = !strings.EqualFold(job.repository, c.need("repository")) && !strings.EqualFold(job.repository, called.repository)
	// The other events have inputs that no claim has, or are of code that the
	// claims do not name; actions/buildtypes allows workflow_dispatch beside
	// these and no other.
	f.visible = slices.Contains([]string{"push", "create", "release"}, c.need("event_name"))
}

type githubWorkflow struct{ repository, path, ref string }

// githubWorkflow reads OWNER/REPOSITORY/PATH@REF. A file of .github/workflows
// is in no folder below it, so there only one reading is possible; any other
// path must have one.
func (c *claimReader) githubWorkflow(claim string) githubWorkflow {
	all := readings(c.need(claim))
	files := slices.DeleteFunc(slices.Clone(all), func(r reading) bool {
		parts := strings.SplitN(r.path, "/", 3)
		file, found := strings.CutPrefix(parts[len(parts)-1], ".github/workflows/")
		return len(parts) != 3 || !found || strings.Contains(file, "/")
	})
	if len(files) == 1 {
		all = files
	}
	if len(all) != 1 {
		c.refuse(claim, "is not OWNER/REPOSITORY/PATH@REF with one reading")
		return githubWorkflow{}
	}
	parts := strings.SplitN(all[0].path, "/", 3)
	if len(parts) != 3 || !isRepositoryPath(parts[0]+"/"+parts[1]) {
		c.refuse(claim, "is not OWNER/REPOSITORY/PATH@REF")
		return githubWorkflow{}
	}
	return githubWorkflow{repository: parts[0] + "/" + parts[1], path: parts[2], ref: all[0].ref}
}
