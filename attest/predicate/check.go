package predicate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
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
func (e *FieldError) Error() string {
	if e.Pointer == "" {
		return "the document " + e.Problem
	}
	return e.Pointer + " " + e.Problem
}

// Unwrap makes errors.Is(err, ErrPredicate) true.
func (e *FieldError) Unwrap() error { return ErrPredicate }

// FieldErrors are 1 to limits.FieldErrors faults of one predicate, in the order
// in which they were found.
type FieldErrors []*FieldError

// Error describes the faults without values.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return ErrPredicate.Error() + ": " + strings.Join(lines, "; ")
}

// Unwrap is the faults, so that errors.Is and errors.As find each.
func (e FieldErrors) Unwrap() []error {
	out := make([]error, len(e))
	for i, f := range e {
		out[i] = f
	}
	return out
}

// Check reports whether a predicate may be signed under a type: it is one JSON
// object of at most limits.Predicate bytes and limits.JSONDepth levels, without
// duplicate names, and where the type's document is known it has the required
// fields, and every field that is known has its type and form. A field that is
// null or an empty text counts as absent, except that a time may not be empty.
//
// A name that differs from a known one only in case is refused: encoding/json,
// which many consumers use, would take it for the known one.
//
// The predicate is read in one pass and nothing of it is kept. Errors wrap
// ErrPredicate; faults of fields are FieldErrors.
func Check(uri string, predicate []byte) error {
	if len(predicate) > limits.Predicate {
		return fmt.Errorf("%w: larger than %d bytes", ErrPredicate, limits.Predicate)
	}
	uri = Canonical(uri)
	if uri == CosignSign {
		return fmt.Errorf("%w: %s is an image signature and no attestation: sign the image instead", ErrPredicate, CosignSign)
	}
	return walk(predicate, documentOf(uri))
}

// documentOf is the rule of a type's document.
func documentOf(uri string) *rule {
	switch uri {
	case SLSAProvenanceV1:
		return slsaV1()
	case SLSAProvenanceV02:
		return slsaV02()
	case SLSAProvenanceV01:
		return slsaV01()
	case VSAV1:
		return vsaV1()
	case SPDX, SPDXV23, SPDXV3:
		return spdx(uri)
	case CosignVuln:
		return cosignVuln()
	case VulnsV01, VulnsV02:
		return vulns()
	case OpenVEX, OpenVEXV02:
		return openVEX(uri)
	case LinkV03:
		return linkV03()
	case CosignLink:
		return linkV1()
	case TestResult:
		return testResult()
	case SCAI:
		return scai()
	case ReleaseV01, ReleaseV02:
		return release()
	case Reference:
		return reference()
	case RuntimeTrace:
		return runtimeTrace()
	case SVRV01:
		return svr()
	}
	if version, ok := strings.CutPrefix(uri, CycloneDX); ok && (version == "" || strings.HasPrefix(version, "/v")) {
		return cycloneDX(strings.TrimPrefix(version, "/v"))
	}
	return object()
}
