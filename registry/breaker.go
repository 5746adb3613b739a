package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/limits"
)

// breaker leaves an origin alone that gives no answer: after
// limits.RegistryFailures requests in a row without one, requests fail at once
// for limits.RegistryRest, and then one at a time tries again. Any answer, also a
// bad one, closes it: what a registry says of one image says nothing of others.
type breaker struct {
	mu sync.Mutex
	// failures in a row, until when nobody asks, and whether somebody tries;
	// guarded by mu.
	failures int
	until    time.Time
	trying   bool
}

// allow reports whether a request may be sent. One that may must be followed by
// done.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < limits.RegistryFailures {
		return true
	}
	if b.trying || now.Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

// verdicts of done.
const (
	answered = iota
	unanswered
	// untold: the request ended before it could tell.
	untold
)

func (b *breaker) done(how int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch how {
	case answered:
		b.failures = 0
	case unanswered:
		if b.failures++; b.failures >= limits.RegistryFailures {
			b.until = now.Add(limits.RegistryRest)
		}
	}
}

// judged says what the end of a request tells of the origin. A caller that gave
// up soon, or left, tells nothing: callers choose their deadlines.
func judged(ctx context.Context, err error, took time.Duration) int {
	switch {
	case err == nil, errIs(err, ErrLimit, ErrUnsafe):
		return answered
	case errors.Is(ctx.Err(), context.Canceled):
		return untold
	case ctx.Err() != nil && took < limits.RegistrySlow:
		return untold
	}
	return unanswered
}

// guarded sends a request through the breaker of the origin.
func (o *origin) guarded(ctx context.Context, send func() (answer, error)) (answer, error) {
	began := o.clock.Now()
	if !o.breaker.allow(began) {
		return answer{}, fmt.Errorf("%w: %s gave no answer a moment ago", ErrUnavailable, o.rule.Host)
	}
	how := untold
	defer func() { o.breaker.done(how, o.clock.Now()) }()
	a, err := send()
	how = judged(ctx, err, o.clock.Now().Sub(began))
	return a, err
}
