package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/ncruces/go-sqlite3/driver"
)

// ErrNoSnapshot says that the database is kept by a server, which has its own means.
var ErrNoSnapshot = errors.New("only the embedded database makes copies of itself")

// Snapshot is the embedded database as it was at one moment, while it goes on.
// It must be closed: until then the write-ahead log grows.
type Snapshot struct{ conn *sql.Conn }

// Snapshot notes the present moment. Errors: ErrNoSnapshot, ErrUnavailable, the
// context's.
func (d *DB) Snapshot(ctx context.Context) (*Snapshot, error) {
	if !d.embedded() {
		return nil, ErrNoSnapshot
	}
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return nil, d.mapError(ctx, "snapshot", err)
	}
	// A transaction that has read sees what was committed before its first read.
	for _, step := range []string{"BEGIN", "SELECT count(*) FROM counters"} {
		if _, err := conn.ExecContext(ctx, step); err != nil {
			return nil, errors.Join(d.mapError(ctx, "snapshot", err), conn.Close())
		}
	}
	return &Snapshot{conn: conn}, nil
}

// CopyTo writes the snapshot as a database of its own to path, which must not
// exist; it is readable by its owner only.
func (s *Snapshot) CopyTo(path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	to := url.URL{Scheme: "file", Opaque: (&url.URL{Path: absolute}).EscapedPath()}
	err = s.conn.Raw(func(c any) error { return c.(driver.Conn).Raw().Backup("main", to.String()) })
	if err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	return nil
}

// Close lets go of the moment, also when ctx is done.
func (s *Snapshot) Close(ctx context.Context) error {
	_, err := s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return errors.Join(err, s.conn.Close())
}
