package tlog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Envelope is a DSSE envelope with one signature, as an entry records it.
type Envelope struct {
	// Document is the envelope's JSON byte for byte as it is published: readers
	// of the legacy format compare its digest with the entry's.
	Document []byte
	// PayloadType and Payload are what was signed.
	PayloadType string
	Payload     []byte
	// Signature is over the pre-authentication encoding.
	Signature []byte
}

// DSSEV001 builds the body of Rekor v1's entry of an envelope (rekor
// pkg/types/dsse/v0.0.1, Canonicalize). Its only use is the signed entry
// timestamp of cosign's .att tags: stock readers look there for the digest of
// the whole envelope, and no other kind has it beside the signature (cosign
// pkg/cosign/verify.go, bundleHash). ECDSA signs the SHA-256 there, whatever
// its curve. Errors are those of HashedRekordV002.
func DSSEV001(pub crypto.PublicKey, e Envelope) ([]byte, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	return dsseV001Of(pub, pem, e)
}

// DSSEV001Certificate is DSSEV001 for the key of a certificate, which the entry
// then names instead of the key.
func DSSEV001Certificate(cert *x509.Certificate, e Envelope) ([]byte, error) {
	pem, err := cryptoutils.MarshalCertificateToPEM(cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	return dsseV001Of(cert.PublicKey, pem, e)
}

func dsseV001Of(pub crypto.PublicKey, pem []byte, e Envelope) ([]byte, error) {
	alg, err := algorithmOf(pub)
	if err != nil {
		return nil, err
	}
	hash := alg.GetHashType()
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		hash = crypto.SHA256
	}
	digest := digestOf(hash, dsse.PAE(e.PayloadType, e.Payload))
	if err := verifyDigest(pub, hash, digest, e.Signature); err != nil {
		return nil, err
	}
	var doc bodyDSSE
	doc.APIVersion, doc.Kind = "0.0.1", KindDSSE
	doc.Spec.EnvelopeHash = sha256Document(e.Document)
	doc.Spec.PayloadHash = sha256Document(e.Payload)
	doc.Spec.Signatures = []signatureDocument{{
		Signature: base64.StdEncoding.EncodeToString(e.Signature),
		Verifier:  base64.StdEncoding.EncodeToString(pem),
	}}
	return canonical(json.Marshal(doc))
}

func sha256Document(b []byte) hashV001Document {
	sum := sha256.Sum256(b)
	return hashV001Document{Algorithm: "sha256", Value: hex.EncodeToString(sum[:])}
}
