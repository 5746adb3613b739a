package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
)

// Algorithm is what a key is made of and therefore how it signs.
type Algorithm string

// The algorithms. All have at least 128 bits of strength (SP 800-57 part 1
// §5.6).
const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	ECDSAP384 Algorithm = "ecdsa-p384"
	RSA3072   Algorithm = "rsa-3072"
	RSA4096   Algorithm = "rsa-4096"
	Ed25519   Algorithm = "ed25519"
)

// Algorithms lists every algorithm, the default first.
func Algorithms() []Algorithm {
	return []Algorithm{ECDSAP256, ECDSAP384, RSA3072, RSA4096, Ed25519}
}

// ParseAlgorithm reads an algorithm by its name; the empty string is
// ECDSAP256. Errors wrap ErrAlgorithm.
func ParseAlgorithm(s string) (Algorithm, error) {
	if s == "" {
		return ECDSAP256, nil
	}
	if a := Algorithm(s); slices.Contains(Algorithms(), a) {
		return a, nil
	}
	return "", fmt.Errorf("%w: want one of %v", ErrAlgorithm, Algorithms())
}

// AlgorithmOf names the algorithm of a public half, or returns ErrAlgorithm:
// other curves, other moduli and RSA exponents below 65537 are not accepted.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
	case *rsa.PublicKey:
		switch {
		case k.E < 65537:
		case k.N.BitLen() == 3072:
			return RSA3072, nil
		case k.N.BitLen() == 4096:
			return RSA4096, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", fmt.Errorf("%w: public key is none of %v", ErrAlgorithm, Algorithms())
}

// KeyID is the hexadecimal SHA-256 of the public half's SubjectPublicKeyInfo.
func KeyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("%w: encoding public key: %w", ErrAlgorithm, err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

func publicPEM(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// generate makes a private key. The runtime draws ECDSA and RSA keys from the
// operating system whatever rand is.
func (a Algorithm) generate(rand io.Reader) (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand)
	case RSA3072:
		return rsa.GenerateKey(rand, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand, 4096)
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand)
		return private, err
	default:
		return nil, ErrAlgorithm
	}
}
