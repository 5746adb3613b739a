package api

import (
	"fmt"
	"strings"
	"time"
)

// ProblemType is the media type of a Problem (RFC 9457 §3).
const ProblemType = "application/problem+json"

// Problem is a refusal: problem details of RFC 9457 with a stable code. It is
// also the error the Client returns for one.
type Problem struct {
	// Type is the address of the code's documentation.
	Type string `json:"type" doc:"Address of the documentation of this code."`
	// Title is the same for every problem of a code.
	Title string `json:"title" doc:"Short summary, the same for every problem of this code."`
	// Status repeats the HTTP status.
	Status int `json:"status" doc:"The HTTP status."`
	// Code is stable; docs/problems.md lists all.
	Code string `json:"code" doc:"Stable code; see docs/problems.md."`
	// Detail says what the caller can do. It never repeats the request.
	Detail string `json:"detail" doc:"What the caller can do about it."`
	// Instance is the request id.
	Instance string `json:"instance" doc:"The request id, also in X-Request-Id."`
	// Errors names the faulty places of the request.
	Errors []FieldProblem `json:"errors,omitempty" nullable:"false" doc:"The faulty places of the request."`
	// RetryAfter is the answer's Retry-After header; it is not in the body.
	RetryAfter time.Duration `json:"-"`
}

// FieldProblem is one faulty place of a request.
type FieldProblem struct {
	// Location is where: body, path, query or header, then the field.
	Location string `json:"location" doc:"Where: body, path, query or header, then the field."`
	// Code is what is wrong there.
	Code string `json:"code" doc:"What is wrong there."`
	// Detail says it for a person, without the offending value.
	Detail string `json:"detail" doc:"The same for a person, without the offending value."`
}

// Error is one line for a person.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)", p.Detail, p.Code)
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "; %s: %s", f.Location, f.Detail)
	}
	return b.String()
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is ProblemType whatever was negotiated: RFC 9457 §3 has no other
// JSON form.
func (p *Problem) ContentType(string) string { return ProblemType }
