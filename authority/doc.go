// Package authority is the embedded timestamp authority: it proves that a
// signature existed at a time, by RFC 3161.
//
// A Timestamper answers with one policy, [PolicyOID], accuracy one second, no
// ordering. It stamps SHA-256, SHA-384 and SHA-512 imprints and nothing weaker.
// genTime is the injected clock's time cut to the second, so a proven time lies
// up to one second before the true one and never after it.
//
// The chain is a self-signed root and one leaf. The leaf follows RFC 3161 §2.3
// and what sigstore clients check: it is not a certificate authority and its
// extended key usage is critical and timeStamping alone. Certificates are kept
// in the store under kind "certificate", name "timestamp"; those that were
// replaced stay there, because what they stamped must stay verifiable.
//
// The package holds no private key: root and leaf sign through a crypto.Signer.
// It refuses to stamp outside the leaf's validity, and it does not judge
// timestamps; verifiers do.
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
	// ErrCertificate: the kept certificates do not belong to the keys.
	ErrCertificate = errors.New("unusable timestamp certificate")
	// ErrExpired: the clock is outside the certificate's validity.
	ErrExpired = errors.New("timestamp certificate is not valid now")
)

// PolicyOID is the policy of every timestamp: the one of sigstore's timestamp
// authorities, which clients accept without configuration.
func PolicyOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}
}
