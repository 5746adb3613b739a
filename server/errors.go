package server

import (
	"errors"

	"github.com/countersign/countersign/server/api"
)

// Refusals of the door itself.
var (
	errNoRoute        = errors.New("no such route")
	errVerifyOnly     = errors.New("only verification is served here")
	errNoMethod       = errors.New("method not allowed")
	errNoCredentials  = errors.New("no credentials")
	errBadCredentials = errors.New("malformed credentials")
	errRole           = errors.New("role missing")
	errCrossOrigin    = errors.New("cross-origin request")
	errRequest        = errors.New("invalid request")
	errTooLarge       = errors.New("body too large")
	errMediaType      = errors.New("unsupported media type")
	errNotAcceptable  = errors.New("not acceptable")
	errReadTimeout    = errors.New("body not received in time")
	errNeedsMatch     = errors.New("precondition required")
	errMatch          = errors.New("precondition failed")
	errNotReady       = errors.New("not ready")
	errJournal        = errors.New("journal cannot be written")
	errUnsupported    = errors.New("not supported by this server")
	errInternal       = errors.New("internal error")
)

// refusal adds to a cause what the caller may know beyond its table row.
type refusal struct {
	cause error
	// detail replaces the row's text. It must hold nothing of the request.
	detail string
	fields []api.FieldProblem
}

// Error is the cause, for the log.
func (r *refusal) Error() string { return r.cause.Error() }

// Unwrap gives the cause to errors.Is.
func (r *refusal) Unwrap() error { return r.cause }

// badField refuses one place of the request.
func badField(location, detail string) error {
	return &refusal{cause: errRequest, fields: fieldProblem(location, detail)}
}

func fieldProblem(location, detail string) []api.FieldProblem {
	return []api.FieldProblem{{Location: location, Code: "invalid", Detail: detail}}
}
