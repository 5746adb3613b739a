package provenance

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of Build and of Rules.Validate.
var (
	// ErrNoClaims is wrapped when the identity cannot carry provenance: it is
	// not of a build system, its token lacks or garbles a claim, the job is not
	// to be trusted, or its source is not configured. A *ClaimError says which.
	ErrNoClaims = errors.New("the identity carries no provenance")
	// ErrInput is wrapped when what the caller adds is malformed; the place is a
	// *strictjson.FieldError.
	ErrInput = errors.New("invalid addition to a provenance")
	// ErrRules is wrapped by errors of Rules.Validate; the place is a
	// *strictjson.FieldError.
	ErrRules = errors.New("invalid provenance rules")
)

// ClaimError says which claim keeps an identity from carrying provenance. It
// never has the claim's value.
type ClaimError struct {
	// Claim is the name in the token, or a field of Rules.
	Claim string
	// Problem is a phrase that follows the name.
	Problem string
}

// Error is `claim NAME PROBLEM`.
func (e *ClaimError) Error() string { return fmt.Sprintf("claim %s %s", e.Claim, e.Problem) }

// Unwrap makes errors.Is(err, ErrNoClaims) true.
func (e *ClaimError) Unwrap() error { return ErrNoClaims }

// Mismatch is one field of a request that contradicts the claims.
type Mismatch struct {
	// Pointer is the field in the request's body, as an RFC 6901 pointer.
	Pointer string
	// Detail is a sentence without the values.
	Detail string
}

// MismatchError lists every field that contradicts the claims, in the order of
// the request.
type MismatchError struct {
	Fields []Mismatch
}

// Error names the fields.
func (e *MismatchError) Error() string {
	pointers := make([]string, 0, len(e.Fields))
	for _, f := range e.Fields {
		pointers = append(pointers, f.Pointer)
	}
	return "contradicts the claims: " + strings.Join(pointers, ", ")
}
