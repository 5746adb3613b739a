package predicate

import (
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrPredicate is wrapped by errors of Check.
var ErrPredicate = errors.New("invalid predicate")

// FieldError is one fault of a predicate: its place as an RFC 6901 pointer, and
// what is wrong and wanted there. It never carries the offending value.
type FieldError struct {
	Pointer string
	Problem string
}

// Error describes the fault without the value.
func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Pointer, e.Problem) }

// Unwrap makes errors.Is(err, ErrPredicate) true.
func (e *FieldError) Unwrap() error { return ErrPredicate }

// Check reports whether a predicate may be signed under a type. Errors wrap
// ErrPredicate.
func Check(_ string, predicate []byte) error {
	if len(predicate) > limits.Predicate {
		return fmt.Errorf("%w: larger than %d bytes", ErrPredicate, limits.Predicate)
	}
	if err := strictjson.Check(predicate); err != nil {
		return fmt.Errorf("%w: %w", ErrPredicate, err)
	}
	for _, c := range predicate {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return nil
		}
		break
	}
	return &FieldError{Pointer: "", Problem: "is not a JSON object"}
}
