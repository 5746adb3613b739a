package provenance

import (
	"net/url"
	"strings"

	"github.com/countersign/countersign/identity"
)

// GitLabBuildType is that of GitLab pipelines. It is not GitLab's own, whose
// external parameters have the variables of the job, which no claim has.
const GitLabBuildType = "https://countersign.dev/buildtypes/gitlab/v1"

// gitlab follows Fulcio's mapping of the same claims.
func (f *facts) gitlab(id identity.Identity, c *claimReader) {
	base := strings.TrimSuffix(id.Issuer, "/")
	project := c.path("project_path")
	f.buildType = GitLabBuildType
	f.repository = base + "/" + project
	f.ref, f.commit = c.gitlabRef(), c.commit("sha")
	f.builder = "https://" + c.need("ci_config_ref_uri")
	f.gitlabConfig(id.Issuer, c)
	f.runner(c, "gitlab-hosted")
	f.invocation = f.repository + "/-/jobs/" + c.word("job_id")
	f.internal = c.some("job_namespace_id", "job_project_id", "job_project_path", "namespace_id", "pipeline_source",
		"project_id", "ref_protected", "runner_environment", "runner_id")
	f.fork = c.gitlabFork(project)
}

// gitlabConfig reads HOST/PROJECT//PATH@REF. Without a commit
// (ci_config_sha is missing for a definition on another server) the
// definition's is that of the source when it is in it, and else not known.
func (f *facts) gitlabConfig(issuer string, c *claimReader) {
	server, err := url.Parse(issuer)
	if err != nil {
		c.refuse("iss", "is not a URL")
		return
	}
	value := c.need("ci_config_ref_uri")
	rest, found := strings.CutPrefix(value, server.Host+strings.TrimSuffix(server.Path, "/")+"/")
	project, file, cut := strings.Cut(rest, "//")
	// GitLab takes what follows an `@` in the setting for a project, so the path
	// of a definition has none and the first reading is meant.
	all := readings(file)
	if !found || !cut || len(all) == 0 || !isRepositoryPath(project) {
		c.refuse("ci_config_ref_uri", "is not HOST/PROJECT//PATH@REF on the issuer's host")
		return
	}
	f.workflow = workflow{Ref: all[0].ref, Repository: strings.TrimSuffix(issuer, "/") + "/" + project, Path: all[0].path}
	if c.may("ci_config_sha") != "" {
		f.define(f.workflow.Repository, f.workflow.Ref, c.commit("ci_config_sha"))
	}
}

// gitlabRef spells a ref out; the token has it without its prefix.
func (c *claimReader) gitlabRef() string {
	prefix := ""
	switch c.need("ref_type") {
	case "branch":
		prefix = "refs/heads/"
	case "tag":
		prefix = "refs/tags/"
	default:
		c.refuse("ref_type", "is neither branch nor tag")
	}
	ref := prefix + c.need("ref")
	if !isRef(ref) {
		c.refuse("ref", "is not a git ref")
	}
	return ref
}

// gitlabFork says whether the source may be a stranger's. Since 18.2.2 the
// project_ claims of a merge request from a fork name the fork, and since 18.3
// the job_project_ claims say where the job ran; before, both looked like the
// target (https://gitlab.com/gitlab-org/gitlab/-/work_items/563038).
func (c *claimReader) gitlabFork(project string) string {
	switch runs := c.may("job_project_path"); {
	case runs == "" && c.need("pipeline_source") == "merge_request_event":
		return "merge_request_unclear"
	case runs != "" && runs != project:
		return "merge_request_fork"
	default:
		return ""
	}
}
