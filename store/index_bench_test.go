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
