package convert

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
)

// detailsOf names a key's algorithm as trusted_root.json does, or is empty.
func detailsOf(key any) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "PKIX_ECDSA_P256_SHA_256"
		case elliptic.P384():
			return "PKIX_ECDSA_P384_SHA_384"
		}
	case ed25519.PublicKey:
		return "PKIX_ED25519"
	}
	return ""
}
