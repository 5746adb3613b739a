//go:build faults

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
)

var kills = flag.Int("kills", 100, "how often the process is killed")

const callers = 20

// recorder is outside the process: what was acknowledged stays acknowledged.
type recorder struct {
	mu    sync.Mutex
	acked map[string][]byte // idempotency key → the first 201 body
	tried map[string]api.SignatureRequest
}

// TestKill kills the service at random moments under concurrent sign calls, in
// every fourth round while the log's key rotates, and then holds it to every
// answer it gave.
func TestKill(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	r := &recorder{acked: map[string][]byte{}, tried: map[string]api.SignatureRequest{}}
	var checkpoint []byte
	for round := range *kills {
		r.load(t, p, registry, round)
		p.start()
		checkpoint = grows(t, p, checkpoint)
	}
	acknowledged := len(r.acked)
	r.repeat(t, p)
	r.audit(t, p, registry)
	out, code := p.run("log", "audit", "--data-dir", p.dir)
	if code != 0 {
		t.Fatalf("log audit: exit %d\n%s", code, out)
	}
	t.Logf("%d kills, %d requests, %d of them acknowledged before a kill; %s", *kills, len(r.tried), acknowledged, out)
}

// load runs concurrent sign calls and kills the process somewhere among them.
func (r *recorder) load(t *testing.T, p *process, registry *localregistry.Registry, round int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d-%d", round, caller, n)
				d, err := registry.PushImage(ctx, "app", "", key)
				if err != nil {
					return
				}
				request := api.SignatureRequest{Image: registry.Image("app", d), Key: "release", Formats: []string{"bundle", "legacy"}}
				r.sign(ctx, p.admin, key, request)
			}
		})
	}
	if round%4 == 3 {
		// The kill falls before, into or after a rotation of the log.
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
			_, _ = p.admin.RotateAuthority(ctx, "log")
		})
	}
	time.Sleep(time.Duration(20+rand.IntN(900)) * time.Millisecond)
	p.kill()
	cancel()
	wg.Wait()
}

func (r *recorder) sign(ctx context.Context, client *api.Client, key string, request api.SignatureRequest) {
	r.mu.Lock()
	r.tried[key] = request
	r.mu.Unlock()
	signed, _, err := client.Sign(ctx, request, api.SignOptions{IdempotencyKey: key})
	if err != nil {
		return
	}
	body, err := json.Marshal(signed)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked[key] = body
}

// grows checks that the log only ever grew: the checkpoint seen before the
// kill is consistent with the one after it.
func grows(t *testing.T, p *process, before []byte) []byte {
	t.Helper()
	now, err := p.admin.Checkpoint(context.Background())
	check(t, err)
	if before == nil {
		return now
	}
	path := filepath.Join(t.TempDir(), "checkpoint")
	check(t, os.WriteFile(path, before, 0o600))
	out, code := p.run("log", "audit", "--url", p.url, "--trusted-root", filepath.Join(p.dir, "trusted_root.json"), "--from", path)
	if code != 0 {
		t.Fatalf("the log does not contain its own past: exit %d\n%s", code, out)
	}
	return now
}

// repeat sends every request again: what was acknowledged must be answered the
// same, what was not must now be finished.
func (r *recorder) repeat(t *testing.T, p *process) {
	t.Helper()
	for key, request := range r.tried {
		signed, _, err := p.admin.Sign(context.Background(), request, api.SignOptions{IdempotencyKey: key})
		if err != nil {
			t.Fatalf("repeating %s: %v", key, err)
		}
		body, err := json.Marshal(signed)
		check(t, err)
		if before, ok := r.acked[key]; ok && !bytes.Equal(before, body) {
			t.Fatalf("%s: another answer than before the kill:\n%s\n%s", key, before, body)
		}
		r.acked[key] = body
	}
}

// audit proves every acknowledged signature from outside: the log entry with a
// fresh proof under the published trusted root, and the referrer.
func (r *recorder) audit(t *testing.T, p *process, registry *localregistry.Registry) {
	t.Helper()
	ctx := context.Background()
	raw, err := p.admin.TrustedRoot(ctx)
	check(t, err)
	root, err := trust.ParseTrustedRoot(raw)
	check(t, err)
	seen := map[string]string{}
	for key, body := range r.acked {
		var signed api.Signature
		check(t, json.Unmarshal(body, &signed))
		if len(signed.Signatures) != 2 {
			t.Fatalf("%s: %d signatures, want 2", key, len(signed.Signatures))
		}
		for _, item := range signed.Signatures {
			index := item.LogEntry.Index
			place := fmt.Sprintf("%s/%d", item.LogEntry.LogID, index)
			if other, twice := seen[place]; twice {
				t.Fatalf("%s and %s share the log index %s", key, other, place)
			}
			seen[place] = key
			rawEntry, err := p.admin.LogEntryOf(ctx, item.LogEntry.LogID, index)
			check(t, err)
			entry := new(rekorpb.TransparencyLogEntry)
			check(t, protojson.Unmarshal(rawEntry, entry))
			log, known := root.Log(entry.GetLogId().GetKeyId())
			if !known {
				t.Fatalf("%s: entry %s is of no log of the trusted root", key, place)
			}
			if err := tlog.VerifyInclusion(entry, log.Origin, log.Public); err != nil {
				t.Fatalf("%s: entry %s: %v", key, place, err)
			}
		}
		attached(t, registry, signed)
	}
	for key := range r.tried {
		if _, ok := r.acked[key]; !ok {
			t.Fatalf("%s was tried and never answered", key)
		}
	}
}

// attached demands exactly one bundle referrer: a resumed operation must not
// leave two.
func attached(t *testing.T, registry *localregistry.Registry, signed api.Signature) {
	t.Helper()
	referrers, err := registry.Referrers(context.Background(), "app", digest.Digest(signed.Digest))
	check(t, err)
	if len(referrers) != 1 || string(referrers[0]) != signed.Signatures[0].Referrer {
		t.Fatalf("%s: referrers %v, want only %s", signed.ID, referrers, signed.Signatures[0].Referrer)
	}
}
