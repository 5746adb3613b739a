package attest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// PayloadTypeInToto is the payload type of an envelope around an in-toto
// statement.
const PayloadTypeInToto = "application/vnd.in-toto+json"

// ErrEnvelope is wrapped by errors of ParseEnvelope.
var ErrEnvelope = errors.New("invalid envelope")

// PAE is the DSSE v1 pre-authentication encoding: the bytes that are signed
// (DSSE protocol.md, "Signature Definition"). Lengths are in bytes, decimal.
func PAE(payloadType string, payload []byte) []byte {
	const version = "DSSEv1"
	b := make([]byte, 0, len(version)+len(payloadType)+len(payload)+24)
	b = append(b, version...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Envelope is a DSSE envelope. Its signatures are over PAE(PayloadType,
// Payload).
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []EnvelopeSignature
}

// EnvelopeSignature is one signature of an envelope. KeyID is an
// unauthenticated hint and may be empty.
type EnvelopeSignature struct {
	KeyID     string
	Signature []byte
}

type wireEnvelope struct {
	PayloadType *string         `json:"payloadType"`
	Payload     *string         `json:"payload"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID *string `json:"keyid,omitzero"`
	Sig   *string `json:"sig"`
}

// ParseEnvelope reads a DSSE envelope in JSON (DSSE envelope.md) of at most
// limits.Bundle bytes. Payload and signatures must be in standard padded
// base64 and not empty, and there must be one to limits.EnvelopeSignatures
// signatures. Errors wrap ErrEnvelope.
func ParseEnvelope(b []byte) (Envelope, error) {
	if len(b) > limits.Bundle {
		return Envelope{}, fmt.Errorf("%w: larger than %d bytes", ErrEnvelope, limits.Bundle)
	}
	var w wireEnvelope
	if err := decodeNoNull(b, &w, false); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	return w.envelope()
}

func (w wireEnvelope) envelope() (Envelope, error) {
	if w.PayloadType == nil || *w.PayloadType == "" {
		return Envelope{}, fmt.Errorf("%w: payloadType is missing or empty", ErrEnvelope)
	}
	payload, err := parseBase64(w.Payload)
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: payload %w", ErrEnvelope, err)
	}
	if n := len(w.Signatures); n == 0 || n > limits.EnvelopeSignatures {
		return Envelope{}, fmt.Errorf("%w: %d signatures, want 1 to %d", ErrEnvelope, n, limits.EnvelopeSignatures)
	}
	e := Envelope{PayloadType: *w.PayloadType, Payload: payload}
	for i, s := range w.Signatures {
		sig, err := parseBase64(s.Sig)
		if err != nil {
			return Envelope{}, fmt.Errorf("%w: signature %d %w", ErrEnvelope, i, err)
		}
		parsed := EnvelopeSignature{Signature: sig}
		if s.KeyID != nil {
			parsed.KeyID = *s.KeyID
		}
		e.Signatures = append(e.Signatures, parsed)
	}
	return e, nil
}

// Marshal is the envelope in the form ParseEnvelope reads, without white
// space.
func (e Envelope) Marshal() ([]byte, error) {
	w := wireEnvelope{
		PayloadType: &e.PayloadType,
		Payload:     new(base64.StdEncoding.EncodeToString(e.Payload)),
	}
	for _, s := range e.Signatures {
		ws := wireSignature{Sig: new(base64.StdEncoding.EncodeToString(s.Signature))}
		if s.KeyID != "" {
			ws.KeyID = &s.KeyID
		}
		w.Signatures = append(w.Signatures, ws)
	}
	return strictjson.Marshal(w)
}

var errBase64 = errors.New("is missing, empty or not standard padded base64")

// parseBase64 accepts exactly what base64.StdEncoding writes. The decoder
// alone would pass over line breaks and, unless strict, stray trailing bits.
func parseBase64(s *string) ([]byte, error) {
	if s == nil || *s == "" {
		return nil, errBase64
	}
	b, err := base64.StdEncoding.Strict().DecodeString(*s)
	if err != nil || len(b) == 0 || base64.StdEncoding.EncodedLen(len(b)) != len(*s) {
		return nil, errBase64
	}
	return b, nil
}
