package notary

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

type wireJWS struct {
	Payload   string          `json:"payload"`
	Protected string          `json:"protected"`
	Header    json.RawMessage `json:"header"`
	Signature string          `json:"signature"`
}

type wireUnprotected struct {
	Timestamp []byte   `json:"io.cncf.notary.timestampSignature,omitempty"`
	Chain     [][]byte `json:"x5c"`
	Agent     string   `json:"io.cncf.notary.signingAgent,omitempty"`
}

// wireSigned are the attributes that only the protected header may have: one
// beside it in the other header is a second word on the same thing.
type wireSigned struct {
	Algorithm     json.RawMessage `json:"alg"`
	ContentType   json.RawMessage `json:"cty"`
	Critical      json.RawMessage `json:"crit"`
	Scheme        json.RawMessage `json:"io.cncf.notary.signingScheme"`
	Time          json.RawMessage `json:"io.cncf.notary.signingTime"`
	AuthenticTime json.RawMessage `json:"io.cncf.notary.authenticSigningTime"`
	Expiry        json.RawMessage `json:"io.cncf.notary.expiry"`
}

func (w wireSigned) any() bool {
	return len(w.Algorithm)+len(w.ContentType)+len(w.Critical)+len(w.Scheme)+len(w.Time)+len(w.AuthenticTime)+len(w.Expiry) > 0
}

type wireProtected struct {
	Algorithm     string     `json:"alg"`
	Critical      []string   `json:"crit"`
	ContentType   string     `json:"cty"`
	Expiry        *time.Time `json:"io.cncf.notary.expiry,omitempty"`
	Scheme        string     `json:"io.cncf.notary.signingScheme"`
	Time          *time.Time `json:"io.cncf.notary.signingTime,omitempty"`
	AuthenticTime *time.Time `json:"io.cncf.notary.authenticSigningTime,omitempty"`
	// Encoded is RFC 7797's: with false the signature is over other bytes.
	Encoded json.RawMessage `json:"b64,omitempty"`
}

func parseJWS(b []byte) (*Envelope, error) {
	var wire wireJWS
	if err := strictjson.Unmarshal(b, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if err := strictjson.NoNull(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	e := &Envelope{Message: []byte(wire.Protected + "." + wire.Payload)}
	var err error
	var protected []byte
	if protected, err = decodeURL(wire.Protected); err != nil {
		return nil, err
	}
	if e.Payload, err = decodeURL(wire.Payload); err != nil {
		return nil, err
	}
	if e.Signature, err = decodeURL(wire.Signature); err != nil {
		return nil, err
	}
	if err := e.readUnprotected(wire.Header); err != nil {
		return nil, err
	}
	return e, e.readProtected(protected)
}

func (e *Envelope) readUnprotected(b []byte) error {
	var signed wireSigned
	if err := strictjson.UnmarshalOpen(b, &signed); err != nil {
		return fmt.Errorf("%w: header: %w", ErrEnvelope, err)
	}
	if signed.any() {
		return invalid("has signed attributes in its unsigned header")
	}
	var wire wireUnprotected
	if err := strictjson.UnmarshalOpen(b, &wire); err != nil {
		return fmt.Errorf("%w: header: %w", ErrEnvelope, err)
	}
	var err error
	e.Timestamp = wire.Timestamp
	if len(e.Timestamp) > limits.NotaryTimestamp {
		return invalid("has a timestamp of more than %d bytes", limits.NotaryTimestamp)
	}
	e.Chain, err = parseChain(wire.Chain)
	return err
}

func (e *Envelope) readProtected(b []byte) error {
	var wire wireProtected
	if err := strictjson.UnmarshalOpen(b, &wire); err != nil {
		return fmt.Errorf("%w: protected header: %w", ErrEnvelope, err)
	}
	if err := strictjson.NoNull(b); err != nil {
		return fmt.Errorf("%w: protected header: %w", ErrEnvelope, err)
	}
	e.Algorithm = Algorithm(wire.Algorithm)
	switch {
	case !known(e.Algorithm):
		return invalid("is by an algorithm that the specification does not have")
	case len(wire.Encoded) > 0:
		return invalid("says how its payload is encoded")
	}
	a := attributes{
		scheme: wire.Scheme, contentType: wire.ContentType, time: wire.Time,
		authenticTime: wire.AuthenticTime, expiry: wire.Expiry, critical: wire.Critical,
	}
	if err := a.check(); err != nil {
		return err
	}
	a.fill(e)
	return nil
}

// decodeURL reads unpadded base64url in its one spelling.
func decodeURL(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || base64.RawURLEncoding.EncodedLen(len(b)) != len(text) {
		return nil, invalid("has an empty part or one that is not unpadded base64url")
	}
	return b, nil
}

// JWSMessage is what a signature of the target by an algorithm is over, in the
// scheme notary.x509: the same arguments give the same bytes.
func JWSMessage(target Target, algorithm Algorithm, at time.Time) ([]byte, error) {
	if !known(algorithm) {
		return nil, ErrKey
	}
	protected, err := json.Marshal(wireProtected{
		Algorithm: string(algorithm), Critical: []string{attributeScheme}, ContentType: MediaTypePayload,
		Scheme: string(SchemeX509), Time: new(at.UTC().Truncate(time.Second)),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	payload, err := json.Marshal(wirePayload{&wireTarget{
		MediaType: target.MediaType, Digest: target.Digest.String(), Size: &target.Size, Annotations: target.Annotations,
	}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return []byte(encode(protected) + "." + encode(payload)), nil
}

// Signed is what NewJWS makes an envelope of.
type Signed struct {
	// Message is JWSMessage's.
	Message   []byte
	Signature []byte
	Chain     []*x509.Certificate
	// Timestamp is an RFC 3161 token over Signature; optional.
	Timestamp []byte
	// Agent names the program that signs; optional.
	Agent string
}

// NewJWS assembles an envelope, and returns it only if Parse reads it.
func NewJWS(s Signed) ([]byte, error) {
	protected, payload, ok := strings.Cut(string(s.Message), ".")
	if !ok {
		return nil, invalid("needs a message of two parts")
	}
	header := wireUnprotected{Timestamp: s.Timestamp, Agent: s.Agent}
	for _, c := range s.Chain {
		header.Chain = append(header.Chain, c.Raw)
	}
	raw, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	b, err := json.Marshal(wireJWS{
		Payload: payload, Protected: protected, Header: raw, Signature: base64.RawURLEncoding.EncodeToString(s.Signature),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	_, err = Parse(MediaTypeJWS, b)
	return b, err
}
