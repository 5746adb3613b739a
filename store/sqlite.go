package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/pressly/goose/v3"
)

// sqliteReaders bounds the read connections. Each holds its own page cache, and
// a read takes microseconds, so a few serve many callers.
const sqliteReaders = 8

// OpenSQLite opens or makes the database file at path, readable by its owner
// only, and brings its schema up to date. The file's directory must exist.
//
// One connection writes, in groups; others read beside it (write-ahead log).
// Every commit is flushed to the disk (synchronous=FULL). One process at a time
// may have the file open: a second would be correct but would not find the
// first's group to join; keeping it out is the caller's lock.
func OpenSQLite(ctx context.Context, path string) (*DB, error) {
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	copier, err := newCheckpointer(ctx, path)
	if err != nil {
		return nil, err
	}
	fail := func(err error, closers ...func() error) (*DB, error) {
		errs := []error{fmt.Errorf("opening %s: %w", path, err)}
		for _, c := range append(closers, copier.close) {
			errs = append(errs, c())
		}
		return nil, errors.Join(errs...)
	}
	writer, err := openSQLitePool(path, 1, url.Values{"_txlock": {"immediate"}, "_pragma": {writerCache}}, copier.watch)
	if err != nil {
		return fail(err)
	}
	if err := probe(ctx, writer); err != nil {
		return fail(err, writer.Close)
	}
	if err := migrate(ctx, goose.DialectSQLite3, "sqlite", writer); err != nil {
		return fail(err, writer.Close)
	}
	readers, err := openSQLitePool(path, sqliteReaders, url.Values{"_pragma": {"query_only(on)"}})
	if err != nil {
		return fail(err, writer.Close)
	}
	g := newGroup(ctx, writer, sqlite{}, nil)
	db := &DB{dialect: sqlite{}, pool: readers, reader: newPrepared(readers), update: g, chain: g}
	if db.runs, err = newRuns(ctx, db); err != nil {
		return fail(err, g.close, readers.Close, writer.Close)
	}
	db.closers = []func() error{db.runs.close, g.close, readers.Close, writer.Close, copier.close}
	return db, nil
}

// probe begins a first transaction. A disk that fails while the index of the
// write-ahead log is made leaves the connection waiting for a lock of its own,
// ten seconds a statement; the migrations would go on trying for minutes.
func probe(ctx context.Context, writer *sql.DB) error {
	tx, err := writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// writerCache is how much of the database the writer keeps at most, in KiB below
// zero. Indexes by digest are written at random places: with SQLite's own 2 MiB,
// a log of half a million entries reads a page of the file for nearly every entry.
const writerCache = "cache_size(-32768)"

// createPrivate makes the database's files before SQLite would make them with
// wider permissions, and makes a new name in the directory durable.
func createPrivate(path string) error {
	for _, name := range []string{path, path + "-shm"} {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func openSQLitePool(path string, connections int, extra url.Values, prepare ...func(*sqlite3.Conn) error) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	values := url.Values{
		// busy_timeout comes first: the pragmas after it may have to wait.
		"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(on)"},
		// The write-ahead log takes its permissions from the database file.
		"modeof": {absolute},
	}
	for k, v := range extra {
		values[k] = append(values[k], v...)
	}
	// SQLite decodes %20 but not the + that url.Values writes for a space.
	query := strings.ReplaceAll(values.Encode(), "+", "%20")
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: absolute}).EscapedPath(), RawQuery: query}
	pool, err := driver.Open(name.String(), append(prepare, stablePlans)...)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	return pool, nil
}

// stablePlans keeps SQLite from compiling a statement anew for each value that is
// bound to it. A plan may then not depend on values; none here does.
func stablePlans(c *sqlite3.Conn) error {
	_, err := c.Config(sqlite3.DBCONFIG_ENABLE_QPSG, true)
	return err
}

// sqlite is the dialect of SQLite.
type sqlite struct{}

// rebind makes numbered parameters of $1: SQLite would take that for a name and
// number names by first appearance.
func (sqlite) rebind(query string) string { return strings.ReplaceAll(query, "$", "?") }

func (sqlite) unavailable(err error) bool {
	return isCode(err, sqlite3.BUSY, sqlite3.LOCKED, sqlite3.NOMEM, sqlite3.PROTOCOL) || sqlite{}.exhausted(err)
}

// exhausted counts a failing disk as a full one: neither is the caller's to
// mend, and SQLite does not always tell them apart.
func (sqlite) exhausted(err error) bool {
	return isCode(err, sqlite3.FULL, sqlite3.READONLY, sqlite3.IOERR, sqlite3.CANTOPEN)
}

func isCode(err error, codes ...sqlite3.ErrorCode) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func (sqlite) duplicate(err error) bool {
	return errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) || errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY)
}

// lockChain has nothing to do: a write transaction excludes all others.
func (sqlite) lockChain(context.Context, session) error { return nil }
