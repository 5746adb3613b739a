package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
)

func openSQLite(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newSQLite(t testing.TB) *store.DB {
	return openSQLite(t, filepath.Join(t.TempDir(), "countersign.db"))
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.DB { return newSQLite(t) })
}

// appendAll appends from n goroutines that take the databases in turn.
func appendAll(t *testing.T, dbs []*store.DB, n, each int) {
	t.Helper()
	errs := make(chan error, n)
	for w := range n {
		go func() {
			for i := range each {
				_, err := dbs[w%len(dbs)].Chain().Append(context.Background(), func(sequence int64, previous []byte) (store.Link, error) {
					name := fmt.Sprint(w, "-", i)
					return store.Link{Sequence: sequence + 1, Body: []byte(name + " after " + string(previous)), Hash: []byte(name)}, nil
				})
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}
