package store_test

import (
	"context"
	"strings"
	"testing"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
)

func TestInteropPostgres(t *testing.T) {
	address := storetest.Postgres(t)
	storetest.Run(t, func(t *testing.T) *store.DB { return storetest.OpenPostgres(t, address) })
}

// TestInteropPostgresProcesses: two processes on one database (here two DBs) migrate
// once, share one chain without a fork, and see each other's rows.
func TestInteropPostgresProcesses(t *testing.T) {
	address := storetest.PostgresSchema(t, storetest.Postgres(t))
	ctx := context.Background()
	opened := make(chan *store.DB, 4)
	for range cap(opened) {
		go func() {
			db, err := store.OpenPostgres(ctx, address)
			if err != nil {
				t.Error(err)
			}
			opened <- db
		}()
	}
	var dbs []*store.DB
	for range cap(opened) {
		db := <-opened
		if db == nil {
			t.FailNow()
		}
		defer func() { _ = db.Close() }()
		dbs = append(dbs, db)
	}
	appendAll(t, dbs, 8, 10)
	links, err := dbs[0].Chain().Read(ctx, 0, store.MaxPage)
	if err != nil || len(links) != 80 {
		t.Fatalf("%d links, %v; want 80", len(links), err)
	}
	previous := ""
	for i, l := range links {
		if l.Sequence != int64(i+1) || !strings.HasSuffix(string(l.Body), "after "+previous) {
			t.Fatalf("link %d is %d %q, want it after %q", i+1, l.Sequence, l.Body, previous)
		}
		previous = string(l.Hash)
	}
}

func TestInteropPostgresRefusals(t *testing.T) {
	address := storetest.Postgres(t)
	schema := storetest.PostgresSchema(t, address)
	ctx := context.Background()
	if _, err := store.OpenPostgres(ctx, schema+"&synchronous_commit=off"); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Fatalf("synchronous_commit=off: %v, want a refusal", err)
	}
	storetest.ReopenPostgres(t, schema) // the positive control
}
