package signer_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/signer"
)

// BenchmarkSign signs different digests over real parts: SQLite, the log on
// disk, the timestamp authority, a registry on loopback, the verifier's check.
// Each sub-benchmark keeps that many calls in the air. A lone call waits for a
// checkpoint; many share one.
func BenchmarkSign(b *testing.B) {
	for _, inFlight := range []int{1, 20, 200} {
		for _, formats := range [][]string{{"bundle"}, {"bundle", "legacy"}} {
			b.Run(fmt.Sprintf("inflight=%d/formats=%d", inFlight, len(formats)), func(b *testing.B) {
				benchmarkSign(b, inFlight, formats)
			})
		}
	}
}

func benchmarkSign(b *testing.B, inFlight int, formats []string) {
	s := newSite(b, newWorld(b))
	sg := start(b, s.config())
	images := make([]string, b.N)
	for i := range images {
		_, images[i] = s.push(b, fmt.Sprintf("bench %d", i))
	}
	next := make(chan string)
	var mu sync.Mutex
	took := make([]time.Duration, 0, b.N)
	var group sync.WaitGroup
	b.ResetTimer()
	for range inFlight {
		group.Go(func() {
			for image := range next {
				begun := time.Now()
				_, _, err := sg.Sign(context.Background(), ci(), signer.Request{Image: image, Key: "release", Formats: formats})
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	for _, image := range images {
		next <- image
	}
	close(next)
	group.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signs/s")
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}
