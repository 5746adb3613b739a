package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

const (
	// postgresConnections bounds one process's connections; PostgreSQL's own
	// default is 100 for all.
	postgresConnections = 32
	postgresIdle        = 5 * time.Minute
	postgresConnect     = 5 * time.Second
	// postgresAttempts bounds how often a write is repeated that the database
	// ended to resolve a deadlock or a serialisation conflict.
	postgresAttempts = 5
	// postgresChainLock is the advisory lock that appenders hold; any constant
	// that nothing else in the database uses would do.
	postgresChainLock = 0x636f756e74657273 // "counters", as ASCII
)

// OpenPostgres connects to the PostgreSQL database that dsn names (a URL or
// key=value pairs, as libpq) and brings its schema up to date; of several
// processes that start together one migrates. Tables live in the first schema
// of the connection's search_path. Errors never contain the password.
//
// A server that answers before a commit is on disk (synchronous_commit=off) is
// refused: an acknowledged write could be lost.
func OpenPostgres(ctx context.Context, dsn string) (*DB, error) {
	return openPostgres(ctx, dsn, migratePostgres)
}

// JoinPostgres is OpenPostgres for a process that works on another one's
// database: it makes and migrates nothing, so that its user needs no more rights
// than its work does. Another schema than this program's is ErrSchema.
func JoinPostgres(ctx context.Context, dsn string) (*DB, error) {
	return openPostgres(ctx, dsn, func(ctx context.Context, pool *sql.DB) error {
		return (&DB{dialect: postgres{}, pool: pool, reader: pool}).sameSchema(ctx, "postgres")
	})
}

func openPostgres(ctx context.Context, dsn string, schema func(context.Context, *sql.DB) error) (*DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnect
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "countersign"
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(postgresConnections)
	pool.SetMaxIdleConns(postgresConnections)
	pool.SetConnMaxIdleTime(postgresIdle)
	err = durable(ctx, pool)
	if err == nil {
		err = schema(ctx, pool)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), pool.Close())
	}
	g := newGroup(ctx, pool, postgres{}, postgres{}.lockChain)
	return &DB{
		dialect: postgres{},
		pool:    pool,
		reader:  pool,
		update:  transactions{pool},
		chain:   repeater{g},
		closers: []func() error{g.close, pool.Close},
	}, nil
}

// durable refuses a server that answers before a commit is on disk.
func durable(ctx context.Context, pool *sql.DB) error {
	var commit string
	if err := pool.QueryRowContext(ctx, "SHOW synchronous_commit").Scan(&commit); err != nil {
		if (postgres{}).unavailable(err) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	if commit == "off" {
		return errors.New("synchronous_commit is off: acknowledged writes could be lost; set it to on")
	}
	return nil
}

func migratePostgres(ctx context.Context, pool *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	return migrate(ctx, goose.DialectPostgres, "postgres", pool, goose.WithSessionLocker(locker))
}

// transactions runs each write in a transaction of its own: PostgreSQL shares
// disk flushes between connections by itself.
type transactions struct{ pool *sql.DB }

func (t transactions) run(ctx context.Context, w work) error {
	return repeat(ctx, func() error {
		tx, err := t.pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := w(ctx, session{q: tx, dialect: postgres{}}); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// repeater runs appends through a group, which shares one advisory lock and one
// commit between this process's appenders, and repeats those that lost to
// another process on a database that speaks the protocol but ignores advisory
// locks.
type repeater struct{ group *group }

func (r repeater) run(ctx context.Context, w work) error {
	return repeat(ctx, func() error { return r.group.run(ctx, w) })
}

func repeat(ctx context.Context, attempt func() error) error {
	for n := 1; ; n++ {
		err := attempt()
		if err == nil || n == postgresAttempts || ctx.Err() != nil || !conflict(err) {
			return err
		}
	}
}

// conflict reports errors that promise that nothing happened and that a second
// try may succeed.
func conflict(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	}
	return errors.Is(err, errChainTaken)
}

// errChainTaken: another process appended a link of the same sequence first.
var errChainTaken = errors.New("the chain's next link was taken")

// postgres is the dialect of PostgreSQL.
type postgres struct{}

func (postgres) rebind(query string) string { return query }

// unavailable knows lost connections and, by class (PostgreSQL manual, appendix
// A), exceptions of connection, resources, operator intervention and system,
// a standby that took over, and conflicts that repetition did not resolve.
func (postgres) unavailable(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || lost(err) {
		return true
	}
	state := sqlState(err)
	for _, class := range []string{"08", "40", "53", "57", "58", "25006", "55P03"} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return errors.Is(err, errChainTaken)
}

// exhausted knows disk_full, io_error and a database that takes no writes.
func (postgres) exhausted(err error) bool {
	switch sqlState(err) {
	case "53100", "58030", "25006":
		return true
	}
	return false
}

func (postgres) duplicate(err error) bool { return sqlState(err) == "23505" }

func (postgres) lockChain(ctx context.Context, s session) error {
	_, err := s.exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(postgresChainLock))
	return err
}

// lost reports a connection that ended under a statement.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
