//go:build kubernetes

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

const (
	benchPods       = 40
	benchContainers = 30
	benchCallers    = 16
	benchFor        = 10 * time.Second
)

// BenchmarkAdmission measures our HTTPS webhook as an API server calls it: pods of
// thirty containers, none of which was ever asked about, the same again, and how
// many reviews a second many callers get.
func BenchmarkAdmission(b *testing.B) {
	registry := startRegistry(b)
	p := newProcess(b, "--auth-anonymous-verify", "--verify-passed-ttl", "1h").secure()
	p.start()
	p.trustAll(registry, "release")
	pods := benchReviews(b, p, registry)
	one := reviewer(b, p)
	for b.Loop() {
		cold := timed(b, len(pods), func(i int) { one(pods[i]) })
		warm := timed(b, 20*len(pods), func(i int) { one(pods[i%len(pods)]) })
		tell("one pod of 30 containers, cold", cold)
		tell("one pod of 30 containers, warm", warm)
		b.ReportMetric(milliseconds(cold, 99), "cold-p99-ms")
		b.ReportMetric(milliseconds(warm, 99), "warm-p99-ms")
		single := benchReview(b, []string{benchImages(pods[0])[0]})
		for what, body := range map[string][]byte{"1 container": single, "30 containers": pods[0]} {
			rate, times := load(b, p, body)
			fmt.Fprintf(os.Stderr, "%d callers, pods of %s: %.0f reviews/s\n", benchCallers, what, rate)
			tell("  each", times)
			b.ReportMetric(rate, "reviews/s-"+strings.Fields(what)[0])
		}
	}
	fmt.Fprintln(os.Stderr, "NOT RUN: policy-controller and Kyverno: their webhooks need a cluster's informers and images to start")
}

// benchReviews are reviews of pods whose images are signed and were never asked
// about.
func benchReviews(b *testing.B, p *process, registry *localregistry.Registry) [][]byte {
	b.Helper()
	images := make([]string, benchPods*benchContainers)
	var group errgroup.Group
	group.SetLimit(32)
	for i := range images {
		group.Go(func() error {
			d, err := registry.PushImage(context.Background(), "team/app", fmt.Sprintf("v%d", i), fmt.Sprint(i))
			if err != nil {
				return err
			}
			images[i] = registry.Image("team/app", d)
			_, _, err = p.admin.Sign(context.Background(), api.SignatureRequest{Image: images[i], Key: "release"}, api.SignOptions{})
			return err
		})
	}
	check(b, group.Wait())
	var pods [][]byte
	for chunk := range slices.Chunk(images, benchContainers) {
		pods = append(pods, benchReview(b, chunk))
	}
	return pods
}

func benchReview(b *testing.B, images []string) []byte {
	b.Helper()
	var containers []any
	for i, image := range images {
		containers = append(containers, object{"name": fmt.Sprintf("c%d", i), "image": image})
	}
	return []byte(mustJSON(b, object{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": object{
			"uid": "b", "kind": object{"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "shop",
			"object": podOf("p", object{"containers": containers}),
		},
	}))
}

func benchImages(review []byte) []string {
	var r struct {
		Request struct {
			Object struct {
				Spec struct {
					Containers []struct{ Image string }
				}
			}
		}
	}
	_ = json.Unmarshal(review, &r)
	var images []string
	for _, c := range r.Request.Object.Spec.Containers {
		images = append(images, c.Image)
	}
	return images
}

// reviewer asks and wants a yes.
func reviewer(b *testing.B, p *process) func([]byte) {
	b.Helper()
	client := p.client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = benchCallers
	return func(body []byte) {
		resp, err := client.Post(p.url+"/v1/admission/validate?timeout=10s", "application/json", bytes.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Contains(said, []byte(`"allowed":true`)) {
			b.Errorf("%v %s", err, said[:min(len(said), 500)])
		}
	}
}

func timed(b *testing.B, n int, do func(int)) []time.Duration {
	b.Helper()
	times := make([]time.Duration, n)
	for i := range n {
		start := time.Now()
		do(i)
		times[i] = time.Since(start)
	}
	return times
}

// load has many callers ask the same for a while.
func load(b *testing.B, p *process, body []byte) (float64, []time.Duration) {
	b.Helper()
	one := reviewer(b, p)
	var mu sync.Mutex
	var times []time.Duration
	var done atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	for range benchCallers {
		callers.Go(func() {
			var own []time.Duration
			for time.Since(start) < benchFor {
				asked := time.Now()
				one(body)
				own = append(own, time.Since(asked))
				done.Add(1)
			}
			mu.Lock()
			times = append(times, own...)
			mu.Unlock()
		})
	}
	callers.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), times
}

func tell(what string, times []time.Duration) {
	fmt.Fprintf(os.Stderr, "%s: p50 %.1f ms, p99 %.1f ms, of %d\n", what, milliseconds(times, 50), milliseconds(times, 99), len(times))
}

func milliseconds(times []time.Duration, percentile int) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return float64(sorted[(len(sorted)-1)*percentile/100]) / float64(time.Millisecond)
}
