package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// TestSteering: what an exception lets pass is foreseen to end with it, a draft
// is held against what was decided, an explanation tells of the evidence, and
// none of the questions is recorded.
func TestSteering(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	ctx := t.Context()
	signed, unsigned := h.signedImage(builder, "signed"), h.push("unsigned")
	_, digest, _ := strings.Cut(unsigned, "@")
	e := h.except("inc-1", digest)
	for range 3 {
		a, err := h.admin.Verify(ctx, api.VerifyRequest{Images: []string{signed, unsigned}})
		if h.must(err); a.Verdict != policy.Passed {
			t.Fatalf("%+v", a)
		}
	}

	f, err := h.admin.Forecast(ctx, "2h", "1h", 0)
	h.must(err)
	if f.Decisions != 6 || f.Images != 2 || f.Truncated || len(f.Items) != 1 {
		t.Fatalf("%+v", f)
	}
	if i := f.Items[0]; i.Pinned != unsigned || !i.At.Equal(e.ExpiresAt) || i.Reasons[0].Code != policy.NoSignature || i.Basis != "judged" {
		t.Errorf("%+v", i)
	}
	near, err := h.admin.Forecast(ctx, "30m", "", 0)
	if h.must(err); len(near.Items) != 0 {
		t.Errorf("within half an hour: %+v", near.Items)
	}

	// Another key's signature is not there: the draft fails what passes now.
	_, err = h.admin.CreateKey(ctx, api.KeyRequest{Name: "other"})
	h.must(err)
	draft, err := json.Marshal(strings.NewReplacer("%s", h.registry.Host, "name: release", "name: other").Replace(releasePolicy))
	h.must(err)
	past, err := h.admin.TestPolicy(ctx, "production", api.PolicyTestRequest{Policy: draft, DecisionsSince: "1h"})
	h.must(err)
	if past.Decisions != 6 || past.Images != 2 || past.Counts != (api.PolicyTestCounts{Same: 3, NewlyFailed: 3}) || len(past.Items) != 1 {
		t.Fatalf("%+v", past)
	}
	if i := past.Items[0]; i.Pinned != signed || i.Before != policy.Passed || i.After != policy.Failed || i.Draft != policy.Failed || i.Decisions != 3 || i.Reasons[0].Code != policy.UntrustedKey {
		t.Errorf("%+v", i)
	}
	same, err := h.admin.TestPolicy(ctx, "production", api.PolicyTestRequest{DecisionsSince: "1h"}) // control: the stored one
	if h.must(err); same.Counts != (api.PolicyTestCounts{Same: 6}) || len(same.Items) != 0 {
		t.Errorf("%+v", same)
	}
	now, err := h.admin.TestPolicy(ctx, "production", api.PolicyTestRequest{Policy: draft, Images: []string{signed}})
	if h.must(err); len(now.Items) != 1 || now.Items[0].Before != policy.Passed || now.Items[0].After != policy.Failed {
		t.Errorf("%+v", now)
	}
	for _, bad := range []api.PolicyTestRequest{{}, {Images: []string{signed}, DecisionsSince: "1h"}, {DecisionsSince: "soon"}, {DecisionsSince: "-1h"}, {Images: []string{signed}, Policy: json.RawMessage(`"kind: x"`)}} {
		_, err := h.admin.TestPolicy(ctx, "production", bad)
		wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	}

	d, err := h.admin.Decisions(ctx, api.DecisionFilter{})
	if h.must(err); len(d.Items) != 6 {
		t.Errorf("%d decisions, want 6: asking is not deciding", len(d.Items))
	}
	x, err := h.admin.Explain(ctx, api.VerifyRequest{Images: []string{signed}})
	h.must(err)
	if r := x.Results[0]; r.Explain == nil || len(r.Explain.Evidence) != 1 || !r.Explain.Evidence[0].Judgements[0].Accepted || r.Explain.Evidence[0].Source != "archive" {
		t.Errorf("%+v", r.Explain)
	}
}

// TestImportOverTheAPI: the policies and a report of every field; nothing is
// stored, and what cannot be read is a problem.
func TestImportOverTheAPI(t *testing.T) {
	h := open(t)
	const foreign = `apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: keyed}
spec:
  images: [{glob: "r.example/team/*"}]
  authorities:
  - key: {data: "PEM"}
`
	got, err := h.admin.ImportPolicies(t.Context(), "clusterimagepolicy", []byte(foreign))
	if h.must(err); len(got.Report) == 0 || !got.Refused || len(got.Policies) != 0 {
		t.Errorf("a key that is none: %+v", got)
	}
	_, err = h.admin.ImportPolicies(t.Context(), "clusterimagepolicy", []byte("a: [")) // row F4
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = h.admin.ImportPolicies(t.Context(), "opa", []byte(foreign))
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	got, err = h.admin.ImportPolicies(t.Context(), "policyjson", []byte(`{"default":[{"type":"reject"}]}`)) // control
	if h.must(err); len(got.Report) == 0 || got.Refused {
		t.Errorf("%+v", got)
	}
	stored, err := h.admin.Policies(t.Context(), api.ListOptions{})
	if h.must(err); len(stored.Items) != 0 {
		t.Errorf("stored: %+v", stored.Items)
	}
	gate, _ := h.as("gate", "verifier")
	_, err = gate.ImportPolicies(t.Context(), "policyjson", []byte(`{"default":[{"type":"reject"}]}`))
	wantProblem(t, err, http.StatusForbidden, "forbidden")
}
