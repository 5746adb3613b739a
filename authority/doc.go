// Package authority is the service's own authorities: the timestamp authority,
// which proves by RFC 3161 that a signature existed at a time, and the
// certificate authority, which binds a key to an identity for ten minutes.
//
// # Timestamps
//
// A Timestamper answers with one policy, [PolicyOID], accuracy one second, no
// ordering. It stamps SHA-256, SHA-384 and SHA-512 imprints and nothing weaker.
// genTime is the injected clock's time cut to the second, so a proven time lies
// up to one second before the true one and never after it.
//
// The chain is a self-signed root and one leaf. The leaf follows RFC 3161 §2.3
// and what sigstore clients check: it is not a certificate authority and its
// extended key usage is critical and timeStamping alone.
//
// # Certificates
//
// An Issuer makes code signing certificates with the names and extensions of
// Fulcio (docs/oid-info.md of sigstore/fulcio) from verified claims, and with a
// certificate timestamp (RFC 6962) of its own transparency key. The name is
//
//	github      https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF
//	            or the same below an Enterprise Server's own host
//	gitlab      https://HOST/GROUP/PROJECT//.gitlab-ci.yml@REF
//	kubernetes  https://kubernetes.io/namespaces/NAMESPACE/serviceaccounts/NAME
//	generic     the verified e-mail address, a subject that is a URI, or
//	            SUBJECT!HOST with the issuer's host
//
// A certificate timestamp is a promise to log. It is kept before the
// certificate is released: the log receives a hashedrekord entry whose message
// is the structure that the timestamp signs (CertificateTimestamp of RFC 6962
// §3.2, which holds the precertificate), whose signature is the timestamp's and
// whose key is the transparency key. Whoever holds a certificate can compute
// the entry; the log shows no name.
//
// Nothing outlives what certifies it: a certificate is refused when one above
// it ends sooner.
//
// # Keys and rotation
//
// The package holds no private key but that of a TLS certificate ([Serving]),
// in memory: all sign through a crypto.Signer. Chains
// and transparency keys are kept in the store under kind "certificate", names
// "timestamp", "issuer" and "serving", with the window in which each was used. What was
// replaced stays there, because what it vouched for must stay verifiable; its
// window ends [Overlap] after the replacement. Opening with another key is a
// rotation too, so a crash between making a key and rotating to it is repaired
// by the next start. A key that was replaced does not come back.
//
// A key that is not safe any more is revoked ([Revocation]): its generation
// ends when it was compromised, or counts for nothing at all when nobody knows
// when that was. A revoked key vouches for nothing from the moment that the
// store holds the revocation; opening with it is ErrRevoked, and the caller
// makes another one.
//
// The package judges no signature and no timestamp; verifiers do. It does not
// authenticate anybody and does not prove possession of keys; its callers do.
package authority

import (
	"encoding/asn1"
	"errors"
	"time"
)

// Accuracy is what every timestamp states of itself.
const Accuracy = time.Second

// Errors of this package.
var (
	// ErrQuery: the timestamp query is malformed or asks for what this
	// authority does not do.
	ErrQuery = errors.New("invalid timestamp query")
	// ErrCertificate: the certificates that are kept or imported do not belong
	// to the keys or are not fit for their use.
	ErrCertificate = errors.New("unusable certificate")
	// ErrExpired: the clock is outside the validity of the authority's own
	// certificate.
	ErrExpired = errors.New("certificate is not valid now")
	// ErrOutlived: a certificate above ends before the new one would.
	ErrOutlived = errors.New("certificate of the authority ends too soon")
	// ErrRetired: the key was replaced by another one before.
	ErrRetired = errors.New("key was replaced")
	// ErrRevoked: the timestamp or issuing key was revoked; it needs another.
	ErrRevoked = errors.New("key was revoked")
	// ErrRevokedCT is ErrRevoked for the certificate transparency key.
	ErrRevokedCT = errors.New("certificate transparency key was revoked")
	// ErrGeneration: no key of the authority has that id.
	ErrGeneration = errors.New("no such key of the authority")
	// ErrRevocation: a revocation needs a reason, and no time in the future.
	ErrRevocation = errors.New("invalid revocation")
	// ErrIdentity: the identity has no name that can stand in a certificate.
	ErrIdentity = errors.New("identity cannot be certified")
	// ErrPublicKey: the key is not of a kind that is certified.
	ErrPublicKey = errors.New("public key not accepted")
)

// PolicyOID is the policy of every timestamp: the one of sigstore's timestamp
// authorities, which clients accept without configuration.
func PolicyOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}
}
