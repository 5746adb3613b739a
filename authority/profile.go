package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sigstore/fulcio/pkg/certificate"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
)

// profile is how an identity stands in a certificate. Exactly one of uri,
// email and other is set.
type profile struct {
	uri   *url.URL
	email string
	// other is Fulcio's form for names that are neither: NAME!DOMAIN.
	other      string
	extensions certificate.Extensions
	// challenge is what a client signs to prove that the key is its own.
	challenge string
}

// Challenge is the text that a client of the Fulcio protocol signs with the key
// it wants certified: the token's subject, or the e-mail address that will
// stand in the certificate. ErrIdentity as Issue.
func Challenge(id identity.Identity) (string, error) {
	p, err := profileOf(id)
	return p.challenge, err
}

// Name is the subject alternative name that a certificate of the identity will
// have. ErrIdentity as Issue.
func Name(id identity.Identity) (string, error) {
	p, err := profileOf(id)
	return p.name(), err
}

func (p profile) name() string {
	if p.uri != nil {
		return p.uri.String()
	}
	return p.email + p.other
}

// profileOf names an identity as Fulcio does for its kind of issuer.
func profileOf(id identity.Identity) (profile, error) {
	if id.IsZero() || id.Issuer == identity.Local {
		return profile{}, fmt.Errorf("%w: it is not of an identity provider", ErrIdentity)
	}
	c := &claimReader{values: id.Claims}
	p := profile{challenge: id.Subject}
	switch id.Kind {
	case "github":
		p.github(id, c)
	case "gitlab":
		p.gitlab(id, c)
	case "buildkite":
		p.buildkite(c)
	case "circleci":
		p.circleci(c)
	case "kubernetes":
		p.kubernetes(id, c)
	case "generic":
		p.generic(id, c)
	default:
		return profile{}, fmt.Errorf("%w: its issuer is of an unknown kind", ErrIdentity)
	}
	p.extensions.Issuer, p.extensions.Subject = c.text("iss", id.Issuer), c.text("sub", id.Subject)
	if c.err != nil {
		return profile{}, c.err
	}
	return p, nil
}

// github is Fulcio's github-workflow.
func (p *profile) github(id identity.Identity, c *claimReader) {
	base := identity.GitHubServer(id.Issuer)
	repository := c.need("repository")
	p.uri = c.url("job_workflow_ref", base, base+"/"+c.need("job_workflow_ref"))
	p.extensions = certificate.Extensions{
		GithubWorkflowTrigger:               c.need("event_name"),
		GithubWorkflowSHA:                   c.need("sha"),
		GithubWorkflowName:                  c.need("workflow"),
		GithubWorkflowRepository:            repository,
		GithubWorkflowRef:                   c.need("ref"),
		BuildSignerURI:                      base + "/" + c.need("job_workflow_ref"),
		BuildSignerDigest:                   c.need("job_workflow_sha"),
		RunnerEnvironment:                   c.need("runner_environment"),
		SourceRepositoryURI:                 base + "/" + repository,
		SourceRepositoryDigest:              c.need("sha"),
		SourceRepositoryRef:                 c.need("ref"),
		SourceRepositoryIdentifier:          c.need("repository_id"),
		SourceRepositoryOwnerURI:            base + "/" + c.need("repository_owner"),
		SourceRepositoryOwnerIdentifier:     c.need("repository_owner_id"),
		BuildConfigURI:                      base + "/" + c.need("workflow_ref"),
		BuildConfigDigest:                   c.need("workflow_sha"),
		BuildTrigger:                        c.need("event_name"),
		RunInvocationURI:                    base + "/" + repository + "/actions/runs/" + c.need("run_id") + "/attempts/" + c.need("run_attempt"),
		SourceRepositoryVisibilityAtSigning: c.need("repository_visibility"),
		DeploymentEnvironment:               c.may("environment"),
	}
}

// gitlab is Fulcio's gitlab-pipeline with the issuer's own address in place of
// https://gitlab.com. The pipeline's definition must be on the issuer's host.
func (p *profile) gitlab(id identity.Identity, c *claimReader) {
	base := strings.TrimSuffix(id.Issuer, "/")
	project, config := c.need("project_path"), "https://"+c.need("ci_config_ref_uri")
	p.uri = c.url("ci_config_ref_uri", id.Issuer, config)
	p.extensions = certificate.Extensions{
		BuildSignerURI: config,
		// GitLab has no digest of a definition that is on another server.
		BuildSignerDigest:                   c.may("ci_config_sha"),
		RunnerEnvironment:                   c.need("runner_environment"),
		SourceRepositoryURI:                 base + "/" + project,
		SourceRepositoryDigest:              c.need("sha"),
		SourceRepositoryRef:                 c.gitlabRef(),
		SourceRepositoryIdentifier:          c.need("project_id"),
		SourceRepositoryOwnerURI:            base + "/" + c.need("namespace_path"),
		SourceRepositoryOwnerIdentifier:     c.need("namespace_id"),
		BuildConfigURI:                      config,
		BuildConfigDigest:                   c.may("ci_config_sha"),
		BuildTrigger:                        c.need("pipeline_source"),
		RunInvocationURI:                    base + "/" + project + "/-/jobs/" + c.need("job_id"),
		SourceRepositoryVisibilityAtSigning: c.need("project_visibility"),
		DeploymentEnvironment:               c.may("environment"),
	}
}

// gitlabRef spells a ref out. Fulcio takes whatever is not a branch for a tag;
// only a tag is one here.
func (c *claimReader) gitlabRef() string {
	switch c.need("ref_type") {
	case "branch":
		return "refs/heads/" + c.need("ref")
	case "tag":
		return "refs/tags/" + c.need("ref")
	default:
		c.refuse("ref_type", "is neither branch nor tag")
		return ""
	}
}

// buildkite is Fulcio's buildkite-job.
func (p *profile) buildkite(c *claimReader) {
	const base = "https://buildkite.com"
	c.absent("url") // Fulcio would put it for base
	pipeline := base + "/" + c.need("organization_slug") + "/" + c.need("pipeline_slug")
	p.uri = c.url("pipeline_slug", base, pipeline)
	p.extensions = certificate.Extensions{
		RunInvocationURI:       pipeline + "/builds/" + c.need("build_number") + "#" + c.need("job_id"),
		RunnerEnvironment:      c.need("runner_environment"),
		SourceRepositoryDigest: c.need("build_commit"),
		BuildTrigger:           c.need("build_source"),
	}
}

// circleci is Fulcio's circleci-job, with its template's two quotes for a runner
// environment and the double slash of its invocation: readers compare bytes.
func (p *profile) circleci(c *claimReader) {
	const claim, base, platform = "oidc.circleci.com/", "https://circleci.com/api/v2", "https://app.circleci.com/"
	c.absent("api_url")
	c.absent("platform_url")
	definition := base + "/projects/" + c.need(claim+"project-id") + "/pipeline-definitions/" + c.need(claim+"pipeline-definition-id")
	p.uri = c.url(claim+"project-id", base, definition)
	p.extensions = certificate.Extensions{
		BuildConfigURI:      base + "/pipeline/" + c.need(claim+"pipeline-id") + "/config",
		BuildSignerURI:      definition,
		RunInvocationURI:    platform + "/workflow/" + c.need(claim+"workflow-id") + "/job/" + c.need(claim+"job-id"),
		RunnerEnvironment:   `""`,
		SourceRepositoryRef: c.may(claim + "vcs-ref"),
		SourceRepositoryURI: c.may(claim + "vcs-origin"),
	}
	if c.may(claim+"ssh-rerun") == "true" {
		p.extensions.RunnerEnvironment = "ssh-rerun"
	}
}

// kubernetes is Fulcio's kubernetes.
func (p *profile) kubernetes(id identity.Identity, c *claimReader) {
	const host = "https://kubernetes.io"
	namespace, account := c.need("kubernetes.io.namespace"), c.need("kubernetes.io.serviceaccount.name")
	if id.Subject != "system:serviceaccount:"+namespace+":"+account {
		c.refuse("sub", "is not that of the service account in kubernetes.io")
	}
	for _, segment := range []string{namespace, account} {
		if strings.ContainsFunc(segment, notKubernetes) {
			c.refuse("kubernetes.io", "has a name that Kubernetes does not allow")
		}
	}
	p.uri = c.url("kubernetes.io", host, host+"/namespaces/"+namespace+"/serviceaccounts/"+account)
}

// notKubernetes reports a character that no Kubernetes name has (RFC 1123
// subdomains).
func notKubernetes(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.'
}

// generic names an identity by its verified e-mail address, by a subject that
// is a URI, or else by NAME!DOMAIN, where the domain is the issuer's host: a
// form in which nobody's name can look like an address. Claims that are called
// like an extension (identity.Extensions) fill it.
func (p *profile) generic(id identity.Identity, c *claimReader) {
	address, verified := c.may("email"), c.may("email_verified") == "true"
	switch u, err := url.Parse(id.Subject); {
	case verified && isAddress(address):
		p.email, p.challenge = address, address
	case err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" || u.Scheme == "spiffe"):
		p.uri = c.url("sub", id.Subject, id.Subject)
	case strings.ContainsAny(id.Subject, "!@"):
		c.refuse("sub", "could be taken for an address")
	default:
		issuer, err := url.Parse(id.Issuer)
		if err != nil || issuer.Hostname() == "" {
			c.refuse("iss", "is not a URL")
			return
		}
		p.other = id.Subject + "!" + issuer.Hostname()
	}
	p.extensions = certificate.Extensions{
		GithubWorkflowName:                  c.may("workflow"),
		GithubWorkflowRepository:            c.may("repository"),
		BuildSignerURI:                      c.may("buildSignerUri"),
		BuildSignerDigest:                   c.may("buildSignerDigest"),
		RunnerEnvironment:                   c.may("runnerEnvironment"),
		SourceRepositoryURI:                 c.may("repositoryUri"),
		SourceRepositoryDigest:              c.may("sha"),
		SourceRepositoryRef:                 c.may("ref"),
		SourceRepositoryIdentifier:          c.may("repositoryId"),
		SourceRepositoryOwnerURI:            c.may("ownerUri"),
		SourceRepositoryOwnerIdentifier:     c.may("ownerId"),
		BuildConfigURI:                      c.may("buildConfigUri"),
		BuildConfigDigest:                   c.may("buildConfigDigest"),
		BuildTrigger:                        c.may("trigger"),
		RunInvocationURI:                    c.may("runUri"),
		SourceRepositoryVisibilityAtSigning: c.may("visibility"),
		DeploymentEnvironment:               c.may("environment"),
	}
}

// isAddress is narrow on purpose: one local part and one domain of plain
// characters.
func isAddress(s string) bool {
	local, domain, found := strings.Cut(s, "@")
	plain := func(r rune) bool {
		return r <= unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".!#$%&'*+/=?^_`{|}~-", r))
	}
	return found && local != "" && strings.Contains(domain, ".") && len(s) <= 254 &&
		strings.IndexFunc(local+domain, func(r rune) bool { return !plain(r) }) < 0
}

// claimReader reads claims and remembers the first that does not do.
type claimReader struct {
	values map[string]string
	err    error
}

// refuse keeps the claim's name, never its value.
func (c *claimReader) refuse(claim, problem string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: claim %s %s", ErrIdentity, claim, problem)
	}
}

// need is a claim that must be there.
func (c *claimReader) need(claim string) string {
	value := c.may(claim)
	if value == "" {
		c.refuse(claim, "is missing")
	}
	return value
}

// may is a claim that may be missing.
func (c *claimReader) may(claim string) string { return c.text(claim, c.values[claim]) }

// absent is a claim that must not be there.
func (c *claimReader) absent(claim string) {
	if _, has := c.values[claim]; has {
		c.refuse(claim, "is one that no such issuer has")
	}
}

// text is a value that can stand in a certificate.
func (c *claimReader) text(claim, value string) string {
	if len(value) > limits.CertificateClaim || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		c.refuse(claim, "cannot stand in a certificate")
	}
	return value
}

// url parses a name and requires it to be on a host.
func (c *claimReader) url(claim, host, name string) *url.URL {
	want, err := url.Parse(host)
	if err != nil {
		c.refuse("iss", "is not a URL")
		return nil
	}
	u, err := url.Parse(name)
	if err != nil || u.User != nil || u.Host == "" || u.Hostname() != want.Hostname() {
		c.refuse(claim, "does not make a URL on the issuer's host")
		return nil
	}
	return u
}

// template is the certificate before its timestamp.
func (p profile) template(random io.Reader, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if err := CheckPublic(pub); err != nil {
		return nil, err
	}
	keyID, err := cryptoutils.SKID(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPublicKey, err)
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now,
		NotAfter:     now.Add(Lifetime),
		SubjectKeyId: keyID,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	return template, p.embed(template)
}

func (p profile) embed(template *x509.Certificate) error {
	switch {
	case p.uri != nil:
		template.URIs = []*url.URL{p.uri}
	case p.email != "":
		template.EmailAddresses = []string{p.email}
	default:
		name, err := cryptoutils.MarshalOtherNameSAN(p.other, true)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, *name)
	}
	extensions, err := p.extensions.Render()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, extensions...)
	return nil
}

// CheckPublic accepts the keys that are certified, which are those that stock
// clients verify with: ECDSA P-256, P-384 and P-521, RSA of 2048 to 8192 bits
// with exponent 65537, Ed25519. Any other is ErrPublicKey.
func CheckPublic(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k != nil && (k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()) {
			return nil
		}
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192 && k.E == 65537 {
			return nil
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return nil
		}
	}
	return fmt.Errorf("%w: want ECDSA P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519", ErrPublicKey)
}
