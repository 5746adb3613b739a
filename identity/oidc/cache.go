package oidc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// keyCache holds the keys of issuers that tokens named. It has one entry per
// configured issuer at most, for nothing else is asked for.
type keyCache struct {
	clock clock.Clock
	fetch func(ctx context.Context, issuer Issuer) (*keySet, error)

	mu sync.Mutex
	// entries by URL, guarded by mu.
	entries map[string]*cacheEntry
}

// cacheEntry is one issuer's keys. Whoever holds turn asks the issuer.
type cacheEntry struct {
	definition string // hash of the issuer the keys were fetched by
	turn       chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	keys    *keySet
	fetched time.Time
	asked   time.Time
	failure error // of the last question, when there are no keys
}

func newKeyCache(cfg Config) *keyCache {
	f := fetcher{network: cfg.Network, logger: cfg.Logger}
	return &keyCache{clock: cfg.Clock, fetch: f.keys, entries: map[string]*cacheEntry{}}
}

// get returns the issuer's keys. It asks the issuer when there are none, when
// they are old, or when they do not suffice, unless the last question is too
// near; the answer may still not suffice. While one caller asks, those whom the
// old keys serve do not wait for it.
func (c *keyCache) get(ctx context.Context, issuer Issuer, suffice func(*keySet) bool) (*keySet, error) {
	e, err := c.entry(issuer)
	if err != nil {
		return nil, err
	}
	keys, age := e.known(c.clock.Now())
	good := keys != nil && suffice(keys)
	if good && age < limits.IssuerKeysFresh {
		return keys, nil
	}
	if good && age < limits.IssuerKeysStale {
		select {
		case e.turn <- struct{}{}:
		default:
			return keys, nil
		}
	} else {
		select {
		case e.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for an issuer's keys: %w", ctx.Err())
		}
	}
	defer func() { <-e.turn }()
	return c.refresh(ctx, e, issuer, suffice)
}

// refresh asks the issuer if that is still needed and allowed. The question
// does not end with the caller, whose impatience is not the issuer's failure.
func (c *keyCache) refresh(ctx context.Context, e *cacheEntry, issuer Issuer, suffice func(*keySet) bool) (*keySet, error) {
	now := c.clock.Now()
	keys, age := e.known(now)
	if keys != nil && age < limits.IssuerKeysFresh && suffice(keys) || e.justAsked(now) {
		return e.usable(now)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.IssuerRequest)
	defer cancel()
	keys, err := c.fetch(ctx, issuer)
	e.learn(now, keys, err)
	return e.usable(now)
}

// known returns the keys and how old they are. A clock that went back makes
// them new, which ends when it has caught up.
func (e *cacheEntry) known(now time.Time) (*keySet, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keys, now.Sub(e.fetched)
}

func (e *cacheEntry) justAsked(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.asked.IsZero() && now.Sub(e.asked).Abs() < limits.IssuerPause
}

func (e *cacheEntry) learn(now time.Time, keys *keySet, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked, e.failure = now, err
	if err == nil {
		e.keys, e.fetched = keys, now
	}
}

// usable returns keys that are not too old to be believed.
func (e *cacheEntry) usable(now time.Time) (*keySet, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys != nil && now.Sub(e.fetched) < limits.IssuerKeysStale {
		return e.keys, nil
	}
	switch {
	case e.failure == nil:
		return nil, ErrIssuerUnavailable
	case errors.Is(e.failure, ErrIssuerUnsafe):
		return nil, e.failure
	}
	return nil, fmt.Errorf("%w: %w", ErrIssuerUnavailable, e.failure)
}

// entry finds or makes the entry of an issuer. Keys fetched by another
// definition (other authorities, another place) are forgotten.
func (c *keyCache) entry(issuer Issuer) (*cacheEntry, error) {
	document, err := issuer.Document()
	if err != nil {
		return nil, fmt.Errorf("encoding an issuer: %w", err)
	}
	definition := hash(string(document))
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[issuer.URL]; e != nil && e.definition == definition {
		return e, nil
	}
	if len(c.entries) >= limits.Issuers {
		clear(c.entries) // deleted issuers have left theirs
	}
	e := &cacheEntry{definition: definition, turn: make(chan struct{}, 1)}
	c.entries[issuer.URL] = e
	return e, nil
}
