package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/server/api"
)

// TestClusterInThePath: a webhook's URL may have no query, so the path names the
// cluster, for admission and for nothing else.
func TestClusterInThePath(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("good")
	_, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"namespace":"shop","operation":"CREATE","object":%s}}`, inPod(pod("", image)))
	for path, cluster := range map[string]string{
		"/clusters/prod-7/v1/admission/validate":                       "prod-7",
		"/clusters/prod-8/v1/admission/validate?timeout=5s&cluster=no": "prod-8",
	} {
		if got := h.ask("POST", path, h.secret, body); got.status != http.StatusOK || !strings.Contains(string(got.body), `"allowed":true`) {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		decisions := h.ask("GET", "/v1/decisions?limit=1", h.secret, "")
		if !strings.Contains(string(decisions.body), fmt.Sprintf(`"cluster":%q`, cluster)) {
			t.Errorf("%s: the decision does not name %s: %s", path, cluster, decisions.body)
		}
	}
	for _, path := range []string{
		"/clusters/prod/v1/verify", "/clusters/prod/v1/tokens", "/clusters//v1/admission/validate", "/clusters/prod",
		"/clusters/a/clusters/b/v1/admission/validate", "/clusters/a%2Fb/v1/admission/validate", "/clusters/prod/v1/admission/../tokens",
	} {
		if got := h.ask("POST", path, h.secret, body); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
