package search

import (
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
)

// BenchmarkRow reads what an entry is about.
func BenchmarkRow(b *testing.B) {
	key, message := testauthority.NewECDSA(b), []byte("message")
	body, err := tlog.HashedRekordV002(key.Public(), message, testauthority.SignP256(b, key, message))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if row(body, time.Time{}).Kind != tlog.KindHashedRekord {
			b.Fatal("not read")
		}
	}
}
