package verifier

import (
	"context"
	"errors"

	"github.com/countersign/countersign/registry"
)

// ahead is the listing of attachments, read while the manifest is: by digest
// the two do not need each other, and a verdict is one round trip nearer.
type ahead struct {
	done  chan struct{}
	found registry.Found
	err   error
	// panicked is what the reading panicked with: it is for the round to raise.
	panicked any
}

// lookAhead begins to read what is attached to a digest if the archive cannot
// answer for it. Nil is no reading: what no policy covers is not asked about, of
// an index another digest may be chosen, and what is kept is judged first.
func (v *Verifier) lookAhead(ctx context.Context, q *question, ref registry.Reference, at kept) *ahead {
	var scout round
	covered := false
	for _, loaded := range q.policies {
		if loaded.Policy.Matches(ref.Name(), q.context) {
			covered = true
			scout.need(loaded.Policy.Needs())
		}
	}
	if !covered || q.request.Platform != "" || at > 0 && !scout.needs.Everything {
		return nil
	}
	a := &ahead{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer func() { a.panicked = recover() }()
		a.found, a.err = q.registry.AttachmentsFor(ctx, ref, registry.Want{Type: scout.wants})
	}()
	return a
}

// attachments are what the registry keeps with the subject, from the reading
// ahead if there was one.
func (r *round) attachments(ctx context.Context) (registry.Found, error) {
	a := r.ahead
	if a == nil {
		return r.question.registry.AttachmentsFor(ctx, r.subject, registry.Want{Type: r.wants})
	}
	r.ahead = nil
	select {
	case <-a.done:
	case <-ctx.Done():
		return registry.Found{}, ctx.Err()
	}
	if a.panicked != nil {
		panic(a.panicked)
	}
	return a.found, a.err
}

// unreached reports whether an error says that the registry gave no answer, as
// opposed to one that denies.
func unreached(err error) bool {
	return errors.Is(err, registry.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
