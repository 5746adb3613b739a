package sequencer

import (
	"context"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
)

// queue gathers entries into batches: the first one waits a moment for
// company, and what comes while a batch is written is the next one. One
// goroutine writes, so entries get their places in the order they came.
type queue struct {
	size  int
	age   time.Duration
	write func(ctx context.Context, entries []*tessera.Entry) error

	// wake and full receive without blocking: something waits, a whole batch
	// does.
	wake, full chan struct{}

	mu      sync.Mutex
	waiting []*queued
	ended   error
}

// queued is one entry; err is set before done is closed.
type queued struct {
	entry *tessera.Entry
	done  chan struct{}
	err   error
}

func newQueue(size int, age time.Duration, write func(context.Context, []*tessera.Entry) error) *queue {
	return &queue{size: size, age: age, write: write, wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// add is a tessera.AddFn.
func (q *queue) add(_ context.Context, entry *tessera.Entry) tessera.IndexFuture {
	item := &queued{entry: entry, done: make(chan struct{})}
	q.mu.Lock()
	if item.err = q.ended; item.err != nil {
		close(item.done)
	} else {
		q.waiting = append(q.waiting, item)
		notify(q.wake)
		if len(q.waiting) >= q.size {
			notify(q.full)
		}
	}
	q.mu.Unlock()
	return func() (tessera.Index, error) {
		<-item.done
		if item.err != nil {
			return tessera.Index{}, item.err
		}
		return tessera.Index{Index: *entry.Index()}, nil
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes batches until ctx ends; what waits then is told so.
func (q *queue) run(ctx context.Context) {
	company := time.NewTimer(q.age)
	defer company.Stop()
	for {
		select {
		case <-ctx.Done():
			q.end(ctx.Err())
			return
		case <-q.wake:
		}
		company.Reset(q.age)
		select {
		case <-ctx.Done():
		case <-company.C:
		case <-q.full:
		}
		for ctx.Err() == nil {
			batch := q.take()
			if len(batch) == 0 {
				break
			}
			q.flush(ctx, batch)
		}
	}
}

func (q *queue) take() []*queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), q.size)
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

func (q *queue) flush(ctx context.Context, batch []*queued) {
	entries := make([]*tessera.Entry, 0, len(batch))
	for _, item := range batch {
		entries = append(entries, item.entry)
	}
	err := q.write(ctx, entries)
	for _, item := range batch {
		item.err = err
		close(item.done)
	}
}

func (q *queue) end(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = cause
	for _, item := range q.waiting {
		item.err = cause
		close(item.done)
	}
	q.waiting = nil
}
