package notary

import (
	"bytes"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/countersign/countersign/internal/limits"
)

// Labels and algorithms of RFC 9052, 9053 and 9360.
const (
	tagSign1         = 18
	tagTime          = 1
	labelAlgorithm   = int64(1)
	labelCritical    = int64(2)
	labelContentType = int64(3)
	labelChain       = int64(33)
)

func coseAlgorithm(id int64) (Algorithm, bool) {
	switch id {
	case -7:
		return ES256, true
	case -35:
		return ES384, true
	case -36:
		return ES512, true
	case -37:
		return PS256, true
	case -38:
		return PS384, true
	case -39:
		return PS512, true
	}
	return "", false
}

type wireSign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

// coseReader decodes CBOR that somebody else wrote.
type coseReader struct{ cbor.DecMode }

func newCOSEReader() (coseReader, error) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, IntDec: cbor.IntDecConvertSignedOrFail,
		MaxNestedLevels: limits.CBORDepth, MaxArrayElements: limits.CBORElements, MaxMapPairs: limits.CBORElements,
	}.DecMode()
	if err != nil {
		return coseReader{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	return coseReader{mode}, nil
}

func parseCOSE(b []byte) (*Envelope, error) {
	r, err := newCOSEReader()
	if err != nil {
		return nil, err
	}
	var tag cbor.RawTag
	if err := r.Unmarshal(b, &tag); err != nil || tag.Number != tagSign1 {
		return nil, invalid("is no COSE_Sign1 with its tag and nothing else")
	}
	var wire wireSign1
	if err := r.Unmarshal(tag.Content, &wire); err != nil {
		return nil, invalid("is no COSE_Sign1")
	}
	if len(wire.Payload) == 0 || len(wire.Signature) == 0 || len(wire.Protected) == 0 {
		return nil, invalid("has an empty part")
	}
	protected, err := r.header(wire.Protected)
	if err != nil {
		return nil, err
	}
	unprotected, err := r.header(wire.Unprotected)
	if err != nil {
		return nil, err
	}
	e := &Envelope{Payload: wire.Payload, Signature: wire.Signature}
	if e.Message, err = cbor.Marshal([]any{"Signature1", wire.Protected, []byte{}, wire.Payload}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if err := r.readUnprotected(e, protected, unprotected); err != nil {
		return nil, err
	}
	return e, r.readProtected(e, protected)
}

// header reads a map whose labels are integers and texts.
func (r coseReader) header(b []byte) (map[any]cbor.RawMessage, error) {
	var out map[any]cbor.RawMessage
	if len(b) == 0 || b[0]>>5 != 5 || r.Unmarshal(b, &out) != nil {
		return nil, invalid("has a header that is no map with labels used once")
	}
	for label, value := range out {
		switch label.(type) {
		case int64, string:
		default:
			return nil, invalid("has a label that is neither an integer nor a text")
		}
		if bytes.Equal(value, []byte{0xf6}) || bytes.Equal(value, []byte{0xf7}) {
			return nil, invalid("has an attribute without a value")
		}
	}
	return out, nil
}

func (r coseReader) readUnprotected(e *Envelope, protected, unprotected map[any]cbor.RawMessage) error {
	for _, label := range []any{
		labelAlgorithm, labelCritical, labelContentType, attributeScheme, attributeTime, attributeAuthenticTime, attributeExpiry,
	} {
		if _, has := unprotected[label]; has {
			return invalid("has signed attributes in its unsigned header")
		}
	}
	for label := range unprotected {
		if _, twice := protected[label]; twice {
			return invalid("has a label in both headers")
		}
	}
	var chain [][]byte
	if err := r.Unmarshal(unprotected[labelChain], &chain); err != nil {
		return invalid("has no certificate chain")
	}
	if raw, has := unprotected[attributeTimestamp]; has {
		if raw[0]>>5 != 2 || r.Unmarshal(raw, &e.Timestamp) != nil || len(e.Timestamp) == 0 || len(e.Timestamp) > limits.NotaryTimestamp {
			return invalid("has a timestamp that is not 1 to %d bytes", limits.NotaryTimestamp)
		}
	}
	var err error
	e.Chain, err = parseChain(chain)
	return err
}

func (r coseReader) readProtected(e *Envelope, protected map[any]cbor.RawMessage) error {
	var id int64
	if err := r.Unmarshal(protected[labelAlgorithm], &id); err != nil {
		return invalid("names no algorithm")
	}
	var ok bool
	if e.Algorithm, ok = coseAlgorithm(id); !ok {
		return invalid("is by an algorithm that the specification does not have")
	}
	var a attributes
	var critical []any
	if err := r.Unmarshal(protected[labelCritical], &critical); err != nil {
		return invalid("has no critical attributes")
	}
	for _, label := range critical {
		name, ok := label.(string)
		if !ok {
			return invalid("has a critical attribute that is not known here")
		}
		a.critical = append(a.critical, name)
	}
	if r.Unmarshal(protected[labelContentType], &a.contentType) != nil || r.Unmarshal(protected[attributeScheme], &a.scheme) != nil {
		return invalid("has no content type or no signing scheme")
	}
	for name, at := range map[string]**time.Time{
		attributeTime: &a.time, attributeAuthenticTime: &a.authenticTime, attributeExpiry: &a.expiry,
	} {
		if err := r.readTime(protected, name, at); err != nil {
			return err
		}
	}
	if err := a.check(); err != nil {
		return err
	}
	a.fill(e)
	return nil
}

// readTime reads whole seconds under tag 1; every other spelling of a time is
// refused.
func (r coseReader) readTime(protected map[any]cbor.RawMessage, name string, at **time.Time) error {
	raw, has := protected[name]
	if !has {
		return nil
	}
	var tag cbor.RawTag
	var seconds int64
	if r.Unmarshal(raw, &tag) != nil || tag.Number != tagTime || tag.Content[0]>>5 > 1 || r.Unmarshal(tag.Content, &seconds) != nil {
		return invalid("has a time that is not whole seconds under tag 1")
	}
	*at = new(time.Unix(seconds, 0).UTC())
	return nil
}
