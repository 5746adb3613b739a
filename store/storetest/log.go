package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/countersign/countersign/store"
)

// follow makes a link whose hash covers its predecessor's.
func follow(body string) func(int64, []byte) (store.Link, error) {
	return func(sequence int64, previous []byte) (store.Link, error) {
		sum := sha256.Sum256(append([]byte(body), previous...))
		return store.Link{Sequence: sequence + 1, Body: []byte(body), Hash: sum[:]}, nil
	}
}

func chainOrder(t *testing.T, db *store.DB) {
	ctx, c := context.Background(), db.Chain()
	sequence, head, err := c.Head(ctx)
	noError(t, err)
	wantEqual(t, sequence, int64(0))
	wantEqual(t, head, []byte(nil))

	var links []store.Link
	var previous []byte
	for n := int64(1); n <= 5; n++ {
		link, err := c.Append(ctx, func(sequence int64, got []byte) (store.Link, error) {
			wantEqual(t, sequence, n-1)
			wantEqual(t, got, previous)
			return follow(fmt.Sprint("record ", n))(sequence, got)
		})
		noError(t, err)
		links, previous = append(links, link), link.Hash
	}
	wantEqual(t, must[[]store.Link](t)(c.Read(ctx, 0, 10)), links)
	wantEqual(t, must[[]store.Link](t)(c.Read(ctx, 2, 2)), links[2:4])
	wantEqual(t, must[[]store.Link](t)(c.ReadBack(ctx, 0, 2)), []store.Link{links[4], links[3]})
	wantEqual(t, must[[]store.Link](t)(c.ReadBack(ctx, 3, 10)), []store.Link{links[1], links[0]})
	wantEqual(t, len(must[[]store.Link](t)(c.Read(ctx, 5, 10))), 0)
	wantEqual(t, len(must[[]store.Link](t)(c.ReadBack(ctx, 1, 10))), 0)
	sequence, head, err = c.Head(ctx)
	noError(t, err)
	wantEqual(t, sequence, int64(5))
	wantEqual(t, head, links[4].Hash)
}

// chainConcurrent: no fork, no gap, and every acknowledged link is there.
func chainConcurrent(t *testing.T, db *store.DB) {
	ctx, c := context.Background(), db.Chain()
	const writers, each = 24, 8
	acknowledged := make([][]store.Link, writers)
	for _, err := range together(writers, func(w int) error {
		for n := range each {
			link, err := c.Append(ctx, follow(fmt.Sprint(w, " ", n)))
			if err != nil {
				return err
			}
			acknowledged[w] = append(acknowledged[w], link)
		}
		return nil
	}) {
		noError(t, err)
	}
	links := must[[]store.Link](t)(c.Read(ctx, 0, store.MaxPage))
	wantEqual(t, len(links), writers*each)
	var previous []byte
	for i, link := range links {
		want, _ := follow(string(link.Body))(int64(i), previous)
		wantEqual(t, link, want)
		previous = link.Hash
	}
	for _, mine := range acknowledged {
		for _, link := range mine {
			wantEqual(t, links[link.Sequence-1], link)
		}
	}
}

func chainRefusals(t *testing.T, db *store.DB) {
	ctx, c := context.Background(), db.Chain()
	must[store.Link](t)(c.Append(ctx, follow("first")))
	refusal := errors.New("no")
	_, err := c.Append(ctx, func(int64, []byte) (store.Link, error) { return store.Link{}, refusal })
	if err != refusal { //nolint:errorlint // it must come back as it is
		t.Fatalf("error = %v, want the callback's own", err)
	}
	for _, wrong := range []int64{-1, 0, 1, 3} {
		if _, err := c.Append(ctx, func(int64, []byte) (store.Link, error) {
			return store.Link{Sequence: wrong, Body: []byte("x"), Hash: []byte("x")}, nil
		}); err == nil {
			t.Fatalf("sequence %d after 1 was taken", wrong)
		}
	}
	second := must[store.Link](t)(c.Append(ctx, follow("second")))
	wantEqual(t, second.Sequence, int64(2))
	wantEqual(t, len(must[[]store.Link](t)(c.Read(ctx, 0, 10))), 2)
}

func leafHash(n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return sum[:]
}

func leafHashes(from, to int) [][]byte {
	var hashes [][]byte
	for n := from; n < to; n++ {
		hashes = append(hashes, leafHash(n))
	}
	return hashes
}

func wantLeaf(t *testing.T, l store.Leaves, n int, want uint64) {
	t.Helper()
	index, found, err := l.Find(context.Background(), leafHash(n))
	noError(t, err)
	if !found || index != want {
		t.Fatalf("Find of leaf %d = %d, %v, want %d", n, index, found, want)
	}
}

func leafLaws(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.Leaves()
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(0))
	if _, found, err := l.Find(ctx, leafHash(0)); found || err != nil {
		t.Fatalf("Find in an empty index = %v, %v", found, err)
	}
	noError(t, l.Record(ctx, 0, nil))
	noError(t, l.Record(ctx, 0, leafHashes(0, 5)))
	noError(t, l.Record(ctx, 3, leafHashes(3, 8))) // overlaps
	noError(t, l.Record(ctx, 3, leafHashes(3, 8))) // repeats
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(8))
	for n := range 8 {
		wantLeaf(t, l, n, uint64(n))
	}
	noError(t, l.Record(ctx, 8, [][]byte{leafHash(2)})) // the lowest position wins
	wantLeaf(t, l, 2, 2)
	noError(t, l.Record(ctx, 4, [][]byte{leafHash(99)})) // what is stored stays
	wantLeaf(t, l, 4, 4)
	if _, found, err := l.Find(ctx, leafHash(99)); found || err != nil {
		t.Fatalf("Find of a leaf that was passed over = %v, %v", found, err)
	}
	if err := l.Record(ctx, 1<<63, leafHashes(0, 1)); err == nil {
		t.Fatal("a position beyond 63 bits was taken")
	}
}

func leafGaps(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.Leaves()
	noError(t, l.Record(ctx, 3, leafHashes(3, 6)))
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(0))
	wantLeaf(t, l, 4, 4)
	noError(t, l.Record(ctx, 0, leafHashes(0, 2)))
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(2))
	noError(t, l.Record(ctx, 2, leafHashes(2, 3)))
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(6))

	const recorders = 12 // that overlap and come in any order
	for _, err := range together(recorders, func(i int) error {
		return l.Record(ctx, uint64(6+5*i), leafHashes(6+5*i, 6+5*i+7))
	}) {
		noError(t, err)
	}
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(6+5*recorders+2))
}

func leafMany(t *testing.T, db *store.DB) {
	ctx, l := context.Background(), db.Leaves()
	noError(t, l.Record(ctx, 0, leafHashes(0, 9000)))
	wantEqual(t, must[uint64](t)(l.Size(ctx)), uint64(9000))
	wantLeaf(t, l, 8999, 8999)
}

// leafShards: shards have positions and counts of their own, also when they
// begin together.
func leafShards(t *testing.T, db *store.DB) {
	ctx := context.Background()
	first, second := db.Leaves(), db.ShardLeaves(2)
	wantEqual(t, must[uint64](t)(second.Size(ctx)), uint64(0))
	noError(t, first.Record(ctx, 0, leafHashes(0, 4)))
	wantEqual(t, must[uint64](t)(second.Size(ctx)), uint64(0))
	if _, found, err := second.Find(ctx, leafHash(1)); found || err != nil {
		t.Fatalf("Find of another shard's leaf = %v, %v", found, err)
	}
	for _, err := range together(8, func(i int) error {
		return second.Record(ctx, uint64(i), leafHashes(7-i, 8-i))
	}) {
		noError(t, err)
	}
	wantEqual(t, must[uint64](t)(second.Size(ctx)), uint64(8))
	wantLeaf(t, second, 1, 6)
	wantLeaf(t, db.ShardLeaves(1), 1, 1)
	wantEqual(t, must[uint64](t)(first.Size(ctx)), uint64(4))
	noError(t, db.ShardLeaves(3).Record(ctx, 0, nil))
	wantEqual(t, must[uint64](t)(db.ShardLeaves(3).Size(ctx)), uint64(0))
	if err := db.ShardLeaves(0).Record(ctx, 0, leafHashes(0, 1)); err == nil {
		t.Fatal("a shard below 1 was taken")
	}
}
