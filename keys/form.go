package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the digests of every form
	_ "crypto/sha512"
	"fmt"
	"io"
)

// Form is where a signature will be used; with the key's algorithm it decides
// the digest. See the package comment for the table.
type Form int

// The two forms.
const (
	// FormBundle is for DSSE bundles and Rekor v2 entries.
	FormBundle Form = iota
	// FormLegacy is for cosign's legacy tag and Rekor v1 entries.
	FormLegacy
)

// Hash is the digest a key of this algorithm signs in a form, or ErrForm.
func (a Algorithm) Hash(form Form) (crypto.Hash, error) {
	switch a {
	case ECDSAP256, RSA3072, RSA4096:
		return crypto.SHA256, nil
	case ECDSAP384:
		if form == FormLegacy {
			return crypto.SHA256, nil
		}
		return crypto.SHA384, nil
	case Ed25519:
		if form == FormLegacy {
			return 0, fmt.Errorf("%w: ed25519 cannot sign for legacy tags", ErrForm)
		}
		return crypto.SHA512, nil
	default:
		return 0, ErrAlgorithm
	}
}

func signForm(ctx context.Context, private digestSigner, a Algorithm, form Form, rand io.Reader, message []byte) ([]byte, error) {
	hash, err := a.Hash(form)
	if err != nil {
		return nil, err
	}
	return private.signDigest(ctx, rand, sum(hash, message), hash)
}

// Verify checks a signature over message in a form. The algorithm comes from
// the public half alone; a key that AlgorithmOf refuses verifies nothing. It
// returns ErrSignature, ErrForm or ErrAlgorithm.
func Verify(pub crypto.PublicKey, form Form, message, signature []byte) error {
	a, err := AlgorithmOf(pub)
	if err != nil {
		return err
	}
	hash, err := a.Hash(form)
	if err != nil {
		return err
	}
	if !verifyDigest(pub, hash, sum(hash, message), signature) {
		return ErrSignature
	}
	return nil
}

func verifyDigest(pub crypto.PublicKey, hash crypto.Hash, digest, signature []byte) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(k, digest, signature, &ed25519.Options{Hash: hash}) == nil
	default:
		return false
	}
}

func sum(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
