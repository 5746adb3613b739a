package verifier

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/tlog"
)

// The formats of evidence.
const (
	formatBundle = "bundle"
	// formatLegacy is a layer of cosign's .sig tag, formatLegacyAttestation one
	// of its .att tag. Answers call both legacy.
	formatLegacy            = "legacy"
	formatLegacyAttestation = registry.FormatLegacyAttestation
)

// Layer annotations of a legacy signature (cosign specs/SIGNATURE_SPEC.md). An
// attestation has its signature in the envelope that is its payload.
const (
	annotationSignature = "dev.cosignproject.cosign/signature"
	annotationLog       = "dev.sigstore.cosign/bundle"
	annotationTimestamp = "dev.sigstore.cosign/rfc3161timestamp"
	// annotationCertificate is the signing certificate in PEM. The chain
	// annotation beside it is not read: whom to believe is the trusted root's
	// word alone.
	annotationCertificate = "dev.sigstore.cosign/certificate"
)

// attachment is a bundle, a legacy signature or a legacy attestation as it was
// found, not yet parsed.
type attachment struct {
	format      string
	bundle      []byte
	payload     []byte
	annotations map[string]string
	// envelope is of the Notary Project, entry the log's record of it where the
	// archive has one.
	envelope registry.Envelope
	entry    []byte
}

func attachmentOf(a registry.Attachment) attachment {
	out := attachment{format: a.Format, bundle: a.Bundle}
	if a.Envelope != nil {
		out.envelope = *a.Envelope
	}
	if a.Legacy != nil {
		out.payload, out.annotations = a.Legacy.Payload, a.Legacy.Annotations
	}
	return out
}

// identity is equal for attachments with the same content, wherever found.
func (a attachment) identity() [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%s%d\x00%s", a.format, len(a.bundle), a.bundle, len(a.payload), a.payload)
	for _, name := range []string{annotationSignature, annotationLog, annotationTimestamp, annotationCertificate} {
		fmt.Fprintf(h, "%d\x00%s", len(a.annotations[name]), a.annotations[name])
	}
	fmt.Fprintf(h, "%d\x00%s%d\x00%s%s", len(a.envelope.MediaType), a.envelope.MediaType, len(a.envelope.Content), a.envelope.Content, a.entry)
	return [sha256.Size]byte(h.Sum(nil))
}

func (a attachment) size() int { return len(a.bundle) + len(a.payload) + len(a.envelope.Content) }

// digest is by which a registry names the content.
func (a attachment) digest() string {
	switch a.format {
	case formatBundle:
		return attest.DigestOf(a.bundle).String()
	case formatNotary:
		return attest.DigestOf(a.envelope.Content).String()
	}
	return attest.DigestOf(a.payload).String()
}

// signed is a parsed attachment of any format: what it claims. Nothing of
// it is believed yet.
type signed struct {
	format string
	// kind is what it is if its signature is good.
	kind policy.Kind
	// message is what the signature is over: the PAE or the payload itself.
	message []byte
	// direct is set when the signature is over the artifact itself: then there
	// is neither message nor signed document.
	direct    *direct
	signature []byte
	// hint names a key, for messages only.
	hint string
	// certificate is the signing certificate, or nil when a key signed.
	certificate *x509.Certificate
	// subjects are the digest sets the signed document speaks of.
	subjects      []map[string]string
	predicateType string
	// statement is the payload when it is an in-toto statement, predicate the
	// part of it.
	statement []byte
	predicate []byte
	// notary is the envelope of the Notary Project that it is, or nil.
	notary *notary.Envelope
	// dsse is the envelope that the statement is in.
	dsse attest.Envelope
	// envelope is the JSON around the statement where the format keeps it as it
	// was made. Timestamps are then over all of it, else over the signature.
	envelope   []byte
	entries    []*rekorpb.TransparencyLogEntry
	timestamps [][]byte
	// parsedEntries and parsedStamps are those, once logEntries and stamps were
	// asked.
	parsedEntries []tlog.Entry
	parsedStamps  []stamp
}

func (a attachment) parse() (*signed, *fault) {
	switch a.format {
	case formatLegacy:
		return parseLegacy(a.payload, a.annotations)
	case formatLegacyAttestation:
		return parseLegacyAttestation(a.payload, a.annotations)
	case formatNotary:
		return parseNotary(a.envelope, a.entry)
	default:
		return parseBundle(a.bundle)
	}
}

// kind is what an attachment is that cannot be parsed.
func (a attachment) kind() policy.Kind {
	switch a.format {
	case formatLegacy, formatNotary:
		return policy.KindSignature
	case formatLegacyAttestation:
		return policy.KindAttestation
	default:
		return policy.KindUnknown
	}
}

func parseBundle(raw []byte) (*signed, *fault) {
	b, err := attest.ParseBundle(raw)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the bundle is not a well-formed Sigstore bundle of version 0.1, 0.2 or 0.3").because(err)
	}
	s, f := parseContent(b)
	if f != nil {
		return nil, f
	}
	s.format, s.hint, s.entries, s.timestamps = formatBundle, b.Hint, b.Entries, b.Timestamps
	if b.Certificate != nil {
		if s.certificate, err = x509.ParseCertificate(b.Certificate); err != nil {
			return nil, faultf(policy.CertificateInvalid, "the certificate is malformed").because(err)
		}
	}
	return s, s.bounded()
}

func parseContent(b *attest.Bundle) (*signed, *fault) {
	if b.Message != nil {
		return parseMessage(b.Message), nil
	}
	return parseEnvelope(b.Envelope)
}

// parseEnvelope reads the one signature of an envelope and its statement. Both
// the payload type and the statement's own must be in-toto's (row F2).
func parseEnvelope(e attest.Envelope) (*signed, *fault) {
	if n := len(e.Signatures); n != 1 {
		return nil, faultf(policy.SignatureInvalid, "the envelope has %d signatures, want one", n)
	}
	if !isInToto(e.PayloadType) {
		return nil, faultf(policy.SignatureInvalid, "the envelope does not hold an in-toto statement")
	}
	statement, err := attest.ParseStatement(e.Payload)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the envelope does not hold a well-formed in-toto statement").because(err)
	}
	s := &signed{
		kind:          policy.KindAttestation,
		message:       attest.PAE(e.PayloadType, e.Payload),
		signature:     e.Signatures[0].Signature,
		predicateType: statement.PredicateType,
		statement:     e.Payload,
		predicate:     statement.Predicate,
		dsse:          e,
	}
	if statement.PredicateType == attest.PredicateCosignSign && e.PayloadType == attest.PayloadTypeInToto {
		s.kind = policy.KindSignature
	}
	for _, subject := range statement.Subjects {
		s.subjects = append(s.subjects, subject.Digest)
	}
	return s, nil
}

// isInToto takes application/vnd.in-toto+json and, since version 1.2 of the
// specification, application/vnd.in-toto.PREDICATE+json.
func isInToto(payloadType string) bool {
	if payloadType == attest.PayloadTypeInToto {
		return true
	}
	name, ok := strings.CutPrefix(payloadType, "application/vnd.in-toto.")
	name, end := strings.CutSuffix(name, "+json")
	return ok && end && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

func parseLegacy(payload []byte, annotations map[string]string) (*signed, *fault) {
	simple, err := attest.ParseSimpleSigning(payload)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the signature is not over a well-formed simple signing document").because(err)
	}
	signature, err := decodeBase64(annotations[annotationSignature])
	if err != nil || len(signature) == 0 {
		return nil, faultf(policy.SignatureInvalid, "the signature annotation is missing or not base64")
	}
	s := &signed{
		format:    formatLegacy,
		message:   payload,
		signature: signature,
		subjects:  []map[string]string{{"sha256": simple.Digest.Hex()}},
	}
	return s, s.readAnnotations(annotations)
}

// bounded holds the counts that cost signature checks.
func (s *signed) bounded() *fault {
	switch {
	case len(s.entries) > limits.LogEntries:
		return faultf(policy.LimitExceeded, "more than %d log entries in one bundle", limits.LogEntries)
	case len(s.timestamps) > limits.Timestamps:
		return faultf(policy.LimitExceeded, "more than %d timestamps in one bundle", limits.Timestamps)
	case len(s.subjects) > limits.Subjects:
		return faultf(policy.LimitExceeded, "more than %d subjects in one statement", limits.Subjects)
	}
	return nil
}

// parseLegacyEntry reads cosign's log annotation into the form of a bundle's
// entry, so that both formats are proven and bound by the same code.
func parseLegacyEntry(text string) (*rekorpb.TransparencyLogEntry, error) {
	var wire struct {
		SignedEntryTimestamp string `json:"SignedEntryTimestamp"`
		Payload              struct {
			Body           string `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		} `json:"Payload"`
	}
	if err := strictjson.Unmarshal([]byte(text), &wire); err != nil {
		return nil, err
	}
	promise, err := decodeBase64(wire.SignedEntryTimestamp)
	if err != nil {
		return nil, err
	}
	body, err := decodeBase64(wire.Payload.Body)
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(wire.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("log id: %w", err)
	}
	entry := &rekorpb.TransparencyLogEntry{
		LogIndex:          wire.Payload.LogIndex,
		LogId:             &commonpb.LogId{KeyId: id},
		IntegratedTime:    wire.Payload.IntegratedTime,
		InclusionPromise:  &rekorpb.InclusionPromise{SignedEntryTimestamp: promise},
		CanonicalizedBody: body,
	}
	// The annotation does not name the kind; the body does.
	if parsed, err := tlog.ParseBody(body); err == nil {
		entry.KindVersion = &rekorpb.KindVersion{Kind: parsed.Kind, Version: parsed.Version}
	}
	return entry, nil
}

func parseLegacyTimestamp(text string) ([]byte, error) {
	var wire struct {
		Response string `json:"SignedRFC3161Timestamp"`
	}
	if err := strictjson.Unmarshal([]byte(text), &wire); err != nil {
		return nil, err
	}
	return decodeBase64(wire.Response)
}

// parseLegacyCertificate reads one certificate in PEM and nothing beside it.
func parseLegacyCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("want one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// decodeBase64 accepts what base64.StdEncoding writes and no other spelling of
// the same bytes.
func decodeBase64(text string) ([]byte, error) {
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodedLen(len(out)) != len(text) {
		return nil, fmt.Errorf("not standard padded base64")
	}
	return out, nil
}
