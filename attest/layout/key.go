package layout

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"

	"github.com/countersign/countersign/internal/limits"
)

// key is a functionary's public key.
type key struct{ verifier verifier }

type verifier interface {
	Verify(ctx context.Context, data, sig []byte) error
}

func (k key) verifies(message, signature []byte) bool {
	return k.verifier.Verify(context.Background(), message, signature) == nil
}

// readKeys reads a layout's keys. The same key under two ids would count twice
// towards a threshold.
func readKeys(keys map[string]in_toto.Key) (map[string]key, error) {
	out := make(map[string]key, len(keys))
	owner := make(map[string]bool, len(keys))
	for id, k := range keys {
		if id == "" || k.KeyID != id {
			return nil, fmt.Errorf("%w: keys: keyid is empty or not the name it stands under", ErrLayout)
		}
		public, err := publicKey(k)
		if err != nil {
			return nil, fmt.Errorf("%w: keys: %q: %w", ErrLayout, id, err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("%w: keys: %q: %w", ErrLayout, id, err)
		}
		if owner[string(der)] {
			return nil, fmt.Errorf("%w: keys: %q is there under another id too", ErrLayout, id)
		}
		owner[string(der)] = true
		if out[id], err = newKey(k); err != nil {
			return nil, fmt.Errorf("%w: keys: %q: %w", ErrLayout, id, err)
		}
	}
	return out, nil
}

// publicKey is the key that stands in a layout, of exactly the type and scheme
// it claims. The library below takes both for granted.
func publicKey(k in_toto.Key) (crypto.PublicKey, error) {
	if len(k.KeyVal.Public) > limits.LayoutKeyBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", limits.LayoutKeyBytes)
	}
	if k.KeyVal.Private != "" {
		return nil, errors.New("it is a private key: replace it, it is no secret any more")
	}
	if k.KeyType == signerverifier.ED25519KeyType {
		raw, err := hex.DecodeString(k.KeyVal.Public)
		if err != nil || len(raw) != ed25519.PublicKeySize || k.Scheme != "ed25519" {
			return nil, errors.New("want an ed25519 key in hexadecimal, with the scheme ed25519")
		}
		return ed25519.PublicKey(raw), nil
	}
	block, rest := pem.Decode([]byte(k.KeyVal.Public))
	if block == nil || block.Type != signerverifier.PublicKeyPEM || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("want a public key in PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("want a public key in PEM")
	}
	switch public := parsed.(type) {
	case *ecdsa.PublicKey:
		if k.KeyType == signerverifier.ECDSAKeyType && k.Scheme == "ecdsa-sha2-nistp"+strconv.Itoa(public.Curve.Params().BitSize) && public.Curve.Params().BitSize >= 256 {
			return public, nil
		}
	case *rsa.PublicKey:
		if k.KeyType == signerverifier.RSAKeyType && k.Scheme == "rsassa-pss-sha256" && public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192 {
			return public, nil
		}
	}
	return nil, errors.New("keytype or scheme is not the key's: want ecdsa with ecdsa-sha2-nistp256, 384 or 521, or rsa of 2048 to 8192 bits with rsassa-pss-sha256")
}

func newKey(k in_toto.Key) (key, error) {
	lib := &signerverifier.SSLibKey{KeyType: k.KeyType, Scheme: k.Scheme, KeyID: k.KeyID, KeyVal: signerverifier.KeyVal{Public: k.KeyVal.Public}}
	var v verifier
	var err error
	switch k.KeyType {
	case signerverifier.ED25519KeyType:
		v, err = signerverifier.NewED25519SignerVerifierFromSSLibKey(lib)
	case signerverifier.ECDSAKeyType:
		v, err = signerverifier.NewECDSASignerVerifierFromSSLibKey(lib)
	default:
		v, err = signerverifier.NewRSAPSSSignerVerifierFromSSLibKey(lib)
	}
	return key{v}, err
}
