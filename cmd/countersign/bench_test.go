//go:build interop

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// The load of the benchmarks; bounded so that they end by themselves.
const (
	signCalls   = 200
	verifyCalls = 1000
	cosignCalls = 10
)

// BenchmarkPeerSign: concurrent sign calls of different digests beside stock
// cosign v3 signing images of the same registry into the same log, in one run.
// Cosign is a process per signature; its figure is what a pipeline step costs.
func BenchmarkPeerSign(b *testing.B) {
	registry, p := benchService(b, nil)
	ctx := context.Background()
	b.Run(fmt.Sprintf("countersign-%d-at-once", signCalls), func(b *testing.B) {
		before := checkpointSize(b, p)
		images := pushMany(b, registry, "bench/ours", signCalls)
		took := concurrently(b, images, len(images), func(image string) error {
			_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			return err
		})
		report(b, took)
		b.ReportMetric(float64(checkpointSize(b, p)-before), "entries")
	})
	c := cosignWriter(b, p)
	for _, parallel := range []int{1, runtime.NumCPU()} {
		b.Run(fmt.Sprintf("cosign-v3.1.3-%d-at-once", parallel), func(b *testing.B) {
			images := pushMany(b, registry, fmt.Sprintf("bench/theirs%d", parallel), cosignCalls*parallel)
			report(b, concurrently(b, images, parallel, c.sign))
		})
	}
	b.Run("countersign-one-after-another", func(b *testing.B) {
		images := pushMany(b, registry, "bench/ours-serial", 4*cosignCalls)
		report(b, concurrently(b, images, 1, func(image string) error {
			_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			return err
		}))
	})
}

// BenchmarkPeerVerify: one image, cold and then asked about again and again,
// beside `cosign verify` of the same image.
func BenchmarkPeerVerify(b *testing.B) {
	trips := &roundTrips{}
	registry, p := benchService(b, trips.watch)
	ctx := context.Background()
	image := pushMany(b, registry, "bench/verify", 1)[0]
	_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	check(b, err)
	ask := func(image string) error {
		answer, err := p.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}})
		if err == nil && answer.Verdict != policy.Passed {
			err = fmt.Errorf("verdict %s", answer.Verdict)
		}
		return err
	}
	// A restart empties the verdict cache. The first cold question finds the
	// bundle in the archive, the second one was signed elsewhere.
	foreign := cosignWriter(b, p)
	theirs := pushMany(b, registry, "bench/verify-foreign", 1)[0]
	check(b, foreign.sign(theirs))
	p.kill()
	p.start()
	for _, cold := range []struct{ name, image, authority string }{
		{"ours", image, "{key: {name: release}}"},
		{"foreign", theirs, pemAuthority(b, filepath.Join(foreign.home, "cosign.pub"))},
	} {
		b.Run("countersign-cold-"+cold.name, func(b *testing.B) {
			p.policy(registry, "managed", cold.authority)
			trips.reset()
			report(b, concurrently(b, []string{cold.image}, 1, ask))
			seen := trips.list()
			b.ReportMetric(float64(len(seen)), "round-trips")
			b.Log("registry round trips: ", seen)
		})
	}
	p.policy(registry, "managed", "{key: {name: release}}")
	again := slices.Repeat([]string{image}, verifyCalls)
	for _, parallel := range []int{1, 16} {
		b.Run(fmt.Sprintf("countersign-warm-%d-at-once", parallel), func(b *testing.B) {
			report(b, concurrently(b, again, parallel, ask))
		})
	}
	keyPath, rootPath := publicMaterial(b, p, "release")
	for _, name := range []string{cosignV2, cosignV3} {
		b.Run(name, func(b *testing.B) {
			c := newCosign(b, name)
			report(b, concurrently(b, slices.Repeat([]string{image}, cosignCalls), 1, func(image string) error {
				out, err := c.run("verify", "--key", keyPath, "--trusted-root", rootPath, "--allow-http-registry", image)
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}))
		})
	}
}

// roundTrips notes what a registry was asked.
type roundTrips struct {
	mu   sync.Mutex
	seen []string
}

func (r *roundTrips) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

func (r *roundTrips) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

func (r *roundTrips) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func benchService(b *testing.B, wrap func(http.Handler) http.Handler) (*localregistry.Registry, *process) {
	b.Helper()
	registry, err := localregistry.Start(context.Background(), localregistry.Options{Wrap: wrap})
	check(b, err)
	b.Cleanup(func() { registry.Close() })
	p := newProcess(b, "--log-anonymous-writes")
	p.start()
	p.trustAll(registry, "release")
	return registry, p
}

func pushMany(b *testing.B, registry *localregistry.Registry, repository string, n int) []string {
	b.Helper()
	images := make([]string, n)
	for i := range images {
		d, err := registry.PushImage(context.Background(), repository, "", fmt.Sprintf("%s %d %d", repository, i, time.Now().UnixNano()))
		check(b, err)
		images[i] = registry.Image(repository, d)
	}
	return images
}

// concurrently calls do for each image, at most parallel at once, and returns
// how long each took and the whole.
func concurrently(b *testing.B, images []string, parallel int, do func(string) error) (took []time.Duration) {
	b.Helper()
	b.ResetTimer()
	took = make([]time.Duration, len(images))
	next := make(chan int)
	errs := make(chan error, len(images))
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := range next {
				start := time.Now()
				if err := do(images[i]); err != nil {
					errs <- err
				}
				took[i] = time.Since(start)
			}
		})
	}
	start := time.Now()
	for i := range images {
		next <- i
	}
	close(next)
	wg.Wait()
	whole := time.Since(start)
	b.StopTimer()
	close(errs)
	for err := range errs {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(images))/whole.Seconds(), "calls/s")
	return took
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

func checkpointSize(b *testing.B, p *process) int64 {
	b.Helper()
	note, err := p.admin.Checkpoint(context.Background())
	check(b, err)
	var origin string
	var size int64
	_, err = fmt.Sscanf(string(note), "%s\n%d\n", &origin, &size)
	check(b, err)
	return size
}

// writer is stock cosign with a key pair of its own, our log and our
// timestamp authority.
type writer struct {
	cosign
	config, root string
}

func cosignWriter(b *testing.B, p *process) writer {
	b.Helper()
	w := writer{cosign: newCosign(b, cosignV3)}
	_, w.root = publicMaterial(b, p, "release")
	w.config = filepath.Join(w.home, "signing_config.json")
	config, err := p.admin.SigningConfig(context.Background())
	check(b, err)
	check(b, os.WriteFile(w.config, config, 0o600))
	w.must(b, "generate-key-pair")
	return w
}

func (w writer) sign(image string) error {
	out, err := w.run("sign", "--yes", "--key", "cosign.key", "--signing-config", w.config, "--trusted-root", w.root, "--allow-http-registry", image)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
