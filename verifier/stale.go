package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// stale answers from memory when the registry cannot be reached: only a digest
// that PASSED before, for the same question under the same epoch, within the
// time that is configured, and resting on nothing that has expired. A tag has no
// such answer: what it names today only the registry knows. began is when the
// question was put.
func (v *Verifier) stale(ctx context.Context, key verdictKey, began time.Time, err error) (outcome, bool) {
	if err != nil && !v.waitedInVain(began, err) {
		return outcome{}, false
	}
	r, ok := v.memory.lapsed(key)
	if !ok || !r.outcome.settled && !r.kept.covers(v.keptOf(context.WithoutCancel(ctx), key)) {
		return outcome{}, false
	}
	v.memory.stale.Add(1)
	out := r.outcome
	out.warnings = append(out.warnings[:len(out.warnings):len(out.warnings)],
		fmt.Sprintf("the registry cannot be reached: the image passed at %s, and nothing of the registry was read since", out.at.UTC().Format(time.RFC3339)))
	return out, true
}

// waitedInVain reports whether a question that ended by its deadline has waited
// long enough for that to say something of the registry: a caller must not get
// old answers by asking for quick ones.
func (v *Verifier) waitedInVain(began time.Time, err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && v.clock.Now().Sub(began) >= limits.StaleWait
}

// keptOf asks the archive how much it has of a digest.
func (v *Verifier) keptOf(ctx context.Context, key verdictKey) kept {
	n, err := v.archive.Count(ctx, key.digest)
	if err != nil {
		v.log.WarnContext(ctx, "counting what the archive has", "digest", key.digest.String(), "error", err)
		return unknownKept
	}
	return kept(n)
}

// Stats count what became of questions since the start.
type Stats struct {
	// Hits were answered from memory, Rounds are those that were worked out, and
	// Shared waited for a round that another question had begun.
	Hits, Rounds, Shared uint64
	// Stale were answered with an old verdict while a registry could not be
	// reached; Refused found too many waiting for a registry.
	Stale, Refused uint64
	// SharedReadings are questions that read the trust in force together with
	// others.
	SharedReadings uint64
}

// Stats is the counts so far.
func (v *Verifier) Stats() Stats {
	v.epochs.mu.Lock()
	readings := v.epochs.shared
	v.epochs.mu.Unlock()
	m := v.memory
	return Stats{
		Hits: m.hits.Load(), Rounds: m.rounds.Load(), Shared: m.shared.Load(), Stale: m.stale.Load(),
		Refused: v.wards.refusals(), SharedReadings: readings,
	}
}

// answer puts an outcome into a result. ref is by digest.
func (r Result) answer(out outcome, ref registry.Reference, key verdictKey) Result {
	if !out.index.IsZero() {
		r.Index, r.Platform = out.index.String(), out.platform
		r.Digest, r.Pinned = out.subject.String(), ref.Pinned(out.subject)
	}
	r.Until, r.Explanation = out.until, out.explained
	r.Verdict = out.verdict
	r.Reasons = append([]policy.Reason{}, out.reasons...)
	r.Policies = append([]PolicyResult{}, out.policies...)
	r.Warnings = slices.Concat(out.warnings, out.notices)
	r.Grounds = Grounds{At: out.at, Under: key.epoch}
	return r
}
