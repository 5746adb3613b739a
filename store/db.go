package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// DB is one open database. Its zero value is not usable; OpenSQLite and
// OpenPostgres make one.
type DB struct {
	dialect dialect
	pool    *sql.DB
	// reader is the pool, or what reads through it.
	reader querier
	// update runs a write; chain runs an append to the audit chain.
	update runner
	chain  runner
	// runs files decisions; nil where the database does, and where nothing is
	// written.
	runs *runs

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
	closers   []func() error
}

// runner performs writes, each all or nothing and durable when run returns nil.
type runner interface {
	run(ctx context.Context, w work) error
}

// work is one write. It may be repeated from the start, on another goroutine
// than the caller's, and may outlive the caller's context: it reads only what
// nobody changes and hands its result over through its own variables.
type work func(ctx context.Context, s session) error

// Objects is the keeper of managed objects.
func (d *DB) Objects() Objects { return objects{d} }

// Operations is the keeper of signing sequences.
func (d *DB) Operations() Operations { return operations{d} }

// Bundles is the keeper of bundles.
func (d *DB) Bundles() Bundles { return bundles{d} }

// Decisions is the keeper of answers.
func (d *DB) Decisions() Decisions { return decisions{d} }

// Chain is the audit chain.
func (d *DB) Chain() Chain { return chain{d} }

// Anchors is the anchors of the audit chain.
func (d *DB) Anchors() Anchors { return anchors{d} }

// Leaves is the index of the log's first shard.
func (d *DB) Leaves() Leaves { return d.ShardLeaves(1) }

// ShardLeaves is the index of one shard of the log; shards count from 1.
func (d *DB) ShardLeaves(shard int) Leaves { return leaves{d, shard} }

// LogIndex is the log's search index.
func (d *DB) LogIndex() LogIndex { return logIndex{d} }

// Checkpoints is how far the log has come.
func (d *DB) Checkpoints() Checkpoints { return checkpoints{d} }

// Uses is what was used once.
func (d *DB) Uses() Uses { return uses{d} }

// Ping reports whether the database answers, else ErrUnavailable or the
// context's error.
func (d *DB) Ping(ctx context.Context) error {
	return d.mapError(ctx, "ping", d.pool.PingContext(ctx))
}

// Close ends the database's use: writes that were accepted finish first, later
// calls return ErrUnavailable. It is safe to call more than once.
func (d *DB) Close() error {
	d.closeOnce.Do(func() {
		d.closed.Store(true)
		errs := make([]error, 0, len(d.closers))
		for _, c := range d.closers {
			errs = append(errs, c())
		}
		d.closeErr = errors.Join(errs...)
	})
	return d.closeErr
}

// embedded reports whether the database is a file that only we write.
func (d *DB) embedded() bool {
	_, ok := d.dialect.(sqlite)
	return ok
}

// read is a session on the read side.
func (d *DB) read() session { return session{q: d.reader, dialect: d.dialect} }

// mapError turns an error of the database into one of this package's. what
// names the method for the reader of a log.
func (d *DB) mapError(ctx context.Context, what string, err error) error {
	var foreign *callerError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &foreign):
		return foreign.err
	case isSentinel(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case d.dialect.exhausted(err) && !d.closed.Load():
		return fmt.Errorf("%s: %w: %w: %w", what, ErrUnavailable, ErrExhausted, err)
	case d.closed.Load() || d.dialect.unavailable(err):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// callerError carries an error of a caller's own function past mapError.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }

func isSentinel(err error) bool {
	for _, s := range []error{ErrNotFound, ErrExists, ErrStale, ErrUnavailable, ErrCursor, ErrText} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// write runs fn as one write and returns its result. The result is read only
// after fn has ended, so a caller whose context ended earlier shares nothing
// with it.
func write[T any](ctx context.Context, d *DB, r runner, what string, fn func(context.Context, session) (T, error)) (T, error) {
	result := new(T)
	err := r.run(ctx, func(ctx context.Context, s session) error {
		var err error
		*result, err = fn(ctx, s)
		return err
	})
	if err != nil {
		var none T
		return none, d.mapError(ctx, what, err)
	}
	return *result, nil
}
