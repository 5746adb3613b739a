package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrSchema says that the database has another schema version than this
// program's.
var ErrSchema = errors.New("the database has another schema version")

// OpenSQLiteForReading opens the database file at path, which must exist, for
// an audit: nothing is made, migrated or written, and every writing method is
// ErrUnavailable. The file may be in use. Another schema than this program's is
// ErrSchema.
func OpenSQLiteForReading(ctx context.Context, path string) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	pool, err := openSQLitePool(path, sqliteReaders, url.Values{"_pragma": {"query_only(on)"}, "mode": {"rw"}})
	if err != nil {
		return nil, err
	}
	return forReading(ctx, pool, sqlite{}, "sqlite")
}

// OpenPostgresForReading is OpenSQLiteForReading for the PostgreSQL database
// that dsn names.
func OpenPostgresForReading(ctx context.Context, dsn string) (*DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnect
	}
	config.RuntimeParams["default_transaction_read_only"] = "on"
	return forReading(ctx, stdlib.OpenDB(*config), postgres{}, "postgres")
}

func forReading(ctx context.Context, pool *sql.DB, d dialect, folder string) (*DB, error) {
	db := &DB{dialect: d, pool: pool, reader: pool, update: noWriter{}, chain: noWriter{}, closers: []func() error{pool.Close}}
	if err := db.sameSchema(ctx, folder); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return db, nil
}

// sameSchema compares the schema version with the newest migration.
func (d *DB) sameSchema(ctx context.Context, folder string) error {
	want, err := newestMigration(folder)
	if err != nil {
		return err
	}
	found, err := one(ctx, d.read(), scanInteger, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied")
	if err != nil {
		return d.mapError(ctx, "reading the schema version", err)
	}
	if found != want {
		return fmt.Errorf("%w: %d, this program knows %d: start the service once with this program, or use the one that wrote it", ErrSchema, found, want)
	}
	return nil
}

func newestMigration(folder string) (int64, error) {
	files, err := fs.ReadDir(migrations, "migrations/"+folder)
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, f := range files {
		var version int64
		if _, err := fmt.Sscanf(strings.TrimLeft(f.Name(), "0"), "%d_", &version); err != nil {
			return 0, fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		newest = max(newest, version)
	}
	return newest, nil
}

// noWriter refuses what writes.
type noWriter struct{}

func (noWriter) run(context.Context, work) error {
	return fmt.Errorf("%w: opened for reading", ErrUnavailable)
}
