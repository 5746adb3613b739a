package attest

import (
	"bytes"
	"encoding/base64"

	"github.com/go-json-experiment/json/jsontext"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

// largePayload is from how many characters on a payload is cut out of its
// bundle before the bundle is read as a message.
const largePayload = 4 << 10

// stand is what takes the place of a payload that was cut out: base64 of one
// byte, so that the field stays what it is to the checks of the rest.
const stand = `"AA=="`

// payloadPointer is where a bundle has its payload, in the one spelling that is
// read (RFC 6901).
const payloadPointer = jsontext.Pointer("/dsseEnvelope/payload")

// cutPayload takes a large payload out of a bundle that has passed
// strictjson.Check, so that a bill of materials of megabytes is decoded once and
// not as a part of four trees. It answers the document with a stand-in, and the
// payload, only if the text is base64 as the JSON mapping writes it, which is
// what the comparison in unmarshalProto would ask of it. ok is false where there
// is nothing large to cut or anything is unusual: then the whole is read as a
// message, which decides.
func cutPayload(raw []byte) (small, payload []byte, ok bool) {
	if len(raw) < largePayload {
		return nil, nil, false
	}
	start, end, found := findPayload(raw)
	if !found || end-start < largePayload {
		return nil, nil, false
	}
	text := raw[start+1 : end-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		return nil, nil, false
	}
	payload = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(payload, text)
	// The decoder passes over line breaks, which JSON has only as escapes.
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(text) {
		return nil, nil, false
	}
	small = make([]byte, 0, len(raw)-len(text)+len(stand))
	small = append(append(append(small, raw[:start]...), stand...), raw[end:]...)
	return small, payload[:n], true
}

// findPayload is where the payload's text begins and ends, quotes included.
func findPayload(raw []byte) (start, end int, found bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return 0, 0, false
		}
		// A member's pointer is known when its name was read, and stays the same
		// when its value was.
		if token.Kind() != jsontext.KindString || dec.StackDepth() != 2 || dec.StackPointer() != payloadPointer {
			continue
		}
		if dec.PeekKind() != jsontext.KindString {
			return 0, 0, false
		}
		value, err := dec.ReadValue()
		if err != nil {
			return 0, 0, false
		}
		end = int(dec.InputOffset())
		return end - len(value), end, true
	}
}

// unmarshalCut is unmarshalProto for a document whose payload may be large.
func unmarshalCut(raw []byte) (*bundlepb.Bundle, error) {
	small, payload, ok := cutPayload(raw)
	if !ok {
		return unmarshalChecked(raw)
	}
	message, err := unmarshalChecked(small)
	if err != nil {
		return nil, err
	}
	if message.GetDsseEnvelope() == nil {
		return unmarshalChecked(raw)
	}
	message.GetDsseEnvelope().Payload = payload
	return message, nil
}
