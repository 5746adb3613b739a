package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"testing"
)

// logKey signs what benchmarks and fault tests log.
type logKey struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newLogKey(t testing.TB) logKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	check(t, err)
	return logKey{key, der}
}

// request is a hashedrekord over a random digest.
func (k logKey) request(t testing.TB) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(rand.Text()))
	signature, err := k.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	check(t, err)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(signature), b64(k.der))
}
