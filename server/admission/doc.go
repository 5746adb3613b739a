// Package admission reads what admission controllers send and writes what they
// expect back: AdmissionReview and ImageReview of Kubernetes, the external data
// of Gatekeeper and of Ratify, and the verifier service of Kyverno.
//
// It finds the images of Kubernetes objects with the JSON pointer of each
// (Rules.Find), says which of them a review asks about (Rules.Ask), and makes
// the patch that pins them. It does no I/O: what is asked of the verifier, and
// when, is the caller's.
//
// What is judged when:
//
//   - CREATE and UPDATE are judged, also of objects that are being deleted. No
//     annotation, label or name exempts an object.
//   - On UPDATE an image counts as unchanged if the old object has the same
//     reference in the same sort of place, whichever container that is: what
//     ran already must not keep a finalizer from being removed. A setting has
//     all of them judged.
//   - DELETE runs no image, `status` cannot change what runs, and a Scale names
//     no image: those pass. CONNECT and every other operation is refused.
//   - A kind that is neither known nor configured may run images in ways that
//     are not known, and is refused, as is an object in which no image is found
//     where some must be.
//
// Names are matched exactly as the API server does. A name that differs from a
// looked-for one only in case or punctuation is refused, since laxer readers
// take it for that one; duplicates are refused everywhere; other unknown fields
// of objects and of an AdmissionReview are passed over, those of the other
// protocols' envelopes refused.
package admission

import (
	"errors"

	"github.com/countersign/countersign/internal/strictjson"
)

// ErrInvalid is wrapped by every error of this package.
var ErrInvalid = errors.New("invalid admission request")

// Fault names a place and what is wrong there. It holds nothing of the value.
type Fault struct {
	Field   string
	Problem string
}

// Error describes the fault without the value.
func (f *Fault) Error() string { return f.Field + ": " + f.Problem }

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (f *Fault) Unwrap() error { return ErrInvalid }

func fault(field, problem string) error { return &Fault{Field: field, Problem: problem} }

// unreadable is the fault of a document that strictjson refused.
func unreadable(err error) error {
	var at *strictjson.FieldError
	if errors.As(err, &at) {
		return fault("body"+at.Pointer, at.Problem)
	}
	return fault("body", "is not one JSON value without duplicate names, invalid UTF-8 or nesting beyond the bound")
}

// within puts a place before that of a fault.
func within(field string, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return fault(field+"."+f.Field, f.Problem)
	}
	return err
}
