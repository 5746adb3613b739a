package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Outcome is what a policy says of an image.
type Outcome struct {
	Verdict Verdict
	// Reasons are the most telling reason of each requirement that failed;
	// never empty when the verdict is FAILED, empty when it is PASSED.
	Reasons []Reason
	// Requirements are the policy's requirements in its order: the members of
	// the outermost `all`, or else the one requirement there is.
	Requirements []RequirementResult
	// Expires is when a PASSED verdict has to be asked for again because
	// something it rests on ends by time alone, and Ends what that will be called;
	// zero when nothing does.
	Expires time.Time
	Ends    Code
	// BuildLevel is the highest SLSA build level that the requirements that hold
	// prove; 0 when they judge none.
	BuildLevel int
	// Since is when the verification summaries were made that it rests on, the
	// earliest of them; zero when it rests on none. What is derived of the
	// decision is no younger.
	Since time.Time
}

// RequirementResult is what became of one requirement.
type RequirementResult struct {
	// Requirement describes it for a person.
	Requirement string  `json:"requirement"`
	Verdict     Verdict `json:"verdict"`
	// Evidence is what it holds by; empty when it failed.
	Evidence []Evidence `json:"evidence"`
	// Reasons are why it failed, the nearest miss first, one per code.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Decide says whether the facts of one image satisfy the policy.
//
// Without an accepted fact the answer is FAILED, whatever the policy. A
// signature requirement holds by an accepted signature of the authority it
// names that has a SignerID, and never by an attestation; an attestation
// requirement by attestations of its type only; a layout by links that its own
// keys signed. `all` and `any` hold by their
// members. `atLeast` holds when n members can each be met by a signer of its
// own, so that two signatures by one key, under whatever names, count once.
// Adding an accepted fact never turns PASSED into FAILED but where the policy
// asks for the newest or every attestation, and a fact that was not accepted
// changes reasons only. The order of facts matters to nothing but the order of
// evidence.
//
// It asks no time but the question's; ending ctx interrupts conditions, which
// then do not hold.
func (p *Policy) Decide(ctx context.Context, in Question) Outcome {
	if p.require.isZero() {
		return Outcome{Verdict: Failed, Reasons: []Reason{{
			Code: PolicyError, Message: "the policy requires nothing and so allows nothing", Policy: p.Name,
		}}}
	}
	parts := []requirement{p.require}
	if p.require.all {
		parts = p.require.members
	}
	out := Outcome{Verdict: Passed}
	var ends end
	for i := range parts {
		f := parts[i].judge(ctx, &in)
		ends = ends.or(f.ends)
		out.BuildLevel = max(out.BuildLevel, f.level)
		out.Since = earlier(out.Since, f.since)
		result := p.result(&parts[i], f)
		if result.Verdict != Passed {
			out.Verdict = Failed
			out.Reasons = append(out.Reasons, result.Reasons[0])
		}
		out.Requirements = append(out.Requirements, result)
	}
	out.Expires, out.Ends = ends.at, ends.code
	return out
}

func (p *Policy) result(q *requirement, f finding) RequirementResult {
	r := RequirementResult{Requirement: q.text, Verdict: Failed, Evidence: []Evidence{}}
	if f.holds {
		r.Verdict = Passed
		r.Evidence = append(r.Evidence, f.evidence...)
		return r
	}
	for _, reason := range nearestFirst(f.reasons) {
		reason.Policy, reason.Requirement = p.Name, q.text
		r.Reasons = append(r.Reasons, reason)
	}
	return r
}

// finding is what became of a requirement within its policy.
type finding struct {
	holds bool
	// signers are those by whom it holds; evidence is theirs.
	signers  map[string]bool
	evidence []Evidence
	// reasons are why it does not hold; never empty then.
	reasons []Reason
	// ends is when time alone ends it.
	ends end
	// level is the SLSA build level that the evidence proves, or 0.
	level int
	// since is when the summaries among it were made, or zero.
	since time.Time
}

// end is a moment at which time alone ends what was found, and the reason that
// will be given then. The zero value is none.
type end struct {
	at   time.Time
	code Code
}

// or is the earlier of two.
func (e end) or(other end) end {
	if e.at.IsZero() || !other.at.IsZero() && other.at.Before(e.at) {
		return other
	}
	return e
}

// earlier is the earlier of two times of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (q *requirement) judge(ctx context.Context, in *Question) finding {
	switch {
	case q.authority != "":
		return q.judgeSignature(in.Facts)
	case q.attestation != nil:
		return q.judgeAttestation(ctx, in)
	case q.layout != nil:
		return q.judgeLayout(in) //nolint:contextcheck // what it costs is bounded, and it waits for nothing
	}
	f := finding{signers: make(map[string]bool)}
	var held []map[string]bool
	for i := range q.members {
		m := q.members[i].judge(ctx, in)
		if !m.holds {
			f.reasons = append(f.reasons, m.reasons...)
			continue
		}
		held = append(held, m.signers)
		f.evidence = append(f.evidence, m.evidence...)
		f.ends = f.ends.or(m.ends)
		f.level, f.since = max(f.level, m.level), earlier(f.since, m.since)
		for s := range m.signers {
			f.signers[s] = true
		}
	}
	count := len(held)
	if q.distinct {
		count = distinct(held)
	}
	if f.holds = count >= q.need; f.holds {
		f.reasons, f.evidence = nil, unique(f.evidence)
		return f
	}
	if q.need > 1 && !q.all && count > 0 {
		f.reasons = append(f.reasons, Reason{
			Code:    ThresholdNotMet,
			Message: fmt.Sprintf("%d of %d needed signers: %s", count, q.need, q.text),
		})
	}
	return finding{reasons: f.reasons}
}

func (q *requirement) judgeSignature(facts []Fact) finding {
	f := finding{signers: make(map[string]bool)}
	for i := range facts {
		fact := &facts[i]
		switch {
		case fact.Authority != q.authority:
		case fact.Kind == KindAttestation:
			if fact.Accepted {
				f.reasons = append(f.reasons, *reasonf(PredicateTypeMismatch, "%s attested the image and did not sign it", q.authority))
			}
		case !fact.Accepted:
			f.reasons = append(f.reasons, refusal(fact))
		case fact.Kind == KindSignature && fact.SignerID != "":
			f.signers[fact.SignerID] = true
			f.evidence = append(f.evidence, fact.Evidence)
			f.ends = f.ends.or(end{fact.Expires, SignatureExpired})
		}
	}
	if f.holds = len(f.signers) > 0; f.holds {
		f.reasons = nil
	} else if len(f.reasons) == 0 {
		f.reasons = []Reason{{Code: NoSignature, Message: "no signature by " + q.authority + " was found: sign the image with its key"}}
	}
	return f
}

// distinct is the most members that can each be given a signer of their own: a
// maximum bipartite matching by augmenting paths (Kuhn). Counting members
// would count one signer twice; counting signers would count two signers of
// one member twice.
func distinct(members []map[string]bool) int {
	owner := make(map[string]int)
	var place func(m int, tried map[string]bool) bool
	place = func(m int, tried map[string]bool) bool {
		for s := range members[m] {
			if tried[s] {
				continue
			}
			tried[s] = true
			if other, taken := owner[s]; !taken || place(other, tried) {
				owner[s] = m
				return true
			}
		}
		return false
	}
	n := 0
	for m := range members {
		if place(m, make(map[string]bool)) {
			n++
		}
	}
	return n
}

// unique drops evidence that two members share.
func unique(evidence []Evidence) []Evidence {
	var kept []Evidence
	for _, e := range evidence {
		if !slices.ContainsFunc(kept, func(k Evidence) bool { return same(k, e) }) {
			kept = append(kept, e)
		}
	}
	return kept
}

func same(a, b Evidence) bool {
	if (a.LogIndex == nil) != (b.LogIndex == nil) || (a.LogIndex != nil && *a.LogIndex != *b.LogIndex) {
		return false
	}
	a.LogIndex, b.LogIndex = nil, nil
	return a == b
}

// nearestFirst keeps one reason per code, the one that came closest to being
// accepted first.
func nearestFirst(reasons []Reason) []Reason {
	reasons = slices.Clone(reasons)
	slices.SortStableFunc(reasons, func(a, b Reason) int {
		return cmp.Or(
			cmp.Compare(nearness(b.Code), nearness(a.Code)),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.CompactFunc(reasons, func(a, b Reason) bool { return a.Code == b.Code })
}

// Nearest is the reason of several that came closest to being accepted, or nil
// of none.
func Nearest(reasons []Reason) *Reason {
	if len(reasons) == 0 {
		return nil
	}
	return &nearestFirst(reasons)[0]
}

// nearness ranks codes by how far a signature got: the verifier finds out
// whose it is, whether it is valid, whether it speaks of this image, whether it
// is logged, when it was made, and whether its key was good then, in about this
// order. A reason that is not of a signature ranks above absence and below a
// signature of the right signer.
func nearness(c Code) int {
	order := []Code{
		NoSignature, AttestationMissing,
		UntrustedKey, IdentityMismatch, PredicateTypeMismatch,
		SignatureInvalid, CertificateInvalid, CertificateExpired, SignatureExpired,
		LimitExceeded, RegistryUnavailable, DeadlineExceeded,
		DigestMismatch, SubjectMismatch,
		LogEntryMissing, LogEntryMismatch, InclusionProofInvalid, CheckpointInvalid,
		TimestampMissing, TimestampInvalid,
		KeyOutsideWindow, KeyRevoked,
		LayoutNotSatisfied,
		PredicateInvalid, AttestationTooOld,
		BuilderMismatch, SourceMismatch, ParameterMismatch, BuildLevelTooLow,
		ConditionError, ConditionFalse,
		ThresholdNotMet,
	}
	if i := slices.Index(order, c); i >= 0 {
		return i
	}
	return slices.Index(order, LimitExceeded)
}
