package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

// Decisions are filed once nothing is decided, also those that an earlier process
// left, and none is lost or doubled by it.
func TestSQLiteFiles(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	const number = 1300 // more than two slices
	ds := make([]store.Decision, number)
	for i := range ds {
		ds[i] = store.Decision{ID: fmt.Sprintf("%06d", i), Digest: "d", Image: "i", Verdict: "PASSED", Body: []byte("{}")}
	}
	if err := db.Decisions().Add(ctx, ds...); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	other := second(t, path)
	count := func(table string) (n int) {
		t.Helper()
		if err := other.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if filed := count("decisions"); filed == number {
		t.Fatal("all were filed before anything was closed: this shows nothing")
	}
	db = openSQLite(t, path)
	for deadline := time.Now().Add(20 * time.Second); count("decisions_recent") > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are not filed", count("decisions_recent"))
		}
	}
	if filed := count("decisions"); filed != number {
		t.Errorf("%d filed, want %d", filed, number)
	}
	if err := db.Decisions().Add(ctx, ds[7], store.Decision{ID: "z", Verdict: "FAILED"}); err != nil {
		t.Fatal(err)
	}
	list, _, err := db.Decisions().List(ctx, store.DecisionFilter{}, store.Page{Limit: 2})
	if err != nil || len(list) != 2 || list[0].ID != "z" || list[1].ID != ds[number-1].ID {
		t.Errorf("%v, %v", list, err)
	}
}

// The write-ahead log is copied while the writer never rests, and does not grow
// without bound.
func TestSQLiteLogIsBounded(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	db := openSQLite(t, path)
	body := make([]byte, 200<<10)
	var largest int64
	for i := range 400 { // 80 MB
		if err := db.Decisions().Add(ctx, store.Decision{ID: fmt.Sprintf("%06d", i), Verdict: "PASSED", Body: body}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	if largest > 40<<20 {
		t.Errorf("the write-ahead log has %d MiB", largest>>20)
	}
	if info, err := os.Stat(path); err != nil || info.Size() < 40<<20 {
		t.Errorf("the database has %v, %v: its log was not copied", info.Size(), err)
	}
}
