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
	if err != nil || len(envelope.Signatures) != 1 || envelope.PayloadType != attest.PayloadTypeInToto {
		return nil, faultf(policy.SignatureInvalid, "the attestation is not an envelope of one signature around an in-toto statement").because(err)
	}
	statement, err := attest.ParseStatement(envelope.Payload)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the envelope does not hold a well-formed in-toto statement").because(err)
	}
	s := &signed{
		format:        formatLegacyAttestation,
		message:       attest.PAE(envelope.PayloadType, envelope.Payload),
		signature:     envelope.Signatures[0].Signature,
		stamped:       payload,
		predicateType: statement.PredicateType,
		statement:     envelope.Payload,
	}
	for _, subject := range statement.Subjects {
		s.subjects = append(s.subjects, subject.Digest)
	}
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

// ofType wants an attestation of exactly this predicate type, or with "" a
// plain signature.
func (s *signed) ofType(predicateType string) *fault {
	attestation := s.format == formatLegacyAttestation || s.format == formatBundle && s.predicateType != predicateSign
	switch {
	case predicateType == "" && attestation:
		return faultf(policy.PredicateTypeMismatch, "it is an attestation and not a signature")
	case predicateType != "" && (!attestation || s.predicateType != predicateType):
		return faultf(policy.PredicateTypeMismatch, "it is not an attestation of the type %s", predicateType)
	}
	return nil
}
