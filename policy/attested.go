package policy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy/condition"
)

// judgeAttestation holds by an accepted attestation of the type, by one of the
// authorities, that satisfies every expectation; of several by one authority,
// by those that `which` says.
func (q *requirement) judgeAttestation(ctx context.Context, in *Question) finding {
	f := finding{signers: make(map[string]bool)}
	for _, name := range q.attestation.by {
		q.attestation.judgeAuthority(ctx, name, in, &f)
	}
	if f.holds = len(f.signers) > 0; f.holds {
		f.reasons = nil
	} else if len(f.reasons) == 0 {
		f.reasons = []Reason{*reasonf(AttestationMissing, "no %s was found: attest it", q.text)}
	}
	return f
}

func (a *attestation) judgeAuthority(ctx context.Context, name string, in *Question, f *finding) {
	candidates := a.candidates(name, in, f)
	if a.which != WhichAny && len(candidates) > 0 && in.Unread.Code != "" {
		f.reasons = append(f.reasons, in.Unread)
		return
	}
	if a.which == WhichNewest {
		candidates = newest(a.ofInterest(candidates, in, f))
	}
	held, spoiled := finding{signers: make(map[string]bool)}, false
	for _, c := range candidates {
		reason := a.judge(ctx, c, in)
		if reason != nil {
			f.reasons = append(f.reasons, *reason)
			spoiled = spoiled || a.which != WhichAny
			continue
		}
		held.signers[c.SignerID] = true
		held.evidence = append(held.evidence, c.Evidence)
		held.ends = held.ends.or(end{a.expiry(c), AttestationTooOld}).or(end{c.Expires, SignatureExpired})
		held.level = max(held.level, a.level(c))
		held.since = later(held.since, a.since(c))
	}
	if spoiled {
		return
	}
	for s := range held.signers {
		f.signers[s] = true
	}
	f.evidence = append(f.evidence, held.evidence...)
	f.ends = f.ends.or(held.ends)
	f.level, f.since = max(f.level, held.level), later(f.since, held.since)
}

// ofInterest leaves out the summaries that speak of something else: one
// verifier speaks of many images and applies many policies, and its word on one
// of them is not its last word on another. What cannot be read could be about
// anything and stays.
func (a *attestation) ofInterest(candidates []candidate, in *Question, f *finding) []candidate {
	if a.summary == nil {
		return candidates
	}
	var kept []candidate
	for _, c := range candidates {
		if reason := a.summary.strange(c.Fact, in.Image); reason != nil {
			f.reasons = append(f.reasons, *reason)
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// since is when a summary was made, and zero of anything else. One of which
// nobody says when is as old as can be.
func (a *attestation) since(c candidate) time.Time {
	switch {
	case a.summary == nil:
		return time.Time{}
	case c.made.IsZero():
		return time.Unix(0, 0)
	}
	return c.made
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// level is the SLSA build level that an attestation proves that satisfies
// everything, or 0.
func (a *attestation) level(c candidate) int {
	switch {
	case a.provenance != nil:
		if got, err := c.Attestation.provenance(); err == nil {
			return a.provenance.levelOf(c.Fact, got)
		}
	case a.summary != nil:
		return a.summary.buildLevel()
	}
	return 0
}

// candidate is an accepted attestation, and when it was made as far as is
// known.
type candidate struct {
	*Fact
	// proven is the earliest time that any copy of its signature proves, made
	// the earlier of that and what the signer says; both may be zero.
	proven, made time.Time
}

// candidates are the accepted attestations of the type by an authority. What
// keeps the others from being one becomes a reason.
func (a *attestation) candidates(authority string, in *Question, f *finding) []candidate {
	var found []candidate
	for i := range in.Facts {
		fact := &in.Facts[i]
		same := predicate.Canonical(fact.PredicateType) == a.predicateType
		switch {
		case fact.Authority != authority || fact.Kind == KindSignature:
		case !fact.Accepted && (same || fact.PredicateType == ""):
			f.reasons = append(f.reasons, refusal(fact))
		case !fact.Accepted:
		case !same:
			f.reasons = append(f.reasons, *reasonf(PredicateTypeMismatch, "%s attested, but another predicate type than %s", authority, a.predicateType))
		case fact.SignerID != "" && fact.Attestation != nil && fact.Kind == KindAttestation:
			found = append(found, candidate{Fact: fact, proven: provenAt(fact, in.Facts)})
		}
	}
	for i := range found {
		c := &found[i]
		c.made = c.proven
		if stated := c.Attestation.stated(); !stated.IsZero() && (c.made.IsZero() || stated.Before(c.made)) {
			c.made = stated
		}
	}
	return found
}

func refusal(f *Fact) Reason {
	if f.Reason.Code == "" {
		return Reason{Code: PolicyError, Message: "a signature was refused without a reason"}
	}
	return f.Reason
}

// provenAt is the earliest time that a copy of the signature proves. A stamp
// says that a signature was there by then; anybody who holds it can have it
// stamped again, and gains nothing while the first stamp is known.
func provenAt(fact *Fact, facts []Fact) time.Time {
	at := fact.ProvenAt
	for i := range facts {
		other := &facts[i]
		if other.Accepted && other.Authority == fact.Authority && other.SignatureID == fact.SignatureID && fact.SignatureID != "" &&
			!other.ProvenAt.IsZero() && (at.IsZero() || other.ProvenAt.Before(at)) {
			at = other.ProvenAt
		}
	}
	return at
}

// newest are the attestations that none is known to be younger than: those made
// last, and those of which nobody says when they were made.
func newest(all []candidate) []candidate {
	var last time.Time
	for _, c := range all {
		if c.made.After(last) {
			last = c.made
		}
	}
	var kept []candidate
	for _, c := range all {
		if c.made.IsZero() || c.made.Equal(last) {
			kept = append(kept, c)
		}
	}
	return kept
}

// judge says why an attestation does not satisfy the expectations, or nil.
func (a *attestation) judge(ctx context.Context, c candidate, in *Question) *Reason {
	if problem := c.Attestation.wellFormed(); problem != "" {
		return reasonf(PredicateInvalid, "the predicate cannot be judged: %s", problem)
	}
	if reason := a.judgeAge(c, in.Now); reason != nil {
		return reason
	}
	if a.provenance != nil {
		if reason := a.provenance.judge(c.Fact); reason != nil {
			return reason
		}
	}
	if a.summary != nil {
		if reason := a.summary.judge(c.Fact, in.Image); reason != nil {
			return reason
		}
	}
	if a.condition != nil {
		return a.judgeCondition(ctx, c.Attestation, in)
	}
	return nil
}

func (a *attestation) judgeAge(c candidate, now time.Time) *Reason {
	switch {
	case a.maxAge == 0:
		return nil
	case c.proven.IsZero():
		return reasonf(TimestampMissing, "no trusted authority says when the attestation was made, so its age is not known")
	case !now.Before(c.made.Add(a.maxAge)):
		return reasonf(AttestationTooOld, "the attestation is of %s and may be at most %s old", c.made.UTC().Format(time.RFC3339), a.maxAge)
	}
	return nil
}

// expiry is when the attestation will be too old, or zero.
func (a *attestation) expiry(c candidate) time.Time {
	if a.maxAge == 0 {
		return time.Time{}
	}
	return c.made.Add(a.maxAge)
}

func (a *attestation) judgeCondition(ctx context.Context, about *Attestation, in *Question) *Reason {
	holds, err := a.condition.Holds(ctx, condition.Input{
		Predicate: about.predicate, Statement: about.statement, Context: in.Context,
		Image: condition.Image{
			Reference: in.Image.Name() + "@" + in.Image.Digest, Name: in.Image.Name(),
			Registry: in.Image.Registry, Repository: in.Image.Repository, Digest: in.Image.Digest,
		},
	})
	switch {
	case err != nil:
		return reasonf(ConditionError, "the condition cannot be evaluated: %s: %s", wordsOf(err, condition.ErrEvaluation), excerpt(a.expression))
	case !holds:
		return reasonf(ConditionFalse, "the condition is false: %s", excerpt(a.expression))
	}
	return nil
}

// excerpt is the policy's own text, short enough for a message.
func excerpt(expression string) string {
	const most = 200
	line := strings.Join(strings.Fields(expression), " ")
	if len(line) <= most {
		return line
	}
	return fmt.Sprintf("%s…", strings.ToValidUTF8(line[:most], ""))
}
