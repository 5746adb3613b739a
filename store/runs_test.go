package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

// What is filed, what is not yet and what was kept before there were runs is found
// together, in order, page by page, while more is added and filed.
func TestSQLiteRuns(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	const older, number = 700, 10_000 // more than two runs
	old := second(t, path)
	migrateTo(t, old, 5)
	for i := range older {
		_, err := old.ExecContext(ctx, "INSERT INTO decisions VALUES (?, ?, ?, ?, '', '', X'7b7d', 1)",
			numbered(i).ID, numbered(i).Image, numbered(i).Digest, numbered(i).Verdict)
		if err != nil {
			t.Fatal(err)
		}
	}
	db := openSQLite(t, path)
	for i := older; i < number; i += 100 {
		var ds []store.Decision
		for n := i; n < i+100; n++ {
			ds = append(ds, numbered(n^1)) // ids are not in the order in which they come
		}
		if err := db.Decisions().Add(ctx, ds...); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			wantNumbered(t, db, i+100)
		}
	}
	var runs, unfiled int
	for deadline := time.Now().Add(20 * time.Second); runs < 3; time.Sleep(10 * time.Millisecond) {
		if err := old.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM decision_runs), (SELECT COUNT(*) FROM decisions_unfiled)").Scan(&runs, &unfiled); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d runs, %d unfiled", runs, unfiled)
		}
	}
	again := numbered(7)
	again.Body = []byte("said otherwise")
	if err := db.Decisions().Add(ctx, again); err != nil { // is passed over, filed or not
		t.Fatal(err)
	}
	if got, err := db.Decisions().Get(ctx, again.ID); err != nil || string(got.Body) != "{}" {
		t.Errorf("a repetition: %s, %v", got.Body, err)
	}
	wantNumbered(t, db, number)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	reading, err := store.OpenSQLiteForReading(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	wantNumbered(t, reading, number)
}

// numbered is one of a row of decisions: every thirteenth failed, every hundredth
// has the digest of another that many before, every 2500th an image of its own.
func numbered(n int) store.Decision {
	d := store.Decision{ID: fmt.Sprintf("%06d", n), Digest: fmt.Sprint("sha256:", n%100), Image: "team/app", Verdict: "PASSED", Body: []byte("{}")}
	if n%13 == 0 {
		d.Verdict = "FAILED"
	}
	if n%2500 == 7 {
		d.Image = "team/rare"
	}
	return d
}

// wantNumbered lists the first count decisions by every kind of filter.
func wantNumbered(t *testing.T, db *store.DB, count int) {
	t.Helper()
	for _, filter := range []store.DecisionFilter{
		{Digest: "sha256:7"},
		{Digest: "sha256:7", Verdict: "FAILED"},
		{Image: "team/rare"},
		{Image: "team/app", Verdict: "FAILED"},
		{Digest: "sha256:7", Image: "team/rare"},
		{Digest: "sha256:none"},
	} {
		var want, got []string
		for n := count - 1; n >= 0; n-- {
			d := numbered(n)
			if (filter.Digest == "" || d.Digest == filter.Digest) && (filter.Image == "" || d.Image == filter.Image) &&
				(filter.Verdict == "" || d.Verdict == filter.Verdict) {
				want = append(want, d.ID)
			}
		}
		for page := (store.Page{Limit: 70}); ; {
			list, next, err := db.Decisions().List(t.Context(), filter, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list {
				got = append(got, d.ID)
			}
			if page.Cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v of %d: %d found, want %d", filter, count, len(got), len(want))
		}
	}
}

// The write-ahead log is copied while the writer never rests, and does not grow
// without bound.
func TestSQLiteLogIsBounded(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	body := make([]byte, 200<<10)
	var largest int64
	for i := range 800 { // 160 MB
		if err := db.Decisions().Add(ctx, store.Decision{ID: fmt.Sprintf("%06d", i), Verdict: "PASSED", Body: body}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	if largest > 100<<20 {
		t.Errorf("the write-ahead log has %d MiB", largest>>20)
	}
	if info, err := os.Stat(path); err != nil || info.Size() < 40<<20 {
		t.Errorf("the database has %v, %v: its log was not copied", info.Size(), err)
	}
}
