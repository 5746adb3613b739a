package testauthority

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/countersign/countersign/attest"
)

// Attested is an in-toto statement about one digest with a predicate in JSON.
func Attested(digest attest.Digest, predicateType, predicate string) []byte {
	return fmt.Appendf(nil,
		`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],"predicateType":%q,"predicate":%s}`,
		digest.Hex(), predicateType, predicate)
}

// CertifiedBundleOf is CertifiedBundle over any statement.
func (a *Authority) CertifiedBundleOf(certificate *x509.Certificate, key *ecdsa.PrivateKey, statement []byte, at time.Time) *Draft {
	a.tb.Helper()
	d := &Draft{authority: a, Key: key, At: at, PayloadType: InTotoPayloadType, Payload: statement, Certificate: certificate}
	d.Resign()
	return d
}

// AttestationDraft is a layer of cosign's .att tag in parts.
type AttestationDraft struct {
	LegacyDraft
	// PayloadType and Statement are in the envelope, which is Payload.
	PayloadType string
	Statement   []byte
	// Kind is that of the log entry: "dsse 0.0.1", "intoto 0.0.1" or
	// "intoto 0.0.2".
	Kind string
	// PredicateType is the layer's annotation.
	PredicateType string
}

// LegacyAttestation is a good attestation under the .att tag: signed, logged
// with a minted promise, and stamped.
func (a *Authority) LegacyAttestation(statement []byte, key *ecdsa.PrivateKey, at time.Time) *AttestationDraft {
	a.tb.Helper()
	d := &AttestationDraft{
		LegacyDraft: LegacyDraft{authority: a, Key: key, At: at},
		PayloadType: InTotoPayloadType, Statement: statement, Kind: "dsse 0.0.1",
	}
	d.Resign()
	return d
}

// CertifiedLegacyAttestation is LegacyAttestation by the key of a certificate.
func (a *Authority) CertifiedLegacyAttestation(certificate *x509.Certificate, key *ecdsa.PrivateKey, statement []byte, at time.Time) *AttestationDraft {
	a.tb.Helper()
	d := a.LegacyAttestation(statement, key, at)
	d.Certificate = certificate
	d.Resign()
	return d
}

// Message is what the signature covers.
func (d *AttestationDraft) Message() []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(d.PayloadType), d.PayloadType, len(d.Statement), d.Statement)
}

// Resign signs the statement as it is now, wraps, logs and stamps it.
func (d *AttestationDraft) Resign() {
	d.authority.tb.Helper()
	d.Signature = SignP256(d.authority.tb, d.Key, d.Message())
	d.Wrap()
	d.Relog()
	d.Timestamp = d.authority.Stamp(d.Payload, d.At)
}

// Wrap makes the envelope of what is there.
func (d *AttestationDraft) Wrap() {
	d.Payload = fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"keyid":"","sig":%q}]}`,
		d.PayloadType, b64(d.Statement), b64(d.Signature))
}

// Relog logs the envelope as it is now.
func (d *AttestationDraft) Relog() {
	a := d.authority
	a.tb.Helper()
	verifier := PublicPEM(a.tb, d.Key.Public())
	if d.Certificate != nil {
		verifier = CertificatePEM(d.Certificate)
	}
	envelope, payload := sha256Object(d.Payload), sha256Object(d.Statement)
	var kind, version string
	_, err := fmt.Sscanf(d.Kind, "%s %s", &kind, &version)
	must(a.tb, err)
	spec := object{
		"dsse 0.0.1": object{
			"envelopeHash": envelope, "payloadHash": payload,
			"signatures": []object{{"signature": b64(d.Signature), "verifier": b64(verifier)}},
		},
		"intoto 0.0.1": object{"content": object{"hash": envelope, "payloadHash": payload}, "publicKey": b64(verifier)},
		"intoto 0.0.2": object{"content": object{
			"envelope": object{"payloadType": d.PayloadType, "signatures": []object{
				{"publicKey": b64(verifier), "sig": b64([]byte(b64(d.Signature)))},
			}},
			"hash": envelope, "payloadHash": payload,
		}},
	}[d.Kind]
	d.Body = canonical(a.tb, object{"kind": kind, "apiVersion": version, "spec": spec})
	d.Index = a.Append(kind, version, d.Body).GetLogIndex()
	d.IntegratedTime, d.LogID = d.At, a.LogID()
	d.Promise = a.SET(d.Body, d.At, d.Index)
}

func sha256Object(b []byte) object {
	sum := sha256.Sum256(b)
	return object{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
}

// Annotations are the layer annotations that carry all but the payload.
func (d *AttestationDraft) Annotations() map[string]string {
	out := d.LegacyDraft.Annotations()
	out[LegacySignature] = ""
	if d.PredicateType != "" {
		out["predicateType"] = d.PredicateType
	}
	return out
}
