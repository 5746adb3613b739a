package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrException says that the document is not an exception that may be loaded. Errors of
// ParseException wrap it; those with a place are a *FieldError.
var ErrException = errors.New("invalid exception")

// Exception lets images pass a policy that FAILED them, until a moment and for a
// stated reason. It weakens one policy for some images and nothing else: what
// was never decided, and what Excusable does not name, it does not help. Only
// ParseException makes one that covers anything. It must not be changed and is
// safe for concurrent use.
type Exception struct {
	// Name is the managed object's name; it is not part of the document.
	Name string
	// Digests are the images it is for, or nil when Images says which.
	Digests []string
	// Images are patterns over host/repository with a literal host and first
	// segment, or nil when Digests says which.
	Images []string
	// Policy is the name of the policy whose verdict it changes.
	Policy string
	// Reason is why, for whoever reads an answer.
	Reason string
	// ExpiresAt is from when on it says nothing any more, in UTC.
	ExpiresAt time.Time

	images   []glob.Pattern
	document []byte
}

type exceptionSpec struct {
	Digests   []string `json:"digests,omitzero"`
	Images    []string `json:"images,omitzero"`
	Policy    string   `json:"policy"`
	Reason    string   `json:"reason"`
	ExpiresAt string   `json:"expiresAt"`
}

// ParseException reads an exception of at most limits.PolicyDocument bytes in
// YAML or JSON:
//
//	digests: ["sha256:…"]            # or images: ["registry.example.com/team/app"]
//	policy: production
//	reason: "INC-1234: the scanner is down"
//	expiresAt: "2026-12-01T00:00:00Z"
//
// Whether the moment has come it does not ask: the caller knows the time.
func ParseException(b []byte) (*Exception, error) {
	e, err := parseException(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrException, err)
	}
	return e, nil
}

func parseException(b []byte) (*Exception, error) {
	raw, err := documentJSON(b)
	if err != nil {
		return nil, locate(err)
	}
	var s exceptionSpec
	if err := strictjson.Unmarshal(raw, &s); err != nil {
		return nil, locate(err)
	}
	e := &Exception{Digests: s.Digests, Images: s.Images, Policy: s.Policy, Reason: s.Reason}
	if err := e.readScope(); err != nil {
		return nil, err
	}
	if err := checkName("/policy", e.Policy); err != nil {
		return nil, err
	}
	if err := checkReason(e.Reason); err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, s.ExpiresAt)
	if err != nil {
		return nil, fault("/expiresAt", "is not a time such as 2026-12-01T00:00:00Z")
	}
	e.ExpiresAt = at.UTC().Truncate(time.Second)
	s.ExpiresAt = e.ExpiresAt.Format(time.RFC3339)
	if raw, err = strictjson.Marshal(s); err != nil {
		return nil, err
	}
	e.document, err = strictjson.Canonical(raw)
	return e, err
}

func (e *Exception) readScope() (err error) {
	if (e.Digests == nil) == (e.Images == nil) {
		return fault("", "must have exactly one of digests and images")
	}
	if n := len(e.Digests) + len(e.Images); n == 0 || n > limits.ExceptionImages {
		return fault("", "names %d images, want 1 to %d", n, limits.ExceptionImages)
	}
	for i, text := range e.Digests {
		if d, err := attest.ParseDigest(text); err != nil || d.String() != text {
			return fault(fmt.Sprintf("/digests/%d", i), "is not a digest: want sha256: and 64 lowercase hexadecimal digits")
		}
	}
	if e.Images == nil {
		return nil
	}
	if e.images, err = compileAll("/images", e.Images, glob.CompileImage); err != nil {
		return err
	}
	for i, pattern := range e.Images {
		// A wildcard for a host or for all of it would except what nobody looked
		// at, also in registries that are listed later.
		if segments := strings.Split(pattern, "/"); strings.Contains(segments[0]+segments[1], "*") {
			return fault(fmt.Sprintf("/images/%d", i), "must begin with a host and a path segment without *")
		}
	}
	return nil
}

// checkReason keeps out what a terminal or a header would obey.
func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > limits.ExceptionReason {
		return fault("/reason", "must say why, in 1 to %d bytes", limits.ExceptionReason)
	}
	if strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fault("/reason", "must be one line of printable characters")
	}
	return nil
}

// Covers reports whether the exception is for an image under a policy at a
// moment.
func (e *Exception) Covers(policy string, image Image, now time.Time) bool {
	return e.document != nil && e.Policy == policy && now.Before(e.ExpiresAt) &&
		(slices.Contains(e.Digests, image.Digest) || matchesAny(e.images, image.Name()))
}

// Document is the exception as canonical JSON (RFC 8785). ParseException of it
// gives an equal exception.
func (e *Exception) Document() []byte { return slices.Clone(e.document) }

// Excusable reports whether an exception may help an image that FAILED its
// requirements: each reason of each must be one that was found out of the image
// and judged. A revoked key's signature, another digest than asked for, and
// whatever could not be decided are not among them, nor is a code that nobody
// thought of here.
func Excusable(requirements []RequirementResult) bool {
	failed := 0
	for _, r := range requirements {
		if r.Verdict == Passed {
			continue
		}
		failed++
		if len(r.Reasons) == 0 || slices.ContainsFunc(r.Reasons, func(reason Reason) bool { return !excusable(reason.Code) }) {
			return false
		}
	}
	return failed > 0
}

func excusable(c Code) bool {
	switch c {
	case NoSignature, SignatureInvalid, UntrustedKey, IdentityMismatch, CertificateInvalid, CertificateExpired, KeyOutsideWindow,
		LogEntryMissing, LogEntryMismatch, InclusionProofInvalid, CheckpointInvalid, TimestampMissing, TimestampInvalid,
		AttestationMissing, PredicateTypeMismatch, PredicateInvalid, ConditionFalse, ConditionError, BuilderMismatch, SourceMismatch,
		ParameterMismatch, BuildLevelTooLow, AttestationTooOld, ThresholdNotMet, SubjectMismatch, LayoutNotSatisfied:
		return true
	}
	return false
}
