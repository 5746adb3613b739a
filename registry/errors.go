package registry

import "errors"

// Errors of this package. Their texts name host, repository and digest and
// never quote what a registry sent.
var (
	// ErrReference: a reference cannot be read.
	ErrReference = errors.New("invalid image reference")
	// ErrRule: a registry rule cannot be used.
	ErrRule = errors.New("invalid registry rule")
	// ErrNotListed: no rule covers this host and repository; nothing was
	// contacted.
	ErrNotListed = errors.New("registry is not listed")
	// ErrNotFound: the registry has no such manifest or blob.
	ErrNotFound = errors.New("not found in the registry")
	// ErrUnavailable: the registry could not be reached, did not answer in
	// time, or answered with a fault of its own; worth a retry.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrDenied: the registry refused the credentials or the right.
	ErrDenied = errors.New("registry denied access")
	// ErrDigestMismatch: bytes do not hash to the digest that named them.
	ErrDigestMismatch = errors.New("content does not match its digest")
	// ErrAmbiguous: a document that two readers could take for two things, or
	// that is neither an image manifest nor an index.
	ErrAmbiguous = errors.New("ambiguous manifest")
	// ErrLimit: an answer exceeds a bound of package limits.
	ErrLimit = errors.New("registry answer exceeds a limit")
	// ErrUnsafe: the registry pointed to a place that must not be contacted, or
	// its own address is private and its rule does not allow that.
	ErrUnsafe = errors.New("registry address refused")
	// ErrAttachment: what shall be attached is not complete or too large.
	ErrAttachment = errors.New("invalid attachment")
)
