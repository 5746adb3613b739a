package signer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/slsa"
	"github.com/countersign/countersign/registry"
)

// actionSummary signs a verification summary. It is no action of a grant: what
// the service vouches for is not for callers to say, so no Request has it.
const actionSummary policy.Action = "summary"

// summaryScope takes the place of caller and route: what is summarised does not
// depend on who asks, so that all who ask share one summary.
const summaryScope = "verification summaries"

// Summary asks for an attestation in the service's own name that it verified an
// image. The verifier makes it of a verdict; it must never be made of what a
// caller sent.
type Summary struct {
	// Image is HOST/REPOSITORY@DIGEST, as the verdict has it.
	Image string
	// Predicate is a SLSA verification summary (VSA v1) that says PASSED.
	Predicate []byte
	// Basis is the same for summaries that say the same under the same trust.
	Basis [sha256.Size]byte
	// Attach writes it to the registry too; it is archived in any case.
	Attach bool
	// Decision is the id of the verdict's record.
	Decision string
}

// summaryDocument is what a document keeps of a Summary beside the request.
type summaryDocument struct {
	Attach   bool   `json:"attach,omitempty"`
	Decision string `json:"decision,omitempty"`
}

// Summarize signs a verification summary with Config.SummaryKey and runs the
// whole sequence with it. One that was made of the same basis less than
// limits.SummaryReuse ago, by the key's current version, is answered instead;
// reused reports that. Without attaching, one that was attached will do.
//
// Errors are those of Sign; ErrForbidden when the caller may not ask for
// verdicts. With a *PendingError the summary is signed and kept but not logged
// yet, and not released: asking again within the same time gives it when it is.
func (s *Signer) Summarize(ctx context.Context, caller identity.Identity, in Summary) (result Result, reused bool, err error) {
	p, err := s.prepareSummary(ctx, caller, in)
	if err != nil {
		return Result{}, false, err
	}
	if !caller.Has(identity.Verifier) {
		// Refused by the decision, and journalled: an earlier summary is not
		// for this caller either.
		return Result{}, false, s.permit(ctx, s.newWork(newFlight(s.cfg.NewID(), p.hash), p))
	}
	if result, ok := s.summarised(ctx, p); ok {
		return result, true, nil
	}
	f := newFlight(s.cfg.NewID(), p.hash)
	f.predicate = len(p.Predicate)
	f, joined, err := s.fly(ctx, f, retryKey{p.scope, p.IdempotencyKey}, func(ctx context.Context, f *flight) outcome {
		return s.request(ctx, f, p, false)
	})
	if err != nil {
		return Result{}, false, err
	}
	result, reused, err = f.wait(ctx)
	return result, reused || joined, err
}

// summarised is a finished summary of the same meaning that is young enough, if
// there is one: of this period or the one before.
func (s *Signer) summarised(ctx context.Context, p prepared) (Result, bool) {
	now := s.cfg.Clock.Now()
	for _, at := range []time.Time{now, now.Add(-limits.SummaryReuse)} {
		for _, attach := range []bool{true, p.summary.Attach} {
			stored, err := s.cfg.Operations.Find(ctx, p.scope, p.named(at, attach).IdempotencyKey)
			if err != nil || stored.State != StateDone || now.Sub(stored.CreatedAt) >= limits.SummaryReuse {
				continue
			}
			if result, err := parseResult(stored.Result); err == nil {
				return result, true
			}
		}
	}
	return Result{}, false
}

// prepareSummary makes an operation's request of a summary. Its idempotency key
// is what it says, under which trust, by which version of the key and about
// when.
func (s *Signer) prepareSummary(ctx context.Context, caller identity.Identity, in Summary) (prepared, error) {
	ref, err := registry.ParseReference(in.Image)
	if err != nil || ref.Digest.IsZero() {
		return prepared{}, fmt.Errorf("%w: a summary is about a digest", ErrInternal)
	}
	if err := checkSummary(ref, in.Predicate); err != nil {
		return prepared{}, err
	}
	key, err := s.summaryKey(ctx)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{
		Request: Request{
			Action: actionSummary, Image: in.Image, Key: key.Name, Formats: []string{FormatBundle},
			PredicateType: predicate.VSAV1, Predicate: in.Predicate,
		},
		caller: caller, reference: ref, scope: summaryScope,
		summary: &summaryDocument{Attach: in.Attach, Decision: in.Decision},
	}
	p.basis = fmt.Sprintf("%x %s", in.Basis, key.CurrentVersion().KeyID)
	return p.named(s.cfg.Clock.Now(), in.Attach), nil
}

// named has the idempotency key of a summary that was begun at a time.
func (p prepared) named(at time.Time, attach bool) prepared {
	period := at.UnixNano() / int64(limits.SummaryReuse)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %t", p.basis, period, attach))
	p.hash, p.IdempotencyKey = sum[:], hex.EncodeToString(sum[:])
	return p
}

// checkSummary holds what is about to be signed in the service's name to what
// it must be, whoever made it.
func checkSummary(ref registry.Reference, document []byte) error {
	if err := predicate.Check(predicate.VSAV1, document); err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	vsa, err := slsa.ReadSummary(document)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	resource, ok := slsa.ParseResource(vsa.Resource)
	if !vsa.Passed || !ok || resource.Name != ref.Name() {
		return fmt.Errorf("%w: the summary is not that this image passed", ErrInternal)
	}
	return nil
}

// summaryKey is the key that signs summaries, if it can now: one that was made
// for another purpose is as good as none.
func (s *Signer) summaryKey(ctx context.Context) (keys.Key, error) {
	if s.cfg.SummaryKey == "" {
		return keys.Key{}, ErrNoSummaries
	}
	key, err := s.cfg.Keys.Get(ctx, s.cfg.SummaryKey)
	if err != nil {
		return keys.Key{}, fromKeys(err)
	}
	switch {
	case !key.Summarizes():
		return keys.Key{}, ErrKeyNotFound
	case key.State != keys.Active:
		return keys.Key{}, ErrKeyNotActive
	}
	return key, nil
}

// summarizes reports whether the operation makes a verification summary.
func (w *work) summarizes() bool { return w.doc.Request.Action == actionSummary }

// released reports whether what the operation makes goes to the registry.
func (w *work) released() bool { return w.doc.Summary == nil || w.doc.Summary.Attach }

// decideSummary permits whoever may ask for verdicts: what is said is the
// service's own finding.
func decideSummary(caller identity.Identity) (grant string, err error) {
	if !caller.Has(identity.Verifier) {
		return "", &ForbiddenError{Detail: "a verification summary needs the role " + string(identity.Verifier)}
	}
	return "role " + string(identity.Verifier), nil
}
