package registry

import (
	"context"
	"sync"
)

// keyedLocks serialises writers that share a key. A lock exists only while
// somebody holds or waits for it.
type keyedLocks struct {
	mu sync.Mutex
	// locks and their waiters are guarded by mu.
	locks map[string]*keyedLock
}

type keyedLock struct {
	held    chan struct{}
	waiters int
}

// lock waits for the key or the end of the context. The returned function
// gives it back and must be called once.
func (k *keyedLocks) lock(ctx context.Context, key string) (func(), error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[string]*keyedLock)
	}
	l, ok := k.locks[key]
	if !ok {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.waiters++
	k.mu.Unlock()
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; k.leave(key, l) }, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, ctx.Err()
	}
}

func (k *keyedLocks) leave(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.waiters--; l.waiters == 0 {
		delete(k.locks, key)
	}
}
