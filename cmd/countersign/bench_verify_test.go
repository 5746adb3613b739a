//go:build interop

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// The load of BenchmarkVerify.
const (
	coldImages  = 12 // signed by cosign
	keptImages  = 101
	batchImages = 200
	warmCalls   = 4000
	// bareOperations are the ECDSA verifications that a cold verdict on a bundle
	// by a key cannot do without: the signature, the log's checkpoint, the
	// timestamp and the certificate it was made under.
	bareOperations = 4
)

var verifyDigests = flag.Int("verify-digests", 100_000, "distinct digests of BenchmarkVerifyMemory")

// slowRegistry is a registry on the other side of a network: it counts requests
// and adds a delay to each.
type slowRegistry struct {
	roundTrips
	delay atomic.Int64
}

func (s *slowRegistry) wrap(next http.Handler) http.Handler {
	return s.watch(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(s.delay.Load()))
		next.ServeHTTP(w, r)
	}))
}

// passes asks about images and wants each to pass.
func passes(p *process, place string, images ...string) error {
	answer, err := p.admin.Verify(context.Background(), api.VerifyRequest{Images: images, Context: map[string]string{"namespace": place}, Timeout: "30s"})
	if err == nil && answer.Verdict != policy.Passed {
		err = fmt.Errorf("verdict %s: %+v", answer.Verdict, answer.Results[0].Reasons)
	}
	return err
}

// BenchmarkVerify: verdicts, cold and warm, beside stock cosign with the same
// registry at no distance and at 20 ms.
func BenchmarkVerify(b *testing.B) {
	slow := &slowRegistry{}
	registry, p := benchService(b, slow.wrap)
	foreign := cosignWriter(b, p)
	signed := pushMany(b, registry, "bench/ours", batchImages)
	ctx := context.Background()
	for _, image := range signed {
		_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
		check(b, err)
	}
	var theirs []string
	for range 2 {
		images := pushMany(b, registry, "bench/theirs", coldImages)
		for _, image := range images {
			check(b, foreign.sign(image))
		}
		theirs = append(theirs, images...)
	}
	b.Run("bare-ecdsa", benchECDSA)
	for i, delay := range []time.Duration{0, 20 * time.Millisecond} {
		slow.delay.Store(int64(delay))
		name := fmt.Sprintf("%dms/", delay.Milliseconds())
		mine := theirs[i*coldImages : (i+1)*coldImages]
		b.Run(name+"just-signed", func(b *testing.B) { // nothing is left to ask
			image := pushMany(b, registry, "bench/fresh", 1)[0]
			_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			check(b, err)
			slow.cold(b, p, []string{image})
		})
		p.kill()
		p.start() // remembers nothing
		b.Run(name+"cold-kept", func(b *testing.B) { slow.cold(b, p, signed[:keptImages]) })
		p.policy(registry, "managed", pemAuthority(b, filepath.Join(foreign.home, "cosign.pub")))
		b.Run(name+"cold-registry", func(b *testing.B) { slow.cold(b, p, mine) })
		p.policy(registry, "managed", "{key: {name: release}}")
		for _, round := range []string{"cold", "warm"} {
			b.Run(name+"batch-200-"+round, func(b *testing.B) {
				slow.reset()
				report(b, concurrently(b, []string{""}, 1, func(string) error { return passes(p, "batch", signed...) }))
				b.ReportMetric(float64(len(slow.list())), "requests")
			})
		}
		benchCosigns(b, name, p, registry, "release", signed[:coldImages])
	}
	slow.delay.Store(0)
	for _, parallel := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("warm-%d-at-once", parallel), func(b *testing.B) {
			report(b, concurrently(b, slices.Repeat(signed[:1], warmCalls), parallel, func(image string) error { return passes(p, "warm", image) }))
		})
	}
	benchShared(b, slow, registry, p)
}

// benchShared asserts that questions about one thing are one round.
func benchShared(b *testing.B, slow *slowRegistry, registry *localregistry.Registry, p *process) {
	slow.delay.Store(int64(20 * time.Millisecond))
	for name, shape := range map[string]struct{ askers, images int }{"1000-at-once": {1000, 1}, "8-containers-5-identities": {5, 8}} {
		b.Run(name, func(b *testing.B) {
			image := pushMany(b, registry, "bench/shared", 1)[0]
			_, _, err := p.admin.Sign(context.Background(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			check(b, err)
			p.kill()
			p.start()
			slow.reset()
			report(b, concurrently(b, slices.Repeat([]string{image}, shape.askers), shape.askers, func(image string) error {
				return passes(p, "shared", slices.Repeat([]string{image}, shape.images)...)
			}))
			if n := len(slow.list()); n != 1 {
				b.Errorf("%d requests to the registry, want the manifest once: %v", n, slow.list())
			}
		})
	}
}

// cold asks about each image once, one after another. The first is not counted
// where there are others: it pays for what a process does once, such as its
// connections.
func (s *slowRegistry) cold(b *testing.B, p *process, images []string) {
	if len(images) > 1 {
		check(b, passes(p, "cold", images[0]))
		images = images[1:]
	}
	s.reset()
	before := usedCPU(b, p.cmd.Process.Pid)
	report(b, concurrently(b, images, 1, func(image string) error { return passes(p, "cold", image) }))
	n := float64(len(images))
	b.ReportMetric(float64((usedCPU(b, p.cmd.Process.Pid)-before).Microseconds())/1000/n, "CPU-ms")
	b.ReportMetric(float64(len(s.list()))/n, "requests")
}

func benchECDSA(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(b, err)
	digest := sha256.Sum256([]byte("message"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	check(b, err)
	const rounds = 2000
	began := time.Now()
	for range rounds {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			b.Fatal("not verified")
		}
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000/rounds*bareOperations, fmt.Sprintf("ms-per-%d", bareOperations))
	b.ReportMetric(0, "ns/op")
}

func benchCosigns(b *testing.B, name string, p *process, registry *localregistry.Registry, key string, images []string) {
	keyPath, rootPath := publicMaterial(b, p, key)
	for _, version := range []string{cosignV2, cosignV3} {
		b.Run(name+version, func(b *testing.B) {
			c := newCosign(b, version)
			before := childrenCPU(b)
			report(b, concurrently(b, images, 1, func(image string) error {
				out, err := c.run("verify", "--key", keyPath, "--trusted-root", rootPath, "--allow-http-registry", image)
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}))
			b.ReportMetric(float64((childrenCPU(b)-before).Microseconds())/1000/float64(len(images)), "CPU-ms")
		})
	}
}

// childrenCPU is what ended children have computed.
func childrenCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerifyMemory: what the process takes after verdicts on many distinct
// digests, which a registry makes up as they are asked for.
func BenchmarkVerifyMemory(b *testing.B) {
	made := &madeUp{}
	registry, p := benchService(b, made.wrap)
	images := make([]string, *verifyDigests)
	for i := range images {
		images[i] = registry.Host + "/made/up@" + attest.DigestOf(made.manifest(i)).String()
		made.numbers.Store(images[i][strings.Index(images[i], "@")+1:], i)
	}
	check(b, passesNone(p, images[:batchImages])) // connections and code are there
	before := resident(b, p)
	batches := slices.Collect(slices.Chunk(images, batchImages))
	next := make([]string, len(batches))
	for i := range next {
		next[i] = fmt.Sprint(i)
	}
	p.forgetPeak(b)
	report(b, concurrently(b, next, 4, func(i string) error {
		var n int
		fmt.Sscan(i, &n)
		return passesNone(p, batches[n])
	}))
	b.ReportMetric(before, "MiB-before")
	b.ReportMetric(resident(b, p), "MiB-after")
	b.ReportMetric(p.peak(b), "MiB-peak")
}

func passesNone(p *process, images []string) error {
	answer, err := p.admin.Verify(context.Background(), api.VerifyRequest{Images: images, Timeout: "30s"})
	if err == nil && answer.Verdict != policy.Failed {
		err = fmt.Errorf("verdict %s", answer.Verdict)
	}
	return err
}

// madeUp serves manifests that nobody pushed.
type madeUp struct{ numbers sync.Map }

func (m *madeUp) manifest(i int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%064d","size":1},"layers":[]}`, i)
}

func (m *madeUp) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest, ok := strings.CutPrefix(r.URL.Path, "/v2/made/up/manifests/")
		i, known := m.numbers.Load(digest)
		switch {
		case ok && known:
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write(m.manifest(i.(int)))
		case strings.HasPrefix(r.URL.Path, "/v2/made/"):
			http.NotFound(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// resident is what the process has in memory.
func resident(b *testing.B, p *process) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	check(b, err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	_, err = fmt.Sscanf(after, "%g kB", &kib)
	check(b, err)
	return kib / 1024
}
