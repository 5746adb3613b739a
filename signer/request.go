package signer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// The formats a signature is written in.
const (
	// FormatBundle is a Sigstore bundle v0.3 attached as an OCI referrer.
	FormatBundle = "bundle"
	// FormatLegacy is cosign's .sig tag.
	FormatLegacy = "legacy"
)

// IdentityKey is the reserved key name that asks for a certificate of the
// caller's own identity.
const IdentityKey = "identity"

// Kinds of the operations of this package in the store.
const (
	kindSignature   = "signature"
	kindAttestation = "attestation"
)

// Request asks for signatures of one image, or of attestations about it.
type Request struct {
	// Action is policy.ActionSign (the default, kept as ""), ActionAttest or
	// ActionProvenance.
	Action policy.Action `json:"action,omitempty"`
	// Image is a reference; a tag is resolved once.
	Image string `json:"image"`
	// Key names a managed key, or IdentityKey for a certificate of the caller's
	// own identity; empty means IdentityKey for a caller who can have one.
	Key string `json:"key"`
	// Annotations become part of what is signed; ActionSign only. At most
	// limits.Annotations, together at most limits.AnnotationBytes.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Recursive also signs each child of an index.
	Recursive bool `json:"recursive,omitempty"`
	// Formats are FormatBundle (the default), FormatLegacy and, for signatures by
	// a managed key, FormatNotation.
	Formats []string `json:"formats,omitempty"`
	// PredicateType is a URI or one of cosign's short names, and Predicate a
	// JSON object of that type, which is signed byte for byte; ActionAttest
	// only. Predicate must not be changed afterwards.
	PredicateType string `json:"predicateType,omitempty"`
	Predicate     []byte `json:"predicate,omitempty"`
	// ExternalParameters, ResolvedDependencies and Byproducts complete what the
	// caller's token says; ActionProvenance only, see package provenance.
	ExternalParameters   json.RawMessage   `json:"externalParameters,omitempty"`
	ResolvedDependencies []json.RawMessage `json:"resolvedDependencies,omitempty"`
	Byproducts           []json.RawMessage `json:"byproducts,omitempty"`
	// IdempotencyKey makes a retry join or replay the first call; optional,
	// at most limits.IdempotencyKey bytes of printable ASCII.
	IdempotencyKey string `json:"-"`
}

// prepared is a request that was found well-formed. Only prepare makes one.
type prepared struct {
	Request
	caller    identity.Identity
	reference registry.Reference
	scope     string
	hash      []byte
	// summary and basis are of a verification summary, else empty.
	summary *summaryDocument
	basis   string
}

// kind is what an action makes.
func kind(action policy.Action) string {
	if action == "" {
		return kindSignature
	}
	return kindAttestation
}

// route completes the scope of an idempotency key: the same key on another
// route is another request.
func route(action policy.Action) string {
	switch action {
	case policy.ActionAttest:
		return "POST /v1/attestations"
	case policy.ActionProvenance:
		return "POST /v1/provenance"
	}
	return "POST /v1/signatures"
}

func prepare(caller identity.Identity, r Request) (prepared, error) {
	ref, err := registry.ParseReference(r.Image)
	if err != nil {
		return prepared{}, fmt.Errorf("%w: %w", &RequestError{Field: "/image", Detail: "want host/repository:tag or host/repository@sha256:digest"}, err)
	}
	if err := r.checkAction(caller); err != nil {
		return prepared{}, err
	}
	if r.Key, err = keyName(caller, r.Key); err != nil {
		return prepared{}, err
	}
	if err := checkAnnotations(r.Annotations); err != nil {
		return prepared{}, err
	}
	if err := checkIdempotencyKey(r.IdempotencyKey); err != nil {
		return prepared{}, err
	}
	if r.Formats, err = normalFormats(r.Formats); err != nil {
		return prepared{}, err
	}
	if err := r.checkNotation(); err != nil {
		return prepared{}, err
	}
	hash, err := r.hash()
	if err != nil {
		return prepared{}, err
	}
	return prepared{
		Request: r, caller: caller, reference: ref,
		scope: scope(caller, r.Action), hash: hash,
	}, nil
}

// scope names caller and route in bounded form; no two callers share one.
func scope(caller identity.Identity, action policy.Action) string {
	sum := sha256.Sum256([]byte(caller.Issuer + "\x00" + caller.Subject))
	return hex.EncodeToString(sum[:]) + " " + route(action)
}

// checkAction wants the fields of the action and no others, and writes defaults
// and short names out.
func (r *Request) checkAction(caller identity.Identity) error {
	if r.Action == policy.ActionSign {
		r.Action = ""
	}
	if r.Action != "" && len(r.Annotations) > 0 {
		return &RequestError{Field: "/annotations", Detail: "are part of a signature; put them into the predicate"}
	}
	if r.Action != policy.ActionAttest && (r.PredicateType != "" || len(r.Predicate) > 0) {
		return &RequestError{Field: "/predicate", Detail: "only an attestation has one"}
	}
	if r.Action != policy.ActionProvenance && len(r.ExternalParameters)+len(r.ResolvedDependencies)+len(r.Byproducts) > 0 {
		return &RequestError{Field: "/externalParameters", Detail: "only provenance has them"}
	}
	switch r.Action {
	case "":
		return nil
	case policy.ActionAttest:
		uri, err := predicate.ParseType(r.PredicateType)
		if err != nil {
			return &RequestError{Field: "/predicateType", Detail: err.Error()}
		}
		r.PredicateType = uri
		return checkPredicate(uri, r.Predicate)
	case policy.ActionProvenance:
		r.PredicateType = provenance.PredicateType
		return checkClaimant(caller)
	}
	return &RequestError{Field: "/action", Detail: "want sign, attest or provenance"}
}

// checkClaimant wants a caller whose token says who built something: an API
// token or a client certificate says nothing of a build.
func checkClaimant(caller identity.Identity) error {
	if caller.IsZero() || caller.Issuer == identity.Local || len(caller.Claims) == 0 {
		return fmt.Errorf("%w: %w", &RequestError{Field: "/headers/Authorization", Detail: "want the job's own identity token"}, ErrIdentityKey)
	}
	return nil
}

func checkPredicate(uri string, document []byte) error {
	err := predicate.Check(uri, document)
	var field *predicate.FieldError
	switch {
	case errors.As(err, &field):
		return &RequestError{Field: "/predicate" + field.Pointer, Detail: field.Problem}
	case err != nil:
		return &RequestError{Field: "/predicate", Detail: err.Error()}
	}
	return nil
}

// hash names the request's meaning: a default that is spelled out is the same
// request.
func (r Request) hash() ([]byte, error) {
	if len(r.Predicate) > 0 {
		sum := sha256.Sum256(r.Predicate)
		r.Predicate = sum[:]
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

// keyName writes the default out. An API token is no identity that a
// certificate could carry.
func keyName(caller identity.Identity, name string) (string, error) {
	if len(name) > limits.Name {
		return "", &RequestError{Field: "/key", Detail: "name is too long"}
	}
	if name != "" && name != IdentityKey {
		return name, nil
	}
	if caller.IsZero() || caller.Issuer == identity.Local || caller.Kind == identity.KindMTLS {
		return "", fmt.Errorf("%w: %w", &RequestError{Field: "/key", Detail: ErrIdentityKey.Error()}, ErrIdentityKey)
	}
	return IdentityKey, nil
}

// normalFormats puts the formats in one order without repetition, so that two
// spellings of one request are one request and the plan is deterministic.
func normalFormats(formats []string) ([]string, error) {
	if len(formats) == 0 {
		return []string{FormatBundle}, nil
	}
	for i, f := range formats {
		if f != FormatBundle && f != FormatLegacy && f != FormatNotation {
			return nil, &RequestError{
				Field:  fmt.Sprintf("/formats/%d", i),
				Detail: "want " + FormatBundle + ", " + FormatLegacy + " or " + FormatNotation,
			}
		}
	}
	normal := slices.Clone(formats)
	slices.Sort(normal)
	return slices.Compact(normal), nil
}

func checkAnnotations(annotations map[string]string) error {
	if err := attest.CheckAnnotations(annotations); err != nil {
		return &RequestError{Field: "/annotations", Detail: err.Error()}
	}
	return nil
}

func checkIdempotencyKey(key string) error {
	if len(key) > limits.IdempotencyKey {
		return &RequestError{Field: "/headers/Idempotency-Key", Detail: fmt.Sprintf("at most %d bytes", limits.IdempotencyKey)}
	}
	if strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return &RequestError{Field: "/headers/Idempotency-Key", Detail: "want printable ASCII without spaces"}
	}
	return nil
}
