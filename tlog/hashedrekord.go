package tlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv2 "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/limits"
)

// Errors of building an entry.
var (
	// ErrKeyType: a key of this type cannot be logged.
	ErrKeyType = errors.New("key type cannot be logged")
	// ErrSignature: the signature is not the key's over the message.
	ErrSignature = errors.New("signature does not verify")
	// ErrTooLarge: the entry exceeds limits.LogEntry bytes.
	ErrTooLarge = errors.New("log entry too large")
)

// HashedRekordV002 builds the body of the entry that says: pub signed message
// with sig. message is the signed bytes themselves (for a DSSE envelope the
// pre-authentication encoding); it is hashed with the algorithm that belongs
// to the key. The signature is verified first: ErrSignature when it is not
// pub's, ErrKeyType when the key cannot be logged. RSA keys of 2048, 3072 and
// 4096 bits (PKCS #1 v1.5), ECDSA P-256, P-384, P-521 and Ed25519 (as
// Ed25519ph) can.
func HashedRekordV002(pub crypto.PublicKey, message, sig []byte) ([]byte, error) {
	alg, err := algorithmOf(pub)
	if err != nil {
		return nil, err
	}
	spki, err := cryptoutils.MarshalPublicKeyToDER(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	return entryV002(&rekorv2.HashedRekordRequestV002{
		Digest: digestOf(alg.GetHashType(), message),
		Signature: &rekorv2.Signature{
			Content: bytes.Clone(sig),
			Verifier: &rekorv2.Verifier{
				Verifier:   &rekorv2.Verifier_PublicKey{PublicKey: &rekorv2.PublicKey{RawBytes: spki}},
				KeyDetails: alg.GetSignatureAlgorithm(),
			},
		},
	})
}

// HashedRekordV002Certificate is HashedRekordV002 for the key of a certificate,
// which the entry then names instead of the key: readers of a bundle with a
// certificate compare the two.
func HashedRekordV002Certificate(cert *x509.Certificate, message, sig []byte) ([]byte, error) {
	alg, err := algorithmOf(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	return entryV002(&rekorv2.HashedRekordRequestV002{
		Digest: digestOf(alg.GetHashType(), message),
		Signature: &rekorv2.Signature{
			Content: bytes.Clone(sig),
			Verifier: &rekorv2.Verifier{
				Verifier:   &rekorv2.Verifier_X509Certificate{X509Certificate: &commonpb.X509Certificate{RawBytes: bytes.Clone(cert.Raw)}},
				KeyDetails: alg.GetSignatureAlgorithm(),
			},
		},
	})
}

// HashedRekordV001 builds the body of a version 0.0.1 entry of the same
// meaning. Its only use is the signed entry timestamp of the legacy cosign
// format, which knows one digest for every ECDSA key: SHA-256 (cosign
// pkg/cosign/verify.go, VerifyBundle). Errors are those of HashedRekordV002.
func HashedRekordV001(pub crypto.PublicKey, message, sig []byte) ([]byte, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	return bodyV001Of(pub, pem, message, sig)
}

// HashedRekordV001Certificate is HashedRekordV001 for the key of a certificate,
// which the entry then names instead of the key.
func HashedRekordV001Certificate(cert *x509.Certificate, message, sig []byte) ([]byte, error) {
	pem, err := cryptoutils.MarshalCertificateToPEM(cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	return bodyV001Of(cert.PublicKey, pem, message, sig)
}

func bodyV001Of(pub crypto.PublicKey, pem, message, sig []byte) ([]byte, error) {
	alg, err := algorithmOf(pub)
	if err != nil {
		return nil, err
	}
	hash := alg.GetHashType()
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		hash = crypto.SHA256
	}
	digest := digestOf(hash, message)
	if err := verifyDigest(pub, hash, digest, sig); err != nil {
		return nil, err
	}
	name, err := nameV001(hash)
	if err != nil {
		return nil, err
	}
	var doc bodyV001
	doc.APIVersion, doc.Kind = "0.0.1", KindHashedRekord
	doc.Spec.Data.Hash.Algorithm = name
	doc.Spec.Data.Hash.Value = hex.EncodeToString(digest)
	doc.Spec.Signature.Content = base64.StdEncoding.EncodeToString(sig)
	doc.Spec.Signature.PublicKey.Content = base64.StdEncoding.EncodeToString(pem)
	return canonical(json.Marshal(doc))
}

// algorithmOf is the one algorithm a key may be logged with: the default of
// its type, as verifiers that rebuild the body assume (sigstore-go
// reconstructV2EntryHash).
func algorithmOf(pub crypto.PublicKey) (signature.AlgorithmDetails, error) {
	alg, err := signature.GetDefaultAlgorithmDetails(pub, options.WithED25519ph())
	if err != nil {
		return signature.AlgorithmDetails{}, fmt.Errorf("%w: %T", ErrKeyType, pub)
	}
	return alg, nil
}

func digestOf(h crypto.Hash, message []byte) []byte {
	w := h.New()
	w.Write(message)
	return w.Sum(nil)
}

func verifyDigest(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) error {
	v, err := signature.LoadVerifierWithOpts(pub, options.WithHash(h), options.WithED25519ph())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	err = v.VerifySignature(bytes.NewReader(sig), nil, options.WithDigest(digest), options.WithCryptoSignerOpts(h))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// entryV002 turns a request whose key details were checked into a body. The
// library verifies the signature over the digest.
func entryV002(req *rekorv2.HashedRekordRequestV002) ([]byte, error) {
	permitted, err := signature.NewAlgorithmRegistryConfig([]commonpb.PublicKeyDetails{req.Signature.Verifier.KeyDetails})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyType, err)
	}
	entry, err := hashedrekord.ToLogEntry(req, permitted)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return canonical(protojson.Marshal(entry))
}

// canonical is RFC 8785 of a document just marshalled, within the entry limit.
func canonical(doc []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("marshalling log entry: %w", err)
	}
	body, err := jsoncanonicalizer.Transform(doc)
	if err != nil {
		return nil, fmt.Errorf("canonicalising log entry: %w", err)
	}
	if len(body) > limits.LogEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(body), limits.LogEntry)
	}
	return body, nil
}
