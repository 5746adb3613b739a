package policy

import (
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/strictjson"
)

// Errors of Parse and ParseGrant. All wrap one of the first two and, where the
// fault has a place, are a *FieldError.
var (
	// ErrPolicy: the document is not a policy that may be loaded.
	ErrPolicy = errors.New("invalid policy")
	// ErrGrant: the document is not a grant that may be loaded.
	ErrGrant = errors.New("invalid grant")
)

// FieldError names the place of a fault as an RFC 6901 pointer into the
// document. Problem never repeats the value found there.
type FieldError struct {
	Pointer string
	Problem string
}

// Error is the place and the problem.
func (e *FieldError) Error() string {
	if e.Pointer == "" {
		return "the document " + e.Problem
	}
	return fmt.Sprintf("%s: %s", e.Pointer, e.Problem)
}

func fault(pointer, format string, args ...any) error {
	return &FieldError{Pointer: pointer, Problem: fmt.Sprintf(format, args...)}
}

// locate turns a decoder's error into a FieldError where it names a place.
func locate(err error) error {
	if at, ok := errors.AsType[*strictjson.FieldError](err); ok {
		return &FieldError{Pointer: at.Pointer, Problem: at.Problem}
	}
	return err
}
