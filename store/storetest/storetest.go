// Package storetest is the suite that every implementation of package store
// passes. It speaks only through the store's interfaces, to a real database,
// and states each of their laws once; a law that no test here holds is not one.
//
// It knows nothing of any one database: what differs between them is tested
// beside them.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/store"
)

// Run runs the suite. open returns a new empty database each time it is called
// and arranges for its end with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	for name, test := range map[string]func(*testing.T, *store.DB){
		"objects/life":             objectLife,
		"objects/alias":            objectAlias,
		"objects/list":             objectList,
		"objects/bytes":            objectBytes,
		"objects/one winner":       objectOneWinner,
		"operations/life":          operationLife,
		"operations/idempotency":   operationIdempotency,
		"operations/one beginner":  operationOneBeginner,
		"operations/filters":       operationFilters,
		"operations/columns":       operationColumns,
		"operations/stable cursor": operationStableCursor,
		"bundles":                  bundleLaws,
		"decisions":                decisionLaws,
		"decisions/many":           decisionMany,
		"chain/order":              chainOrder,
		"chain/concurrent":         chainConcurrent,
		"chain/refusals":           chainRefusals,
		"anchors":                  anchorLaws,
		"leaves":                   leafLaws,
		"leaves/gaps":              leafGaps,
		"leaves/many":              leafMany,
		"leaves/shards":            leafShards,
		"log index":                logIndexLaws,
		"log index/reset":          logIndexReset,
		"log index/one winner":     logIndexOneWinner,
		"log index/subjects":       logSubjects,
		"checkpoints":              checkpointLaws,
		"uses":                     useLaws,
		"uses/one winner":          useOneWinner,
		"text":                     oddText,
		"cursors are refused":      foreignCursors,
		"ended context":            endedContext,
		"closed":                   closedStore,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// instant is a time that no database keeps by chance: odd nanoseconds and not
// in UTC.
func instant(offset int) time.Time {
	zone := time.FixedZone("test", 3600)
	return time.Date(2026, 11, 20, 10, 0, offset, 123456789, zone)
}

// id returns UUIDv7s in the order of n.
func id(n int) string {
	return uuid.UUID{0x01, 0x94, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}.String()
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %v", err, want)
	}
}

func wantEqual(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// together runs fn n times at once and returns the errors in order.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start, done := make(chan struct{}), make(chan struct{})
	for i := range n {
		go func() {
			<-start
			errs[i] = fn(i)
			done <- struct{}{}
		}()
	}
	close(start)
	for range n {
		<-done
	}
	return errs
}

func foreignCursors(t *testing.T, db *store.DB) {
	ctx := context.Background()
	for i := range 3 {
		_, err := db.Objects().Put(ctx, store.Object{Kind: "key", Name: fmt.Sprint(i)})
		noError(t, err)
	}
	_, cursor, err := db.Objects().List(ctx, "key", store.Page{Limit: 1})
	noError(t, err)
	lists := map[string]func(store.Page) error{
		"another kind": func(p store.Page) error { _, _, err := db.Objects().List(ctx, "token", p); return err },
		"operations": func(p store.Page) error {
			_, _, err := db.Operations().List(ctx, store.OperationFilter{}, p)
			return err
		},
		"decisions": func(p store.Page) error {
			_, _, err := db.Decisions().List(ctx, store.DecisionFilter{}, p)
			return err
		},
		"log index": func(p store.Page) error {
			_, _, err := db.LogIndex().Search(ctx, store.LogFilter{}, p)
			return err
		},
	}
	for name, list := range lists {
		noError(t, list(store.Page{})) // the positive control
		for _, bad := range []string{cursor, "x", "!!!", cursor + "=", "AAAA"} {
			if err := list(store.Page{Cursor: bad}); !errors.Is(err, store.ErrCursor) {
				t.Errorf("%s with cursor %q: %v, want ErrCursor", name, bad, err)
			}
		}
	}
}

// oddText: what one database could not hold, none takes.
func oddText(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	for name, text := range map[string]string{
		"NUL": "a\x00b", "not UTF-8": "a\xffb", "too long": strings.Repeat("x", store.MaxText+1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.Put(ctx, store.Object{Kind: "k", Name: text})
			wantError(t, err, store.ErrText)
			_, err = o.Put(ctx, store.Object{Kind: "k", Name: "a", Alias: text})
			wantError(t, err, store.ErrText)
			_, err = o.Get(ctx, "k", text)
			wantError(t, err, store.ErrNotFound)
			_, err = o.GetByAlias(ctx, "k", text)
			wantError(t, err, store.ErrNotFound)
			wantError(t, db.Decisions().Add(ctx, store.Decision{ID: "d"}, store.Decision{ID: "e", Image: text}), store.ErrText)
			_, err = db.Decisions().Get(ctx, "d")
			wantError(t, err, store.ErrNotFound)
			list, next, err := db.Decisions().List(ctx, store.DecisionFilter{Image: text}, store.Page{})
			noError(t, err)
			wantEqual(t, len(list), 0)
			wantEqual(t, next, "")
		})
	}
	// The positive control: the longest of each, in every index at once.
	long := strings.Repeat("é", store.MaxText/2)
	must[store.Object](t)(o.Put(ctx, store.Object{Kind: long, Name: long, Alias: long}))
	_, _, err := db.Operations().Begin(ctx, store.Operation{
		ID: long, Scope: long, IdempotencyKey: long, State: long, Digest: long, Repository: long,
	})
	noError(t, err)
	noError(t, db.Bundles().Keep(ctx, store.Bundle{ID: long, Digest: long, Repository: long}))
	noError(t, db.Decisions().Add(ctx, store.Decision{ID: long, Image: long, Digest: long, Verdict: long}))
}

func endedContext(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := db.Objects().Put(ctx, store.Object{Kind: "key", Name: "a"})
	wantError(t, err, context.Canceled)
	_, err = db.Objects().Get(ctx, "key", "a")
	wantError(t, err, context.Canceled)
	_, err = db.Chain().Append(ctx, func(n int64, _ []byte) (store.Link, error) {
		return store.Link{Sequence: n + 1}, nil
	})
	wantError(t, err, context.Canceled)
	// The store goes on for others.
	_, err = db.Objects().Put(context.Background(), store.Object{Kind: "key", Name: "b"})
	noError(t, err)
}

func closedStore(t *testing.T, db *store.DB) {
	ctx := context.Background()
	noError(t, db.Ping(ctx))
	noError(t, db.Close())
	noError(t, db.Close())
	wantError(t, db.Ping(ctx), store.ErrUnavailable)
	_, err := db.Objects().Get(ctx, "key", "a")
	wantError(t, err, store.ErrUnavailable)
	_, err = db.Objects().Put(ctx, store.Object{Kind: "key", Name: "a"})
	wantError(t, err, store.ErrUnavailable)
	_, err = db.Chain().Append(ctx, func(n int64, _ []byte) (store.Link, error) {
		return store.Link{Sequence: n + 1}, nil
	})
	wantError(t, err, store.ErrUnavailable)
	_, err = db.Leaves().Size(ctx)
	wantError(t, err, store.ErrUnavailable)
}
