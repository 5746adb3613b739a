package tlog

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	rekorv2 "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// KindHashedRekord is the entry of a signature over a digest.
const KindHashedRekord = "hashedrekord"

// KindDSSE is Rekor v1's entry of an envelope. It is written for cosign's .att
// tags only, which know no other kind for an envelope.
const KindDSSE = "dsse"

// ErrBody is wrapped by every error of ParseBody.
var ErrBody = errors.New("invalid log entry body")

// Body is a parsed entry body: who signed which digest.
type Body struct {
	// Kind is "hashedrekord" with Version "0.0.1" or "0.0.2", KindDSSE with
	// Version "0.0.1", or KindInToto with Version "0.0.1" or "0.0.2".
	Kind    string
	Version string
	// Digest is what was signed, hashed with DigestAlgorithm; of KindDSSE and
	// KindInToto it is the envelope's payload that is hashed, while the
	// signature is over its pre-authentication encoding.
	Digest          []byte
	DigestAlgorithm crypto.Hash
	// EnvelopeDigest, of KindInToto in version 0.0.1 only, is the SHA-256 of the
	// envelope as it was uploaded. Such an entry has no Signature: the envelope
	// has it.
	EnvelopeDigest []byte
	// Signature is over the digest, by PublicKey.
	Signature []byte
	PublicKey crypto.PublicKey
	// Certificate holds PublicKey when the entry names a certificate, else
	// nil.
	Certificate *x509.Certificate
}

// bodyV001 is Rekor v1's hashedrekord schema.
type bodyV001 struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Data struct {
			Hash struct {
				Algorithm string `json:"algorithm"`
				Value     string `json:"value"`
			} `json:"hash"`
		} `json:"data"`
		Signature struct {
			Content   string `json:"content"`
			PublicKey struct {
				Content string `json:"content"`
			} `json:"publicKey"`
		} `json:"signature"`
	} `json:"spec"`
}

// ParseBody reads a hashedrekord body of version 0.0.1 or 0.0.2, a dsse body of
// version 0.0.1 or an intoto body of version 0.0.1 or 0.0.2 with one signature.
// It accepts only the canonical form (RFC 8785), so that one meaning has one leaf hash;
// unknown fields, a digest whose length is not its algorithm's, and, in
// version 0.0.2, key details that are not the key's default are refused. It
// does not verify the signature: a log's operator may have been careless, and
// whoever relies on the entry compares it with a signature verified elsewhere.
func ParseBody(body []byte) (Body, error) {
	if len(body) > limits.LogEntry {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, ErrTooLarge)
	}
	if len(body) > len(headV002) && string(body[:len(headV002)]) == headV002 {
		return parseV002(body)
	}
	var head struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := strictjson.UnmarshalOpen(body, &head); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	switch head.Kind + " " + head.APIVersion {
	case KindHashedRekord + " 0.0.2":
		return parseV002(body)
	case KindHashedRekord + " 0.0.1":
		return parseV001(body)
	case KindDSSE + " 0.0.1":
		return parseDSSE(body)
	case KindInToto + " 0.0.1":
		return parseInToto001(body)
	case KindInToto + " 0.0.2":
		return parseInToto002(body)
	}
	return Body{}, fmt.Errorf("%w: none of hashedrekord 0.0.1 and 0.0.2, dsse 0.0.1, intoto 0.0.1 and 0.0.2", ErrBody)
}

// headV002 is how the canonical form of a hashedrekord 0.0.2 body begins, and
// nothing else: what begins so is told apart without decoding it twice.
const headV002 = `{"apiVersion":"0.0.2","kind":"hashedrekord",`

func parseV002(body []byte) (Body, error) {
	var entry rekorv2.Entry
	if err := protojson.Unmarshal(body, &entry); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	if err := checkCanonical(body, &entry); err != nil {
		return Body{}, err
	}
	spec := entry.GetSpec().GetHashedRekordV002()
	out := Body{
		Kind: entry.GetKind(), Version: entry.GetApiVersion(),
		Digest: spec.GetData().GetDigest(), Signature: spec.GetSignature().GetContent(),
	}
	verifier := spec.GetSignature().GetVerifier()
	if err := out.setVerifier(verifier.GetPublicKey().GetRawBytes(), verifier.GetX509Certificate().GetRawBytes()); err != nil {
		return Body{}, err
	}
	alg, err := algorithmOf(out.PublicKey)
	if err != nil || alg.GetSignatureAlgorithm() != verifier.GetKeyDetails() || alg.GetProtoHashType() != spec.GetData().GetAlgorithm() {
		return Body{}, fmt.Errorf("%w: key details are not the default of the key", ErrBody)
	}
	out.DigestAlgorithm = alg.GetHashType()
	return out, out.check()
}

func checkCanonical(body []byte, entry *rekorv2.Entry) error {
	if bytes.Equal(body, usualV002(entry)) {
		return nil
	}
	again, err := canonical(protojson.Marshal(entry))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	if !bytes.Equal(again, body) {
		return fmt.Errorf("%w: not in canonical form", ErrBody)
	}
	return nil
}

// usualV002 is the canonical form of a whole entry by a public key or a
// certificate, written down directly: its texts are base64 and names of
// enumerations, of which none is escaped. A body that equals it has no other
// field; one that does not is compared with what the libraries write. What the
// canonical form would leave away, an empty text or the name of no algorithm,
// ParseBody refuses all the same.
func usualV002(entry *rekorv2.Entry) []byte {
	spec := entry.GetSpec().GetHashedRekordV002()
	verifier := spec.GetSignature().GetVerifier()
	name, holder := "publicKey", verifier.GetPublicKey().GetRawBytes()
	if cert := verifier.GetX509Certificate(); cert != nil {
		name, holder = "x509Certificate", cert.GetRawBytes()
	}
	b64 := base64.StdEncoding
	out := make([]byte, 0, 512+b64.EncodedLen(len(holder)))
	out = append(out, headV002+`"spec":{"hashedRekordV002":{"data":{"algorithm":"`...)
	out = append(out, spec.GetData().GetAlgorithm().String()...)
	out = append(out, `","digest":"`...)
	out = b64.AppendEncode(out, spec.GetData().GetDigest())
	out = append(out, `"},"signature":{"content":"`...)
	out = b64.AppendEncode(out, spec.GetSignature().GetContent())
	out = append(out, `","verifier":{"keyDetails":"`...)
	out = append(out, verifier.GetKeyDetails().String()...)
	out = append(out, `","`+name+`":{"rawBytes":"`...)
	out = b64.AppendEncode(out, holder)
	return append(out, `"}}}}}}`...)
}

func parseV001(body []byte) (Body, error) {
	var doc bodyV001
	if err := strictjson.Unmarshal(body, &doc); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	if again, err := canonical(json.Marshal(doc)); err != nil || !bytes.Equal(again, body) {
		return Body{}, fmt.Errorf("%w: not in canonical form", ErrBody)
	}
	out := Body{Kind: doc.Kind, Version: doc.APIVersion}
	var errs [3]error
	var block []byte
	out.Digest, errs[0] = hex.DecodeString(doc.Spec.Data.Hash.Value)
	out.Signature, errs[1] = base64.StdEncoding.Strict().DecodeString(doc.Spec.Signature.Content)
	block, errs[2] = base64.StdEncoding.Strict().DecodeString(doc.Spec.Signature.PublicKey.Content)
	if err := errors.Join(errs[:]...); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	var ok bool
	if out.DigestAlgorithm, ok = hashV001(doc.Spec.Data.Hash.Algorithm); !ok {
		return Body{}, fmt.Errorf("%w: unknown digest algorithm", ErrBody)
	}
	if err := out.setPEM(block); err != nil {
		return Body{}, err
	}
	return out, out.check()
}

// bodyDSSE is Rekor v1's dsse schema as it is logged.
type bodyDSSE struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		EnvelopeHash hashV001Document    `json:"envelopeHash"`
		PayloadHash  hashV001Document    `json:"payloadHash"`
		Signatures   []signatureDocument `json:"signatures"`
	} `json:"spec"`
}

type signatureDocument struct {
	Signature string `json:"signature"`
	Verifier  string `json:"verifier"`
}

type hashV001Document struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

func parseDSSE(body []byte) (Body, error) {
	var doc bodyDSSE
	if err := strictjson.Unmarshal(body, &doc); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	if again, err := canonical(json.Marshal(doc)); err != nil || !bytes.Equal(again, body) {
		return Body{}, fmt.Errorf("%w: not in canonical form", ErrBody)
	}
	if len(doc.Spec.Signatures) != 1 {
		return Body{}, fmt.Errorf("%w: %d signatures, want one", ErrBody, len(doc.Spec.Signatures))
	}
	out := Body{Kind: doc.Kind, Version: doc.APIVersion}
	var errs [3]error
	var block []byte
	out.Digest, errs[0] = hex.DecodeString(doc.Spec.PayloadHash.Value)
	out.Signature, errs[1] = base64.StdEncoding.Strict().DecodeString(doc.Spec.Signatures[0].Signature)
	block, errs[2] = base64.StdEncoding.Strict().DecodeString(doc.Spec.Signatures[0].Verifier)
	if err := errors.Join(errs[:]...); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	var ok bool
	if out.DigestAlgorithm, ok = hashV001(doc.Spec.PayloadHash.Algorithm); !ok {
		return Body{}, fmt.Errorf("%w: unknown digest algorithm", ErrBody)
	}
	if err := out.setPEM(block); err != nil {
		return Body{}, err
	}
	return out, out.check()
}

// setPEM reads the one PEM block of a version 0.0.1 body.
func (b *Body) setPEM(raw []byte) error {
	block, rest := pem.Decode(raw)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return fmt.Errorf("%w: want one PEM block", ErrBody)
	}
	switch block.Type {
	case "PUBLIC KEY":
		return b.setVerifier(block.Bytes, nil)
	case "CERTIFICATE":
		return b.setVerifier(nil, block.Bytes)
	}
	return fmt.Errorf("%w: PEM block is neither a public key nor a certificate", ErrBody)
}

// setVerifier parses whichever of the two DER encodings is given.
func (b *Body) setVerifier(spki, cert []byte) (err error) {
	switch {
	case len(spki) > 0:
		b.PublicKey, err = parseSPKI(spki)
	case len(cert) > 0:
		if b.Certificate, err = x509.ParseCertificate(cert); err == nil {
			b.PublicKey = b.Certificate.PublicKey
		}
	default:
		err = errors.New("no public key or certificate")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	return nil
}

// parseSPKI refuses encodings that x509 reads but would not write: two
// encodings of one key would be two entries of one signature.
func parseSPKI(der []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing public key: %w", err)
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("public key is not in its one DER encoding")
	}
	return key, nil
}

func (b *Body) check() error {
	if len(b.Digest) != b.DigestAlgorithm.Size() {
		return fmt.Errorf("%w: digest has the wrong length", ErrBody)
	}
	if len(b.Signature) == 0 && len(b.EnvelopeDigest) != crypto.SHA256.Size() {
		return fmt.Errorf("%w: no signature", ErrBody)
	}
	return nil
}

func hashV001(name string) (crypto.Hash, bool) {
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if n, err := nameV001(h); err == nil && n == name {
			return h, true
		}
	}
	return 0, false
}

func nameV001(h crypto.Hash) (string, error) {
	switch h {
	case crypto.SHA256:
		return "sha256", nil
	case crypto.SHA384:
		return "sha384", nil
	case crypto.SHA512:
		return "sha512", nil
	}
	return "", fmt.Errorf("%w: digest %v", ErrKeyType, h)
}
