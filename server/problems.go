package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/mtls"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/search"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/trust/tuf"
	"github.com/countersign/countersign/verifier"
)

// ProblemsBase is where the codes are documented; a problem's type is this and
// its code.
const ProblemsBase = "https://countersign.dev/problems#"

// row gives some causes their status, code and text. detail is for the caller:
// it says what to do and is true of every cause in the row.
type row struct {
	code   string
	status int
	title  string
	detail string
	retry  time.Duration
	causes []error
}

const soon, later = time.Second, 5 * time.Second

// problemTable is the one table from errors to answers. The first row with a
// matching cause counts, so specific rows stand before general ones; an error
// in no row is the last one.
func problemTable() []row {
	return slices.Concat(tokenProblems(), storageProblems(), doorProblems(), requestProblems(), keyProblems(), imageProblems(), stateProblems(), serviceProblems())
}

// tokenProblems say what is wrong with a caller's identity token. That helps
// nobody but its owner: whoever makes one up knows what is in it. They stand
// before the row of oidc.ErrInvalid, which all of them are.
func tokenProblems() []row {
	return []row{
		{
			"token_malformed", http.StatusUnauthorized, "Identity token malformed", "The bearer token is not an identity token in the form of a JWT, or its header or claims break a rule.", 0,
			[]error{oidc.ErrMalformed},
		},
		{
			"token_issuer_unknown", http.StatusUnauthorized, "Issuer unknown", "The token's iss is not the URL of an issuer under /v1/issuers; compare them byte for byte.", 0,
			[]error{oidc.ErrUnknownIssuer},
		},
		{
			"token_algorithm", http.StatusUnauthorized, "Algorithm not allowed", "The token's alg is not an asymmetric one that fits its issuer's key.", 0,
			[]error{oidc.ErrAlgorithm},
		},
		{
			"token_signature", http.StatusUnauthorized, "Signature invalid", "The token's signature does not verify with a key that its issuer publishes now.", 0,
			[]error{oidc.ErrSignature},
		},
		{
			"token_audience", http.StatusUnauthorized, "Wrong audience", "Ask the issuer for a token whose aud is the audience configured under /v1/issuers, and no other.", 0,
			[]error{oidc.ErrAudience},
		},
		{
			"token_expired", http.StatusUnauthorized, "Identity token expired", "Ask the issuer for a new token just before the call.", 0,
			[]error{oidc.ErrExpired},
		},
		{
			"token_not_yet_valid", http.StatusUnauthorized, "Identity token not valid yet", "The token's nbf or iat lies in the future; compare the clocks.", 0,
			[]error{oidc.ErrNotYetValid},
		},
		{
			"token_replayed", http.StatusUnauthorized, "Identity token used before", "The issuer's tokens are for one signing call; ask it for a new one, or repeat the call with its Idempotency-Key.", 0,
			[]error{oidc.ErrReplayed},
		},
		{
			"issuer_unsafe", http.StatusUnauthorized, "Issuer unsafe", "The token's issuer leads to another host or to an address that is not allowed, so its keys are not believed; see jwksUrl and allowPrivateAddress under /v1/issuers.", 0,
			[]error{oidc.ErrIssuerUnsafe},
		},
	}
}

// codeExhausted is the code of storageProblems.
const codeExhausted = "storage_exhausted"

// storageProblems come before what failed for want of storage: the operator
// must know the cause, and the caller that it is not his.
func storageProblems() []row {
	return []row{
		{
			codeExhausted, http.StatusServiceUnavailable, "Storage exhausted", "The service's disk is full, read-only or failing, or the service is out of file descriptors; the operator must make room. Repeat the call then, with the same Idempotency-Key; what was kept of it finishes by itself.", later,
			[]error{store.ErrExhausted, sequencer.ErrStorage, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE},
		},
	}
}

func doorProblems() []row {
	return []row{
		{
			"unauthenticated", http.StatusUnauthorized, "Not authenticated", "Send a valid API token, or an identity token of a configured issuer, as Authorization: Bearer, or a client certificate of a configured issuer. It may be missing, expired, revoked or misspelt.", 0,
			[]error{errNoCredentials, errBadCredentials, token.ErrInvalid, oidc.ErrInvalid, mtls.ErrInvalid},
		},
		{
			"forbidden", http.StatusForbidden, "Not allowed", "The caller's roles or grants do not cover this call.", 0,
			[]error{errRole, signer.ErrForbidden},
		},
		{
			"cross_origin", http.StatusForbidden, "Cross-origin request", "This call may not be made by another site's page.", 0,
			[]error{errCrossOrigin},
		},
		{
			"no_such_route", http.StatusNotFound, "No such route", "There is nothing under this path; paths have one spelling, without doubled or trailing slashes.", 0,
			[]error{errNoRoute},
		},
		{
			"verify_only", http.StatusNotFound, "Not served by a verification replica", "This process verifies and answers admission; ask the main service, at its public URL, for anything else, also for verification summaries.", 0,
			[]error{errVerifyOnly},
		},
		{
			"method_not_allowed", http.StatusMethodNotAllowed, "Method not allowed", "This path exists with other methods; see the Allow header.", 0,
			[]error{errNoMethod},
		},
		{
			"too_large", http.StatusRequestEntityTooLarge, "Body too large", "Send a smaller body.", 0,
			[]error{errTooLarge, tlog.ErrTooLarge, sequencer.ErrTooLarge},
		},
		{
			"unsupported_media_type", http.StatusUnsupportedMediaType, "Unsupported media type", "Send the Content-Type that openapi.json names for this call.", 0,
			[]error{errMediaType},
		},
		{
			"not_acceptable", http.StatusNotAcceptable, "Not acceptable", "Accept application/json.", 0,
			[]error{errNotAcceptable},
		},
		{
			"request_timeout", http.StatusRequestTimeout, "Request timeout", "The body did not arrive in time; send it again.", 0,
			[]error{errReadTimeout},
		},
	}
}

func requestProblems() []row {
	return []row{
		{
			"identity_not_certifiable", http.StatusUnprocessableEntity, "Identity not certifiable", "The token was believed, but its claims do not make a name that a certificate can carry.", 0,
			[]error{authority.ErrIdentity},
		},
		{
			"key_not_certifiable", http.StatusBadRequest, "Key not certifiable", "Send an ECDSA P-256, P-384 or P-521, RSA or Ed25519 public key with a signature of the token's subject by it, or a signed certificate request.", 0,
			[]error{authority.ErrPublicKey, errKey, errProof},
		},
		{
			"identity_required", http.StatusUnprocessableEntity, "Identity token required", "Signing with a certificate, and provenance, need a caller with an OIDC identity token; to sign or attest with an API token, name a managed key.", 0,
			[]error{signer.ErrIdentityKey},
		},
		{
			"claim_mismatch", http.StatusUnprocessableEntity, "Contradicts the token", "Fields of the request say something else than the caller's identity token; errors names each. Leave them out: they are taken from the token.", 0,
			[]error{signer.ErrClaimMismatch},
		},
		{
			"claims_insufficient", http.StatusUnprocessableEntity, "No provenance from this token", "The caller's identity token, with the provenance rules of its issuer under /v1/issuers, does not say who built what from which source; errors names the claim.", 0,
			[]error{signer.ErrClaims},
		},
		{
			"identity_expired", http.StatusUnprocessableEntity, "Identity proven too long ago", "Repeat the call with a fresh identity token and the same Idempotency-Key.", 0,
			[]error{signer.ErrIdentityExpired},
		},
		{
			"identity_refused", http.StatusUnprocessableEntity, "Identity cannot be certified", "The token lacks a claim that its issuer's certificates need, or one of them is not well-formed; see docs/integrations.", 0,
			[]error{signer.ErrIdentityRefused},
		},
		{
			"certificates_unavailable", http.StatusUnprocessableEntity, "No certificates", "This server issues no certificates; name a managed key.", 0,
			[]error{signer.ErrNoCertificates},
		},
		{
			"unsupported", http.StatusUnprocessableEntity, "Not supported", "This server does not offer what the field asks for.", 0,
			[]error{errUnsupported, keys.ErrBackend, signer.ErrNoSummaries},
		},
		{
			"summary_not_applicable", http.StatusUnprocessableEntity, "No verification summary", "A verification summary is only given of an image that at least one policy in mode enforce passed.", 0,
			[]error{verifier.ErrNoSummary},
		},
		{
			"idempotency_key_reused", http.StatusUnprocessableEntity, "Idempotency key reused", "This Idempotency-Key was used with another request; use a new key for a new request.", 0,
			[]error{signer.ErrIdempotencyReused},
		},
		{
			"policy_not_found", http.StatusNotFound, "Policy not found", "The policy named does not exist.", 0,
			[]error{verifier.ErrPolicyNotFound},
		},
		{
			"precondition_required", http.StatusPreconditionRequired, "Precondition required", "Replacing this object needs If-Match with the ETag of the revision you read.", 0,
			[]error{errNeedsMatch},
		},
		{
			"stale_revision", http.StatusPreconditionFailed, "Stale revision", "The object is not the one If-Match names; read it again and repeat the change.", 0,
			[]error{errMatch, store.ErrStale},
		},
	}
}

func keyProblems() []row {
	return []row{
		{
			"registry_not_trusted", http.StatusForbidden, "Registry not trusted", "The registry or repository is not listed under /v1/registries; it was not contacted.", 0,
			[]error{signer.ErrRegistryNotListed, registry.ErrNotListed},
		},
		{
			"key_not_found", http.StatusNotFound, "Key not found", "There is no signing key of that name.", 0,
			[]error{signer.ErrKeyNotFound, keys.ErrNotFound},
		},
		{
			"key_revoked", http.StatusConflict, "Key revoked", "The key was revoked; the signature was not released.", 0,
			[]error{signer.ErrKeyRevoked},
		},
		{
			"key_rotated", http.StatusServiceUnavailable, "Key rotated meanwhile", "The key was rotated while it signed; try again.", soon,
			[]error{signer.ErrKeyRotated},
		},
		{
			"key_not_active", http.StatusConflict, "Key not active", "The key is not in the state active, so it does not sign.", 0,
			[]error{signer.ErrKeyNotActive, keys.ErrNotActive},
		},
		{
			"key_ref_not_allowed", http.StatusUnprocessableEntity, "Key reference not allowed", "The reference is malformed, another back end's, or not one that the operator allows under keys.refs; see docs/keys.md.", 0,
			[]error{keys.ErrRef},
		},
		{
			"key_backend_refused", http.StatusUnprocessableEntity, "Key back end refused", "The back end knows no such key, or its own rules do not let this service use it.", 0,
			[]error{signer.ErrKeyRefused, keys.ErrRefused},
		},
		{
			"key_backend_unavailable", http.StatusServiceUnavailable, "Key back end unavailable", "The back end that keeps the key did not answer in time; nothing was signed. Try again.", later,
			[]error{signer.ErrKeyUnavailable, keys.ErrUnavailable},
		},
		{
			"key_changed", http.StatusConflict, "Key changed", "The key in the back end is not the recorded one; nothing was signed. Rotate the key if the change was yours, else revoke it.", 0,
			[]error{signer.ErrKeyChanged, keys.ErrChanged},
		},
		{
			"key_unchanged", http.StatusConflict, "Key unchanged", "The back end still holds a key that is recorded already; make a new one there first, or name another reference.", 0,
			[]error{keys.ErrUnchanged},
		},
		{
			"key_state_conflict", http.StatusConflict, "Not possible in the key's state", "The key's life cycle has no such step from its state; read the key.", 0,
			[]error{keys.ErrTransition},
		},
	}
}

func imageProblems() []row {
	return []row{
		{
			"image_not_found", http.StatusNotFound, "Image not found", "The registry has no such manifest.", 0,
			[]error{signer.ErrManifestNotFound, registry.ErrNotFound},
		},
		{
			"digest_mismatch", http.StatusUnprocessableEntity, "Digest mismatch", "The registry answered bytes that do not hash to the digest; nothing was signed.", 0,
			[]error{signer.ErrDigestMismatch, registry.ErrDigestMismatch},
		},
		{
			"ambiguous_manifest", http.StatusUnprocessableEntity, "Ambiguous manifest", "The document could be read as two different things; push a plain image manifest or index.", 0,
			[]error{signer.ErrAmbiguousManifest, registry.ErrAmbiguous},
		},
		{
			"registry_denied", http.StatusUnprocessableEntity, "Registry refused access", "The registry refused the credentials configured under /v1/registries, or they lack a right.", 0,
			[]error{signer.ErrRegistryDenied, registry.ErrDenied},
		},
		{
			"registry_unsafe", http.StatusUnprocessableEntity, "Registry answer refused", "The registry led to an address or host that is not configured for it.", 0,
			[]error{signer.ErrRegistryUnsafe, registry.ErrUnsafe},
		},
		{
			"limit_exceeded", http.StatusUnprocessableEntity, "Limit exceeded", "The image or what is attached to it exceeds a limit of this service.", 0,
			[]error{signer.ErrLimit, registry.ErrLimit, registry.ErrAttachment, catalog.ErrFull},
		},
		{
			"operation_pending", http.StatusServiceUnavailable, "Operation pending", "The signature is kept and finishes by itself; repeat the call with the same Idempotency-Key.", later,
			[]error{signer.ErrPending},
		},
		{
			"signing_failed", http.StatusInternalServerError, "Signing failed", "The key did not make a valid signature; ask the operator.", 0,
			[]error{signer.ErrSign, keys.ErrSealed, keys.ErrSignature, keys.ErrForm},
		},
		{
			"signature_rejected", http.StatusInternalServerError, "Signature rejected", "The verifier did not accept the fresh signature, so it was not released; ask the operator.", 0,
			[]error{signer.ErrRejected, verifier.ErrNotFresh},
		},
	}
}

func stateProblems() []row {
	return []row{
		{
			"not_found", http.StatusNotFound, "Not found", "There is no such object.", 0,
			[]error{ErrAuthority, authority.ErrGeneration, signer.ErrNotFound, store.ErrNotFound, token.ErrNotFound, sequencer.ErrNotFound, tuf.ErrNotFound, tuf.ErrPath},
		},
		{
			"log_frozen", http.StatusMethodNotAllowed, "Log shard frozen", "This shard of the log takes no more entries; write to the URL that the signing configuration names.", 0,
			[]error{sequencer.ErrFrozen},
		},
		{
			"trust_unpublished", http.StatusConflict, "Trust not published yet", "The new key is made and not used yet: the holders of the TUF targets must sign the trusted root that names it (countersign trust pending targets); then repeat the call.", 0,
			[]error{ErrUnpublished},
		},
		{
			"key_uncosigned", http.StatusConflict, "Witnesses do not know the new key", "The new key is made and not used yet: give the lines of countersign log vkey to each witness; then repeat the call.", 0,
			[]error{ErrUncosigned},
		},
		{
			"already_exists", http.StatusConflict, "Exists already", "There is an object of that name already.", 0,
			[]error{store.ErrExists, keys.ErrExists, token.ErrExists},
		},
		{
			"invalid_request", http.StatusBadRequest, "Invalid request", "The request cannot be read as this call wants it; errors names the places.", 0,
			[]error{
				errRequest, signer.ErrRequest, verifier.ErrRequest, strictjson.ErrInvalid, glob.ErrPattern, attest.ErrDigest, store.ErrCursor, store.ErrText,
				registry.ErrReference, registry.ErrRule, keys.ErrName, keys.ErrAlgorithm, keys.ErrPurpose, keys.ErrReason,
				ErrChain, ErrAuthorityLog, authority.ErrRevocation, tlog.ErrRequest, tlog.ErrPath, sequencer.ErrRange, authority.ErrQuery, token.ErrName, token.ErrRoles, token.ErrExpiry,
				policy.ErrPolicy, policy.ErrGrant, policy.ErrException, convert.ErrDocument, convert.ErrKind, oidc.ErrIssuer, catalog.ErrName, catalog.ErrTrustRoot,
				admission.ErrInvalid,
			},
		},
	}
}

func serviceProblems() []row {
	return []row{
		{
			"busy", http.StatusServiceUnavailable, "Busy", "Too much is being done at once; try again.", soon,
			[]error{signer.ErrBusy},
		},
		{
			"registry_unavailable", http.StatusServiceUnavailable, "Registry unavailable", "The registry cannot be reached or failed; try again.", later,
			[]error{signer.ErrRegistryUnavailable, registry.ErrUnavailable},
		},
		{
			"issuer_unavailable", http.StatusServiceUnavailable, "Issuer unavailable", "The issuer's keys cannot be had just now, so the token cannot be judged; try again.", later,
			[]error{oidc.ErrIssuerUnavailable},
		},
		{
			"log_read_only", http.StatusServiceUnavailable, "Log read-only", "Who runs the service has the transparency log take nothing new for now, so nothing is signed; GET /v1/log/mode says why.", later,
			[]error{sequencer.ErrReadOnly, signer.ErrReadOnly},
		},
		{
			"log_unwitnessed", http.StatusServiceUnavailable, "Log without its witnesses", "The transparency log takes no entries because its witnesses do not cosign its checkpoints; try again. Who runs the service finds in /metrics and its log which of them.", later,
			[]error{sequencer.ErrUnwitnessed},
		},
		{
			"log_unavailable", http.StatusServiceUnavailable, "Log unavailable", "The transparency log takes no entries just now; try again.", later,
			[]error{signer.ErrLog, sequencer.ErrPushback, sequencer.ErrBehind, sequencer.ErrClosed, sequencer.ErrStopped},
		},
		{
			"certificate_unavailable", http.StatusServiceUnavailable, "Certificate authority unavailable", "No certificate can be issued just now; try again.", later,
			[]error{signer.ErrCertificate},
		},
		{
			"certificate_authority_expired", http.StatusServiceUnavailable, "Certificate authority expired", "The certificate authority's own certificates end too soon; the operator must rotate them.", later,
			[]error{authority.ErrOutlived},
		},
		{
			"timestamp_unavailable", http.StatusServiceUnavailable, "Timestamp authority unavailable", "The timestamp authority does not answer just now; try again.", later,
			[]error{signer.ErrTimestamp, authority.ErrExpired},
		},
		{
			"journal_unavailable", http.StatusServiceUnavailable, "Journal unavailable", "The decision cannot be journalled, so nothing was done; try again.", later,
			[]error{errJournal, signer.ErrJournal, verifier.ErrJournal},
		},
		{
			"store_unavailable", http.StatusServiceUnavailable, "Store unavailable", "The database cannot be reached; try again.", later,
			[]error{signer.ErrStore, store.ErrUnavailable, verifier.ErrPolicies},
		},
		{
			"not_ready", http.StatusServiceUnavailable, "Not ready", "The server cannot do this yet; try again.", later,
			[]error{errNotReady, authority.ErrRevoked, authority.ErrRevokedCT},
		},
		{
			"deadline_exceeded", http.StatusServiceUnavailable, "Deadline exceeded", "It was not done in time; try again.", soon,
			[]error{context.DeadlineExceeded},
		},
		{
			"interrupted", http.StatusServiceUnavailable, "Interrupted", "The call or the server ended before it was done; try again.", soon,
			[]error{context.Canceled},
		},
		internalProblem(),
	}
}

// internalProblem is what an error in no row becomes. Its causes are what no
// caller can bring about.
func internalProblem() row {
	return row{
		"internal", http.StatusInternalServerError, "Internal error", "The server failed; give the operator the request id.", 0,
		[]error{
			errInternal, errPanic, ErrDegraded, signer.ErrInternal, keys.ErrMaster, catalog.ErrStored, archive.ErrItem, audit.ErrRecord, audit.ErrChain,
			tuf.ErrDamaged, tuf.ErrNotHeld, tuf.ErrRole, tuf.ErrKey, tuf.ErrThreshold, tuf.ErrDocument, tuf.ErrSignature, tuf.ErrDraft, tuf.ErrEmpty,
			trust.ErrRoot, identity.ErrHolder, authority.ErrCertificate, authority.ErrRetired, sequencer.ErrConfig, sequencer.ErrWitnessPolicy, sequencer.ErrLocked, sequencer.ErrRollback, sequencer.ErrCorrupt, search.ErrIndex, store.ErrSchema, store.ErrNoSnapshot,
			attest.ErrStatement, attest.ErrAnnotations, attest.ErrBundle, attest.ErrEnvelope, attest.ErrSimpleSigning,
			tlog.ErrBody, tlog.ErrProof, tlog.ErrCheckpoint, tlog.ErrSET, tlog.ErrKeyType, tlog.ErrSignature, tlog.ErrLogKey, tlog.ErrOrigin, tlog.ErrEntry, tlog.ErrVerifierKey, tlog.ErrWitnessRequest,
		},
	}
}

// rowOf finds an error's row. What wraps both a body limit of net/http and
// something else is a body limit.
func (s *Server) rowOf(err error) row {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = errTooLarge
	}
	return find(s.problems, err)
}

// find is the first row with a matching cause.
func find(rows []row, err error) row {
	for _, r := range rows {
		for _, cause := range r.causes {
			if errors.Is(err, cause) {
				return r
			}
		}
	}
	return internalProblem()
}

// rowByCode is the row of a code; the internal row for one that no row has.
func (s *Server) rowByCode(code string) row {
	for _, r := range s.problems {
		if r.code == code {
			return r
		}
	}
	return internalProblem()
}

// problem makes the answer of an error and notes the cause for the log.
func (s *Server) problem(ctx context.Context, err error) *api.Problem {
	r := s.rowOf(err)
	req := requestOf(ctx)
	req.code, req.cause = r.code, err
	p := r.problem(req.id)
	var known *refusal
	if errors.As(err, &known) && known.detail != "" {
		p.Detail = known.detail
	}
	p.Errors = fieldsOf(err)
	return p
}

func (r row) problem(instance string) *api.Problem {
	return &api.Problem{
		Type: ProblemsBase + r.code, Title: r.title, Status: r.status, Code: r.code,
		Detail: r.detail, Instance: instance, RetryAfter: r.retry,
	}
}

// fieldsOf collects the faulty places that the errors of lower packages name.
// Each of those types promises to carry no value of the caller.
func fieldsOf(err error) []api.FieldProblem {
	var (
		known   *refusal
		strict  *strictjson.FieldError
		signing *signer.RequestError
		verify  *verifier.RequestError
		missing *signer.ForbiddenError
		claims  *provenance.MismatchError
		claim   *provenance.ClaimError
		trusted *policy.FieldError
	)
	switch {
	case errors.As(err, &known) && len(known.fields) > 0:
		return known.fields
	case errors.As(err, &signing):
		return fieldProblem(location(signing.Field), signing.Detail)
	case errors.As(err, &claims):
		return mismatches(claims)
	case errors.As(err, &claim):
		return []api.FieldProblem{{Location: "token." + claim.Claim, Code: "invalid", Detail: claim.Problem}}
	case errors.As(err, &verify):
		return fieldProblem(location(verify.Field), verify.Problem)
	case errors.As(err, &missing):
		return []api.FieldProblem{{Location: "grant", Code: "missing", Detail: missing.Detail}}
	case errors.As(err, &trusted):
		return fieldProblem(location(trusted.Pointer), trusted.Problem)
	case errors.As(err, &strict):
		return fieldProblem(location(strict.Pointer), strict.Problem)
	}
	return nil
}

func mismatches(err *provenance.MismatchError) []api.FieldProblem {
	out := make([]api.FieldProblem, 0, len(err.Fields))
	for _, f := range err.Fields[:min(len(err.Fields), maxFieldProblems)] {
		out = append(out, api.FieldProblem{Location: location(f.Pointer), Code: "claim_mismatch", Detail: f.Detail})
	}
	return out
}

// location turns an RFC 6901 pointer or a field name into the form of
// api.FieldProblem: body.images[0].
func location(pointer string) string {
	if header, ok := strings.CutPrefix(pointer, "/headers/"); ok {
		return "header." + header
	}
	var b strings.Builder
	b.WriteString("body")
	for part := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch {
		case part == "":
		case strings.Trim(part, "0123456789") == "":
			b.WriteString("[" + part + "]")
		default:
			b.WriteString("." + part)
		}
	}
	return b.String()
}

// fail answers a plain gin handler's error and ends the request.
func (s *Server) fail(c *gin.Context, err error) {
	p := s.problem(c.Request.Context(), err)
	setProblemHeaders(c.Writer.Header(), p)
	c.Abort()
	c.Header("Content-Type", api.ProblemType)
	c.JSON(p.Status, p)
}
