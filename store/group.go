package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

const (
	// groupSize bounds the writes that share one transaction, so that the
	// first of them does not wait for an endless last.
	groupSize = 256
	// groupWaiting bounds the writes that wait; more are refused with
	// ErrUnavailable rather than piling up behind a slow disk.
	groupWaiting = 1 << 14
)

// group is a writer that commits together what waits together. One goroutine
// takes every waiting write, runs each in a savepoint of one transaction, and
// commits once: with 200 writers a disk flush is shared by 200 instead of
// paid 200 times, and a single writer pays no delay.
//
// A write that fails is rolled back to its savepoint and reported to its caller
// alone. Killed before the commit, none of the group has happened and none was
// acknowledged; killed after it, all have.
type group struct {
	db      *sql.DB
	dialect dialect
	// prepare runs first in every transaction.
	prepare func(ctx context.Context, s session) error

	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards what follows
	waiting []*pending
	closed  bool
}

// pending is a write in the queue. err is set before done is closed.
type pending struct {
	// ctx is the caller's: a write whose caller has left before its turn is
	// dropped.
	ctx  context.Context
	work work
	err  error
	done chan struct{}
}

// newGroup starts a writer, which ends with close and not with ctx.
func newGroup(ctx context.Context, db *sql.DB, d dialect, prepare func(context.Context, session) error) *group {
	g := &group{db: db, dialect: d, prepare: prepare, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go g.loop(context.WithoutCancel(ctx))
	return g
}

// run queues w and waits until its group is committed. When ctx ends first, w
// may still happen.
func (g *group) run(ctx context.Context, w work) error {
	p := &pending{ctx: ctx, work: w, done: make(chan struct{})}
	if err := g.enqueue(p); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *group) enqueue(p *pending) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	if len(g.waiting) >= groupWaiting {
		return fmt.Errorf("%w: too many writes wait", ErrUnavailable)
	}
	g.waiting = append(g.waiting, p)
	g.signal()
	return nil
}

func (g *group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// close lets accepted writes finish and ends the goroutine.
func (g *group) close() error {
	g.mu.Lock()
	g.closed = true
	g.signal()
	g.mu.Unlock()
	<-g.done
	return nil
}

func (g *group) loop(ctx context.Context) {
	defer close(g.done)
	for range g.wake {
		for {
			batch, closed := g.take()
			if len(batch) == 0 && closed {
				return
			}
			if len(batch) == 0 {
				break
			}
			g.commit(ctx, batch)
		}
	}
}

// take removes the next group from the queue.
func (g *group) take() ([]*pending, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), groupSize)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	return batch, g.closed
}

// commit performs a group and tells every caller.
func (g *group) commit(ctx context.Context, batch []*pending) {
	err := g.transact(ctx, batch)
	for _, p := range batch {
		if err != nil && p.err == nil {
			p.err = err
		}
		close(p.done)
	}
}

// transact runs the group's writes in one transaction. Its error befalls every
// write that has none of its own.
//
// The callers' contexts do not reach the database: interrupting one write
// would roll back the transaction of all.
func (g *group) transact(ctx context.Context, batch []*pending) error {
	tx, err := g.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	s := session{q: tx, dialect: g.dialect}
	if g.prepare != nil {
		if err := g.prepare(ctx, s); err != nil {
			return err
		}
	}
	for _, p := range batch {
		if err := isolate(ctx, s, p); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// isolate runs one write in a savepoint. It sets p.err when only this write
// failed, and returns an error when the whole transaction is lost: some
// failures (a full disk) roll back everything, which shows in the savepoint
// being gone.
func isolate(ctx context.Context, s session, p *pending) error {
	if p.err = p.ctx.Err(); p.err != nil {
		return nil
	}
	if _, err := s.q.ExecContext(ctx, "SAVEPOINT w"); err != nil {
		return err
	}
	if p.err = p.work(ctx, s); p.err != nil {
		if _, err := s.q.ExecContext(ctx, "ROLLBACK TO SAVEPOINT w"); err != nil {
			return errors.Join(p.err, err)
		}
	}
	_, err := s.q.ExecContext(ctx, "RELEASE SAVEPOINT w")
	return err
}
