package verifier

import (
	"context"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
)

// room bounds the memory of rounds that run at the same time. Small rounds need
// none of it. A large one waits for a place before it parses what makes it
// large. It holds one place at most, so rounds never wait for each other while
// they hold one.
type room chan struct{}

// enter counts an attachment of n bytes in, and waits for a place if the round
// is a large one by that.
func (r *round) enter(ctx context.Context, n int) *fault {
	r.bytes += n
	if r.placed || r.bytes <= limits.LargeRound {
		return nil
	}
	select {
	case r.large <- struct{}{}:
		r.placed = true
		return nil
	case <-ctx.Done():
		return faultf(policy.DeadlineExceeded, "too many large attestations are judged at once: ask again")
	}
}

// leave gives the place back; what comes next enters again.
func (r *round) leave() {
	if r.placed {
		<-r.large
		r.placed = false
	}
}
