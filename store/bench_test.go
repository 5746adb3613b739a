package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
)

// BenchmarkOperationsParallel begins operations from 200 goroutines, as 200
// concurrent sign calls do, and from one; `alone` gives each write its own
// transaction, which is what the group saves.
func BenchmarkOperationsParallel(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
		alone   bool
	}{
		{"sqlite/callers=200/grouped", 200, false},
		{"sqlite/callers=200/alone", 200, true},
		{"sqlite/callers=1/grouped", 1, false},
		{"sqlite/callers=1/alone", 1, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			db := newSQLite(b)
			if c.alone {
				store.Alone(db)
			}
			beginMany(b, db, c.callers)
		})
	}
	b.Run("postgres/callers=200", func(b *testing.B) {
		beginMany(b, storetest.OpenPostgres(b, storetest.Postgres(b)), 200)
	})
}

func beginMany(b *testing.B, db *store.DB, callers int) {
	body := make([]byte, 2000)
	spread(b, callers, func(n int64) error {
		_, _, err := db.Operations().Begin(context.Background(), store.Operation{
			ID: fmt.Sprintf("%036d", n), Kind: "signature", Scope: "local ci", IdempotencyKey: fmt.Sprint(n),
			State: "pending", Repository: "r", Digest: "d", Body: body,
		})
		return err
	})
}

// BenchmarkChainParallel appends to the one chain from 200 goroutines.
func BenchmarkChainParallel(b *testing.B) {
	run := func(b *testing.B, db *store.DB) {
		body := make([]byte, 500)
		spread(b, 200, func(int64) error {
			_, err := db.Chain().Append(context.Background(), func(n int64, _ []byte) (store.Link, error) {
				return store.Link{Sequence: n + 1, Body: body, Hash: body[:32]}, nil
			})
			return err
		})
	}
	b.Run("sqlite", func(b *testing.B) { run(b, newSQLite(b)) })
	b.Run("postgres", func(b *testing.B) { run(b, storetest.OpenPostgres(b, storetest.Postgres(b))) })
}

// spread shares b.N calls between callers.
func spread(b *testing.B, callers int, call func(n int64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := call(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkLogSearch looks for single entries among 100,000 rows, and for the
// first page of a key and of an identity that a third of them have.
func BenchmarkLogSearch(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { searchLog(b, newSQLite(b)) })
	b.Run("postgres", func(b *testing.B) { searchLog(b, storetest.OpenPostgres(b, storetest.Postgres(b))) })
}

const indexedEntries = 100_000

func searchLog(b *testing.B, db *store.DB) {
	b.Helper()
	ctx, l := context.Background(), db.LogIndex()
	digest := func(n int) string { return fmt.Sprintf("sha256:%064d", n) }
	const step = 4096
	for first := 0; first < indexedEntries; first += step {
		rows := make([]store.LogEntry, 0, step)
		for n := first; n < min(first+step, indexedEntries); n++ {
			row := store.LogEntry{LeafHash: fmt.Appendf(nil, "%032d", n), Kind: "hashedrekord", Version: "0.0.2", Digest: digest(n), KeyID: fmt.Sprintf("%064d", n)}
			if n%3 == 0 {
				row.KeyID, row.Issuer, row.Subject = fmt.Sprintf("%064d", 0), "https://issuer.example", "release job"
			}
			rows = append(rows, row)
		}
		if err := l.Record(ctx, 1, uint64(first), rows); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Bundles().Relate(ctx, "sha256:artifact", []string{digest(777), digest(77_777)}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		filter func(n int) store.LogFilter
		want   int
	}{
		{"digest", func(n int) store.LogFilter { return store.LogFilter{Digest: digest(n)} }, 1},
		{"artifact", func(int) store.LogFilter { return store.LogFilter{Digest: "sha256:artifact"} }, 2},
		{"key", func(n int) store.LogFilter { return store.LogFilter{KeyID: fmt.Sprintf("%064d", n/3*3+1)} }, 1},
		{"busy key", func(int) store.LogFilter { return store.LogFilter{KeyID: fmt.Sprintf("%064d", 0)} }, 50},
		{"busy identity", func(int) store.LogFilter {
			return store.LogFilter{Subject: "release job", Issuer: "https://issuer.example"}
		}, 50},
		{"nobody", func(int) store.LogFilter { return store.LogFilter{Subject: "nobody"} }, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				found, _, err := l.Search(ctx, c.filter(n*7919%(indexedEntries-3)), store.Page{Limit: 50})
				if err != nil || len(found) != c.want {
					b.Fatalf("%d found, %v, want %d", len(found), err, c.want)
				}
			}
		})
	}
}

// BenchmarkDecisions keeps the thirty decisions of a review of a large pod, one
// review after another.
func BenchmarkDecisions(b *testing.B) {
	run := func(b *testing.B, db *store.DB) {
		const images = 30
		body := bytes.Repeat([]byte("what was found and why; "), 80)
		var took []time.Duration
		for b.Loop() {
			n := len(took)
			var ds [images]store.Decision
			for i := range ds {
				digest := fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Appendf(nil, "%d", (n*images+i)%1200)))
				ds[i] = store.Decision{
					ID: uuid.Must(uuid.NewV7()).String(), Image: "registry.example/team/app@" + digest, Digest: digest,
					Verdict: "PASSED", Caller: "anonymous", Body: body,
				}
			}
			start := time.Now()
			if err := db.Decisions().Add(context.Background(), ds[:]...); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
	b.Run("sqlite", func(b *testing.B) { run(b, newSQLite(b)) })
	b.Run("postgres", func(b *testing.B) { run(b, storetest.OpenPostgres(b, storetest.Postgres(b))) })
}
