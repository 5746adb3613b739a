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
// for documents whose specification lets writers add fields.
func UnmarshalOpen(b []byte, v any) error {
	return decode(b, v)
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
