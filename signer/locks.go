package signer

import (
	"context"
	"sync"
)

// keyedLock serialises work per name, without keeping names that nobody holds.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]*keyHolder // guarded by mu
}

type keyHolder struct {
	turn    chan struct{}
	waiting int // guarded by keyedLock.mu; includes the holder
}

// lock waits for its turn or for the end of ctx; on success the caller must
// call the function it returns.
func (l *keyedLock) lock(ctx context.Context, name string) (func(), error) {
	l.mu.Lock()
	h, ok := l.held[name]
	if !ok {
		h = &keyHolder{turn: make(chan struct{}, 1)}
		l.held[name] = h
	}
	h.waiting++
	l.mu.Unlock()
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; l.leave(name, h) }, nil
	case <-ctx.Done():
		l.leave(name, h)
		return nil, ctx.Err()
	}
}

func (l *keyedLock) leave(name string, h *keyHolder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.waiting--; h.waiting == 0 {
		delete(l.held, name)
	}
}
