//go:build linux

package verifier_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// bareVerifications are the ECDSA verifications that a verdict on a bundle by a
// key cannot do without: the signature, the log's checkpoint, the timestamp and
// the certificate that it was made under.
const bareVerifications = 4

// BenchmarkCold: a verdict that nothing is remembered of, without any network or
// disk, beside the bare verifications that it needs.
func BenchmarkCold(b *testing.B) {
	for _, from := range []string{"kept", "registry"} {
		b.Run(from, func(b *testing.B) {
			w := newWorld(b, func(c *verifier.Config) { c.CacheSize = -1 })
			digest, image := w.image("cold")
			bundle := w.authority.Bundle(digest, w.key, w.signedAt).JSON()
			if from == "kept" {
				w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatBundle, Bundle: bundle})
			} else {
				w.attachBundle(digest, bundle)
			}
			w.wantPassed(image)
			request := verifier.Request{Images: []string{image}, Caller: identity.Identity{Issuer: identity.Local, Subject: "bench"}}
			before := cpu(b)
			for b.Loop() {
				if answer, err := w.Verify(b.Context(), request); err != nil || answer.Verdict != policy.Passed {
					b.Fatal(answer, err)
				}
			}
			reportCPU(b, before)
		})
	}
	b.Run("bare", func(b *testing.B) {
		key := testauthority.NewECDSA(b)
		message := []byte("message")
		digest, signature := sha256.Sum256(message), testauthority.SignP256(b, key, message)
		before := cpu(b)
		for b.Loop() {
			for range bareVerifications {
				if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
					b.Fatal("not verified")
				}
			}
		}
		reportCPU(b, before)
	})
}

// cpu is what the test has computed so far: on a busy machine time says little.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, before time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/1000, "CPU-us/op")
}
