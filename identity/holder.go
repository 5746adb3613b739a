package identity

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/fulcio/pkg/certificate"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// ErrHolder is wrapped by every error of ParseHolder.
var ErrHolder = errors.New("certificate names no identity")

// Holder is whom a Fulcio certificate was issued to. It is worth as much as
// the certificate's signature, which is checked elsewhere.
type Holder struct {
	// Issuer is the OIDC issuer.
	Issuer string
	// Subject is the certificate's one subject alternative name: a URI, an
	// e-mail address, or Fulcio's other name.
	Subject string
	// Claims are the other extensions that are present, by their names in
	// Extensions.
	Claims map[string]string
}

// String is `issuer subject`, as Identity.String.
func (h Holder) String() string { return h.Issuer + " " + h.Subject }

// Extension is a certificate extension that a policy may ask about.
type Extension struct {
	// Name is the policy's word for it.
	Name string
	// OID is below 1.3.6.1.4.1.57264.1.
	OID asn1.ObjectIdentifier

	value func(certificate.Extensions) string
}

// Extensions is the one table of names and object identifiers (Fulcio's
// docs/oid-info.md). Where an extension was replaced, the name is of the newer
// one; workflow and repository have none with the same value.
func Extensions() []Extension {
	return []Extension{
		{"workflow", certificate.OIDGitHubWorkflowName, func(e certificate.Extensions) string { return e.GithubWorkflowName }},               //nolint:staticcheck // deprecated and without successor
		{"repository", certificate.OIDGitHubWorkflowRepository, func(e certificate.Extensions) string { return e.GithubWorkflowRepository }}, //nolint:staticcheck // deprecated; its successor is a URL
		{"buildSignerUri", certificate.OIDBuildSignerURI, func(e certificate.Extensions) string { return e.BuildSignerURI }},
		{"buildSignerDigest", certificate.OIDBuildSignerDigest, func(e certificate.Extensions) string { return e.BuildSignerDigest }},
		{"runnerEnvironment", certificate.OIDRunnerEnvironment, func(e certificate.Extensions) string { return e.RunnerEnvironment }},
		{"repositoryUri", certificate.OIDSourceRepositoryURI, func(e certificate.Extensions) string { return e.SourceRepositoryURI }},
		{"sha", certificate.OIDSourceRepositoryDigest, func(e certificate.Extensions) string { return e.SourceRepositoryDigest }},
		{"ref", certificate.OIDSourceRepositoryRef, func(e certificate.Extensions) string { return e.SourceRepositoryRef }},
		{"repositoryId", certificate.OIDSourceRepositoryIdentifier, func(e certificate.Extensions) string { return e.SourceRepositoryIdentifier }},
		{"ownerUri", certificate.OIDSourceRepositoryOwnerURI, func(e certificate.Extensions) string { return e.SourceRepositoryOwnerURI }},
		{"ownerId", certificate.OIDSourceRepositoryOwnerIdentifier, func(e certificate.Extensions) string { return e.SourceRepositoryOwnerIdentifier }},
		{"buildConfigUri", certificate.OIDBuildConfigURI, func(e certificate.Extensions) string { return e.BuildConfigURI }},
		{"buildConfigDigest", certificate.OIDBuildConfigDigest, func(e certificate.Extensions) string { return e.BuildConfigDigest }},
		{"trigger", certificate.OIDBuildTrigger, func(e certificate.Extensions) string { return e.BuildTrigger }},
		{"runUri", certificate.OIDRunInvocationURI, func(e certificate.Extensions) string { return e.RunInvocationURI }},
		{"visibility", certificate.OIDSourceRepositoryVisibilityAtSigning, func(e certificate.Extensions) string { return e.SourceRepositoryVisibilityAtSigning }},
		{"environment", certificate.OIDDeploymentEnvironment, func(e certificate.Extensions) string { return e.DeploymentEnvironment }},
		{"tokenSubject", certificate.OIDTokenSubject, func(e certificate.Extensions) string { return e.Subject }},
	}
}

// ExtensionNames are the names of Extensions, in its order.
func ExtensionNames() []string {
	all := Extensions()
	names := make([]string, 0, len(all))
	for _, e := range all {
		names = append(names, e.Name)
	}
	return names
}

// IsExtension reports whether Extensions has that name.
func IsExtension(name string) bool { return slices.Contains(ExtensionNames(), name) }

// ParseHolder reads whom a certificate was issued to. It refuses a certificate
// with none or several subject alternative names, since a reader could take
// another one for the identity, and one whose two issuer extensions differ.
// Errors wrap ErrHolder.
func ParseHolder(cert *x509.Certificate) (Holder, error) {
	extensions, err := certificate.ParseExtensions(cert.Extensions)
	if err != nil {
		return Holder{}, fmt.Errorf("%w: %w", ErrHolder, err)
	}
	if extensions.Issuer == "" || !sameIssuers(cert, extensions.Issuer) {
		return Holder{}, fmt.Errorf("%w: no issuer, or two", ErrHolder)
	}
	subject, err := onlyName(cert)
	if err != nil {
		return Holder{}, err
	}
	out := Holder{Issuer: extensions.Issuer, Subject: subject, Claims: map[string]string{}}
	for _, e := range Extensions() {
		if value := e.value(extensions); value != "" {
			out.Claims[e.Name] = value
		}
	}
	return out, nil
}

// sameIssuers compares the deprecated issuer extension, if any, with the one
// that counts.
func sameIssuers(cert *x509.Certificate, issuer string) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(certificate.OIDIssuer) && string(e.Value) != issuer { //nolint:staticcheck // stock readers still read it
			return false
		}
	}
	return true
}

func onlyName(cert *x509.Certificate) (string, error) {
	names := slices.Clone(cert.EmailAddresses)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	if other, err := cryptoutils.UnmarshalOtherNameSAN(cert.Extensions); err == nil && other != "" {
		names = append(names, other)
	}
	if len(names) != 1 || names[0] == "" || len(cert.DNSNames)+len(cert.IPAddresses) > 0 {
		return "", fmt.Errorf("%w: want exactly one subject alternative name", ErrHolder)
	}
	return names[0], nil
}
