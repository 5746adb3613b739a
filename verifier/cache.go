package verifier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/store"
)

// verdictKey is everything a verdict depends on besides the subject's bytes.
// Revisions only grow, so a change of trust makes every older key unreachable
// (row J3).
type verdictKey struct {
	digest     attest.Digest
	repository string
	policy     string
	context    [sha256.Size]byte
	epoch      [sha256.Size]byte
	platform   string
	// lent is the mark of the credentials that the question brings for the
	// repository, zero without any. Neither a verdict nor a round in progress is
	// shared with a question that brings others: what a namespace's secrets can
	// read is not told to another namespace (row J3).
	lent [sha256.Size]byte
}

// contextKey is the same for equal contexts and for no others.
func contextKey(context map[string]string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(context)) {
		fmt.Fprintf(h, "%d %s %d %s ", len(name), name, len(context[name]), context[name])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// outcome is what is decided of a subject, whatever name it was asked under.
// It is shared between answers and never changed.
type outcome struct {
	verdict  policy.Verdict
	reasons  []policy.Reason
	policies []PolicyResult
	warnings []string
	// notices are warnings that do not keep the verdict from being remembered:
	// the exceptions that applied.
	notices []string
	// at is when it was decided.
	at time.Time
	// sure: everything was read, so asking again gives the same.
	sure bool
	// expires is when time alone may change it, or zero.
	expires time.Time
	// settled: no further signature or attestation could change it.
	settled bool
	// unreached: the registry gave no answer, so it is no word on the image.
	unreached bool
	// subject is what the verdict is about; index and platform are set if it is
	// a child that was chosen of an index.
	subject, index attest.Digest
	platform       string
	// until is what time alone will change first, or nil.
	until *Until
	// explained is set if it was asked for; such outcomes are not remembered.
	explained *Explanation
}

func (o *outcome) expire(at time.Time) {
	if !at.IsZero() && (o.expires.IsZero() || at.Before(o.expires)) {
		o.expires = at
	}
}

func undecided(code policy.Code, text string) outcome {
	return outcome{verdict: policy.Failed, reasons: []policy.Reason{{Code: code, Message: text}}}
}

// kept is how much the archive had of a subject before it was judged. What is
// not settled holds only while that is still so: a signature that was made or
// ingested here or on another replica on the same database counts for the very
// next question.
type kept int

// unknownKept says that the archive could not be asked.
const unknownKept kept = -1

// covers reports whether a verdict reached at k has seen all that is there at
// now. The archive only grows; what it is too full to count covers nothing.
func (k kept) covers(now kept) bool {
	return k != unknownKept && now != unknownKept && k >= now && now < store.MaxPage
}

type remembered struct {
	outcome outcome
	kept    kept
	expires time.Time
}

// good reports whether the verdict stands if the archive has now.
func (r remembered) good(now kept) bool { return r.outcome.settled || r.kept.covers(now) }

// memory remembers verdicts and lets concurrent questions about one key share
// one round of work.
type memory struct {
	verdicts          *otter.Cache[verdictKey, remembered]
	passed, failedTTL time.Duration
	staleIfError      time.Duration
	now               func() time.Time

	hits, shared, rounds, stale atomic.Uint64

	mu sync.Mutex
	// flights are the rounds in progress. mu guards the map and the waiters
	// of every flight.
	flights map[verdictKey]*flight
}

type flight struct {
	kept    kept
	waiters int
	cancel  context.CancelFunc
	// done is closed when outcome is set.
	done    chan struct{}
	outcome outcome
}

func newMemory(c Config, now func() time.Time) (*memory, error) {
	m := &memory{
		passed: c.PassedTTL, failedTTL: c.FailedTTL, staleIfError: min(c.StaleIfError, limits.StaleIfErrorMax),
		now: now, flights: make(map[verdictKey]*flight),
	}
	if m.passed == 0 {
		m.passed = limits.PassedTTL
	}
	if m.failedTTL == 0 {
		m.failedTTL = limits.FailedTTL
	}
	size := c.CacheSize
	if size == 0 {
		size = limits.Verdicts
	}
	if size < 0 {
		return m, nil
	}
	var err error
	m.verdicts, err = otter.New(&otter.Options[verdictKey, remembered]{MaximumSize: size})
	if err != nil {
		return nil, fmt.Errorf("making verdict cache: %w", err)
	}
	return m, nil
}

// recall is what is remembered and has not aged.
func (m *memory) recall(key verdictKey) (remembered, bool) {
	if m.verdicts == nil {
		return remembered{}, false
	}
	r, ok := m.verdicts.GetIfPresent(key)
	return r, ok && m.now().Before(r.expires)
}

// lapsed is a verdict that passed under exactly this key and is too old to be
// answered while the registry can be asked.
func (m *memory) lapsed(key verdictKey) (remembered, bool) {
	if m.verdicts == nil || m.staleIfError <= 0 {
		return remembered{}, false
	}
	r, ok := m.verdicts.GetIfPresent(key)
	now := m.now()
	switch {
	case !ok || r.outcome.verdict != policy.Passed,
		!now.Before(r.outcome.at.Add(m.staleIfError)),
		!r.outcome.expires.IsZero() && !now.Before(r.outcome.expires):
		return remembered{}, false
	}
	return r, true
}

// remember keeps what is sure. FAILED ages sooner than PASSED: a signature that
// somebody else attaches in the registry is not seen from here.
func (m *memory) remember(key verdictKey, out outcome, at kept) {
	if m.verdicts == nil || out.unreached {
		return
	}
	ttl := m.passed
	if out.verdict != policy.Passed || len(out.warnings) > 0 {
		ttl = m.failedTTL
	}
	if !out.sure || ttl <= 0 {
		// It is not to be answered again, and what passed before is refuted.
		m.verdicts.Invalidate(key)
		return
	}
	// Not a moment longer than the attestations that it rests on.
	until := outcome{expires: m.now().Add(ttl)}
	until.expire(out.expires)
	m.verdicts.Set(key, remembered{outcome: out, kept: at, expires: until.expires})
}

// ask recalls the verdict of key, or waits for the one round of work that
// decides it. A waiter leaves at its own deadline; the work goes on while
// anybody waits, and is cancelled when the last one leaves. count is asked
// unless the verdict is settled; work is told what it said.
func (m *memory) ask(ctx context.Context, key verdictKey, count func() kept, work func(context.Context, kept) outcome) (out outcome, cached bool, err error) {
	r, ok := m.recall(key)
	if ok && r.outcome.settled {
		m.hits.Add(1)
		return r.outcome, true, nil
	}
	now := count()
	if ok && r.good(now) {
		m.hits.Add(1)
		return r.outcome, true, nil
	}
	m.mu.Lock()
	// Asked again under the lock: a flight remembers before it leaves the map.
	if r, ok := m.recall(key); ok && r.good(now) {
		m.mu.Unlock()
		m.hits.Add(1)
		return r.outcome, true, nil
	}
	f, ok := m.flights[key]
	if ok && (f.kept.covers(now) || f.kept == now) {
		m.shared.Add(1)
	} else {
		m.rounds.Add(1)
		f = m.start(ctx, key, now, work)
	}
	f.waiters++
	m.mu.Unlock()
	select {
	case <-f.done:
		return f.outcome, false, nil
	case <-ctx.Done():
	}
	if m.leave(key, f) {
		return f.outcome, false, nil
	}
	return outcome{}, false, ctx.Err()
}

// start must be called with mu held. A flight that has not seen what the
// archive has now goes on for those who wait for it.
func (m *memory) start(ctx context.Context, key verdictKey, at kept, work func(context.Context, kept) outcome) *flight {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.VerifyTimeoutMax)
	f := &flight{kept: at, cancel: cancel, done: make(chan struct{})}
	m.flights[key] = f
	go func() {
		defer cancel()
		f.outcome = work(ctx, at)
		m.land(key, f)
		close(f.done)
	}()
	return f
}

// land remembers a flight's outcome, unless a later flight saw more.
func (m *memory) land(key verdictKey, f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flights[key] == f {
		m.remember(key, f.outcome, f.kept)
		delete(m.flights, key)
	}
}

// leave reports whether the outcome came in the last moment.
func (m *memory) leave(key verdictKey, f *flight) (done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-f.done:
		return true
	default:
	}
	f.waiters--
	if f.waiters > 0 {
		return false
	}
	f.cancel()
	if m.flights[key] == f {
		delete(m.flights, key)
	}
	return false
}
