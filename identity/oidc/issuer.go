package oidc

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Kind says how an issuer shapes its claims.
type Kind string

// The kinds.
const (
	// GitHub is GitHub Actions, on github.com or an Enterprise Server.
	GitHub Kind = "github"
	// GitLab is GitLab CI/CD, on gitlab.com or self-managed.
	GitLab Kind = "gitlab"
	// Buildkite is the agents of Buildkite.
	Buildkite Kind = "buildkite"
	// CircleCI is the jobs of a CircleCI organization.
	CircleCI Kind = "circleci"
	// Kubernetes is a cluster's service account tokens.
	Kubernetes Kind = "kubernetes"
	// Generic is any other; ClaimsMapping gives its claims known names.
	Generic Kind = "generic"
	// MTLS has client certificates and no tokens; see package identity/mtls.
	MTLS Kind = identity.KindMTLS
)

// Kinds lists every kind.
func Kinds() []Kind { return []Kind{GitHub, GitLab, Buildkite, CircleCI, Kubernetes, Generic, MTLS} }

// mtlsScheme begins the URL of an issuer of the kind MTLS: `mtls:NAME`.
const mtlsScheme = "mtls:"

// Issuer says whose tokens are believed and how far. Only ParseIssuer makes a
// checked one; it must not be changed.
type Issuer struct {
	// Name is the managed object's name; it is not part of the document.
	Name string `json:"-"`
	// URL is the iss of its tokens, compared byte for byte: https://HOST[/PATH]
	// without user, query or fragment; http only with InsecureHTTP. Of the kind
	// MTLS it is `mtls:NAME`.
	URL string `json:"url"`
	// Audience is the aud that its tokens must have: 1 to 1024 printable ASCII
	// characters. None of the kind MTLS.
	Audience string `json:"audience"`
	Kind     Kind   `json:"kind"`
	// CABundle is PEM; if set, only these authorities are trusted for the
	// issuer's host. Of the kind MTLS they are those of the client certificates,
	// and nothing but certificates of authorities.
	CABundle string `json:"caBundle,omitempty"`
	// JWKSURL is where the keys are, for an issuer whose discovery document is
	// missing or names another host. Discovery is not used then.
	JWKSURL string `json:"jwksUrl,omitempty"`
	// ClaimsMapping gives claims of a generic issuer the names that grants and
	// certificates use: from our name to the flattened path of theirs.
	ClaimsMapping map[string]string `json:"claimsMapping,omitempty"`
	// Roles are what its identities may do: verifier, signer, auditor; signer
	// by default. A CI system makes no administrators.
	Roles []identity.Role `json:"roles,omitempty"`
	// OneTime lets a token authenticate one signing request only; its jti is
	// kept until it expires.
	OneTime bool `json:"oneTime,omitempty"`
	// Provenance says what its tokens do not of where a build's source is, and
	// how far its builders are trusted; nil is no rules.
	Provenance *provenance.Rules `json:"provenance,omitempty"`
	// InsecureHTTP lets URL and JWKSURL be http.
	InsecureHTTP bool `json:"insecureHttp,omitempty"`
	// AllowPrivateAddress lets the hosts have private or loopback addresses.
	AllowPrivateAddress bool `json:"allowPrivateAddress,omitempty"`
}

// ParseIssuer reads an issuer document: the fields of Issuer under their JSON
// names, nothing else and no name twice. Errors wrap ErrIssuer; those with a
// place are also a *strictjson.FieldError, and none repeats a value.
func ParseIssuer(name string, document []byte) (Issuer, error) {
	var i Issuer
	if len(document) > limits.RequestBody {
		return Issuer{}, fmt.Errorf("%w: larger than %d bytes", ErrIssuer, limits.RequestBody)
	}
	if err := strictjson.Unmarshal(document, &i); err != nil {
		return Issuer{}, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if err := strictjson.NoNull(document); err != nil {
		return Issuer{}, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if i.Kind == MTLS && i.URL == "" {
		i.URL = mtlsScheme + name
	}
	if err := i.validate(name); err != nil {
		return Issuer{}, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if len(i.Roles) == 0 {
		i.Roles = []identity.Role{identity.Signer}
	}
	if len(i.ClaimsMapping) == 0 {
		i.ClaimsMapping = nil // an empty mapping and none are the same issuer
	}
	if i.Provenance != nil {
		i.Provenance = i.Provenance.Tidy()
	}
	i.Name = name
	return i, nil
}

// Document is the issuer as it is kept, without its name; ParseIssuer reads it
// back as the same issuer.
func (i Issuer) Document() ([]byte, error) { return strictjson.Marshal(i) }

func (i Issuer) validate(name string) error {
	if i.Kind == MTLS {
		return i.validateMTLS(name)
	}
	if err := i.checkURL("/url", i.URL); err != nil {
		return err
	}
	if i.JWKSURL != "" {
		if err := i.checkURL("/jwksUrl", i.JWKSURL); err != nil {
			return err
		}
	}
	if !printable(i.Audience) {
		return fault("/audience", fmt.Sprintf("must be 1 to %d printable ASCII characters", limits.Pattern))
	}
	if !slices.Contains(Kinds(), i.Kind) {
		return fault("/kind", fmt.Sprintf("must be one of %v", Kinds()))
	}
	if i.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(i.CABundle)) {
		return fault("/caBundle", "has no PEM certificate")
	}
	if err := i.checkMapping(); err != nil {
		return err
	}
	if err := i.checkProvenance(); err != nil {
		return err
	}
	return i.checkRoles()
}

func (i Issuer) checkURL(at, s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > limits.Pattern || u.Host == "" || u.Hostname() == "" || u.Opaque != "" || !printable(s):
		return fault(at, "must be https://HOST[/PATH]")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fault(at, "must have no user, query or fragment")
	case u.String() != s:
		return fault(at, "is not in the form that a URL has by itself")
	case u.Scheme == "http" && !i.InsecureHTTP:
		return fault(at, "is http, and insecureHttp is not set")
	case u.Scheme != "https" && u.Scheme != "http":
		return fault(at, "must be https://HOST[/PATH]")
	}
	return nil
}

// registered are the claims whose meaning is not to be mapped away.
func registered() []string { return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"} }

func (i Issuer) checkMapping() error {
	if len(i.ClaimsMapping) > 0 && i.Kind != Generic {
		return fault("/claimsMapping", "is for the kind generic; the other kinds have their claims' names")
	}
	if len(i.ClaimsMapping) > limits.Patterns {
		return fault("/claimsMapping", fmt.Sprintf("must have at most %d claims", limits.Patterns))
	}
	for ours, theirs := range i.ClaimsMapping {
		if !printable(ours) || !printable(theirs) {
			return fault("/claimsMapping", fmt.Sprintf("must map names of 1 to %d printable ASCII characters", limits.Pattern))
		}
		if slices.Contains(registered(), ours) {
			return fault("/claimsMapping", fmt.Sprintf("must not give another claim one of the names %v", registered()))
		}
	}
	return nil
}

func (i Issuer) checkProvenance() error {
	if i.Provenance == nil {
		return nil
	}
	err := i.Provenance.Validate(string(i.Kind))
	if place, ok := errors.AsType[*strictjson.FieldError](err); ok {
		return fault("/provenance"+place.Pointer, place.Problem)
	}
	return err
}

func (i Issuer) checkRoles() error {
	allowed := []identity.Role{identity.Verifier, identity.Signer, identity.Auditor}
	for n, role := range i.Roles {
		if !slices.Contains(allowed, role) || slices.Contains(i.Roles[:n], role) {
			return fault(fmt.Sprintf("/roles/%d", n), fmt.Sprintf("must be each of %v at most once", allowed))
		}
	}
	return nil
}

func printable(s string) bool {
	return s != "" && len(s) <= limits.Pattern &&
		strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func fault(pointer, problem string) error {
	return &strictjson.FieldError{Pointer: pointer, Problem: problem}
}
