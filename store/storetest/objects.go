package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/countersign/countersign/store"
)

func objectLife(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	_, err := o.Get(ctx, "key", "release")
	wantError(t, err, store.ErrNotFound)
	_, err = o.Put(ctx, store.Object{Kind: "key", Name: "release", Revision: 1})
	wantError(t, err, store.ErrNotFound)
	wantError(t, o.Delete(ctx, "key", "release", 1), store.ErrNotFound)

	before := must[int64](t)(o.Revision(ctx))
	first := must[store.Object](t)(o.Put(ctx, store.Object{
		Kind: "key", Name: "release", Body: []byte(`{"a":1}`), CreatedAt: instant(0), UpdatedAt: instant(1),
	}))
	wantEqual(t, first, store.Object{
		Kind: "key", Name: "release", Revision: 1, Body: []byte(`{"a":1}`),
		CreatedAt: instant(0).UTC(), UpdatedAt: instant(1).UTC(),
	})
	wantEqual(t, must[store.Object](t)(o.Get(ctx, "key", "release")), first)
	created := must[int64](t)(o.Revision(ctx))
	if created <= before {
		t.Fatalf("Revision %d after creation, %d before", created, before)
	}

	_, err = o.Put(ctx, store.Object{Kind: "key", Name: "release", Body: []byte("x")})
	wantError(t, err, store.ErrExists)
	_, err = o.Put(ctx, store.Object{Kind: "key", Name: "release", Revision: 2, Body: []byte("x")})
	wantError(t, err, store.ErrStale)
	wantError(t, o.Delete(ctx, "key", "release", 2), store.ErrStale)
	wantEqual(t, must[store.Object](t)(o.Get(ctx, "key", "release")), first)
	wantEqual(t, must[int64](t)(o.Revision(ctx)), created)

	second := must[store.Object](t)(o.Put(ctx, store.Object{
		Kind: "key", Name: "release", Revision: 1, Body: []byte(`{"a":2}`), CreatedAt: instant(50), UpdatedAt: instant(2),
	}))
	wantEqual(t, second, store.Object{
		Kind: "key", Name: "release", Revision: 2, Body: []byte(`{"a":2}`),
		CreatedAt: instant(0).UTC(), UpdatedAt: instant(2).UTC(),
	})
	replaced := must[int64](t)(o.Revision(ctx))
	if replaced <= created {
		t.Fatalf("Revision %d after replacement, %d before", replaced, created)
	}
	noError(t, o.Delete(ctx, "key", "release", 2))
	_, err = o.Get(ctx, "key", "release")
	wantError(t, err, store.ErrNotFound)
	if deleted := must[int64](t)(o.Revision(ctx)); deleted <= replaced {
		t.Fatalf("Revision %d after deletion, %d before", deleted, replaced)
	}
}

func objectAlias(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	a := must[store.Object](t)(o.Put(ctx, store.Object{Kind: "token", Name: "a", Alias: "hash-a"}))
	b := must[store.Object](t)(o.Put(ctx, store.Object{Kind: "token", Name: "b"}))
	must[store.Object](t)(o.Put(ctx, store.Object{Kind: "token", Name: "c"})) // no alias is no duplicate
	must[store.Object](t)(o.Put(ctx, store.Object{Kind: "key", Name: "a", Alias: "hash-a"}))

	wantEqual(t, must[store.Object](t)(o.GetByAlias(ctx, "token", "hash-a")), a)
	for _, none := range []string{"", "a", "hash-b", "HASH-A"} {
		_, err := o.GetByAlias(ctx, "token", none)
		wantError(t, err, store.ErrNotFound)
	}
	_, err := o.Put(ctx, store.Object{Kind: "token", Name: "d", Alias: "hash-a"})
	wantError(t, err, store.ErrExists)
	b.Alias = "hash-a"
	_, err = o.Put(ctx, b)
	wantError(t, err, store.ErrExists)

	a.Alias = "hash-a2"
	a = must[store.Object](t)(o.Put(ctx, a))
	_, err = o.GetByAlias(ctx, "token", "hash-a")
	wantError(t, err, store.ErrNotFound)
	must[store.Object](t)(o.Put(ctx, b)) // the alias is free again
	noError(t, o.Delete(ctx, "token", "a", a.Revision))
	_, err = o.GetByAlias(ctx, "token", "hash-a2")
	wantError(t, err, store.ErrNotFound)
}

// objectList holds the order to bytes: a database's language must not show.
func objectList(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	names := []string{"A", "B", "a", "a-b", "a.b", "a/b", "ab", "b", "ä"}
	for i := range names {
		must[store.Object](t)(o.Put(ctx, store.Object{Kind: "grant", Name: names[(i*4)%len(names)]}))
	}
	must[store.Object](t)(o.Put(ctx, store.Object{Kind: "other", Name: "a0"}))
	for _, limit := range []int{1, 2, 4, len(names), len(names) + 1, 0, store.MaxPage + 7} {
		var got []string
		page := store.Page{Limit: limit}
		for {
			objects, next, err := o.List(ctx, "grant", page)
			noError(t, err)
			if limit > 0 && len(objects) > limit {
				t.Fatalf("%d objects on a page of %d", len(objects), limit)
			}
			for _, object := range objects {
				got = append(got, object.Name)
			}
			if next == "" {
				break
			}
			page.Cursor = next
		}
		wantEqual(t, got, names)
	}
	objects, next, err := o.List(ctx, "none", store.Page{})
	noError(t, err)
	if len(objects) != 0 || next != "" {
		t.Fatalf("List of no objects = %v, %q", objects, next)
	}
}

func objectBytes(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, body := range [][]byte{all, {0}, {}, nil, make([]byte, 1<<20)} {
		name := fmt.Sprint(i, " ' \" $1 ?1 % 日本")
		put := must[store.Object](t)(o.Put(ctx, store.Object{Kind: "k'", Name: name, Body: body}))
		got := must[store.Object](t)(o.Get(ctx, "k'", name))
		wantEqual(t, got, put)
		if string(got.Body) != string(body) || (len(body) == 0) != (got.Body == nil) {
			t.Fatalf("body %d: got %d bytes of %d", i, len(got.Body), len(body))
		}
		if got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) {
			t.Fatalf("times %v and %v, want both now", got.CreatedAt, got.UpdatedAt)
		}
	}
}

// objectOneWinner: of many that replace one revision, one does.
func objectOneWinner(t *testing.T, db *store.DB) {
	ctx, o := context.Background(), db.Objects()
	const writers = 16
	for revision := range int64(4) {
		errs := together(writers, func(i int) error {
			_, err := o.Put(ctx, store.Object{Kind: "key", Name: "k", Revision: revision, Body: fmt.Append(nil, i)})
			return err
		})
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrExists):
			default:
				t.Fatal(err)
			}
		}
		wantEqual(t, won, 1)
		wantEqual(t, must[store.Object](t)(o.Get(ctx, "key", "k")).Revision, revision+1)
	}
	wantEqual(t, must[int64](t)(o.Revision(ctx)), int64(4))
}
