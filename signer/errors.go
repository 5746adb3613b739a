package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// Errors that end a request or an operation. Each is wrapped around its cause;
// match with errors.Is. Code names the stable code of each.
var (
	// ErrRequest: the request itself is wrong; a *RequestError names the field.
	ErrRequest = errors.New("invalid signing request")
	// ErrIdentityKey: the key "identity" (or none) or provenance was asked for,
	// and the caller has no OIDC identity that a certificate could carry or
	// provenance be made of.
	ErrIdentityKey = errors.New("signing with a certificate, and provenance, need a caller with an OIDC identity")
	// ErrClaims: the caller's verified claims do not make provenance.
	ErrClaims = errors.New("the caller's identity carries no provenance")
	// ErrClaimMismatch: fields of the request contradict the caller's verified
	// claims; the cause is a *provenance.MismatchError.
	ErrClaimMismatch = errors.New("the request contradicts the caller's claims")
	// ErrNoCertificates: the service has no certificate authority.
	ErrNoCertificates = errors.New("this service issues no certificates; name a managed key")
	// ErrNoSummaries: the service signs no verification summaries.
	ErrNoSummaries = errors.New("this service signs no verification summaries")
	// ErrIdentityExpired: the caller proved its identity too long ago for a
	// certificate; repeat the request with a fresh token.
	ErrIdentityExpired = errors.New("the caller's identity was proven too long ago; repeat the request with a fresh token")
	// ErrIdentityRefused: the certificate authority cannot put the caller's
	// identity into a certificate, for want of a claim for instance.
	ErrIdentityRefused = errors.New("the caller's identity cannot be certified")
	// ErrCertificate: the certificate authority did not issue.
	ErrCertificate = errors.New("certificate cannot be issued")
	// ErrForbidden: no grant covers the request; a *ForbiddenError says which
	// one is missing.
	ErrForbidden = errors.New("signing is not permitted")
	// ErrRegistryNotListed: the registry or the repository is not listed. It
	// was not contacted.
	ErrRegistryNotListed = errors.New("registry or repository is not listed")
	// ErrKeyNotFound: the caller may use a key of that name, and there is none
	// for signing.
	ErrKeyNotFound = errors.New("no such signing key")
	// ErrKeyNotActive: the key exists and is not in the state active.
	ErrKeyNotActive = errors.New("key is not active")
	// ErrKeyRevoked: the key was revoked after it signed and before the
	// signature was released; the signature is not released.
	ErrKeyRevoked = errors.New("key was revoked before the signature was released")
	// ErrKeyRotated: the key was rotated again and again while the operation
	// signed with it.
	ErrKeyRotated = errors.New("key was rotated during signing")
	// ErrKeyUnavailable: the key's back end did not answer in time.
	ErrKeyUnavailable = errors.New("key back end is unavailable")
	// ErrKeyRefused: the key's back end knows no such key, or does not let the
	// service use it.
	ErrKeyRefused = errors.New("key back end refused")
	// ErrKeyChanged: the key in the back end is not the recorded one.
	ErrKeyChanged = errors.New("key in the back end is not the recorded one")
	// ErrIdempotencyReused: the idempotency key was used with another request.
	ErrIdempotencyReused = errors.New("idempotency key was used with another request")
	// ErrManifestNotFound: the registry has no such manifest.
	ErrManifestNotFound = errors.New("manifest not found")
	// ErrDigestMismatch: the registry answered bytes that do not hash to the
	// digest asked for.
	ErrDigestMismatch = errors.New("manifest does not match its digest")
	// ErrAmbiguousManifest: the document can be read as two different things.
	ErrAmbiguousManifest = errors.New("manifest is ambiguous")
	// ErrRegistryDenied: the registry refused the service's credentials.
	ErrRegistryDenied = errors.New("registry refused access")
	// ErrRegistryUnsafe: the registry led to an address or host it may not
	// lead to.
	ErrRegistryUnsafe = errors.New("registry answer was refused as unsafe")
	// ErrRegistryUnavailable: the registry cannot be reached or failed.
	ErrRegistryUnavailable = errors.New("registry is unavailable")
	// ErrLimit: the image exceeds a bound, such as the children of an index.
	ErrLimit = errors.New("limit exceeded")
	// ErrJournal: the decision could not be journalled, so nothing was done; or the
	// end could not, so the operation stays pending.
	ErrJournal = errors.New("audit journal cannot be written")
	// ErrStore: the operation could not be kept; whether it was is unknown.
	// Repeat with the same idempotency key.
	ErrStore = errors.New("operation cannot be stored")
	// ErrSign: the key did not produce a valid signature.
	ErrSign = errors.New("signing failed")
	// ErrReadOnly: the log takes nothing new because an operator says so. Nothing
	// was signed.
	ErrReadOnly = errors.New("transparency log is read-only")
	// ErrLog: the transparency log did not take the entry yet.
	ErrLog = errors.New("transparency log is unavailable")
	// ErrTimestamp: the timestamp authority did not answer.
	ErrTimestamp = errors.New("timestamp authority is unavailable")
	// ErrRejected: the verifier does not accept the fresh signature; it is
	// not released.
	ErrRejected = errors.New("fresh signature was not accepted by the verifier")
	// ErrBusy: too many operations run, or the service is stopping.
	ErrBusy = errors.New("too many signing operations are running")
	// ErrPending: the operation is kept and goes on by itself; a
	// *PendingError names it.
	ErrPending = errors.New("operation is pending")
	// ErrNotFound: no such operation or signature.
	ErrNotFound = errors.New("no such operation")
	// ErrInternal: a fault of the service that repeating does not mend.
	ErrInternal = errors.New("internal fault")
)

// RequestError says which field of a request is wrong. It never carries the
// offending value.
type RequestError struct {
	// Field is an RFC 6901 pointer into the request, such as "/formats/0".
	Field string
	// Detail says what would be accepted.
	Detail string
}

// Error describes the fault.
func (e *RequestError) Error() string { return e.Field + ": " + e.Detail }

// Unwrap makes errors.Is(err, ErrRequest) true.
func (e *RequestError) Unwrap() error { return ErrRequest }

// ForbiddenError names what is missing.
type ForbiddenError struct {
	// Detail names the missing role or grant in words for the caller.
	Detail string
}

// Error describes what is missing.
func (e *ForbiddenError) Error() string { return ErrForbidden.Error() + ": " + e.Detail }

// Unwrap makes errors.Is(err, ErrForbidden) true.
func (e *ForbiddenError) Unwrap() error { return ErrForbidden }

// PendingError reports an operation that is durably kept but not done: its
// signatures exist, the same bytes are logged and attached by the service's
// own retries, and asking again with the same idempotency key joins it.
type PendingError struct {
	// Operation is its id.
	Operation string
	// Cause is why it is not done yet.
	Cause error
}

// Error names the operation and the cause.
func (e *PendingError) Error() string {
	return fmt.Sprintf("operation %s is pending: %v", e.Operation, e.Cause)
}

// Unwrap makes both ErrPending and the cause match.
func (e *PendingError) Unwrap() []error { return []error{ErrPending, e.Cause} }

// fault gives an error its stable code and says whether repeating may help.
type fault struct {
	err       error
	code      string
	permanent bool
}

// faults is the one table of what can end an operation. The first match
// counts, so the specific stand before the general.
func faults() []fault {
	return []fault{
		{ErrPending, "operation_pending", false},
		{ErrNotFound, "not_found", true},
		{ErrIdentityKey, "identity_required", true},
		{ErrNoCertificates, "certificates_unavailable", true},
		{ErrNoSummaries, "unsupported", true},
		{ErrIdentityExpired, "identity_expired", true},
		{ErrIdentityRefused, "identity_refused", true},
		{ErrClaimMismatch, "claim_mismatch", true},
		{ErrClaims, "claims_insufficient", true},
		{ErrRequest, "invalid_request", true},
		{ErrForbidden, "forbidden", true},
		{ErrRegistryNotListed, "registry_not_trusted", true},
		{ErrKeyNotFound, "key_not_found", true},
		{ErrKeyRevoked, "key_revoked", true},
		{ErrKeyNotActive, "key_not_active", true},
		{ErrKeyRefused, "key_backend_refused", true},
		{ErrKeyChanged, "key_changed", true},
		{ErrKeyUnavailable, "key_backend_unavailable", false},
		{ErrIdempotencyReused, "idempotency_key_reused", true},
		{ErrManifestNotFound, "image_not_found", true},
		{ErrDigestMismatch, "digest_mismatch", true},
		{ErrAmbiguousManifest, "ambiguous_manifest", true},
		{ErrRegistryDenied, "registry_denied", true},
		{ErrRegistryUnsafe, "registry_unsafe", true},
		{ErrLimit, "limit_exceeded", true},
		{ErrSign, "signing_failed", true},
		{ErrRejected, "signature_rejected", true},
		{ErrInternal, "internal", true},
		{ErrCertificate, "certificate_unavailable", false},
		{ErrKeyRotated, "key_rotated", false},
		{ErrRegistryUnavailable, "registry_unavailable", false},
		{ErrJournal, "journal_unavailable", false},
		{ErrStore, "store_unavailable", false},
		{ErrLog, "log_unavailable", false},
		{ErrTimestamp, "timestamp_unavailable", false},
		{ErrBusy, "busy", false},
		{context.DeadlineExceeded, "deadline_exceeded", false},
		{context.Canceled, "interrupted", false},
	}
}

// Code is the stable code of an error of this package, as it is kept with a
// failed operation; "internal" for one that is not in the table.
func Code(err error) string { return faultOf(err).code }

func faultOf(err error) fault {
	for _, f := range faults() {
		if errors.Is(err, f.err) {
			return f
		}
	}
	// An unknown cause is taken for a passing one: giving up on a signature
	// that is in the log already is worse than one more bounded retry.
	return fault{err: err, code: "internal"}
}

// permanent reports whether repeating the operation cannot help.
func permanent(err error) bool { return faultOf(err).permanent }

// fromRegistry gives a registry client's error this package's meaning.
func fromRegistry(err error) error {
	for _, m := range []struct{ from, to error }{
		{registry.ErrNotListed, ErrRegistryNotListed},
		{registry.ErrNotFound, ErrManifestNotFound},
		{registry.ErrDigestMismatch, ErrDigestMismatch},
		{registry.ErrAmbiguous, ErrAmbiguousManifest},
		{registry.ErrDenied, ErrRegistryDenied},
		{registry.ErrUnsafe, ErrRegistryUnsafe},
		{registry.ErrLimit, ErrLimit},
		{registry.ErrAttachment, ErrInternal},
	} {
		if errors.Is(err, m.from) {
			return fmt.Errorf("%w: %w", m.to, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrRegistryUnavailable, err)
}

// fromStore gives a store's error this package's meaning: what can never be
// kept ends the operation, everything else may pass.
func fromStore(err error) error {
	if errors.Is(err, store.ErrText) {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// fromKeys gives a key ring's error this package's meaning. A key that is not
// for signing answers like one that does not exist: callers learn nothing of
// the service's own keys.
func fromKeys(err error) error {
	switch {
	case errors.Is(err, keys.ErrNotFound), errors.Is(err, keys.ErrPurpose), errors.Is(err, keys.ErrName):
		return fmt.Errorf("%w: %w", ErrKeyNotFound, err)
	case errors.Is(err, keys.ErrNotActive):
		return fmt.Errorf("%w: %w", ErrKeyNotActive, err)
	case errors.Is(err, keys.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrKeyUnavailable, err)
	case errors.Is(err, keys.ErrRefused):
		return fmt.Errorf("%w: %w", ErrKeyRefused, err)
	case errors.Is(err, keys.ErrChanged):
		return fmt.Errorf("%w: %w", ErrKeyChanged, err)
	case errors.Is(err, keys.ErrForm):
		return fmt.Errorf("%w: %w", &RequestError{Field: "/formats", Detail: "the key's back end cannot sign one of these formats"}, err)
	case errors.Is(err, keys.ErrSealed), errors.Is(err, keys.ErrBackend):
		return fmt.Errorf("%w: %w", ErrSign, err)
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}
