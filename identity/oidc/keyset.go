package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// minRSA is the least modulus believed, in bits (NIST SP 800-131A).
const minRSA = 2048

// maxRSA keeps a hostile key from making verification slow.
const maxRSA = 8192

// publicKey is one key that an issuer signs with.
type publicKey struct {
	id     string
	alg    string // empty when the issuer does not say
	public crypto.PublicKey
}

// keySet is the keys of an issuer that can verify tokens.
type keySet struct{ keys []publicKey }

// parseKeys reads a JWK set (RFC 7517). Keys of other kinds and uses are passed
// over, as that standard asks; a private one spoils the set, for everybody
// could sign with it.
func parseKeys(document []byte) (*keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := strictjson.UnmarshalOpen(document, &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if len(set.Keys) > limits.IssuerKeys {
		return nil, fmt.Errorf("keys: more than %d", limits.IssuerKeys)
	}
	out := &keySet{}
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil {
			continue
		}
		if !key.IsPublic() {
			if _, symmetric := key.Key.([]byte); symmetric {
				continue
			}
			return nil, fmt.Errorf("keys: key %d shows its private half", i)
		}
		if (key.Use == "" || key.Use == "sig") && strong(key.Key) {
			out.keys = append(out.keys, publicKey{id: key.KeyID, alg: key.Algorithm, public: key.Key})
		}
	}
	return out, nil
}

func strong(public crypto.PublicKey) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		n := k.N.BitLen()
		return n >= minRSA && n <= maxRSA && k.E >= 3
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384()
	case ed25519.PublicKey:
		return true
	}
	return false
}

// candidates are the keys that the token names and its algorithm fits. A token
// without kid means the issuer's only key.
func (s *keySet) candidates(t *token) []publicKey {
	var out []publicKey
	for _, k := range s.named(t.keyID) {
		if k.fits(t.algorithm) {
			out = append(out, k)
		}
	}
	return out
}

func (s *keySet) named(id string) []publicKey {
	if id == "" && len(s.keys) == 1 {
		return s.keys
	}
	var out []publicKey
	for _, k := range s.keys {
		if id != "" && k.id == id {
			out = append(out, k)
		}
	}
	return out
}

// why says what is wrong with a token that no key may verify.
func (s *keySet) why(t *token) error {
	if len(s.named(t.keyID)) > 0 {
		return fmt.Errorf("%w: it is not the key's", ErrAlgorithm)
	}
	return fmt.Errorf("%w: unknown kid", ErrSignature)
}

// fits reports whether the algorithm is the key's: the key decides, not the
// token (E7).
func (k publicKey) fits(algorithm jose.SignatureAlgorithm) bool {
	if k.alg != "" && k.alg != string(algorithm) {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(algorithm), "RS") || strings.HasPrefix(string(algorithm), "PS")
	case *ecdsa.PublicKey:
		return algorithm == jose.ES256 && public.Curve == elliptic.P256() ||
			algorithm == jose.ES384 && public.Curve == elliptic.P384()
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	}
	return false
}
