package provenance

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/identity"
)

// environment says who operates the machine that ran the job.
type environment int

const (
	unknown environment = iota
	hosted
	selfHosted
)

// facts are what the claims and the rules say about a build.
type facts struct {
	kind, buildType string
	workflow        workflow
	// repository is https://HOST/PATH; ref and commit are empty when unknown.
	repository, ref, commit string
	// definitions are commits of the workflow that are not the source's.
	definitions []descriptor
	// builder is the certificate's name, or what the rules say.
	builder     string
	environment environment
	invocation  string
	internal    map[string]string
	// visible: everything that a tenant may put in is in the claims.
	visible bool
	// isolated: the job is a reusable workflow of another repository, which
	// whoever changes the source cannot change.
	isolated bool
	// fork says that the source may be a stranger's, or empty.
	fork string
}

// factsOf reads the claims as the kind of issuer writes them.
func factsOf(id identity.Identity, rules Rules) (facts, error) {
	if id.IsZero() || id.Issuer == identity.Local {
		return facts{}, fmt.Errorf("%w: it is not of a build system", ErrNoClaims)
	}
	c := &claimReader{values: id.Claims}
	if !isURI(id.Issuer) || strings.ContainsFunc(id.Issuer, blank) {
		c.refuse("iss", "is not a URL")
	}
	f := facts{kind: id.Kind}
	switch id.Kind {
	case "github":
		f.github(id, c)
	case "gitlab":
		f.gitlab(id, c)
	case "buildkite":
		f.buildkite(id, rules, c)
	case "circleci":
		f.circleci(c)
	case "kubernetes":
		f.kubernetes(id, rules, c)
	case "generic":
		f.generic(id, rules, c)
	default:
		return facts{}, fmt.Errorf("%w: its issuer is of an unknown kind", ErrNoClaims)
	}
	return f, c.err
}

// builderID is the builder's name, with another scheme when it runs on a
// machine that its owner operates.
func (f facts) builderID() string {
	if f.environment == selfHosted {
		return SelfHosted + f.builder
	}
	return f.builder
}

// SelfHosted begins the builder id of a job on a self-hosted runner. What
// follows is the name in the job's certificate.
const SelfHosted = "self-hosted+"

// sourceURI is the repository without a ref.
func (f facts) sourceURI() string { return "git+" + f.repository }

// external are the external parameters: the workflow, and the source when it is
// not the workflow's.
func (f facts) external() map[string]any {
	out := map[string]any{"workflow": f.workflow}
	if f.workflow.Repository != f.repository || f.workflow.Ref != f.ref {
		out["source"] = source{Ref: f.ref, Repository: f.repository}
	}
	return out
}

// dependencies are the source, first, and the definitions that are not in it.
func (f facts) dependencies() []descriptor {
	return append([]descriptor{commitOf("", f.repository, f.ref, f.commit)}, f.definitions...)
}

// commitOf describes a commit of a repository as `@actions/attest` does.
func commitOf(name, repository, ref, commit string) descriptor {
	d := descriptor{Name: name, URI: "git+" + repository}
	if ref != "" {
		d.URI += "@" + ref
	}
	if commit != "" {
		d.Digest = map[string]string{"gitCommit": commit}
	}
	return d
}

// define adds the commit of a definition unless a dependency says it already.
func (f *facts) define(repository, ref, commit string) {
	d := commitOf("workflow", repository, ref, commit)
	for _, have := range f.dependencies() {
		if have.URI == d.URI && have.Digest["gitCommit"] == commit {
			return
		}
	}
	f.definitions = append(f.definitions, d)
}

// runner reads a runner environment that is hosted or self-hosted and nothing
// else: a third mode would share one of their builder ids.
func (f *facts) runner(c *claimReader, hostedName string) {
	switch c.need("runner_environment") {
	case hostedName:
		f.environment = hosted
	case "self-hosted":
		f.environment = selfHosted
	default:
		c.refuse("runner_environment", "is neither "+hostedName+" nor self-hosted")
	}
}

// linked is the repository that the rules name for the identity.
func (f *facts) linked(id identity.Identity, rules Rules, c *claimReader) string {
	template, builder := rules.link(id)
	if builder != "" {
		f.builder = c.expand("builder", builder, onHost(id.Issuer))
	}
	if template == "" {
		c.refuse("provenance.source", "is not configured for this subject, and its tokens name no repository")
		return ""
	}
	return strings.TrimPrefix(c.expand("source", template, isPlainURL), "git+")
}
