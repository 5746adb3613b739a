package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/countersign/countersign/store"
)

// A snapshot is one moment while others write: what was acknowledged before it
// is there, what came later is not, and the copy is a database that goes on.
func TestSnapshot(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	db, err := store.OpenSQLite(ctx, filepath.Join(dir, "countersign.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	put := func(db *store.DB, name string) {
		t.Helper()
		if _, err := db.Objects().Put(ctx, store.Object{Kind: "k", Name: name, Body: []byte(name)}); err != nil {
			t.Error(err)
		}
	}
	for i := range 100 {
		put(db, fmt.Sprint("before", i))
	}
	snapshot, err := db.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			put(db, fmt.Sprint("after", i))
		}
	})
	copied := filepath.Join(dir, "copy.db")
	err = snapshot.CopyTo(copied)
	wg.Wait()
	if err != nil || snapshot.Close(ctx) != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := store.OpenSQLite(ctx, copied)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	put(again, "later")
	found, next, err := again.Objects().List(ctx, "k", store.Page{Limit: 1000})
	if err != nil || next != "" || len(found) != 101 {
		t.Errorf("%d objects, %v; want the 100 of before and one more", len(found), err)
	}
	for _, o := range found {
		if len(o.Name) >= 5 && o.Name[:5] == "after" {
			t.Fatalf("%s is of later", o.Name)
		}
	}
}
