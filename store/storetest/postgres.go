package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"

	"github.com/countersign/countersign/store"
)

// PostgresVariable names the environment variable that holds the URL of a
// PostgreSQL database for tests. Its user must be allowed to create schemas.
const PostgresVariable = "COUNTERSIGN_TEST_POSTGRES"

// Postgres returns the URL (postgres://…) of a database for tests: the one of
// PostgresVariable, or with the build tag interop a private server's that ends
// with the test. Without either it skips the test and says so.
func Postgres(t testing.TB) string {
	t.Helper()
	if address := os.Getenv(PostgresVariable); address != "" {
		return address
	}
	return startPostgres(t)
}

// OpenPostgres opens a new empty schema of the database at address, which ends
// with the test.
func OpenPostgres(t testing.TB, address string) *store.DB {
	t.Helper()
	return ReopenPostgres(t, PostgresSchema(t, address))
}

// ReopenPostgres opens the database at address as it is and closes it with the
// test.
func ReopenPostgres(t testing.TB, address string) *store.DB {
	t.Helper()
	db, err := store.OpenPostgres(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// PostgresSchema makes an empty schema in the database at address and returns
// the URL of a connection that sees only it. The schema ends with the test.
func PostgresSchema(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		t.Fatalf("%s must be a postgres:// URL", PostgresVariable)
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	execute(t, address, "CREATE SCHEMA "+name)
	t.Cleanup(func() { execute(t, address, fmt.Sprintf("DROP SCHEMA IF EXISTS %s CASCADE", name)) })
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String()
}

func execute(t testing.TB, address, statement string) {
	t.Helper()
	pool, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	if _, err := pool.ExecContext(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}
