package attest

import (
	"bytes"
	"errors"
	"fmt"

	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/limits"
)

// MediaTypeBundle is the media type of a Sigstore bundle v0.3, also the
// artifact type of the referrer that carries it.
const MediaTypeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"

// ErrBundle is wrapped by errors of NewBundle, ParseBundle and Marshal.
var ErrBundle = errors.New("invalid bundle")

// Bundle is a Sigstore bundle around one signature, by a key (Hint) or by the
// key of a certificate (Certificate): of one DSSE envelope, or of an artifact
// itself (Message).
type Bundle struct {
	// Version is the bundle's; "" is Version03.
	Version BundleVersion
	// Envelope has exactly one signature; it is zero when Message is set.
	Envelope Envelope
	// Message is a signature over the bytes of an artifact, or nil.
	Message *MessageSignature
	// Hint is the signer's unauthenticated hint at its key; it may be empty
	// even when a key signed.
	Hint string
	// Certificate is the DER of the signing certificate, or nil when a key
	// signed.
	Certificate []byte
	// Entries are at most limits.LogEntries log entries, no two at one index of
	// one log, each with its inclusion proof or, in version 0.1, the log's
	// promise.
	Entries []*rekorpb.TransparencyLogEntry
	// Timestamps are at most limits.Timestamps RFC 3161 responses in DER over
	// the signature bytes, no two the same.
	Timestamps [][]byte
}

// NewBundleInput is what a signature consists of: by a key, which KeyHint names,
// or by the key of Certificate; exactly one of the two is given.
type NewBundleInput struct {
	// PayloadType and Payload are what was signed: the signature is over
	// PAE(PayloadType, Payload).
	PayloadType string
	Payload     []byte
	Signature   []byte
	// KeyHint tells readers which key to try.
	KeyHint string
	// Certificate is the DER of the signing certificate, without its chain:
	// bundle v0.3 leaves that to the trusted root.
	Certificate []byte
	// Entry is the log entry with its inclusion proof, or nil when the
	// signature is not logged.
	Entry *rekorpb.TransparencyLogEntry
	// Timestamp is the DER of an RFC 3161 TimeStampResp over Signature, or
	// empty when there is none.
	Timestamp []byte
}

// NewBundle assembles a bundle and returns its JSON, the same bytes for the
// same input. What it returns ParseBundle accepts. Errors wrap ErrBundle.
func NewBundle(in NewBundleInput) ([]byte, error) {
	if (in.KeyHint == "") == (len(in.Certificate) == 0) {
		return nil, fmt.Errorf("%w: want either a key hint or a certificate", ErrBundle)
	}
	b := Bundle{
		Envelope: Envelope{
			PayloadType: in.PayloadType,
			Payload:     in.Payload,
			Signatures:  []EnvelopeSignature{{Signature: in.Signature}},
		},
		Hint: in.KeyHint,
	}
	if len(in.Certificate) > 0 {
		b.Certificate = bytes.Clone(in.Certificate)
	}
	if in.Entry != nil {
		b.Entries = []*rekorpb.TransparencyLogEntry{in.Entry}
	}
	if len(in.Timestamp) > 0 {
		b.Timestamps = [][]byte{in.Timestamp}
	}
	return b.Marshal()
}

// Marshal is the bundle's JSON as protobuf's JSON mapping has it, without
// white space, the same bytes for equal bundles. It refuses what ParseBundle
// would refuse.
func (b *Bundle) Marshal() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	raw, err := marshalProto(b.proto())
	if err != nil {
		return nil, err
	}
	if len(raw) > limits.Bundle {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrBundle, limits.Bundle)
	}
	return raw, nil
}

func (b *Bundle) proto() *bundlepb.Bundle {
	material := &bundlepb.VerificationMaterial{TlogEntries: b.Entries}
	switch certificate := (&commonpb.X509Certificate{RawBytes: b.Certificate}); {
	case b.Certificate != nil && b.Version.hasChain():
		material.Content = &bundlepb.VerificationMaterial_X509CertificateChain{
			X509CertificateChain: &commonpb.X509CertificateChain{Certificates: []*commonpb.X509Certificate{certificate}},
		}
	case b.Certificate != nil:
		material.Content = &bundlepb.VerificationMaterial_Certificate{Certificate: certificate}
	default:
		material.Content = &bundlepb.VerificationMaterial_PublicKey{
			PublicKey: &commonpb.PublicKeyIdentifier{Hint: b.Hint},
		}
	}
	if len(b.Timestamps) > 0 {
		material.TimestampVerificationData = &bundlepb.TimestampVerificationData{}
	}
	for _, t := range b.Timestamps {
		data := material.TimestampVerificationData
		data.Rfc3161Timestamps = append(data.Rfc3161Timestamps, &commonpb.RFC3161SignedTimestamp{SignedTimestamp: t})
	}
	out := &bundlepb.Bundle{MediaType: b.Version.mediaType(), VerificationMaterial: material}
	if b.Message != nil {
		out.Content = &bundlepb.Bundle_MessageSignature{MessageSignature: b.Message.proto()}
		return out
	}
	envelope := &dssepb.Envelope{PayloadType: b.Envelope.PayloadType, Payload: b.Envelope.Payload}
	for _, s := range b.Envelope.Signatures {
		envelope.Signatures = append(envelope.Signatures, &dssepb.Signature{Keyid: s.KeyID, Sig: s.Signature})
	}
	out.Content = &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: envelope}
	return out
}

// ParseBundle reads a bundle of version 0.1, 0.2 or 0.3 in JSON of at most
// limits.Bundle bytes. It refuses other versions, no or several signatures,
// entries without what their version must have, and any spelling of the
// document but the one protobuf's JSON mapping writes, up to white space, order
// and explicit defaults. Of a certificate chain, which version 0.3 does not
// have, it takes the first certificate and reads no other: whom to believe is a
// trusted root's word. Errors wrap ErrBundle.
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > limits.Bundle {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrBundle, limits.Bundle)
	}
	message, err := unmarshalProto(raw)
	if err != nil {
		return nil, err
	}
	b, err := fromProto(message)
	if err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, nil
}

func fromProto(message *bundlepb.Bundle) (*Bundle, error) {
	version, err := parseVersion(message.GetMediaType())
	if err != nil {
		return nil, err
	}
	b := &Bundle{Version: version}
	switch content := message.GetContent().(type) {
	case *bundlepb.Bundle_DsseEnvelope:
		envelope := content.DsseEnvelope
		b.Envelope = Envelope{PayloadType: envelope.GetPayloadType(), Payload: envelope.GetPayload()}
		for _, s := range envelope.GetSignatures() {
			b.Envelope.Signatures = append(b.Envelope.Signatures, EnvelopeSignature{KeyID: s.GetKeyid(), Signature: s.GetSig()})
		}
	case *bundlepb.Bundle_MessageSignature:
		if b.Message, err = messageOf(content.MessageSignature); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: neither a DSSE envelope nor a message signature", ErrBundle)
	}
	material := message.GetVerificationMaterial()
	if err := b.setSigner(material); err != nil {
		return nil, err
	}
	b.Entries = material.GetTlogEntries()
	for _, t := range material.GetTimestampVerificationData().GetRfc3161Timestamps() {
		b.Timestamps = append(b.Timestamps, t.GetSignedTimestamp())
	}
	return b, nil
}

func (b *Bundle) setSigner(material *bundlepb.VerificationMaterial) error {
	leaf := func(c *commonpb.X509Certificate) []byte {
		// Not nil even when empty: an empty certificate must be refused, not
		// taken for a signature by a key.
		return append([]byte{}, c.GetRawBytes()...)
	}
	switch content := material.GetContent().(type) {
	case *bundlepb.VerificationMaterial_PublicKey:
		b.Hint = content.PublicKey.GetHint()
		return nil
	case *bundlepb.VerificationMaterial_Certificate:
		b.Certificate = leaf(content.Certificate)
		return nil
	case *bundlepb.VerificationMaterial_X509CertificateChain:
		if chain := content.X509CertificateChain.GetCertificates(); b.Version.hasChain() && len(chain) > 0 {
			b.Certificate = leaf(chain[0])
			return nil
		}
	}
	return fmt.Errorf("%w: neither a public key nor a single certificate", ErrBundle)
}

func (b *Bundle) check() error {
	if b.Certificate != nil && (len(b.Certificate) == 0 || b.Hint != "") {
		return fmt.Errorf("%w: empty certificate, or a key hint beside it", ErrBundle)
	}
	if err := b.checkContent(); err != nil {
		return err
	}
	if err := checkEntries(b.Version, b.Entries); err != nil {
		return err
	}
	return checkTimestamps(b.Timestamps)
}

func (b *Bundle) checkContent() error {
	e := b.Envelope
	switch {
	case b.Message != nil && (e.PayloadType != "" || len(e.Payload)+len(e.Signatures) > 0):
		return fmt.Errorf("%w: both a message signature and an envelope", ErrBundle)
	case b.Message != nil:
		return b.Message.check()
	case e.PayloadType == "" || len(e.Payload) == 0:
		return fmt.Errorf("%w: empty payload or payload type", ErrBundle)
	case len(e.Signatures) != 1:
		return fmt.Errorf("%w: %d signatures, want exactly one", ErrBundle, len(e.Signatures))
	case len(e.Signatures[0].Signature) == 0:
		return fmt.Errorf("%w: empty signature", ErrBundle)
	}
	return nil
}

// checkEntries refuses entries no reader could check: without the log's id,
// the logged bytes, or what proves them.
func checkEntries(version BundleVersion, entries []*rekorpb.TransparencyLogEntry) error {
	if n := len(entries); n > limits.LogEntries {
		return fmt.Errorf("%w: %d log entries, at most %d", ErrBundle, n, limits.LogEntries)
	}
	type place struct {
		log   string
		index int64
	}
	seen := make(map[place]bool, len(entries))
	for i, e := range entries {
		if len(e.GetLogId().GetKeyId()) == 0 || len(e.GetCanonicalizedBody()) == 0 || e.GetKindVersion().GetKind() == "" {
			return fmt.Errorf("%w: log entry %d lacks its log, kind or body", ErrBundle, i)
		}
		if err := checkProof(version, e); err != nil {
			return fmt.Errorf("%w: log entry %d %w", ErrBundle, i, err)
		}
		at := place{string(e.GetLogId().GetKeyId()), e.GetLogIndex()}
		if seen[at] {
			return fmt.Errorf("%w: log entry %d repeats another", ErrBundle, i)
		}
		seen[at] = true
	}
	return nil
}

// checkProof wants what the version makes mandatory: the promise in 0.1, the
// proof since 0.2 (sigstore-go pkg/bundle). A proof that is there is whole in
// any version.
func checkProof(version BundleVersion, e *rekorpb.TransparencyLogEntry) error {
	proof := e.GetInclusionProof()
	switch {
	case version.needsPromise() && len(e.GetInclusionPromise().GetSignedEntryTimestamp()) == 0:
		return errors.New("lacks its inclusion promise")
	case proof == nil && version.needsPromise() && e.GetLogIndex() >= 0:
		return nil
	case proof == nil || proof.GetCheckpoint().GetEnvelope() == "" || len(proof.GetRootHash()) == 0:
		return errors.New("lacks its inclusion proof")
	case e.GetLogIndex() < 0 || proof.GetLogIndex() < 0 || proof.GetTreeSize() < 0 || len(proof.GetHashes()) > limits.ProofHashes:
		return errors.New("has an impossible proof")
	}
	return nil
}

func checkTimestamps(timestamps [][]byte) error {
	if n := len(timestamps); n > limits.Timestamps {
		return fmt.Errorf("%w: %d timestamps, at most %d", ErrBundle, n, limits.Timestamps)
	}
	for i, t := range timestamps {
		if len(t) == 0 {
			return fmt.Errorf("%w: timestamp %d is empty", ErrBundle, i)
		}
		for _, other := range timestamps[:i] {
			if bytes.Equal(t, other) {
				return fmt.Errorf("%w: timestamp %d repeats another", ErrBundle, i)
			}
		}
	}
	return nil
}

// marshalProto removes the white space protojson varies on purpose from build
// to build, so that the bytes depend on the message alone.
func marshalProto(message *bundlepb.Bundle) ([]byte, error) {
	raw, err := protojson.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return compactJSON(raw)
}
