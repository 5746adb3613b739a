package store

import (
	"context"
	"database/sql"
	"sync"
)

// preparedMax bounds the statements that are kept; the texts of this package
// that read one row are fewer.
const preparedMax = 64

// prepared is a pool that compiles a query for one row once, not each time it is
// asked: for SQLite, which answers such a query from its page cache, that was
// more than half of the work.
type prepared struct {
	*sql.DB

	mu         sync.RWMutex
	statements map[string]*sql.Stmt // guarded by mu
}

func newPrepared(pool *sql.DB) *prepared {
	return &prepared{DB: pool, statements: make(map[string]*sql.Stmt)}
}

// QueryRowContext is sql.DB's. What cannot be compiled is asked as it is, so that
// the pool says why.
func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if statement := p.statement(ctx, query); statement != nil { //nolint:sqlclosecheck // kept until the pool is closed
		return statement.QueryRowContext(ctx, args...)
	}
	return p.DB.QueryRowContext(ctx, query, args...)
}

// statement is nil when there is none to be had.
func (p *prepared) statement(ctx context.Context, query string) *sql.Stmt {
	p.mu.RLock()
	known, full := p.statements[query], len(p.statements) >= preparedMax
	p.mu.RUnlock()
	if known != nil || full {
		return known
	}
	// The pool closes it when it is closed.
	made, err := p.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known = p.statements[query]; known != nil {
		_ = made.Close() //nolint:sqlclosecheck // another is kept
		return known
	}
	p.statements[query] = made
	return made
}
