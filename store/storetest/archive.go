package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/countersign/countersign/store"
)

func bundle(n int) store.Bundle {
	return store.Bundle{
		ID: id(n), Digest: "sha256:aa", Repository: "registry.example.com/team/app", Format: "bundle",
		PredicateType: "https://slsa.dev/provenance/v1", KeyID: "ab", Signer: "release", LogIndex: int64(n) - 1,
		Operation: id(1000 + n), Body: fmt.Append(nil, "bundle ", n), CreatedAt: instant(n).UTC(),
	}
}

func bundleLaws(t *testing.T, db *store.DB) {
	ctx, b := context.Background(), db.Bundles()
	found, err := b.BySubject(ctx, "sha256:aa", 10)
	noError(t, err)
	wantEqual(t, len(found), 0)

	for _, n := range []int{3, 0, 2, 1} {
		noError(t, b.Keep(ctx, bundle(n)))
	}
	other := bundle(4)
	other.Digest = "sha256:bb"
	noError(t, b.Keep(ctx, other))
	// Lists have the body of plain signatures only, newest first.
	bare := func(n int) store.Bundle {
		b := bundle(n)
		b.Body = nil
		return b
	}
	want := []store.Bundle{bare(3), bare(2), bare(1), bare(0)}
	wantEqual(t, must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:aa", 10)), want)
	wantEqual(t, must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:aa", 2)), want[:2])

	same := bundle(5) // the same content under another id is kept once
	same.Body = bundle(1).Body
	noError(t, b.Keep(ctx, same))
	noError(t, b.Keep(ctx, bundle(1)))
	wantEqual(t, must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:aa", 10)), want)

	same.Repository = "registry.example.com/mirror/app"
	noError(t, b.Keep(ctx, same))
	wantEqual(t, must[store.Bundle](t)(b.Get(ctx, same.ID)), same)
	same.Body = nil
	wantEqual(t, must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:aa", 10)), append([]store.Bundle{same}, want...))
	wantEqual(t, must[store.Bundle](t)(b.Get(ctx, bundle(2).ID)), bundle(2))
	_, err = b.Get(ctx, id(999))
	wantError(t, err, store.ErrNotFound)

	plain := bundle(6)
	plain.Digest, plain.PredicateType = "sha256:bb", ""
	noError(t, b.Keep(ctx, plain))
	other.Body = nil
	wantEqual(t, must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:bb", 10)), []store.Bundle{plain, other})

	for i, err := range together(16, func(i int) error {
		one := bundle(100 + i)
		one.Digest, one.Body = "sha256:cc", []byte("one")
		return b.Keep(ctx, one)
	}) {
		if err != nil {
			t.Fatalf("keeper %d: %v", i, err)
		}
	}
	wantEqual(t, len(must[[]store.Bundle](t)(b.BySubject(ctx, "sha256:cc", 10))), 1)
}

func decision(n int) store.Decision {
	return store.Decision{
		ID: id(n), Image: fmt.Sprint("registry.example.com/team/app:", n%3), Digest: fmt.Sprint("sha256:", n%2),
		Verdict: []string{"PASSED", "FAILED"}[n%2], Policy: "production", Caller: "local ci",
		Body: fmt.Append(nil, n), CreatedAt: instant(n).UTC(),
	}
}

func decisionLaws(t *testing.T, db *store.DB) {
	ctx, d := context.Background(), db.Decisions()
	_, err := d.Get(ctx, id(0))
	wantError(t, err, store.ErrNotFound)
	noError(t, d.Add(ctx))
	noError(t, d.Add(ctx, decision(0), decision(1), decision(2)))
	noError(t, d.Add(ctx, decision(2), decision(3))) // a repetition is passed over
	wantEqual(t, must[store.Decision](t)(d.Get(ctx, id(3))), decision(3))

	for _, c := range []struct {
		filter store.DecisionFilter
		want   []int
	}{
		{store.DecisionFilter{}, []int{3, 2, 1, 0}},
		{store.DecisionFilter{Verdict: "FAILED"}, []int{3, 1}},
		{store.DecisionFilter{Digest: "sha256:0"}, []int{2, 0}},
		{store.DecisionFilter{Image: "registry.example.com/team/app:0"}, []int{3, 0}},
		{store.DecisionFilter{Image: "registry.example.com/team/app:0", Verdict: "PASSED"}, []int{0}},
		{store.DecisionFilter{Verdict: "passed"}, nil},
	} {
		for _, limit := range []int{1, 2, 50} {
			var got []string
			page := store.Page{Limit: limit}
			for {
				list, next, err := d.List(ctx, c.filter, page)
				noError(t, err)
				for _, one := range list {
					got = append(got, one.ID)
				}
				if next == "" {
					break
				}
				page.Cursor = next
			}
			wantEqual(t, got, ids(c.want))
		}
	}
}

// decisionMany adds more than one statement's worth at once.
func decisionMany(t *testing.T, db *store.DB) {
	ctx, d := context.Background(), db.Decisions()
	many := make([]store.Decision, 1500)
	for n := range many {
		many[n] = decision(n)
	}
	noError(t, d.Add(ctx, many...))
	wantEqual(t, must[store.Decision](t)(d.Get(ctx, id(1499))), decision(1499))
	list, next, err := d.List(ctx, store.DecisionFilter{}, store.Page{Limit: 5000})
	noError(t, err)
	wantEqual(t, len(list), store.MaxPage)
	rest, end, err := d.List(ctx, store.DecisionFilter{}, store.Page{Limit: 5000, Cursor: next})
	noError(t, err)
	wantEqual(t, len(list)+len(rest), len(many))
	wantEqual(t, end, "")
}
