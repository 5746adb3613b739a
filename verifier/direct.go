package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
)

// direct is what a bundle says beside a signature over an artifact's own bytes:
// the artifact's digest by some algorithm.
type direct struct {
	algorithm crypto.Hash
	digest    []byte
}

// parseMessage reads a bundle's message signature, which is a plain signature
// and nothing else: there is no predicate.
func parseMessage(m *attest.MessageSignature) *signed {
	return &signed{
		kind: policy.KindSignature, signature: m.Signature,
		direct: &direct{algorithm: m.Algorithm, digest: m.Digest},
	}
}

// deniedBy reports whether the artifact is certainly not the one named.
func (d *direct) deniedBy(a artifact) bool {
	digest, known := a.sum(d.algorithm)
	return known && !bytes.Equal(digest, d.digest)
}

// signsArtifact is signs for a signature over the artifact itself: by the
// column of the legacy formats, since cosign signed blobs with SHA-256 whatever
// the curve before it signed them with the curve's own digest. Of an artifact
// that is known by its SHA-256 alone only what a key signs of that digest can
// be verified.
func signsArtifact(public crypto.PublicKey, a artifact, sig []byte) bool {
	if a.content != nil {
		return signs(public, formatLegacy, a.content, sig)
	}
	if len(sig) == 0 || a.digest.IsZero() || !signsSHA256(public) { // row D7
		return false
	}
	verifier, err := signature.LoadVerifierWithOpts(public, options.WithHash(crypto.SHA256))
	if err != nil {
		return false
	}
	return verifier.VerifySignature(bytes.NewReader(sig), nil,
		options.WithDigest(a.digest.Bytes()), options.WithCryptoSignerOpts(crypto.SHA256)) == nil
}

// signsSHA256 reports whether a key can sign a SHA-256 digest. Ed25519 signs
// the whole bytes or their SHA-512.
func signsSHA256(public crypto.PublicKey) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return true
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSA
	}
	return false
}

// strange words why a signature is by none of the keys that it could be by; of
// one over the artifact itself the reason may be the artifact.
func (d *direct) strange(a artifact, public ...crypto.PublicKey) *fault {
	switch {
	case d == nil:
		return nil
	case d.deniedBy(a):
		return faultf(policy.SubjectMismatch, "the signature speaks of another artifact, not of %s", a.digest)
	case a.content != nil:
		return nil
	}
	for _, key := range public {
		_, pure := key.(ed25519.PublicKey)
		if pure || d.algorithm != crypto.SHA256 {
			return faultf(policy.SignatureInvalid, "this signature can be judged over the artifact's bytes alone: send the artifact with its digest")
		}
	}
	return nil
}
