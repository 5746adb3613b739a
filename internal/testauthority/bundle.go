package testauthority

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/attest"
)

// Media and payload types of bundles.
const (
	BundleMediaType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	InTotoPayloadType = "application/vnd.in-toto+json"
	SignPredicateType = "https://sigstore.dev/cosign/sign/v1"
)

// Annotation names of legacy signatures.
const (
	LegacySignature = "dev.cosignproject.cosign/signature"
	LegacyBundle    = "dev.sigstore.cosign/bundle"
	LegacyTimestamp = "dev.sigstore.cosign/rfc3161timestamp"

	LegacyCertificate = "dev.sigstore.cosign/certificate"
)

// Draft is a bundle in parts: a test changes a part to make a fault, then
// calls JSON.
type Draft struct {
	authority *Authority

	Key         *ecdsa.PrivateKey
	At          time.Time
	PayloadType string
	Payload     []byte
	Signature   []byte
	Hint        string
	// Certificate takes the place of Hint when it is set.
	Certificate *x509.Certificate
	Entries     []*rekorpb.TransparencyLogEntry
	Timestamps  [][]byte

	// Artifact, if not nil, is what is signed in the place of an envelope, and
	// ArtifactDigest what the bundle says is its SHA-256.
	Artifact       []byte
	ArtifactDigest []byte
	// MediaType is another than BundleMediaType, or empty.
	MediaType string
	// Chain are certificates after the first one.
	Chain []*x509.Certificate
}

// Statement is an in-toto statement v1 about one digest.
func Statement(digest attest.Digest, predicateType string) []byte {
	return fmt.Appendf(nil,
		`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`,
		digest.Hex(), predicateType)
}

// Bundle is a good signature over digest by key, made at a time: signed,
// logged and stamped.
func (a *Authority) Bundle(digest attest.Digest, key *ecdsa.PrivateKey, at time.Time) *Draft {
	a.tb.Helper()
	return a.BundleOf(Statement(digest, SignPredicateType), key, at)
}

// BundleOf is Bundle over any statement.
func (a *Authority) BundleOf(statement []byte, key *ecdsa.PrivateKey, at time.Time) *Draft {
	a.tb.Helper()
	d := &Draft{authority: a, Key: key, At: at, PayloadType: InTotoPayloadType, Payload: statement}
	d.Hint = KeyID(a.tb, key.Public())
	d.Resign()
	return d
}

// IdentityBundle is a good signature over digest by the holder of a fresh
// certificate of ca, made when the certificate is issued.
func (a *Authority) IdentityBundle(ca *CA, digest attest.Digest, r CertificateRequest) *Draft {
	a.tb.Helper()
	key := NewECDSA(a.tb)
	return a.CertifiedBundle(ca.Issue(key.Public(), r), key, digest, r.At)
}

// CertifiedBundle is a good signature over digest by the key of a certificate,
// made at a time of the caller's choice.
func (a *Authority) CertifiedBundle(certificate *x509.Certificate, key *ecdsa.PrivateKey, digest attest.Digest, at time.Time) *Draft {
	a.tb.Helper()
	d := &Draft{
		authority: a, Key: key, At: at, PayloadType: InTotoPayloadType,
		Payload: Statement(digest, SignPredicateType), Certificate: certificate,
	}
	d.Resign()
	return d
}

// Resign signs the payload as it is now, then logs and stamps the new
// signature.
func (d *Draft) Resign() {
	d.authority.tb.Helper()
	d.Signature = SignP256(d.authority.tb, d.Key, d.Message())
	d.Relog()
	d.Timestamps = [][]byte{d.authority.Stamp(d.Signature, d.At)}
}

// Relog logs the signature as it is now.
func (d *Draft) Relog() {
	d.authority.tb.Helper()
	verifier := keyVerifier(d.authority.tb, d.Key.Public())
	if d.Certificate != nil {
		verifier = certificateVerifier(d.Certificate)
	}
	body := hashedRekordV002(d.authority.tb, verifier, d.Message(), d.Signature)
	d.Entries = []*rekorpb.TransparencyLogEntry{d.authority.Append("hashedrekord", "0.0.2", body)}
}

// Message is what the signature covers: DSSE's PAE, or the artifact.
func (d *Draft) Message() []byte {
	if d.Artifact != nil {
		return d.Artifact
	}
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(d.PayloadType), d.PayloadType, len(d.Payload), d.Payload)
}

// Proto is the bundle as a message.
func (d *Draft) Proto() *bundlepb.Bundle {
	material := &bundlepb.VerificationMaterial{
		Content:     &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: d.Hint}},
		TlogEntries: d.Entries,
	}
	if d.Certificate != nil {
		material.Content = &bundlepb.VerificationMaterial_Certificate{
			Certificate: &commonpb.X509Certificate{RawBytes: d.Certificate.Raw},
		}
	}
	if len(d.Timestamps) > 0 {
		material.TimestampVerificationData = &bundlepb.TimestampVerificationData{}
		for _, t := range d.Timestamps {
			material.TimestampVerificationData.Rfc3161Timestamps = append(
				material.TimestampVerificationData.Rfc3161Timestamps, &commonpb.RFC3161SignedTimestamp{SignedTimestamp: t})
		}
	}
	if d.Artifact != nil || d.MediaType != "" {
		return d.other(material)
	}
	return &bundlepb.Bundle{
		MediaType:            BundleMediaType,
		VerificationMaterial: material,
		Content: &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: d.Payload, PayloadType: d.PayloadType,
			Signatures: []*dssepb.Signature{{Sig: d.Signature}},
		}},
	}
}

// JSON is the bundle as it is stored.
func (d *Draft) JSON() []byte {
	d.authority.tb.Helper()
	raw, err := protojson.Marshal(d.Proto())
	must(d.authority.tb, err)
	return raw
}

// LegacyDraft is a legacy signature in parts.
type LegacyDraft struct {
	authority *Authority

	Key       *ecdsa.PrivateKey
	At        time.Time
	Payload   []byte
	Signature []byte
	// Certificate is the certificate annotation, or nil.
	Certificate *x509.Certificate
	// Body, Index, IntegratedTime, LogID and Promise are the parts of the
	// log annotation; without Promise there is none.
	Body           []byte
	Index          int64
	IntegratedTime time.Time
	LogID          []byte
	Promise        []byte
	// Timestamp is the RFC 3161 annotation, or nil.
	Timestamp []byte
}

// SimpleSigning is the payload of a legacy signature.
func SimpleSigning(reference string, digest attest.Digest) []byte {
	return fmt.Appendf(nil,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		reference, digest)
}

// Legacy is a good legacy signature over digest: signed, logged with a minted
// promise, and stamped.
func (a *Authority) Legacy(digest attest.Digest, key *ecdsa.PrivateKey, at time.Time) *LegacyDraft {
	a.tb.Helper()
	d := &LegacyDraft{authority: a, Key: key, At: at, Payload: SimpleSigning("registry.example.com/team/app", digest)}
	d.Resign()
	return d
}

// CertifiedLegacy is Legacy by the key of a certificate.
func (a *Authority) CertifiedLegacy(certificate *x509.Certificate, key *ecdsa.PrivateKey, digest attest.Digest, at time.Time) *LegacyDraft {
	a.tb.Helper()
	d := &LegacyDraft{
		authority: a, Key: key, At: at, Certificate: certificate,
		Payload: SimpleSigning("registry.example.com/team/app", digest),
	}
	d.Resign()
	return d
}

// Resign signs the payload as it is now, then logs and stamps it.
func (d *LegacyDraft) Resign() {
	a := d.authority
	a.tb.Helper()
	d.Signature = SignP256(a.tb, d.Key, d.Payload)
	verifier := PublicPEM(a.tb, d.Key.Public())
	if d.Certificate != nil {
		verifier = CertificatePEM(d.Certificate)
	}
	d.Body = hashedRekordV001(a.tb, verifier, d.Payload, d.Signature)
	d.Index = a.Append("hashedrekord", "0.0.1", d.Body).GetLogIndex()
	d.IntegratedTime, d.LogID = d.At, a.LogID()
	d.Promise = a.SET(d.Body, d.At, d.Index)
	d.Timestamp = a.Stamp(d.Signature, d.At)
}

// Annotations are the layer annotations that carry all but the payload.
func (d *LegacyDraft) Annotations() map[string]string {
	d.authority.tb.Helper()
	out := map[string]string{LegacySignature: b64(d.Signature)}
	if d.Certificate != nil {
		out[LegacyCertificate] = string(CertificatePEM(d.Certificate))
	}
	if d.Promise != nil {
		out[LegacyBundle] = d.json(object{
			"SignedEntryTimestamp": b64(d.Promise),
			"Payload": object{
				"body": b64(d.Body), "integratedTime": d.IntegratedTime.Unix(),
				"logIndex": d.Index, "logID": hex.EncodeToString(d.LogID),
			},
		})
	}
	if d.Timestamp != nil {
		out[LegacyTimestamp] = d.json(object{"SignedRFC3161Timestamp": b64(d.Timestamp)})
	}
	return out
}

func (d *LegacyDraft) json(v any) string {
	raw, err := json.Marshal(v)
	must(d.authority.tb, err)
	return string(raw)
}

// TB is the test that the draft belongs to.
func (d *Draft) TB() testing.TB { return d.authority.tb }
