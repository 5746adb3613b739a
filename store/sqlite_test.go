package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/countersign/countersign/store"
)

// TestSQLitePath: the path is a path, whatever characters it has, and only the
// owner can read what is there.
func TestSQLitePath(t *testing.T) {
	for _, name := range []string{"plain.db", "with space.db", "a?b#c%41&d=e.db", "日本 'x'.db"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		db := openSQLite(t, path)
		if err := db.Decisions().Add(context.Background(), store.Decision{ID: "d"}); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(e.Name(), name) || info.Mode().Perm() != 0o600 {
				t.Errorf("made %q with mode %v, want %q… with 0600", e.Name(), info.Mode(), name)
			}
		}
		if len(entries) != 3 {
			t.Errorf("%d files, want the database, its log and its index", len(entries))
		}
	}
}

// TestSQLiteSettings: what the durability of an acknowledged write rests on.
func TestSQLiteSettings(t *testing.T) {
	db := newSQLite(t)
	for name, want := range map[string][2]string{
		"journal_mode": {"wal", "wal"},
		"synchronous":  {"2", "2"}, // FULL
		"foreign_keys": {"1", "1"},
		"busy_timeout": {"10000", "10000"},
		"query_only":   {"0", "1"},
	} {
		writer, reader, err := store.Pragma(context.Background(), db, name)
		if err != nil || writer != want[0] || reader != want[1] {
			t.Errorf("%s: %s and %s, %v; want %v", name, writer, reader, err, want)
		}
	}
}

func TestSQLiteReopen(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	want, err := db.Objects().Put(ctx, store.Object{Kind: "k", Name: "n", Body: []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := openSQLite(t, path).Objects().Get(ctx, "k", "n")
	if err != nil || !got.UpdatedAt.Equal(want.UpdatedAt) || string(got.Body) != "b" {
		t.Fatalf("after reopening: %+v, %v; want %+v", got, err, want)
	}
}

// TestSQLiteNewerSchema: rows of a program that knows more are not touched.
func TestSQLiteNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := second(t, path).Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	if db, err := store.OpenSQLite(context.Background(), path); err == nil {
		_ = db.Close()
		t.Fatal("a newer schema was accepted")
	}
}

// TestSQLiteOlderLeaves: the index of a log that was written before there were
// shards is the first shard's.
func TestSQLiteOlderLeaves(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	old := second(t, path)
	migrateTo(t, old, 2)
	for _, statement := range []string{
		"INSERT INTO leaves (position, hash) VALUES (0, X'aa'), (1, X'bb')",
		"UPDATE counters SET value = 2 WHERE name = 'leaves'",
	} {
		if _, err := old.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	leaves := openSQLite(t, path).Leaves()
	if err := leaves.Record(ctx, 2, [][]byte{{0xcc}}); err != nil {
		t.Fatal(err)
	}
	for want, hash := range []byte{0xaa, 0xbb, 0xcc} {
		if at, found, err := leaves.Find(ctx, []byte{hash}); err != nil || !found || at != uint64(want) {
			t.Errorf("leaf %x at %d, %v, %v; want %d", hash, at, found, err, want)
		}
	}
	if size, err := leaves.Size(ctx); err != nil || size != 3 {
		t.Errorf("%d leaves, %v; want 3", size, err)
	}
}

// migrateTo brings an empty database to an earlier version of the schema.
func migrateTo(t *testing.T, old *sql.DB, version int64) {
	t.Helper()
	migrations, err := goose.NewProvider(goose.DialectSQLite3, old, os.DirFS("migrations/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := store.OpenSQLite(context.Background(), path); err == nil {
		_ = db.Close()
		t.Fatal("a text file was accepted")
	}
	if db, err := store.OpenSQLite(context.Background(), filepath.Join(path, "missing", "a.db")); err == nil {
		_ = db.Close()
		t.Fatal("a missing directory was accepted")
	}
}

// TestSQLiteCallerLeaves: a caller whose context ends while its write waits
// behind somebody else's lock is let go at once, and the writer goes on.
func TestSQLiteCallerLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	conn, err := second(t, path).Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		_, err := db.Objects().Put(ctx, store.Object{Kind: "k", Name: "left"})
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("error = %v, want Canceled", err)
	}
	if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Objects().Put(context.Background(), store.Object{Kind: "k", Name: "stayed"}); err != nil {
		t.Fatal(err)
	}
}

// TestSQLiteFailuresAreAlone: in one group some writes fail; only their own
// callers hear of it and only they have no effect.
func TestSQLiteFailuresAreAlone(t *testing.T) {
	db := newSQLite(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	errs := make([]error, 300)
	for i := range errs {
		wg.Go(func() {
			o := store.Object{Kind: "k", Name: fmt.Sprint(i)}
			if i%3 == 0 {
				o.Revision = 7 // no such revision: fails after it moved the counter
			}
			_, errs[i] = db.Objects().Put(ctx, o)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if (i%3 == 0) != errors.Is(err, store.ErrNotFound) || (i%3 != 0) != (err == nil) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if n, err := db.Objects().Revision(ctx); err != nil || n != 200 {
		t.Fatalf("Revision = %d, %v; want 200: a failed write moved it", n, err)
	}
}

// TestSQLiteFull: a database that cannot grow answers ErrUnavailable, keeps what
// it acknowledged, and goes on once there is room.
func TestSQLiteFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	ctx := context.Background()
	if err := store.LimitPages(ctx, db, 60); err != nil {
		t.Fatal(err)
	}
	kept, err := fill(db, 64)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a full database: %v, want ErrUnavailable", err)
	}
	if err := store.LimitPages(ctx, db, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := db.Bundles().Keep(ctx, store.Bundle{ID: "room"}); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	for _, digest := range kept {
		found, err := db.Bundles().BySubject(ctx, digest, 2)
		if err != nil || len(found) != 1 {
			t.Fatalf("acknowledged bundle %s: %d rows, %v", digest, len(found), err)
		}
	}
}

// fill keeps bundles at once and returns the digests of those acknowledged and
// one of the errors.
func fill(db *store.DB, n int) (kept []string, failure error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		wg.Go(func() {
			b := store.Bundle{ID: fmt.Sprint(i), Digest: fmt.Sprint("d", i), Body: make([]byte, 20_000)}
			err := db.Bundles().Keep(context.Background(), b)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				kept = append(kept, b.Digest)
			} else {
				failure = err
			}
		})
	}
	wg.Wait()
	return kept, failure
}
