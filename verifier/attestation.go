package verifier

import (
	"crypto/x509"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
)

// parseLegacyAttestation reads a layer of cosign's .att tag: a DSSE envelope
// with one signature, and the annotations of a legacy signature but for the
// signature. Its timestamps are over the whole envelope (cosign
// pkg/cosign/verify.go, VerifyRFC3161Timestamp).
func parseLegacyAttestation(payload []byte, annotations map[string]string) (*signed, *fault) {
	envelope, err := attest.ParseEnvelope(payload)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the attestation is not a well-formed envelope").because(err)
	}
	s, f := parseEnvelope(envelope)
	if f != nil {
		return nil, f
	}
	if s.kind == policy.KindSignature {
		return nil, faultf(policy.PredicateTypeMismatch, "a plain signature has no place among attestations")
	}
	s.format, s.envelope, s.hint = formatLegacyAttestation, payload, envelope.Signatures[0].KeyID
	return s, s.readAnnotations(annotations)
}

// readAnnotations takes certificate, log entry and timestamp from a layer's
// annotations.
func (s *signed) readAnnotations(annotations map[string]string) *fault {
	var err error
	if text, ok := annotations[annotationCertificate]; ok {
		var cert *x509.Certificate
		if cert, err = parseLegacyCertificate(text); err != nil {
			return faultf(policy.CertificateInvalid, "the signature's certificate annotation is malformed").because(err)
		}
		s.certificate = cert
	}
	if text, ok := annotations[annotationLog]; ok {
		entry, err := parseLegacyEntry(text)
		if err != nil {
			return faultf(policy.LogEntryMismatch, "the signature's log annotation is malformed").because(err)
		}
		s.entries = append(s.entries, entry)
	}
	if text, ok := annotations[annotationTimestamp]; ok {
		stamp, err := parseLegacyTimestamp(text)
		if err != nil {
			return faultf(policy.TimestampInvalid, "the signature's timestamp annotation is malformed").because(err)
		}
		s.timestamps = append(s.timestamps, stamp)
	}
	return s.bounded()
}
