package verifier

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/revocation"
	"github.com/countersign/countersign/trust"
)

// Errors of Verify and Stream. They say that the question could not be put or
// its answer not kept; a verdict is never an error.
var (
	// ErrRequest: the question is malformed. The error is a *RequestError.
	ErrRequest = errors.New("invalid verification request")
	// ErrPolicyNotFound: the policy named in the request does not exist.
	ErrPolicyNotFound = errors.New("no such policy")
	// ErrJournal: the decision could not be written, so it is not answered. A
	// journal whose storage is exhausted marks the answer instead.
	ErrJournal = errors.New("decision journal unavailable")
	// ErrPolicies: the policies could not be read.
	ErrPolicies     = errors.New("policies unavailable")
	errNoReferences = errors.New("no key is read by reference here")
	// ErrNotFresh is wrapped by every error of CheckFresh.
	ErrNotFresh = errors.New("signature does not verify")
)

// RequestError names the field of a malformed Request.
type RequestError struct {
	// Field is the JSON name of the field: images, timeout.
	Field string
	// Problem says what the field must be; it carries no value of the caller.
	Problem string
}

// Error is the field and its problem.
func (e *RequestError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Problem) }

// Unwrap makes errors.Is(err, ErrRequest) true.
func (e *RequestError) Unwrap() error { return ErrRequest }

// Registry reads images and what is attached to them. Implementations contact
// only listed registries, answer registry.ErrNotListed for others before any
// connection, and bound what they read.
type Registry interface {
	// Resolve reads one manifest, whose bytes hash to the answered digest.
	Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error)
	// AttachmentsFor reads what is attached to a digest: at least what is
	// looked for, as far as its own bounds let it.
	AttachmentsFor(ctx context.Context, subject registry.Reference, want registry.Want) (registry.Found, error)
}

// Lender is a Registry that can read with the credentials of a question too. It
// uses them only for what it would not be let in to without, sends them to no
// other host than they are for, and remembers what it read with them for nobody
// who does not bring the same.
type Lender interface {
	// Lend is the registry with a keychain, for one question.
	Lend(k registry.Keychain) Registry
}

// Archive keeps bundles by subject and decisions.
type Archive interface {
	// BySubject returns what is kept of a digest, newest first, of the predicate
	// types that want takes and at most limit items; complete is false when there
	// is more.
	BySubject(ctx context.Context, digest attest.Digest, want func(predicateType string) bool, limit int) (items []archive.Item, complete bool, err error)
	// Decide keeps decisions durably, all or none.
	Decide(ctx context.Context, decisions ...archive.Decision) error
	// Count is how many items of a digest are kept, at most store.MaxPage. It
	// grows with each that is kept, wherever that was done, and never shrinks.
	Count(ctx context.Context, digest attest.Digest) (int, error)
}

// Keys gives the public halves and the life cycle of managed keys.
type Keys interface {
	// Get returns a key with every version, or keys.ErrNotFound.
	Get(ctx context.Context, name string) (keys.Key, error)
	// Revision grows with every change of any key.
	Revision(ctx context.Context) (int64, error)
}

// Loaded is a policy and the revision it was stored under.
type Loaded struct {
	Policy   *policy.Policy
	Revision int64
}

// Policies gives the policies in force.
type Policies interface {
	// Policies returns every policy, at most limits.Policies.
	Policies(ctx context.Context) ([]Loaded, error)
	// Revision grows with every change of a policy, of a listed registry or of
	// a trusted root:
	// verdicts reached under an earlier one are not used again.
	Revision(ctx context.Context) (int64, error)
}

// Roots gives the trusted roots of others.
type Roots interface {
	// TrustRoot returns the root kept under that name, or store.ErrNotFound.
	// A change of one makes Policies.Revision grow.
	TrustRoot(ctx context.Context, name string) (trust.Root, error)
}

// Exceptions gives the exceptions to policies.
type Exceptions interface {
	// Exceptions returns every exception, also those that expired. A change of
	// one makes Policies.Revision grow.
	Exceptions(ctx context.Context) ([]*policy.Exception, error)
}

// Revocations asks the places that certificates name whether they are revoked.
type Revocations interface {
	// Check is package revocation's.
	Check(ctx context.Context, chain []*x509.Certificate, use revocation.Use, at time.Time) error
}

// Config wires a Verifier. Registry, Archive, Keys, Policies, Trust and NewID
// are required.
type Config struct {
	Registry Registry
	Archive  Archive
	Keys     Keys
	Policies Policies
	// Trust returns the trusted root in force: whose log entries and
	// timestamps are believed.
	Trust func() trust.Root
	// Roots are the trusted roots that policies call by other names than self;
	// optional, none.
	Roots Roots
	// References reads keys that policies name by reference; optional, none.
	References References
	// Revocations asks whether certificates of the Notary Project are revoked;
	// optional, nobody does, and those that name a place to ask are refused.
	Revocations Revocations
	// Exceptions are to the policies; optional, none.
	Exceptions Exceptions
	// NewID makes the id of a decision, a UUIDv7.
	NewID func() string
	// PublicURL is the service's own, by which its verification summaries name
	// it, and Version that of its program; optional, without a URL there are no
	// summaries.
	PublicURL string
	Version   string
	// Clock is the machine's when nil.
	Clock clock.Clock
	// Logger discards when nil.
	Logger *slog.Logger
	// CacheSize bounds the remembered verdicts; 0 means 20,000, negative
	// remembers none.
	CacheSize int
	// PassedTTL and FailedTTL bound how long a verdict is remembered; 0 means
	// limits.PassedTTL and limits.FailedTTL, negative remembers none. Any change of
	// trust ends both at once, and so does a signature that is kept for what FAILED
	// or PASSED with warnings. A signature that only the registry has is seen when
	// the time is over.
	PassedTTL time.Duration
	FailedTTL time.Duration
	// StaleIfError is how old a PASSED may be that is answered, and marked, while
	// its registry cannot be reached; 0 answers none, and no more than
	// limits.StaleIfErrorMax counts.
	StaleIfError time.Duration
}

// Request is one question about some images.
type Request struct {
	// Images are references by tag or digest, 1 to limits.Images.
	Images []string
	// Context is what policies match on: cluster, namespace and others.
	Context map[string]string
	// Policy names the one policy to apply; empty applies every policy that
	// matches. A named policy must match the image too.
	Policy string
	// Timeout bounds the whole question; 0 means limits.VerifyTimeout, more
	// than limits.VerifyTimeoutMax is refused.
	Timeout time.Duration
	// Caller is who asks; it is written into the decision.
	Caller identity.Identity
	// DryRun keeps no decision, and the results carry no decision id.
	DryRun bool
	// Platform, if set, chooses a child of each image that is an index:
	// OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT. The verdict is on the child.
	Platform string
	// Explain adds an Explanation to each result. It is decided anew, as any
	// question is.
	Explain bool
	// Keychain, if set, are credentials for this question alone: a verdict that
	// they had a part in is remembered only for who brings the same ones.
	Keychain registry.Keychain
	// At, if set, is the moment for which is judged, under the trust of now.
	// Draft, if set, counts in the place of the policy of its name, or beside the
	// others. With either it is a DryRun, and nothing is remembered.
	At    time.Time
	Draft *policy.Policy
}

// special reports whether no remembered verdict answers the request, and its
// own is not to be remembered.
func (r Request) special() bool { return r.Explain || !r.At.IsZero() || r.Draft != nil }

// dry reports whether no decision is kept.
func (r Request) dry() bool { return r.DryRun || !r.At.IsZero() || r.Draft != nil }

// withDraft are the policies with a draft among them.
func withDraft(policies []Loaded, draft *policy.Policy) []Loaded {
	out := make([]Loaded, 0, len(policies)+1)
	for _, l := range policies {
		if l.Policy.Name != draft.Name {
			out = append(out, l)
		}
	}
	return append(out, Loaded{Policy: draft})
}

// Answer is the verdict on all images of a Request: PASSED when each passed.
type Answer struct {
	Verdict  policy.Verdict `json:"verdict"`
	Results  []Result       `json:"results"`
	Warnings []string       `json:"warnings"`
}

// Result is the verdict on one image.
type Result struct {
	// Image is the reference as it was asked.
	Image string `json:"image"`
	// Pinned is host/repository@digest, empty when it was not resolved.
	Pinned  string         `json:"pinned,omitempty"`
	Digest  string         `json:"digest,omitempty"`
	Verdict policy.Verdict `json:"verdict"`
	// Reasons say why it FAILED. When it PASSED they are empty, or name the
	// exceptions that applied.
	Reasons  []policy.Reason `json:"reasons"`
	Policies []PolicyResult  `json:"policies"`
	// Cached reports that the verdict was reached for an earlier question.
	Cached bool `json:"cached"`
	// Stale reports that the registry could not be reached and the verdict is an
	// old one; a warning says of when.
	Stale bool `json:"stale,omitempty"`
	// DecisionID names the decision's record; each answer has its own.
	DecisionID string `json:"decisionId,omitempty"`
	// Unrecorded reports that the journal's storage was exhausted: there is no
	// record of this decision.
	Unrecorded bool `json:"unrecorded,omitempty"`
	// Warnings are the failures of policies in mode warn, and the exceptions
	// that applied.
	Warnings []string `json:"warnings,omitempty"`
	// Index is the digest of the index of which a platform was chosen, and
	// Platform what that index calls it.
	Index    string `json:"index,omitempty"`
	Platform string `json:"platform,omitempty"`
	// Until says what time alone will change of a PASSED verdict first, or nil.
	Until *Until `json:"until,omitempty"`
	// Explanation is set if it was asked for; no decision keeps it.
	Explanation *Explanation `json:"explain,omitempty"`
	// Grounds are for Summary; no decision keeps them.
	Grounds Grounds `json:"-"`
}

// PolicyResult is what one matching policy decided.
type PolicyResult struct {
	Name     string `json:"name"`
	Revision int64  `json:"revision"`
	// Digest is of the policy's canonical document.
	Digest  string          `json:"digest,omitempty"`
	Mode    policy.Mode     `json:"mode"`
	Verdict policy.Verdict  `json:"verdict"`
	Reasons []policy.Reason `json:"reasons,omitempty"`
	// Exception is why it PASSED although requirements FAILED, or nil.
	Exception    *Excepted                  `json:"exception,omitempty"`
	Requirements []policy.RequirementResult `json:"requirements"`
	// Until is when time alone will change a PASSED verdict, or nil.
	Until *Until `json:"until,omitempty"`
	// BuildLevel is the SLSA build level that it proves; 0 when it judges none.
	BuildLevel int `json:"buildLevel,omitempty"`
	// Since is when the verification summaries were made that it rests on, or
	// zero; no decision keeps it.
	Since time.Time `json:"-"`
}
