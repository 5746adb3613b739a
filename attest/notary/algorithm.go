package notary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the digests of the algorithms
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"math/big"
)

// Algorithm is a signature algorithm by its JWS name.
type Algorithm string

// The algorithms of the specification. There is no other, "none" least of all.
const (
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
)

// ErrKey says that the specification has no algorithm for the key.
var ErrKey = errors.New("no Notary Project algorithm for this key")

func known(a Algorithm) bool {
	switch a {
	case PS256, PS384, PS512, ES256, ES384, ES512:
		return true
	}
	return false
}

// AlgorithmOf is the one algorithm that a key signs with: it follows from the
// key and never from an envelope. ErrKey: the key is of another kind or size.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return PS256, nil
		case 3072:
			return PS384, nil
		case 4096:
			return PS512, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ES256, nil
		case elliptic.P384():
			return ES384, nil
		case elliptic.P521():
			return ES512, nil
		}
	}
	return "", ErrKey
}

// Hash is the digest of an algorithm; 0 of an unknown one.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case PS256, ES256:
		return crypto.SHA256
	case PS384, ES384:
		return crypto.SHA384
	case PS512, ES512:
		return crypto.SHA512
	}
	return 0
}

// Verify reports whether the signature is the key's over the message, by the
// key's own algorithm.
func Verify(public crypto.PublicKey, message, signature []byte) bool {
	a, err := AlgorithmOf(public)
	if err != nil {
		return false
	}
	h := a.Hash().New()
	h.Write(message)
	digest := h.Sum(nil)
	switch k := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, a.Hash(), digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case *ecdsa.PublicKey:
		der, err := DER(k, signature)
		return err == nil && ecdsa.VerifyASN1(k, digest, der)
	}
	return false
}

type integers struct{ R, S *big.Int }

// DER is an ECDSA signature of an envelope, r and s side by side, in ASN.1.
func DER(public *ecdsa.PublicKey, raw []byte) ([]byte, error) {
	size := (public.Curve.Params().BitSize + 7) / 8
	if len(raw) != 2*size {
		return nil, invalid("has a signature of the wrong length")
	}
	return asn1.Marshal(integers{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
}

// Raw is the reverse of DER.
func Raw(public *ecdsa.PublicKey, der []byte) ([]byte, error) {
	var v integers
	rest, err := asn1.Unmarshal(der, &v)
	size := (public.Curve.Params().BitSize + 7) / 8
	if err != nil || len(rest) > 0 || v.R.Sign() <= 0 || v.S.Sign() <= 0 || v.R.BitLen() > 8*size || v.S.BitLen() > 8*size {
		return nil, invalid("cannot hold this signature")
	}
	raw := make([]byte, 2*size)
	v.R.FillBytes(raw[:size])
	v.S.FillBytes(raw[size:])
	return raw, nil
}
