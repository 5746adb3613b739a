// Package identity says who calls: an issuer, a subject, verified claims and
// roles; and whom a Fulcio certificate was issued to, with the one table of the
// certificate extensions' names. It holds values only; what makes an identity true (a token's hash, a
// JWT's signature) is checked by identity/token and identity/oidc.
package identity

import (
	"fmt"
	"slices"
)

// Local is the issuer of identities that authenticate with an API token; their
// subject is the token's name.
const Local = "local"

// KindMTLS is the Kind of identities that authenticate with a client
// certificate.
const KindMTLS = "mtls"

// Role is what an identity may do as a kind of person.
type Role string

// The five roles, from least to most.
const (
	// Verifier may ask for verdicts.
	Verifier Role = "verifier"
	// Signer may sign what its grants allow.
	Signer Role = "signer"
	// Auditor may read everything but secrets.
	Auditor Role = "auditor"
	// Security manages keys, registries, policies, grants, issuers and trust
	// roots, and may do what an Auditor may.
	Security Role = "security"
	// Admin manages tokens and settings and may do all else.
	Admin Role = "admin"
)

// Roles lists every role.
func Roles() []Role { return []Role{Verifier, Signer, Auditor, Security, Admin} }

// ParseRole reads a role by its name.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("unknown role: want one of %v", Roles())
}

// Identity is an authenticated caller. The zero value is nobody and may
// nothing.
type Identity struct {
	// Issuer is Local, the issuer URL of a verified token, or `mtls:NAME` of a
	// verified client certificate.
	Issuer string
	// Subject is the token's name, the verified `sub` claim or the certificate's
	// one name.
	Subject string
	// Kind says how the issuer shapes its claims: github, gitlab, buildkite,
	// circleci, kubernetes, generic or KindMTLS. It is empty for Local.
	Kind string
	// Claims are the verified claims of a JWT, flattened to strings, or the
	// names in a certificate.
	Claims map[string]string
	// Roles are what the identity may do.
	Roles []Role
}

// IsZero reports whether nobody is meant.
func (i Identity) IsZero() bool { return i.Issuer == "" }

// Has reports whether the identity holds one of the roles. Admin holds every
// role; Security holds Auditor.
func (i Identity) Has(roles ...Role) bool {
	for _, have := range i.Roles {
		if have == Admin || slices.Contains(roles, have) {
			return true
		}
		if have == Security && slices.Contains(roles, Auditor) {
			return true
		}
	}
	return false
}

// String names the identity for journals: `issuer subject`.
func (i Identity) String() string {
	if i.IsZero() {
		return "anonymous"
	}
	return i.Issuer + " " + i.Subject
}
