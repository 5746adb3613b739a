//go:build faults && linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

var logEntries = flag.Int("log-entries", 0, "the size of the large log; 0 skips it")

const (
	largeClients = 1024
	largeProofs  = 2000
)

// TestLargeLog makes a log through the service's own door and says, at a tenth
// of its size and at all of it, what it costs to open, to audit, to prove and,
// where the build has them, to index and to search. Audit and index may grow
// linearly with the log, proofs by their length only.
func TestLargeLog(t *testing.T) {
	if *logEntries == 0 {
		t.Skip("make bench-log-large")
	}
	p := newProcess(t, "--log-anonymous-writes")
	p.start()
	var before largeFigures
	for _, size := range []int{*logEntries / 10, *logEntries} {
		took := grow(t, p, size-before.size)
		f := measureLarge(t, p, size)
		t.Logf("%d entries (%v to append, %.0f/s): open %v; audit %v, %d MiB; proof p50 %v p99 %v, %d hashes; reindex %s; search %s",
			size, took.Round(time.Second), float64(size-before.size)/took.Seconds(), f.open.Round(time.Millisecond),
			f.audit.Round(time.Millisecond), f.rss>>20, f.p50, f.p99, f.hashes, f.reindex, f.search)
		if before.size > 0 {
			f.compare(t, before)
		}
		before = f
	}
}

type largeFigures struct {
	size        int
	open, audit time.Duration
	rss         int64
	p50, p99    time.Duration
	hashes      int
	reindex     string
	search      string
}

// compare allows what is not the log's own, such as the start of a process and
// a busy machine, half as much again.
func (f largeFigures) compare(t *testing.T, before largeFigures) {
	t.Helper()
	factor := float64(f.size) / float64(before.size)
	if bound := time.Duration(1.5*factor*float64(before.audit)) + time.Second; f.audit > bound {
		t.Errorf("audit grew from %v to %v for %vx the entries", before.audit, f.audit, factor)
	}
	if float64(f.rss) > 1.5*factor*float64(before.rss) {
		t.Errorf("audit's memory grew from %d to %d bytes for %vx the entries", before.rss, f.rss, factor)
	}
	if f.hashes > before.hashes+5 {
		t.Errorf("proofs grew from %d to %d hashes", before.hashes, f.hashes)
	}
	if f.p50 > 3*before.p50+time.Millisecond {
		t.Errorf("proofs grew from %v to %v", before.p50, f.p50)
	}
}

// grow appends entries with many clients; refusals under load are repeated.
func grow(t *testing.T, p *process, entries int) time.Duration {
	t.Helper()
	keys := newLogKey(t)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: largeClients}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range largeClients {
		wg.Go(func() {
			for next.Add(1) <= int64(entries) {
				for request := keys.request(t); ; failed.Add(1) {
					answer, err := client.Post(p.url+"/api/v2/log/entries", "application/json", strings.NewReader(string(request)))
					if err == nil {
						// A connection is used again only when its answer was read.
						_, _ = io.Copy(io.Discard, answer.Body)
						answer.Body.Close()
						if answer.StatusCode == http.StatusCreated {
							break
						}
					}
					if failed.Load() > int64(entries) {
						t.Errorf("the log takes no entries: %v", err)
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

func measureLarge(t *testing.T, p *process, size int) largeFigures {
	t.Helper()
	f := largeFigures{size: size, reindex: "not in this build", search: "not in this build"}
	p.kill()
	f.audit, f.rss = measured(t, p, "log", "audit", "--data-dir", p.dir)
	if offers(p, "log", "reindex") {
		took, rss := measured(t, p, "log", "reindex", "--data-dir", p.dir)
		f.reindex = fmt.Sprintf("%v, %d MiB", took.Round(time.Millisecond), rss>>20)
	}
	start := time.Now()
	p.start()
	f.open = time.Since(start)
	var took []time.Duration
	var digests []string
	for range largeProofs {
		began := time.Now()
		raw, err := p.admin.LogEntry(context.Background(), rand.Int64N(int64(size)))
		check(t, err)
		took = append(took, time.Since(began))
		entry := new(rekorpb.TransparencyLogEntry)
		check(t, protojson.Unmarshal(raw, entry))
		f.hashes = max(f.hashes, len(entry.GetInclusionProof().GetHashes()))
		digests = append(digests, digestOf(t, entry))
	}
	slices.Sort(took)
	f.p50, f.p99 = took[len(took)/2], took[len(took)*99/100]
	f.search = searched(t, p, digests)
	return f
}

// measured runs a command and returns how long it took and the most memory it
// had.
func measured(t *testing.T, p *process, args ...string) (time.Duration, int64) {
	t.Helper()
	cmd := p.command(args...)
	start := time.Now()
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return time.Since(start), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// offers reports whether the program has a command.
func offers(p *process, args ...string) bool {
	out, err := p.command(append(args, "--help")...).Output()
	return err == nil && strings.Contains(string(out), "countersign "+strings.Join(args, " "))
}

func digestOf(t *testing.T, entry *rekorpb.TransparencyLogEntry) string {
	t.Helper()
	var body struct {
		Spec struct {
			HashedRekordV002 struct {
				Data struct{ Digest []byte }
			}
		}
	}
	check(t, json.Unmarshal(entry.GetCanonicalizedBody(), &body))
	return fmt.Sprintf("sha256:%x", body.Spec.HashedRekordV002.Data.Digest)
}

// searched asks for entries by digest, once the index has caught up.
func searched(t *testing.T, p *process, digests []string) string {
	t.Helper()
	var took []time.Duration
	found := 0
	for _, digest := range digests {
		request, err := http.NewRequest(http.MethodGet, p.url+"/v1/log/entries?digest="+url.QueryEscape(digest), nil)
		check(t, err)
		request.Header.Set("Authorization", "Bearer "+p.token())
		began := time.Now()
		answer, err := http.DefaultClient.Do(request)
		check(t, err)
		var list struct{ Items []json.RawMessage }
		err = json.NewDecoder(answer.Body).Decode(&list)
		answer.Body.Close()
		if answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusMethodNotAllowed {
			return "not in this build"
		}
		check(t, err)
		took = append(took, time.Since(began))
		found += len(list.Items)
	}
	slices.Sort(took)
	return fmt.Sprintf("p50 %v p99 %v, %d of %d found", took[len(took)/2], took[len(took)*99/100], found, len(digests))
}
