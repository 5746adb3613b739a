package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

// logEntry is entry n: of four keys, and every third with a certificate.
func logEntry(n int) store.LogEntry {
	e := store.LogEntry{
		LeafHash: leafHash(n), Kind: "hashedrekord", Version: "0.0.2",
		Digest: fmt.Sprintf("sha256:%064d", n), KeyID: fmt.Sprintf("%064d", n%4), Time: instant(n).UTC(),
	}
	if n%3 == 0 {
		e.Issuer, e.Subject, e.Certified = "https://issuer.example", fmt.Sprint("job ", n%2), true
	}
	return e
}

func logEntries(from, to int) []store.LogEntry {
	var entries []store.LogEntry
	for n := from; n < to; n++ {
		entries = append(entries, logEntry(n))
	}
	return entries
}

// search returns the places of all matches, through pages of two.
func search(t *testing.T, l store.LogIndex, filter store.LogFilter) []string {
	t.Helper()
	places, cursor := []string{}, ""
	for {
		found, next, err := l.Search(context.Background(), filter, store.Page{Limit: 2, Cursor: cursor})
		noError(t, err)
		for _, e := range found {
			places = append(places, fmt.Sprint(e.Shard, "/", e.Position))
		}
		if cursor = next; cursor == "" {
			return places
		}
	}
}

func logIndexLaws(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.LogIndex()
	wantEqual(t, must[uint64](t)(l.Size(ctx, 1)), uint64(0))
	wantEqual(t, search(t, l, store.LogFilter{}), []string{})
	noError(t, l.Record(ctx, 1, 0, logEntries(0, 5)))
	wantError(t, l.Record(ctx, 1, 0, logEntries(0, 5)), store.ErrStale) // repeated
	wantError(t, l.Record(ctx, 1, 6, logEntries(6, 7)), store.ErrStale) // a gap
	noError(t, l.Record(ctx, 1, 5, logEntries(5, 6)))
	noError(t, l.Record(ctx, 2, 0, logEntries(4, 6)))
	wantEqual(t, must[uint64](t)(l.Size(ctx, 1)), uint64(6))
	wantEqual(t, must[[]byte](t)(l.LeafHash(ctx, 1, 5)), leafHash(5))
	_, err := l.LeafHash(ctx, 1, 6)
	wantError(t, err, store.ErrNotFound)

	for name, c := range map[string]struct {
		filter store.LogFilter
		want   []string
	}{
		"all, newest first":      {store.LogFilter{}, []string{"2/1", "2/0", "1/5", "1/4", "1/3", "1/2", "1/1", "1/0"}},
		"digest":                 {store.LogFilter{Digest: logEntry(4).Digest}, []string{"2/0", "1/4"}},
		"key":                    {store.LogFilter{KeyID: logEntry(1).KeyID}, []string{"2/1", "1/5", "1/1"}},
		"subject":                {store.LogFilter{Subject: "job 1"}, []string{"1/3"}},
		"subject and issuer":     {store.LogFilter{Subject: "job 1", Issuer: "https://issuer.example"}, []string{"1/3"}},
		"row B3: both must fit":  {store.LogFilter{Subject: "job 1", Issuer: "https://other.example"}, []string{}},
		"row B3: key, digest":    {store.LogFilter{Digest: logEntry(4).Digest, KeyID: logEntry(1).KeyID}, []string{}},
		"part of a subject":      {store.LogFilter{Subject: "job"}, []string{}},
		"pattern":                {store.LogFilter{Subject: "job%"}, []string{}},
		"since":                  {store.LogFilter{Since: instant(4)}, []string{"2/1", "2/0", "1/5", "1/4"}},
		"until":                  {store.LogFilter{Until: instant(1)}, []string{"1/0"}},
		"text that nobody keeps": {store.LogFilter{Subject: "a\x00"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) { wantEqual(t, search(t, l, c.filter), c.want) })
	}
	found, _, err := l.Search(ctx, store.LogFilter{Digest: logEntry(3).Digest}, store.Page{})
	noError(t, err)
	want := logEntry(3)
	want.Shard, want.Position = 1, 3
	wantEqual(t, found, []store.LogEntry{want})
}

// logIndexReset: what is not indexed again is not found; when an entry was first
// seen outlives the rebuild, but not the entry.
func logIndexReset(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.LogIndex()
	noError(t, l.Record(ctx, 1, 0, logEntries(0, 6)))
	noError(t, l.Record(ctx, 2, 0, logEntries(0, 1)))
	noError(t, l.Reset(ctx, 1))
	noError(t, l.Reset(ctx, 7))
	wantEqual(t, must[uint64](t)(l.Size(ctx, 1)), uint64(0))
	wantEqual(t, search(t, l, store.LogFilter{}), []string{"2/0"})
	_, err := l.LeafHash(ctx, 1, 0)
	wantError(t, err, store.ErrNotFound)

	again := logEntries(0, 3)
	again[2].LeafHash = leafHash(99)
	for i := range again {
		again[i].Time = instant(1000).UTC()
	}
	noError(t, l.Record(ctx, 1, 0, again))
	found, _, err := l.Search(ctx, store.LogFilter{}, store.Page{})
	noError(t, err)
	wantEqual(t, len(found), 4)
	wantEqual(t, found[1].Time, instant(1000).UTC()) // another entry
	wantEqual(t, found[1].LeafHash, leafHash(99))
	wantEqual(t, found[2].Time, instant(1).UTC())    // first seen
	wantEqual(t, found[3].Time, instant(1000).UTC()) // the certificate's
}

// logIndexOneWinner: of recorders of the same place one succeeds.
func logIndexOneWinner(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.LogIndex()
	won := 0
	for _, err := range together(8, func(int) error { return l.Record(ctx, 1, 0, logEntries(0, 3)) }) {
		if err == nil {
			won++
			continue
		}
		wantError(t, err, store.ErrStale)
	}
	wantEqual(t, won, 1)
	wantEqual(t, must[uint64](t)(l.Size(ctx, 1)), uint64(3))
}

// logSubjects: an entry is found by the artifact that a kept bundle relates to
// what was signed, and by nothing else.
func logSubjects(t *testing.T, db *store.DB) {
	ctx, l, b := context.Background(), db.LogIndex(), db.Bundles()
	noError(t, l.Record(ctx, 1, 0, logEntries(0, 4)))
	kept := bundle(1)
	kept.Logged = []string{logEntry(1).Digest, logEntry(3).Digest, "sha512:ff"}
	for range 2 {
		noError(t, b.Keep(ctx, kept))
	}
	wantEqual(t, search(t, l, store.LogFilter{Digest: kept.Digest}), []string{"1/3", "1/1"})
	wantEqual(t, search(t, l, store.LogFilter{Digest: logEntry(1).Digest}), []string{"1/1"})
	wantEqual(t, search(t, l, store.LogFilter{Digest: kept.Digest, KeyID: logEntry(1).KeyID}), []string{"1/1"})
	wantEqual(t, search(t, l, store.LogFilter{Digest: "sha256:bb"}), []string{})
	noError(t, b.Relate(ctx, "sha256:bb", []string{logEntry(1).Digest, logEntry(1).Digest}))
	noError(t, b.Relate(ctx, "sha256:bb", nil))
	found, _, err := l.Search(ctx, store.LogFilter{Digest: "sha256:bb"}, store.Page{})
	noError(t, err)
	wantEqual(t, found[0].Subjects, []string{"sha256:aa", "sha256:bb"})

	for n := range 5 {
		noError(t, b.Keep(ctx, bundle(n)))
	}
	var ids []string
	for after := ""; ; {
		page := must[[]store.Bundle](t)(b.Each(ctx, after, 2))
		if len(page) == 0 {
			break
		}
		for _, one := range page {
			ids, after = append(ids, one.ID), one.ID
		}
	}
	wantEqual(t, ids, []string{id(0), id(1), id(2), id(3), id(4)})
}

func checkpointLaws(t *testing.T, db *store.DB) {
	ctx, c := context.Background(), db.Checkpoints()
	wantEqual(t, len(must[[]store.KeptCheckpoint](t)(c.All(ctx))), 0)
	at := func(shard int, size uint64, root string) store.KeptCheckpoint {
		return store.KeptCheckpoint{
			Shard: shard, LogID: []byte("id"), Size: size, Root: []byte(root), Note: []byte("note " + root), UpdatedAt: time.Unix(9, 9).UTC(),
		}
	}
	for _, k := range []store.KeptCheckpoint{at(2, 1, "x"), at(1, 4, "a"), at(1, 9, "b"), at(1, 9, "other"), at(1, 3, "older")} {
		noError(t, c.Advance(ctx, k))
	}
	wantEqual(t, must[[]store.KeptCheckpoint](t)(c.All(ctx)), []store.KeptCheckpoint{at(1, 9, "b"), at(2, 1, "x")})
	if err := c.Advance(ctx, at(0, 1, "x")); err == nil {
		t.Fatal("a shard below 1 was taken")
	}
	for _, err := range together(12, func(i int) error { return c.Advance(ctx, at(3, uint64(i+1), fmt.Sprint(i+1))) }) {
		noError(t, err)
	}
	wantEqual(t, must[[]store.KeptCheckpoint](t)(c.All(ctx))[2], at(3, 12, "12"))
	noError(t, c.Forget(ctx)) // and a smaller one is news again
	noError(t, c.Advance(ctx, at(1, 2, "restored")))
	wantEqual(t, must[[]store.KeptCheckpoint](t)(c.All(ctx)), []store.KeptCheckpoint{at(1, 2, "restored")})
}
