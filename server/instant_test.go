package server_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
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
