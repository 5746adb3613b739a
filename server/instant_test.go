package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store/storetest"
)

func (h *house) wantVerdict(c *api.Client, image string, want policy.Verdict) api.VerifyResult {
	h.t.Helper()
	a, err := c.Verify(h.t.Context(), api.VerifyRequest{Images: []string{image}})
	h.must(err)
	if a.Verdict != want {
		h.t.Fatalf("%s, want %s: %+v", a.Verdict, want, a.Results[0])
	}
	return a.Results[0]
}

// What FAILED and is signed passes at the next question, and that costs the
// registry nothing: it may be gone.
func TestSignedIsWarm(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("app")
	h.wantVerdict(h.admin, image, policy.Failed)
	if !h.wantVerdict(h.admin, image, policy.Failed).Cached {
		t.Error("FAILED was not remembered")
	}
	_, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	h.must(h.registry.Close())
	if r := h.wantVerdict(h.admin, image, policy.Passed); r.Cached || r.Stale {
		t.Errorf("%+v", r)
	}
	metrics := string(h.ask("GET", "/metrics", h.secret, "").body)
	for _, want := range []string{`countersign_verdicts_total{from="memory"} 1`, `countersign_verdicts_total{from="work"} 2`, `countersign_verdicts_refused_total 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// Two replicas on one database: what is changed on one holds at the other's
// next question.
func TestReplicas(t *testing.T) {
	database := storetest.PostgresSchema(t, storetest.Postgres(t))
	h := open(t, func(c *daemon.Config) { c.Database = database })
	builder := h.furnish()
	other, err := daemon.Open(t.Context(), daemon.Config{
		DataDir: t.TempDir(), PublicURL: "http://replica.example.com", Database: database, CheckpointInterval: 100 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	})
	h.must(err)
	web := httptest.NewServer(other.Handler())
	t.Cleanup(func() {
		web.Close()
		if err := other.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	replica, err := api.NewClient(web.URL, h.secret)
	h.must(err)
	// The replica's own logs and keys are others: the policy names the key itself.
	pem, err := h.admin.PublicKey(t.Context(), "release")
	h.must(err)
	put := func(revision int64) int64 {
		p, err := h.admin.PutPolicy(t.Context(), "production", fmt.Appendf(nil, `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["%s/**"]}
  authorities: {release: {key: {pem: %q}, log: optional}}
  require: {signature: {by: release}}
`, h.registry.Host, pem), api.PutOptions{Revision: revision})
		h.must(err)
		return p.Revision
	}
	revision := put(1)
	image := h.push("app")
	for range 2 {
		h.wantVerdict(replica, image, policy.Failed)
	}
	_, _, err = builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	h.wantVerdict(replica, image, policy.Passed)
	if !h.wantVerdict(replica, image, policy.Passed).Cached {
		t.Error("PASSED was not remembered")
	}
	h.must(h.admin.Delete(t.Context(), "policies", "production", api.PutOptions{Revision: revision}))
	if r := h.wantVerdict(replica, image, policy.Failed); r.Reasons[0].Code != policy.NoPolicy {
		t.Errorf("%+v", r.Reasons)
	}
	put(0)
	h.wantVerdict(replica, image, policy.Passed)
	rule, err := h.admin.Registry(t.Context(), h.registry.Host)
	h.must(err)
	h.must(h.admin.Delete(t.Context(), "registries", h.registry.Host, api.PutOptions{Revision: rule.Revision}))
	if r := h.wantVerdict(replica, image, policy.Failed); r.Reasons[0].Code != policy.RegistryNotTrusted {
		t.Errorf("%+v", r.Reasons)
	}
}
