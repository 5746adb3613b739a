// Package strictjson decodes JSON that somebody else wrote. It refuses what
// lets two readers of the same bytes see two documents: duplicate names, names
// that differ only in case from a field, unknown names, invalid UTF-8,
// trailing data, and nesting beyond a bound.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
)

// ErrInvalid is wrapped by every error of this package.
var ErrInvalid = errors.New("invalid JSON")

// Unmarshal decodes the whole of b into v, a pointer. Unknown names are
// errors.
func Unmarshal(b []byte, v any) error {
	return decode(b, v, json.RejectUnknownMembers(true))
}

// UnmarshalOpen decodes like Unmarshal but passes over unknown names. It is
// for documents whose specification lets writers add fields. What v pointed to
// is replaced, not merged into.
//
// An unknown name that a laxer reader would take for a field (it differs only
// in case, `-` or `_`) is an error: encoding/json, which other consumers of the
// same bytes use, matches names in any case and lets the last one win.
func UnmarshalOpen(b []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("%w: the target is not a pointer", ErrInvalid)
	}
	exact := reflect.New(target.Type().Elem())
	if err := decode(b, exact.Interface()); err != nil {
		return err
	}
	folded := reflect.New(target.Type().Elem())
	err := json.Unmarshal(b, folded.Interface(), json.MatchCaseInsensitiveNames(true))
	if err != nil || !reflect.DeepEqual(exact.Interface(), folded.Interface()) {
		return fmt.Errorf("%w: a name differs from a known one only in case or punctuation", ErrInvalid)
	}
	target.Elem().Set(exact.Elem())
	return nil
}

// Check reports whether b is one JSON value without duplicate names within the
// depth bound, without keeping anything of it. Use it in front of a library
// that decodes more loosely.
func Check(b []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		_, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: at byte %d", ErrInvalid, dec.InputOffset())
		}
		if dec.StackDepth() > limits.JSONDepth {
			return fmt.Errorf("%w: nested deeper than %d", ErrInvalid, limits.JSONDepth)
		}
		if dec.StackDepth() == 0 {
			return end(b[dec.InputOffset():])
		}
	}
	return fmt.Errorf("%w: no value", ErrInvalid)
}

// NoNull reports the first null of a document that passed Check. Absent and
// null are the same to most decoders and different to some, so a document of
// ours or of a signer says neither by null. The values at the RFC 6901 pointers
// in except are not looked into.
func NoNull(b []byte, except ...string) error {
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		kind := dec.PeekKind()
		if kind == jsontext.KindInvalid {
			if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: at byte %d", ErrInvalid, dec.InputOffset())
			}
			return nil
		}
		if err := nextNotNull(dec, kind, except); err != nil {
			return err
		}
	}
}

// nextNotNull reads one token. The pointer of a value is known only once it
// was read, that of a member's value already by its name.
func nextNotNull(dec *jsontext.Decoder, kind jsontext.Kind, except []string) error {
	tok, err := dec.ReadToken()
	if err != nil {
		return fmt.Errorf("%w: at byte %d", ErrInvalid, dec.InputOffset())
	}
	at := string(dec.StackPointer())
	if kind == jsontext.KindNull {
		return &FieldError{Pointer: at, Problem: "is null"}
	}
	if holder, n := dec.StackIndex(dec.StackDepth()); holder == jsontext.KindBeginObject && n%2 == 1 &&
		tok.Kind() == jsontext.KindString && slices.Contains(except, at) {
		if err := dec.SkipValue(); err != nil {
			return fmt.Errorf("%w: at byte %d", ErrInvalid, dec.InputOffset())
		}
	}
	return nil
}

// Marshal encodes v without white space and with the names of maps in order,
// so that equal values give equal bytes.
func Marshal(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true))
}

// Canonical is the document in the JSON Canonicalization Scheme (RFC 8785).
// Numbers become IEEE 754 doubles, as that scheme says.
func Canonical(b []byte) ([]byte, error) {
	if err := Check(b); err != nil {
		return nil, err
	}
	v := jsontext.Value(bytes.Clone(b))
	if err := v.Canonicalize(); err != nil {
		return nil, fmt.Errorf("%w: has no canonical form", ErrInvalid)
	}
	return v, nil
}

func decode(b []byte, v any, opts ...json.Options) error {
	if err := Check(b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v, opts...); err != nil {
		return describe(err)
	}
	return nil
}

func end(rest []byte) error {
	if len(bytes.TrimLeft(rest, " \t\r\n")) != 0 {
		return fmt.Errorf("%w: data after the value", ErrInvalid)
	}
	return nil
}

// FieldError names the place of a fault as an RFC 6901 pointer. It never
// carries the offending value, which may be a secret.
type FieldError struct {
	Pointer string
	Problem string
}

// Error describes the fault without the value.
func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Pointer, e.Problem) }

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Unwrap() error { return ErrInvalid }

func describe(err error) error {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		problem := "has the wrong type or form"
		if errors.Is(err, json.ErrUnknownName) {
			problem = "is not a known field"
		}
		return &FieldError{Pointer: string(semantic.JSONPointer), Problem: problem}
	}
	return fmt.Errorf("%w: malformed", ErrInvalid)
}
