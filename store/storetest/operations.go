package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/store"
)

func operation(n int) store.Operation {
	return store.Operation{
		ID: id(n), Kind: "signature", Scope: "local ci POST /v1/signatures", IdempotencyKey: fmt.Sprint("key-", n),
		RequestHash: []byte{byte(n), 0, 1}, State: "pending", Repository: "registry.example.com/team/app",
		Digest: fmt.Sprintf("sha256:%064x", n), Signer: "release", Body: []byte(`{"step":1}`),
		CreatedAt: instant(n).UTC(), UpdatedAt: instant(n).UTC(),
	}
}

func operationLife(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Operations()
	op := operation(1)
	_, err := o.Get(ctx, op.ID)
	wantError(t, err, store.ErrNotFound)
	wantError(t, o.Update(ctx, op), store.ErrNotFound)

	stored, existed, err := o.Begin(ctx, op)
	noError(t, err)
	wantEqual(t, existed, false)
	wantEqual(t, stored, op)
	wantEqual(t, must[store.Operation](t)(o.Get(ctx, op.ID)), op)

	changed := op
	changed.State, changed.Body, changed.Result = "done", []byte(`{"step":7}`), []byte(`{"id":1}`)
	changed.Repository, changed.Digest, changed.Signer = "r2", "sha256:2", "s2"
	changed.PredicateType, changed.UpdatedAt = "https://slsa.dev/provenance/v1", instant(9).UTC()
	attempt := changed
	attempt.Kind, attempt.Scope, attempt.IdempotencyKey = "attestation", "another", "another"
	attempt.RequestHash, attempt.CreatedAt = []byte("another"), instant(8)
	noError(t, o.Update(ctx, attempt))
	wantEqual(t, must[store.Operation](t)(o.Get(ctx, op.ID)), changed)
	noError(t, o.Update(ctx, attempt)) // repeating is allowed
}

func operationIdempotency(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Operations()
	op := operation(1)
	_, _, err := o.Begin(ctx, op)
	noError(t, err)
	again := operation(2)
	again.IdempotencyKey = op.IdempotencyKey
	stored, existed, err := o.Begin(ctx, again)
	noError(t, err)
	wantEqual(t, existed, true)
	wantEqual(t, stored, op)
	_, err = o.Get(ctx, again.ID)
	wantError(t, err, store.ErrNotFound)

	wantEqual(t, must[store.Operation](t)(o.Find(ctx, op.Scope, op.IdempotencyKey)), op)
	for _, none := range [][2]string{{op.Scope, "x"}, {"x", op.IdempotencyKey}, {op.Scope, ""}} {
		_, err := o.Find(ctx, none[0], none[1])
		wantError(t, err, store.ErrNotFound)
	}

	again.Scope = "another caller"
	_, existed, err = o.Begin(ctx, again)
	noError(t, err)
	wantEqual(t, existed, false)

	for n := 3; n < 5; n++ { // no key never matches
		op := operation(n)
		op.IdempotencyKey = ""
		for _, repeated := range []bool{false, true} { // the same id does
			stored, existed, err := o.Begin(ctx, op)
			noError(t, err)
			wantEqual(t, existed, repeated)
			wantEqual(t, stored, op)
		}
	}
	_, err = o.Find(ctx, op.Scope, "")
	wantError(t, err, store.ErrNotFound)
}

// operationOneBeginner: concurrent retries make one operation, and all see it.
func operationOneBeginner(t *testing.T, db *store.DB) {
	ctx := context.Background()
	const callers = 24
	var began atomic.Int32
	var seen [callers]string
	errs := together(callers, func(i int) error {
		op := operation(i)
		op.IdempotencyKey = "the same"
		stored, existed, err := db.Operations().Begin(ctx, op)
		if err == nil && !existed {
			began.Add(1)
		}
		seen[i] = stored.ID
		return err
	})
	for i, err := range errs {
		noError(t, err)
		wantEqual(t, seen[i], seen[0])
	}
	wantEqual(t, began.Load(), int32(1))
}

func operationFilters(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Operations()
	for n := range 12 {
		op := operation(n)
		op.Kind = []string{"signature", "attestation"}[n%2]
		op.State = []string{"pending", "running", "done"}[n%3]
		op.Repository = []string{"r0", "r1"}[n/6]
		op.Digest = fmt.Sprint("d", n%4)
		op.Signer = fmt.Sprint("s", n%6)
		op.PredicateType = []string{"", "p"}[n%2]
		_, _, err := o.Begin(ctx, op)
		noError(t, err)
	}
	for _, c := range []struct {
		filter store.OperationFilter
		want   []int
	}{
		{store.OperationFilter{}, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{store.OperationFilter{Kind: "attestation"}, []int{11, 9, 7, 5, 3, 1}},
		{store.OperationFilter{State: "pending"}, []int{9, 6, 3, 0}},
		{store.OperationFilter{Repository: "r0"}, []int{5, 4, 3, 2, 1, 0}},
		{store.OperationFilter{Digest: "d1"}, []int{9, 5, 1}},
		{store.OperationFilter{Signer: "s4"}, []int{10, 4}},
		{store.OperationFilter{PredicateType: "p", State: "done"}, []int{11, 5}},
		{store.OperationFilter{Kind: "signature", Digest: "d2", Signer: "s4", Repository: "r1"}, []int{10}},
		{store.OperationFilter{Kind: "signature", PredicateType: "p"}, nil},
	} {
		for _, limit := range []int{1, 3, 50} {
			wantEqual(t, operationIDs(t, o, c.filter, limit), ids(c.want))
		}
	}
}

// operationColumns: a list may leave the large columns out.
func operationColumns(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Operations()
	op := operation(1)
	op.Result = []byte("result")
	_, _, err := o.Begin(ctx, op)
	noError(t, err)
	for _, without := range [][2]bool{{}, {true, false}, {false, true}, {true, true}} {
		list, _, err := o.List(ctx, store.OperationFilter{WithoutBody: without[0], WithoutResult: without[1]}, store.Page{})
		noError(t, err)
		want := op
		if without[0] {
			want.Body = nil
		}
		if without[1] {
			want.Result = nil
		}
		wantEqual(t, list, []store.Operation{want})
	}
}

func ids(numbers []int) []string {
	var s []string
	for _, n := range numbers {
		s = append(s, id(n))
	}
	return s
}

func operationIDs(t *testing.T, o store.Operations, filter store.OperationFilter, limit int) []string {
	t.Helper()
	var got []string
	page := store.Page{Limit: limit}
	for {
		list, next, err := o.List(context.Background(), filter, page)
		noError(t, err)
		for _, op := range list {
			got = append(got, op.ID)
		}
		if next == "" {
			return got
		}
		page.Cursor = next
	}
}

// operationStableCursor: what is written between two pages neither repeats nor
// hides what was there.
func operationStableCursor(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Operations()
	for n := range 6 {
		_, _, err := o.Begin(ctx, operation(n))
		noError(t, err)
	}
	first, next, err := o.List(ctx, store.OperationFilter{}, store.Page{Limit: 3})
	noError(t, err)
	for n := 100; n < 110; n++ {
		_, _, err := o.Begin(ctx, operation(n))
		noError(t, err)
	}
	rest, end, err := o.List(ctx, store.OperationFilter{}, store.Page{Limit: 3, Cursor: next})
	noError(t, err)
	var got []string
	for _, op := range append(first, rest...) {
		got = append(got, op.ID)
	}
	wantEqual(t, got, ids([]int{5, 4, 3, 2, 1, 0}))
	wantEqual(t, end, "")
}
