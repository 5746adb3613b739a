package server

import (
	"context"

	"github.com/countersign/countersign/identity"
)

type requestKey struct{}

// request is what the middleware knows of one request. It is written by the
// request's own goroutine only.
type request struct {
	id     string
	trace  string
	caller identity.Identity
	// code and cause are set when the answer is a problem.
	code  string
	cause error
}

// requestOf is the request of a context; never nil.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// callerOf is who calls; the zero identity on anonymous routes.
func callerOf(ctx context.Context) identity.Identity { return requestOf(ctx).caller }
