package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/digitorus/timestamp"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/keys"
)

// FormatNotation is a signature of the Notary Project in a JWS envelope,
// attached as an OCI referrer.
const FormatNotation = "notation"

// signingAgent names the program in envelopes, unsigned.
const signingAgent = "countersign"

// Notary makes what only signatures of the Notary Project need.
type Notary interface {
	// Certify returns a code signing chain for a managed key, its own
	// certificate first.
	Certify(ctx context.Context, name string, public crypto.PublicKey) ([]*x509.Certificate, error)
	// Stamp answers a DER TimeStampResp over message with the authority's
	// certificate in it: readers know its root only.
	Stamp(ctx context.Context, message []byte) ([]byte, error)
}

// Notation is what a referrer of the format notation holds.
type Notation struct {
	MediaType string `json:"mediaType"`
	// Envelope is the JWS envelope, byte for byte.
	Envelope []byte `json:"envelope"`
	// LogEntry is the log's record of the signature, for which the envelope has
	// no place, as protojson.
	LogEntry json.RawMessage `json:"logEntry"`
}

func (n *Notation) kept() *archive.Notation {
	return &archive.Notation{MediaType: n.MediaType, Envelope: n.Envelope, LogEntry: n.LogEntry}
}

func (t *target) notation(envelope []byte) *Notation {
	return &Notation{MediaType: notary.MediaTypeJWS, Envelope: envelope, LogEntry: t.Entry}
}

// checkNotation refuses what the format cannot say.
func (r *Request) checkNotation() error {
	at := slices.Index(r.Formats, FormatNotation)
	if at < 0 {
		return nil
	}
	field := fmt.Sprintf("/formats/%d", at)
	switch {
	case r.Action != "":
		return &RequestError{Field: field, Detail: "notation has no attestations: want " + FormatBundle + " or " + FormatLegacy}
	case r.Key == IdentityKey:
		return &RequestError{Field: field, Detail: "notation signs with a managed key: name one"}
	}
	return nil
}

// checkNotationKey wants a key that the Notary Project has an algorithm for: it
// has none for Ed25519, and for RSA only PSS, which a managed RSA key does not
// sign.
func (s *Signer) checkNotationKey(w *work, key keys.Key) error {
	at := slices.Index(w.doc.Request.Formats, FormatNotation)
	if at < 0 {
		return nil
	}
	field := fmt.Sprintf("/formats/%d", at)
	if s.cfg.Notary == nil {
		return &RequestError{Field: field, Detail: "this service signs no notation signatures"}
	}
	if _, ok := key.CurrentVersion().Public.(*ecdsa.PublicKey); !ok {
		return &RequestError{Field: field, Detail: "the key's algorithm cannot sign this format: want ecdsa-p256 or ecdsa-p384"}
	}
	algorithm, err := notary.AlgorithmOf(key.CurrentVersion().Public)
	if err != nil {
		return &RequestError{Field: field, Detail: "the key's algorithm cannot sign this format: want ecdsa-p256 or ecdsa-p384"}
	}
	w.algorithm = algorithm
	return nil
}

// notationMessage is what an envelope's signature is over: the whole descriptor
// of the manifest, and the operation's time.
func (w *work) notationMessage(digest attest.Digest) ([]byte, error) {
	m, ok := w.manifests[digest]
	if !ok || w.algorithm == "" {
		return nil, fmt.Errorf("%w: a notation signature without its manifest or key", ErrInternal)
	}
	target := notary.Target{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)), Annotations: w.doc.Request.Annotations}
	return notary.JWSMessage(target, w.algorithm, w.doc.CreatedAt)
}

// certify gets the key's certificate if a target needs it.
func (s *Signer) certify(ctx context.Context, w *work, public crypto.PublicKey) error {
	if !slices.Contains(w.doc.Request.Formats, FormatNotation) {
		return nil
	}
	chain, err := s.cfg.Notary.Certify(ctx, w.doc.Request.Key, public)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSign, err)
	}
	w.doc.NotaryChain = nil
	for _, c := range chain {
		w.doc.NotaryChain = append(w.doc.NotaryChain, c.Raw)
	}
	return nil
}

func (d *document) notaryChain() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range d.NotaryChain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: reading a stored certificate: %w", ErrInternal, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: a notation signature without a certificate", ErrInternal)
	}
	return out, nil
}

// rawSignature is a target's signature as an envelope has it; the log has it in
// ASN.1, as every other format.
func (w *work) rawSignature(t *target) ([]byte, error) {
	chain, err := w.doc.notaryChain()
	if err != nil {
		return nil, err
	}
	public, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: a notation signature by a key that has none", ErrInternal)
	}
	return notary.Raw(public, t.Signature)
}

func (s *Signer) stamp(ctx context.Context, t *target, message []byte) ([]byte, error) {
	if t.Format == FormatNotation {
		return s.cfg.Notary.Stamp(ctx, message)
	}
	return s.cfg.Timestamper.Stamp(ctx, message)
}

func (w *work) assembleNotation(t *target) ([]byte, error) {
	chain, err := w.doc.notaryChain()
	if err != nil {
		return nil, err
	}
	signature, err := w.rawSignature(t)
	if err != nil {
		return nil, err
	}
	stamp, err := timestamp.ParseResponse(t.Timestamp)
	if err != nil {
		return nil, fmt.Errorf("reading a timestamp: %w", err)
	}
	return notary.NewJWS(notary.Signed{
		Message: t.Payload, Signature: signature, Chain: chain, Timestamp: stamp.RawToken, Agent: signingAgent,
	})
}
