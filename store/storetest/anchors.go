package storetest

import (
	"context"
	"testing"

	"github.com/countersign/countersign/store"
)

func anchor(sequence int64, body string) store.Anchor {
	return store.Anchor{Sequence: sequence, Hash: []byte{byte(sequence), 1}, Body: []byte(body), LogIndex: -1}
}

// anchorLaws: the first body of a sequence stays, what is logged stays where it
// was logged, and lists are in order.
func anchorLaws(t *testing.T, db *store.DB) {
	ctx, a := context.Background(), db.Anchors()
	wantEqual(t, must[store.AnchorProgress](t)(a.Progress(ctx)), store.AnchorProgress{})
	wantEqual(t, len(must[[]store.Anchor](t)(a.Waiting(ctx, 10))), 0)

	noError(t, a.Keep(ctx))
	noError(t, a.Keep(ctx, anchor(7, "seven"), anchor(3, "three")))
	noError(t, a.Keep(ctx, anchor(3, "another"), anchor(9, "nine")))
	three, seven, nine := anchor(3, "three"), anchor(7, "seven"), anchor(9, "nine")
	wantEqual(t, must[[]store.Anchor](t)(a.Waiting(ctx, 10)), []store.Anchor{three, seven, nine})
	wantEqual(t, must[[]store.Anchor](t)(a.Waiting(ctx, 2)), []store.Anchor{three, seven})
	wantEqual(t, must[[]store.Anchor](t)(a.From(ctx, 0, 10)), []store.Anchor(nil))

	seven.Logged, seven.LogID, seven.LogIndex = true, []byte("log"), 0
	noError(t, a.Logged(ctx, seven))
	noError(t, a.Logged(ctx, seven)) // again, as after a lost answer
	noError(t, a.Logged(ctx))
	wantError(t, a.Logged(ctx, anchor(8, "")), store.ErrNotFound)
	wantEqual(t, must[[]store.Anchor](t)(a.Read(ctx, 0, 10)), []store.Anchor{three, seven, nine})
	wantEqual(t, must[[]store.Anchor](t)(a.Read(ctx, 3, 1)), []store.Anchor{seven})
	wantEqual(t, must[[]store.Anchor](t)(a.Waiting(ctx, 10)), []store.Anchor{three, nine})
	wantEqual(t, must[store.AnchorProgress](t)(a.Progress(ctx)), store.AnchorProgress{Kept: 9, Logged: 7, Waiting: 2, Oldest: 3})

	nine.Logged, nine.LogID, nine.LogIndex = true, []byte("log"), 4
	noError(t, a.Logged(ctx, nine))
	short := func(one store.Anchor) store.Anchor { one.Body = nil; return one }
	wantEqual(t, must[[]store.Anchor](t)(a.From(ctx, 1, 10)), []store.Anchor{short(seven), short(nine)})
	wantEqual(t, must[[]store.Anchor](t)(a.From(ctx, 8, 1)), []store.Anchor{short(nine)})

	wantEqual(t, must[store.Anchor](t)(a.ByHash(ctx, nine.Hash)), nine)
	_, err := a.ByHash(ctx, []byte("none"))
	wantError(t, err, store.ErrNotFound)
}
