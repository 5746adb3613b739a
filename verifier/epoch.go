package verifier

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

// epoch is all trust that holds for a question: the policies, the exceptions to
// them, the registries and trusted roots of others (which share the policies' revision), the managed
// keys with their revocations, and the trusted root of our own. Its sum is
// different whenever any of them is.
type epoch struct {
	sum              [sha256.Size]byte
	policies         []Loaded
	exceptions       []*policy.Exception
	policiesRevision int64
	keysRevision     int64
	trusted          *trusted
	others           *otherRoots
}

// epochs gives each question the epoch in force when it was put. The revisions
// are read for every question, also those that other replicas on the same
// database move: a revoked key must not be believed a moment longer. Questions
// that come while a reading runs share the next one, which begins after all of
// them: none is answered by a reading older than itself.
type epochs struct {
	// read must be given the epoch before, to take from it what did not change.
	read func(ctx context.Context, before *epoch) (*epoch, error)

	mu sync.Mutex
	// last is the newest epoch; running says that a reading runs, and next is
	// the one that follows it, if anybody waits. Guarded by mu.
	last    *epoch
	running bool
	next    *reading
	// shared counts the questions that shared another's reading.
	shared uint64
}

// reading is one reading for all who wait for done.
type reading struct {
	done  chan struct{}
	epoch *epoch
	err   error
}

func (e *epochs) now(ctx context.Context) (*epoch, error) {
	e.mu.Lock()
	if !e.running {
		e.running = true
		before := e.last
		e.mu.Unlock()
		return e.perform(ctx, before)
	}
	if e.next == nil {
		e.next = &reading{done: make(chan struct{})}
	} else {
		e.shared++
	}
	r := e.next
	e.mu.Unlock()
	select {
	case <-r.done:
		return r.epoch, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// perform reads once. Whoever came meanwhile is served by a goroutine, so that
// a question that was put alone waits for nobody else's.
func (e *epochs) perform(ctx context.Context, before *epoch) (got *epoch, err error) {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if err == nil && got != nil {
			e.last = got
		}
		r := e.next
		if r == nil {
			e.running = false
			return
		}
		e.next = nil
		go e.serve(context.WithoutCancel(ctx), r, e.last)
	}()
	return e.read(ctx, before)
}

// serve is perform for those who wait for r.
func (e *epochs) serve(ctx context.Context, r *reading, before *epoch) {
	ctx, cancel := context.WithTimeout(ctx, limits.VerifyTimeout)
	defer cancel()
	defer close(r.done)
	defer func() {
		// In a goroutine of nobody's a panic would end the process (row H7).
		if cause := recover(); cause != nil {
			r.err = fmt.Errorf("%w: reading the trust in force: %v", ErrPolicies, cause)
		}
	}()
	r.epoch, r.err = e.perform(ctx, before)
}

// readEpoch reads revisions before what they are of: a change in between is
// judged by the newer state under the older sum, which no later question uses.
func (v *Verifier) readEpoch(ctx context.Context, before *epoch) (*epoch, error) {
	next := epoch{}
	var err error
	if next.keysRevision, err = v.keys.Revision(ctx); err != nil {
		return nil, fmt.Errorf("%w: reading revision of keys: %w", ErrPolicies, err)
	}
	if next.policiesRevision, err = v.policies.Revision(ctx); err != nil {
		return nil, fmt.Errorf("%w: reading revision: %w", ErrPolicies, err)
	}
	if next.trusted, err = v.prepared(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicies, err)
	}
	if before != nil && before.policiesRevision == next.policiesRevision {
		if before.keysRevision == next.keysRevision && before.trusted == next.trusted {
			return before, nil
		}
		next.policies, next.exceptions, next.others = before.policies, before.exceptions, before.others
	} else {
		if next.policies, err = v.policies.Policies(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPolicies, err)
		}
		if len(next.policies) > limits.Policies {
			return nil, fmt.Errorf("%w: more than %d", ErrPolicies, limits.Policies)
		}
		if v.exceptions != nil {
			if next.exceptions, err = v.exceptions.Exceptions(ctx); err != nil {
				return nil, fmt.Errorf("%w: reading exceptions: %w", ErrPolicies, err)
			}
		}
		next.others = &otherRoots{prepared: make(map[string]*trusted)}
	}
	next.sum = sha256.Sum256(fmt.Appendf(nil, "policies %d keys %d trust %x", next.policiesRevision, next.keysRevision, next.trusted.fingerprint))
	return &next, nil
}

// otherRoots are the trusted roots of others, prepared once for all questions
// under one revision of the policies.
type otherRoots struct {
	mu       sync.Mutex
	prepared map[string]*trusted // guarded by mu
}

func (o *otherRoots) get(ctx context.Context, roots Roots, name string) (*trusted, error) {
	if roots == nil {
		return nil, store.ErrNotFound
	}
	o.mu.Lock()
	known := o.prepared[name]
	o.mu.Unlock()
	if known != nil {
		return known, nil
	}
	root, err := roots.TrustRoot(ctx, name)
	if err != nil {
		return nil, err
	}
	made, err := prepare(name, root)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.prepared) < limits.TrustRoots {
		o.prepared[name] = made
	}
	return made, nil
}

// ownRoot is our own trusted root as it was prepared.
type ownRoot struct {
	root     trust.Root
	prepared *trusted
}

// prepared is our own trusted root in force, prepared once for as long as it
// stays what it is.
func (v *Verifier) prepared() (*trusted, error) {
	root := v.trust()
	if have := v.own.Load(); have != nil && sameRoot(have.root, root) {
		return have.prepared, nil
	}
	made, err := prepare(policy.SelfRoot, root)
	if err != nil {
		return nil, err
	}
	// A root that only changed and changed back, or was prepared twice at once,
	// must not look like other trust.
	if have := v.own.Load(); have != nil && have.prepared.fingerprint == made.fingerprint {
		made = have.prepared
	}
	v.own.Store(&ownRoot{root: root, prepared: made})
	return made, nil
}

func sameRoot(a, b trust.Root) bool {
	return slices.EqualFunc(a.Logs, b.Logs, sameLog) && slices.EqualFunc(a.CTLogs, b.CTLogs, sameLog) &&
		slices.EqualFunc(a.TimestampAuthorities, b.TimestampAuthorities, func(a, b trust.TimestampAuthority) bool {
			return a.URI == b.URI && sameWindow(a.Start, b.Start, a.End, b.End) && sameChain(a.Chain, b.Chain)
		}) &&
		slices.EqualFunc(a.CertificateAuthorities, b.CertificateAuthorities, func(a, b trust.CertificateAuthority) bool {
			return a.URI == b.URI && sameWindow(a.Start, b.Start, a.End, b.End) && sameChain(a.Chain, b.Chain)
		})
}

func sameLog(a, b trust.Log) bool {
	return a.BaseURL == b.BaseURL && a.Origin == b.Origin && slices.Equal(a.ID, b.ID) &&
		sameWindow(a.Start, b.Start, a.End, b.End) && sameKey(a.Public, b.Public)
}

func sameChain(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, func(a, b *x509.Certificate) bool { return a == b || a.Equal(b) })
}

func sameWindow(startA, startB time.Time, endA, endB *time.Time) bool {
	if !startA.Equal(startB) || (endA == nil) != (endB == nil) {
		return false
	}
	return endA == nil || endA.Equal(*endB)
}
