package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

// BenchmarkLogIndex records entries as a reindex does.
func BenchmarkLogIndex(b *testing.B) {
	db := newSQLite(b)
	rows := make([]store.LogEntry, 4096)
	var first uint64
	began := time.Now()
	for b.Loop() {
		for i := range rows {
			leaf := sha256.Sum256(fmt.Append(nil, first+uint64(i)))
			rows[i] = store.LogEntry{
				LeafHash: leaf[:], Kind: "hashedrekord", Version: "0.0.2", Digest: fmt.Sprintf("sha256:%x", leaf),
				KeyID: fmt.Sprintf("%x", sha256.Sum256([]byte("key"))), Time: began,
			}
		}
		if err := db.LogIndex().Record(b.Context(), 1, first, rows); err != nil {
			b.Fatal(err)
		}
		first += uint64(len(rows))
	}
	b.ReportMetric(float64(first)/time.Since(began).Seconds(), "entries/s")
}

// BenchmarkReindex indexes a log again whose rows are there already, of two
// sizes: the larger must cost no more per entry.
func BenchmarkReindex(b *testing.B) {
	for _, batches := range []int{16, 160} {
		b.Run(fmt.Sprintf("%d entries", batches*4096), func(b *testing.B) {
			index := newSQLite(b).LogIndex()
			began := time.Now()
			record := func() {
				for batch := range batches {
					rows := make([]store.LogEntry, 4096)
					for i := range rows {
						leaf := sha256.Sum256(fmt.Append(nil, batch*4096+i))
						rows[i] = store.LogEntry{
							LeafHash: leaf[:], Kind: "hashedrekord", Version: "0.0.2", Digest: fmt.Sprintf("sha256:%x", leaf),
							KeyID: fmt.Sprintf("%x", sha256.Sum256([]byte("key"))), Time: began,
						}
					}
					if err := index.Record(b.Context(), 1, uint64(batch*4096), rows); err != nil {
						b.Fatal(err)
					}
				}
			}
			record()
			first := float64(batches*4096) / time.Since(began).Seconds()
			for b.Loop() {
				if err := index.Reset(b.Context(), 1); err != nil {
					b.Fatal(err)
				}
				record()
			}
			b.ReportMetric(first, "first-entries/s")
			b.ReportMetric(float64(b.N*batches*4096)/b.Elapsed().Seconds(), "again-entries/s")
		})
	}
}

// BenchmarkFindLeaf asks the leaf index as each append does.
func BenchmarkFindLeaf(b *testing.B) {
	leaves := newSQLite(b).Leaves()
	leaf := sha256.Sum256([]byte("leaf"))
	for b.Loop() {
		if _, found, err := leaves.Find(b.Context(), leaf[:]); err != nil || found {
			b.Fatal(found, err)
		}
	}
}
