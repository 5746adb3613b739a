package verifier

import (
	"fmt"

	"github.com/countersign/countersign/policy"
)

// fault is why something does not count. Its text is safe to answer: it holds
// no bytes of the image's publisher.
type fault struct {
	code policy.Code
	text string
	// cause is for the log only: it may quote the publisher.
	cause error
}

func faultf(code policy.Code, format string, args ...any) *fault {
	return &fault{code: code, text: fmt.Sprintf(format, args...)}
}

func (f *fault) because(cause error) *fault {
	f.cause = cause
	return f
}

func (f *fault) reason() policy.Reason {
	return policy.Reason{Code: f.code, Message: f.text}
}
