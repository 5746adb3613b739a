package verifier

import (
	"context"
	"fmt"
	"sync"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// errCrowded is the refusal of a ward.
var errCrowded = fmt.Errorf("%w: too many questions wait for it", registry.ErrUnavailable)

// wards keep each registry's troubles to itself: of one host at most
// limits.RegistryRounds rounds run and limits.RegistryRoundsWaiting wait, over
// all requests. What comes then is refused at once, so that a registry that
// hangs holds a bounded part of the service.
type wards struct {
	mu sync.Mutex
	// hosts have a ward only while somebody is in it or waits; guarded by mu.
	hosts map[string]*ward
	// refused counts; guarded by mu.
	refused uint64
}

type ward struct {
	places chan struct{}
	// present are inside or waiting; guarded by the wards' mu.
	present int
}

// enter takes a place among the rounds of a host. The returned function gives
// it back and must be called once.
func (w *wards) enter(ctx context.Context, host string) (func(), error) {
	w.mu.Lock()
	if w.hosts == nil {
		w.hosts = make(map[string]*ward)
	}
	one, ok := w.hosts[host]
	if !ok {
		one = &ward{places: make(chan struct{}, limits.RegistryRounds)}
		w.hosts[host] = one
	}
	if one.present >= limits.RegistryRounds+limits.RegistryRoundsWaiting {
		w.refused++
		w.mu.Unlock()
		return nil, errCrowded
	}
	one.present++
	w.mu.Unlock()
	select {
	case one.places <- struct{}{}:
		return func() { <-one.places; w.leave(host, one) }, nil
	case <-ctx.Done():
		w.leave(host, one)
		return nil, ctx.Err()
	}
}

func (w *wards) leave(host string, one *ward) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.present--; one.present == 0 {
		delete(w.hosts, host)
	}
}

func (w *wards) refusals() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused
}
