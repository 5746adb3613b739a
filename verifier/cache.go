package verifier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
)

// Defaults of Config.
const (
	defaultCacheSize = 20_000
	defaultPassedTTL = time.Minute
)

// verdictKey is everything a verdict depends on besides the subject's bytes.
// Revisions only grow, so a change of trust makes every older key unreachable
// (row J3).
type verdictKey struct {
	digest     attest.Digest
	repository string
	policy     string
	context    [sha256.Size]byte
	policies   int64
	keys       int64
	trust      [sha256.Size]byte
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
	// at is when it was decided.
	at time.Time
	// sure: everything was read, so asking again gives the same.
	sure bool
	// expires is when time alone may change it, or zero.
	expires time.Time
}

func (o *outcome) expire(at time.Time) {
	if !at.IsZero() && (o.expires.IsZero() || at.Before(o.expires)) {
		o.expires = at
	}
}

func undecided(code policy.Code, text string) outcome {
	return outcome{verdict: policy.Failed, reasons: []policy.Reason{{Code: code, Message: text}}}
}

type remembered struct {
	outcome outcome
	expires time.Time
}

// memory remembers verdicts and lets concurrent questions about one key share
// one round of work.
type memory struct {
	verdicts          *otter.Cache[verdictKey, remembered]
	passed, failedTTL time.Duration
	now               func() time.Time

	mu sync.Mutex
	// flights are the rounds in progress. mu guards the map and the waiters
	// of every flight.
	flights map[verdictKey]*flight
}

type flight struct {
	waiters int
	cancel  context.CancelFunc
	// done is closed when outcome is set.
	done    chan struct{}
	outcome outcome
}

func newMemory(c Config, now func() time.Time) (*memory, error) {
	m := &memory{passed: c.PassedTTL, failedTTL: c.FailedTTL, now: now, flights: make(map[verdictKey]*flight)}
	if m.passed == 0 {
		m.passed = defaultPassedTTL
	}
	size := c.CacheSize
	if size == 0 {
		size = defaultCacheSize
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

func (m *memory) recall(key verdictKey) (outcome, bool) {
	if m.verdicts == nil {
		return outcome{}, false
	}
	r, ok := m.verdicts.GetIfPresent(key)
	if !ok || !m.now().Before(r.expires) {
		return outcome{}, false
	}
	return r.outcome, true
}

// remember keeps what is sure, and FAILED only if the configuration says so: a
// signature that arrives must count for the next question.
func (m *memory) remember(key verdictKey, out outcome) {
	if m.verdicts == nil || !out.sure {
		return
	}
	ttl := m.passed
	if out.verdict != policy.Passed || len(out.warnings) > 0 {
		ttl = m.failedTTL
	}
	if ttl <= 0 {
		return
	}
	// Not a moment longer than the attestations that it rests on.
	until := outcome{expires: m.now().Add(ttl)}
	until.expire(out.expires)
	m.verdicts.Set(key, remembered{outcome: out, expires: until.expires})
}

// ask recalls the verdict of key, or waits for the one round of work that
// decides it. A waiter leaves at its own deadline; the work goes on while
// anybody waits, and is cancelled when the last one leaves.
func (m *memory) ask(ctx context.Context, key verdictKey, work func(context.Context) outcome) (out outcome, cached bool, err error) {
	if out, ok := m.recall(key); ok {
		return out, true, nil
	}
	m.mu.Lock()
	// Asked again under the lock: a flight remembers before it leaves the map.
	if out, ok := m.recall(key); ok {
		m.mu.Unlock()
		return out, true, nil
	}
	f, ok := m.flights[key]
	if !ok {
		f = m.start(ctx, key, work)
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

// start must be called with mu held.
func (m *memory) start(ctx context.Context, key verdictKey, work func(context.Context) outcome) *flight {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.VerifyTimeoutMax)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	m.flights[key] = f
	go func() {
		defer cancel()
		f.outcome = work(ctx)
		m.remember(key, f.outcome)
		m.mu.Lock()
		if m.flights[key] == f {
			delete(m.flights, key)
		}
		m.mu.Unlock()
		close(f.done)
	}()
	return f
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
