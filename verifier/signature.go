package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/countersign/countersign/attest/notary"
)

// minRSA is the shortest RSA modulus that is believed, in bits.
const minRSA = 2048

// signs reports whether sig is public's over message. How a key signs follows
// from the key and the format alone, never from what a bundle says (row E7):
//
//	key        bundle                  legacy (both of cosign's tags)
//	P-256      SHA-256                 SHA-256
//	P-384      SHA-384                 SHA-384 or SHA-256
//	P-521      SHA-512                 SHA-512 or SHA-256
//	RSA        PKCS #1 v1.5, SHA-256   the same
//	Ed25519    Ed25519ph or pure       Ed25519ph or pure
//
// Signatures of the Notary Project have a table of their own, with one row for
// each kind and size of key (attest/notary).
//
// A signature over an artifact itself goes by the legacy column (direct.go).
//
// The legacy column has two because stock cosign v2.6.5 and v3.1.3 sign with
// the first and verify with the second. No weaker digest is among them, and
// the two Ed25519 variants cannot be taken for one another (RFC 8032 section
// 5.1, dom2).
func signs(public crypto.PublicKey, format string, message, sig []byte) bool {
	if len(sig) == 0 { // row D7
		return false
	}
	if format == formatNotary {
		return notary.Verify(public, message, sig)
	}
	for _, verifier := range verifiers(public, format) {
		if verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return true
		}
	}
	return false
}

func verifiers(public crypto.PublicKey, format string) []signature.Verifier {
	var out []signature.Verifier
	add := func(o ...signature.LoadOption) {
		if v, err := signature.LoadVerifierWithOpts(public, o...); err == nil {
			out = append(out, v)
		}
	}
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		hash := ecdsaHash(key)
		add(options.WithHash(hash))
		if format != formatBundle && hash != crypto.SHA256 {
			add(options.WithHash(crypto.SHA256))
		}
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSA {
			add(options.WithHash(crypto.SHA256))
		}
	case ed25519.PublicKey:
		add(options.WithHash(crypto.SHA512), options.WithED25519ph())
		add(options.WithHash(crypto.SHA512))
	}
	return out
}

func ecdsaHash(key *ecdsa.PublicKey) crypto.Hash {
	switch key.Curve {
	case elliptic.P256():
		return crypto.SHA256
	case elliptic.P384():
		return crypto.SHA384
	default:
		return crypto.SHA512
	}
}
