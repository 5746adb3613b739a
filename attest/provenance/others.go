package provenance

import (
	"net/url"
	"strings"

	"github.com/countersign/countersign/identity"
)

// Build types of the other kinds. Each is described in docs/provenance.md.
const (
	BuildkiteBuildType  = "https://countersign.dev/buildtypes/buildkite/v1"
	CircleCIBuildType   = "https://countersign.dev/buildtypes/circleci/v1"
	KubernetesBuildType = "https://countersign.dev/buildtypes/kubernetes/v1"
	GenericBuildType    = "https://countersign.dev/buildtypes/generic/v1"
)

// buildkite has a commit and a branch or a tag, and no repository: which one a
// pipeline builds is for the rules.
func (f *facts) buildkite(id identity.Identity, rules Rules, c *claimReader) {
	f.buildType = BuildkiteBuildType
	f.builder = "https://buildkite.com/" + c.word("organization_slug") + "/" + c.word("pipeline_slug")
	f.repository = f.linked(id, rules, c)
	f.ref = c.buildkiteRef(id.Subject)
	// A build that was started by hand may say HEAD, which is no commit.
	if c.need("build_commit") != "HEAD" {
		f.commit = c.commit("build_commit")
	}
	f.workflow = workflow{Ref: f.ref, Repository: f.repository, Pipeline: f.builder}
	f.runner(c, "buildkite-hosted")
	f.invocation = f.builder + "/builds/" + c.word("build_number") + "#" + c.word("job_id")
	f.internal = c.some("agent_id", "build_source", "organization_id", "pipeline_id", "runner_environment", "step_key")
}

// buildkiteRef is the ref in a standard subject, which must be that of the
// branch or the tag; with a subject of another form it is the tag, or else the
// branch. A build of a fork's branch has a colon in its name and so no ref.
func (c *claimReader) buildkiteRef(subject string) string {
	branch, tag := "refs/heads/"+c.may("build_branch"), "refs/tags/"+c.may("build_tag")
	ref := tag
	if !isRef(tag) {
		ref = branch
	}
	if rest, standard := strings.CutPrefix(subject, "organization:"); standard {
		pipeline, said, _ := strings.Cut(rest, ":ref:")
		said, commit, _ := strings.Cut(said, ":commit:")
		if pipeline != c.need("organization_slug")+":pipeline:"+c.need("pipeline_slug") || said != branch && said != tag ||
			!strings.HasPrefix(commit, c.need("build_commit")+":") {
			c.refuse("sub", "names another pipeline, ref or commit than the other claims")
		}
		ref = said
	}
	if !isRef(ref) {
		c.refuse("build_branch", "is not a branch of the pipeline's own repository")
	}
	return ref
}

// circleci has the repository and the ref, and neither the commit nor who
// operates the machine. A job that somebody can log in to is not believed.
func (f *facts) circleci(c *claimReader) {
	const claim = "oidc.circleci.com/"
	f.buildType = CircleCIBuildType
	if c.need(claim+"ssh-rerun") != "false" {
		c.refuse(claim+"ssh-rerun", "is not false: people could log in to the job")
	}
	f.builder = "https://circleci.com/api/v2/projects/" + c.word(claim+"project-id") +
		"/pipeline-definitions/" + c.word(claim+"pipeline-definition-id")
	origin := c.checked(claim+"vcs-origin", isOrigin, "is not HOST/PATH of a repository")
	f.repository = "https://" + strings.TrimPrefix(origin, "https://")
	f.ref = c.ref(claim + "vcs-ref")
	f.workflow = workflow{Ref: f.ref, Repository: f.repository, Pipeline: f.builder}
	f.invocation = "https://app.circleci.com//workflow/" + c.word(claim+"workflow-id") + "/job/" + c.word(claim+"job-id")
	// The double slash is the certificate's.
	f.internal = c.some(claim+"org-id", claim+"pipeline-id")
}

// isOrigin is HOST/PATH, perhaps with https:// in front.
func isOrigin(s string) bool {
	host, path, _ := strings.Cut(strings.TrimPrefix(s, "https://"), "/")
	return strings.Contains(host, ".") && isSegment(host) && isRepositoryPath(path)
}

// kubernetes has a service account; which repository it builds, and of which
// commit, no claim says. The names of two clusters are alike, so the issuer is
// part of the builder's.
func (f *facts) kubernetes(id identity.Identity, rules Rules, c *claimReader) {
	namespace, account := c.word("kubernetes.io.namespace"), c.word("kubernetes.io.serviceaccount.name")
	if id.Subject != "system:serviceaccount:"+namespace+":"+account {
		c.refuse("sub", "is not that of the service account in kubernetes.io")
	}
	f.buildType = KubernetesBuildType
	f.builder = strings.TrimSuffix(id.Issuer, "/") + "/namespaces/" + namespace + "/serviceaccounts/" + account
	f.repository = f.linked(id, rules, c)
	f.replaceBuildType(rules)
	f.workflow = workflow{Repository: f.repository, Pipeline: id.Subject}
	f.internal = c.some("kubernetes.io.pod.name", "kubernetes.io.pod.uid", "kubernetes.io.serviceaccount.uid")
}

// generic reads the claims that the rules name.
func (f *facts) generic(id identity.Identity, rules Rules, c *claimReader) {
	f.buildType = GenericBuildType
	f.replaceBuildType(rules)
	if source, _ := rules.link(id); source == "" {
		rules.Source = "git+{repositoryUri}"
	}
	f.repository = f.linked(id, rules, c)
	if f.builder == "" {
		f.builder = c.expand("builder", "{buildSignerUri}", onHost(id.Issuer))
	}
	if f.ref = c.maybe("ref", rules.Ref, "{ref}"); f.ref != "" && !isRef(f.ref) {
		c.refuse("provenance.ref", "is not a full git ref")
	}
	if f.commit = c.maybe("commit", rules.Commit, "{sha}"); f.commit != "" && !isCommit(f.commit) {
		c.refuse("provenance.commit", "is not a commit of 40 hexadecimal digits")
	}
	f.workflow = workflow{Ref: f.ref, Repository: f.repository, Pipeline: c.maybe("workflow", rules.Workflow, "{buildConfigUri}")}
	f.invocation = c.maybe("invocation", rules.Invocation, "{runUri}")
	// A name for hosted that every issuer uses does not exist; self-hosted is
	// believed, since it only lowers.
	if c.may("runnerEnvironment") == "self-hosted" {
		f.environment = selfHosted
	}
	f.internal = c.some("repositoryId", "runnerEnvironment", "trigger")
}

func (f *facts) replaceBuildType(rules Rules) {
	if rules.BuildType != "" {
		f.buildType = rules.BuildType
	}
}

// isURI is an absolute URL without a user, as a name for something.
func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil
}

// onHost accepts URLs on the issuer's host: an issuer must not give its builds
// the name of another's builder.
func onHost(issuer string) func(string) bool {
	return func(s string) bool {
		want, err := url.Parse(issuer)
		if err != nil || !isURI(s) || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return false
		}
		u, err := url.Parse(s)
		return err == nil && u.Host == want.Host && u.Scheme == want.Scheme
	}
}
