//go:build interop

package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
)

// TestInteropPostgresUnavailable: a server that ends under the service is
// ErrUnavailable within seconds, for reads, writes, appends and opening.
func TestInteropPostgresUnavailable(t *testing.T) {
	server := storetest.StartPostgres(t)
	db := storetest.ReopenPostgres(t, server.Address)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	calls := map[string]func() error{
		"ping": func() error { return db.Ping(ctx) },
		"read": func() error { _, err := db.Objects().Revision(ctx); return err },
		"write": func() error {
			return db.Decisions().Add(ctx, store.Decision{ID: "d"})
		},
		"append": func() error {
			_, err := db.Chain().Append(ctx, func(n int64, _ []byte) (store.Link, error) {
				return store.Link{Sequence: n + 1}, nil
			})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	server.Stop()
	for name, call := range calls {
		for range 3 {
			if err := call(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s without a server: %v, want ErrUnavailable", name, err)
			}
		}
	}
	if _, err := store.OpenPostgres(ctx, server.Address); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opening without a server: %v, want ErrUnavailable", err)
	}
}
