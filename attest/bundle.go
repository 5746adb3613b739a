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

// mediaTypeBundleOld is the first spelling of the same version.
const mediaTypeBundleOld = "application/vnd.dev.sigstore.bundle+json;version=0.3"

// ErrBundle is wrapped by errors of NewBundle, ParseBundle and Marshal.
var ErrBundle = errors.New("invalid bundle")

// Bundle is a Sigstore bundle v0.3 around one DSSE envelope with one
// signature, by a key (Hint) or by the key of a certificate (Certificate).
type Bundle struct {
	// Envelope has exactly one signature.
	Envelope Envelope
	// Hint is the signer's unauthenticated hint at its key; it may be empty
	// even when a key signed.
	Hint string
	// Certificate is the DER of the signing certificate, or nil when a key
	// signed.
	Certificate []byte
	// Entries are at most limits.LogEntries log entries, each with its
	// inclusion proof, no two at one index of one log.
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
	if b.Certificate != nil {
		material.Content = &bundlepb.VerificationMaterial_Certificate{
			Certificate: &commonpb.X509Certificate{RawBytes: b.Certificate},
		}
	} else {
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
	envelope := &dssepb.Envelope{PayloadType: b.Envelope.PayloadType, Payload: b.Envelope.Payload}
	for _, s := range b.Envelope.Signatures {
		envelope.Signatures = append(envelope.Signatures, &dssepb.Signature{Keyid: s.KeyID, Sig: s.Signature})
	}
	return &bundlepb.Bundle{
		MediaType:            MediaTypeBundle,
		VerificationMaterial: material,
		Content:              &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: envelope},
	}
}

// ParseBundle reads a bundle v0.3 in JSON of at most limits.Bundle bytes. It
// refuses other versions, a message signature instead of an envelope (as
// cosign does for images), a certificate chain, no or several signatures, and
// any spelling of the document but the one protobuf's JSON mapping writes, up
// to white space, order and explicit defaults. Errors wrap ErrBundle.
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > limits.Bundle {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrBundle, limits.Bundle)
	}
	message, err := unmarshalProto(raw)
	if err != nil {
		return nil, err
	}
	if m := message.GetMediaType(); m != MediaTypeBundle && m != mediaTypeBundleOld {
		return nil, fmt.Errorf("%w: not of version 0.3", ErrBundle)
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
	envelope := message.GetDsseEnvelope()
	if envelope == nil {
		return nil, fmt.Errorf("%w: no DSSE envelope", ErrBundle)
	}
	b := &Bundle{Envelope: Envelope{PayloadType: envelope.GetPayloadType(), Payload: envelope.GetPayload()}}
	for _, s := range envelope.GetSignatures() {
		b.Envelope.Signatures = append(b.Envelope.Signatures, EnvelopeSignature{KeyID: s.GetKeyid(), Signature: s.GetSig()})
	}
	material := message.GetVerificationMaterial()
	switch content := material.GetContent().(type) {
	case *bundlepb.VerificationMaterial_PublicKey:
		b.Hint = content.PublicKey.GetHint()
	case *bundlepb.VerificationMaterial_Certificate:
		// Not nil even when empty: an empty certificate must be refused, not
		// taken for a signature by a key.
		b.Certificate = append([]byte{}, content.Certificate.GetRawBytes()...)
	default:
		return nil, fmt.Errorf("%w: neither a public key nor a single certificate", ErrBundle)
	}
	b.Entries = material.GetTlogEntries()
	for _, t := range material.GetTimestampVerificationData().GetRfc3161Timestamps() {
		b.Timestamps = append(b.Timestamps, t.GetSignedTimestamp())
	}
	return b, nil
}

func (b *Bundle) check() error {
	e := b.Envelope
	switch {
	case e.PayloadType == "" || len(e.Payload) == 0:
		return fmt.Errorf("%w: empty payload or payload type", ErrBundle)
	case len(e.Signatures) != 1:
		return fmt.Errorf("%w: %d signatures, want exactly one", ErrBundle, len(e.Signatures))
	case len(e.Signatures[0].Signature) == 0:
		return fmt.Errorf("%w: empty signature", ErrBundle)
	case b.Certificate != nil && (len(b.Certificate) == 0 || b.Hint != ""):
		return fmt.Errorf("%w: empty certificate, or a key hint beside it", ErrBundle)
	}
	if err := checkEntries(b.Entries); err != nil {
		return err
	}
	return checkTimestamps(b.Timestamps)
}

// checkEntries refuses entries no reader could check: without the log's id,
// the logged bytes, or a proof (mandatory since bundle v0.2).
func checkEntries(entries []*rekorpb.TransparencyLogEntry) error {
	if n := len(entries); n > limits.LogEntries {
		return fmt.Errorf("%w: %d log entries, at most %d", ErrBundle, n, limits.LogEntries)
	}
	type place struct {
		log   string
		index int64
	}
	seen := make(map[place]bool, len(entries))
	for i, e := range entries {
		proof := e.GetInclusionProof()
		switch {
		case len(e.GetLogId().GetKeyId()) == 0 || len(e.GetCanonicalizedBody()) == 0 || e.GetKindVersion().GetKind() == "":
			return fmt.Errorf("%w: log entry %d lacks its log, kind or body", ErrBundle, i)
		case proof == nil || proof.GetCheckpoint().GetEnvelope() == "" || len(proof.GetRootHash()) == 0:
			return fmt.Errorf("%w: log entry %d lacks its inclusion proof", ErrBundle, i)
		case e.GetLogIndex() < 0 || proof.GetLogIndex() < 0 || proof.GetTreeSize() < 0 || len(proof.GetHashes()) > limits.ProofHashes:
			return fmt.Errorf("%w: log entry %d has an impossible proof", ErrBundle, i)
		}
		at := place{string(e.GetLogId().GetKeyId()), e.GetLogIndex()}
		if seen[at] {
			return fmt.Errorf("%w: log entry %d repeats another", ErrBundle, i)
		}
		seen[at] = true
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
