package policy

import (
	"bytes"
	"crypto"

	"github.com/countersign/countersign/internal/glob"
)

// Mode is how the verifier uses a policy's verdict. Decide does not look at
// it.
type Mode string

// The modes.
const (
	// Enforce: a FAILED decision fails the image. The default.
	Enforce Mode = "enforce"
	// Warn: a FAILED decision is answered as a warning.
	Warn Mode = "warn"
	// Audit: a FAILED decision is only recorded.
	Audit Mode = "audit"
)

// LogRule says whether a signature of an authority must be in the log.
type LogRule string

// The log rules. A log entry that is present and not valid never counts,
// whatever the rule.
const (
	// LogRequired is the default for managed keys, and the only rule for
	// identities.
	LogRequired LogRule = "required"
	// LogOptional accepts a signature without a log entry. It is the default
	// for keys given as PEM and for x509, whose holders may not log.
	LogOptional LogRule = "optional"
)

// Policy is a loaded trust policy. Only Parse makes one that can pass: the
// zero value matches nothing and decides FAILED. It must not be changed and is
// safe for concurrent use.
type Policy struct {
	// Name is metadata.name.
	Name string
	// Mode is never empty.
	Mode Mode
	// Authorities are the signers the requirements name.
	Authorities map[string]Authority
	// Index is whose evidence counts for an image of an index; empty is that of
	// the digest asked for.
	Index IndexRule

	match    match
	require  requirement
	document []byte
}

// Authority is a signer a policy trusts.
type Authority struct {
	// Name is the policy's name of it.
	Name string
	// Key is set for a signer by key; else Identity or X509 is.
	Key *KeyAuthority
	// Identity is set for a signer by certificate.
	Identity *IdentityAuthority
	// X509 is set for a signer by a certificate of the Notary Project.
	X509 *X509Authority
	// Log is never empty.
	Log LogRule
}

// KeyAuthority is a signing key: a managed one by name, any by its public half,
// or one elsewhere by reference.
type KeyAuthority struct {
	// Name is the managed key's name, or empty.
	Name string
	// Ref names a key in a key management service or a security module, whose
	// public half is read there; or empty. Whether it may be asked for is not
	// the policy's to say.
	Ref string
	// PEM is the PKIX public key in its canonical PEM form, or empty.
	PEM string
	// Public is the parsed PEM: *ecdsa.PublicKey (P-256 or P-384),
	// *rsa.PublicKey (2048 to 8192 bits) or ed25519.PublicKey; nil without
	// PEM.
	Public crypto.PublicKey
}

type match struct {
	images []glob.Pattern
	// blobs are patterns over names that callers give blobs.
	blobs   []glob.Pattern
	context map[string][]glob.Pattern
}

// Matches reports whether the policy speaks of an image: image is
// host/repository without tag or digest, context what the caller said of the
// place it would run in (keys such as cluster and namespace). Every key the
// policy names must match; a key the caller did not send counts as the empty
// string, which only a pattern such as `*` matches.
func (p *Policy) Matches(image string, context map[string]string) bool {
	return matchesAny(p.match.images, image) && p.matchesContext(context)
}

func (p *Policy) matchesContext(context map[string]string) bool {
	for key, patterns := range p.match.context {
		if !matchesAny(patterns, context[key]) {
			return false
		}
	}
	return true
}

func matchesAny(patterns []glob.Pattern, s string) bool {
	for _, p := range patterns {
		if p.Match(s) {
			return true
		}
	}
	return false
}

// Document is the policy as canonical JSON (RFC 8785) with every default
// written out. Parse of it gives an equal policy.
func (p *Policy) Document() []byte { return bytes.Clone(p.document) }

// MarshalJSON is Document.
func (p *Policy) MarshalJSON() ([]byte, error) {
	if p.document == nil {
		return []byte("null"), nil
	}
	return p.Document(), nil
}
