package signer

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/tlog"
)

// annotationPredicateType is cosign's annotation of a layer of an .att tag.
const annotationPredicateType = "predicateType"

// attests reports whether the operation makes attestations.
func (w *work) attests() bool { return w.op.Kind == kindAttestation }

// setPayload makes what a plain signature is over. An attestation's payload
// is made when it is needed: a document that kept it would hold the predicate
// once more for each target.
func (w *work) setPayload(t *target) (err error) {
	if !w.attests() {
		t.Payload, err = w.payload(t)
	}
	return err
}

// payload is the statement or the simple signing document that a target's
// signature is over; the same bytes each time.
func (w *work) payload(t *target) (payload []byte, err error) {
	if len(t.Payload) > 0 {
		return t.Payload, nil
	}
	digest, err := attest.ParseDigest(t.Digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	name, request := w.reference.Name(), w.doc.Request
	switch {
	case w.attests():
		payload, err = attest.PredicateStatement(name, digest, w.op.PredicateType, request.Predicate)
	case t.Format == FormatNotation:
		payload, err = w.notationMessage(digest)
	case t.Format == FormatLegacy:
		payload, err = attest.SimpleSigning(name, digest, request.Annotations)
	default:
		payload, err = attest.SignatureStatement(name, digest, request.Annotations)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return payload, nil
}

// message is the bytes that are signed: the pre-authentication encoding, but
// for a plain legacy signature and for notation.
func (w *work) message(t *target) ([]byte, error) {
	payload, err := w.payload(t)
	if err != nil || t.Format == FormatLegacy && !w.attests() || t.Format == FormatNotation {
		return payload, err
	}
	return attest.PAE(attest.PayloadTypeInToto, payload), nil
}

// content is what is attached and answered: the bundle, the payload of the
// legacy layer, or the envelope of the Notary Project.
func (w *work) content(t *target) (bundle, layer []byte, err error) {
	switch {
	case t.Format == FormatLegacy && w.attests():
		layer, err = w.envelope(t)
	case t.Format == FormatLegacy:
		layer = t.Payload
	case t.Format == FormatNotation:
		layer = t.Envelope
	default:
		bundle, err = w.bundle(t)
	}
	return bundle, layer, err
}

// bundle is a target's bundle, as it was kept or made of what was kept.
func (w *work) bundle(t *target) (made []byte, err error) {
	if len(t.Bundle) > 0 {
		return t.Bundle, nil
	}
	if len(t.made) == 0 {
		entry, err := tlog.UnmarshalEntry(t.Entry)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInternal, err)
		}
		if t.made, err = w.assembleBundle(t, entry); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInternal, err)
		}
	}
	return t.made, nil
}

func (w *work) assembleBundle(t *target, entry *rekorpb.TransparencyLogEntry) ([]byte, error) {
	payload, err := w.payload(t)
	if err != nil {
		return nil, err
	}
	in := attest.NewBundleInput{
		PayloadType: attest.PayloadTypeInToto, Payload: payload, Signature: t.Signature,
		Certificate: w.doc.Certificate, Entry: entry, Timestamp: t.Timestamp,
	}
	if w.doc.Certificate == nil {
		spki, err := hex.DecodeString(w.doc.KeyID)
		if err != nil {
			return nil, err
		}
		// Stock signers write the standard base64 of the public key's SHA-256.
		in.KeyHint = base64.StdEncoding.EncodeToString(spki)
	}
	return attest.NewBundle(in)
}

// envelope is the layer of an .att tag, the same bytes each time.
func (w *work) envelope(t *target) ([]byte, error) {
	if len(t.made) > 0 {
		return t.made, nil
	}
	payload, err := w.payload(t)
	if err != nil {
		return nil, err
	}
	t.made, err = attest.Envelope{
		PayloadType: attest.PayloadTypeInToto, Payload: payload,
		Signatures: []attest.EnvelopeSignature{{Signature: t.Signature}},
	}.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return t.made, nil
}

func (w *work) envelopeBody(t *target, public crypto.PublicKey, cert *x509.Certificate) ([]byte, error) {
	payload, err := w.payload(t)
	if err != nil {
		return nil, err
	}
	document, err := w.envelope(t)
	if err != nil {
		return nil, err
	}
	e := tlog.Envelope{Document: document, PayloadType: attest.PayloadTypeInToto, Payload: payload, Signature: t.Signature}
	if cert != nil {
		return tlog.DSSEV001Certificate(cert, e)
	}
	return tlog.DSSEV001(public, e)
}

// stamped is what the timestamp is over: the signature, but in an .att tag the
// whole envelope, where readers find no signature beside it (cosign
// pkg/cosign/verify.go, VerifyRFC3161Timestamp).
func (w *work) stamped(t *target) ([]byte, error) {
	if t.Format == FormatLegacy && w.attests() {
		return w.envelope(t)
	}
	if t.Format == FormatNotation {
		return w.rawSignature(t)
	}
	return t.Signature, nil
}

// forAttestation makes a signature's annotations those of an .att layer: the
// signature is in the envelope, and readers take one beside it for that of a
// plain signature. The empty one is cosign's; without it the layer as it is
// kept would not be the layer as it is read from the registry.
func (w *work) forAttestation(annotations map[string]string) {
	annotations[annotationSignature] = ""
	annotations[annotationPredicateType] = w.op.PredicateType
}
