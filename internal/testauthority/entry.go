package testauthority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

type object = map[string]any

// HashedRekordV002 is the body of a Rekor v2 entry for a P-256 signature over
// message.
func HashedRekordV002(tb testing.TB, public crypto.PublicKey, message, sig []byte) []byte {
	tb.Helper()
	return hashedRekordV002(tb, keyVerifier(tb, public), message, sig)
}

func keyVerifier(tb testing.TB, public crypto.PublicKey) object {
	tb.Helper()
	return object{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": object{"rawBytes": b64(spki(tb, public))}}
}

func certificateVerifier(c *x509.Certificate) object {
	return object{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": object{"rawBytes": b64(c.Raw)}}
}

func hashedRekordV002(tb testing.TB, verifier object, message, sig []byte) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	return canonical(tb, object{
		"kind": "hashedrekord", "apiVersion": "0.0.2",
		"spec": object{"hashedRekordV002": object{
			"data": object{"algorithm": "SHA2_256", "digest": b64(sum[:])},
			"signature": object{
				"content":  b64(sig),
				"verifier": verifier,
			},
		}},
	})
}

// HashedRekordV001 is the body of a Rekor v1 entry for a signature over
// message.
func HashedRekordV001(tb testing.TB, public crypto.PublicKey, message, sig []byte) []byte {
	tb.Helper()
	return hashedRekordV001(tb, PublicPEM(tb, public), message, sig)
}

func hashedRekordV001(tb testing.TB, verifier, message, sig []byte) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	return canonical(tb, object{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": object{
			"data": object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
			"signature": object{
				"content":   b64(sig),
				"publicKey": object{"content": b64(verifier)},
			},
		},
	})
}

// SET is Rekor v1's signed promise: the log key over the canonical JSON of
// body, time, index and log id.
func (a *Authority) SET(body []byte, at time.Time, index int64) []byte {
	a.tb.Helper()
	payload := canonical(a.tb, object{
		"body": b64(body), "integratedTime": at.Unix(),
		"logIndex": index, "logID": hex.EncodeToString(a.LogID()),
	})
	signer, err := signature.LoadSigner(a.logKey, crypto.SHA256)
	must(a.tb, err)
	set, err := signer.SignMessage(bytes.NewReader(payload))
	must(a.tb, err)
	return set
}

// SignP256 signs SHA-256 of message.
func SignP256(tb testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	must(tb, err)
	return sig
}

// PublicPEM is a public key in PEM.
func PublicPEM(tb testing.TB, public crypto.PublicKey) []byte {
	tb.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(tb, public)})
}

// KeyID is the hexadecimal SHA-256 of a public key's SPKI.
func KeyID(tb testing.TB, public crypto.PublicKey) string {
	tb.Helper()
	sum := sha256.Sum256(spki(tb, public))
	return hex.EncodeToString(sum[:])
}

func canonical(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := json.Marshal(v)
	must(tb, err)
	out, err := jsoncanonicalizer.Transform(raw)
	must(tb, err)
	return out
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// EntryJSON is a log entry as protojson.
func EntryJSON(tb testing.TB, entry *rekorpb.TransparencyLogEntry) []byte {
	tb.Helper()
	b, err := protojson.Marshal(entry)
	must(tb, err)
	return b
}
