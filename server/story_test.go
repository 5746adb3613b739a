package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/server/api"
)

// TestSignAndVerify is the main job through the front door.
func TestSignAndVerify(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("one")
	ctx := t.Context()

	unsigned, err := h.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}})
	h.must(err)
	if unsigned.Verdict != "FAILED" || unsigned.Results[0].Reasons[0].Code != "no_signature" {
		t.Fatalf("unsigned image: %+v", unsigned)
	}
	made, replayed, err := builder.Sign(ctx, api.SignatureRequest{Image: image, Key: "release", Formats: []string{"bundle", "legacy"}}, api.SignOptions{IdempotencyKey: "one"})
	h.must(err)
	if replayed || made.Image != image || len(made.Signatures) != 2 || made.Signer.Key != "release" {
		t.Fatalf("signature: %+v", made)
	}
	again, replayed, err := builder.Sign(ctx, api.SignatureRequest{Image: image, Key: "release", Formats: []string{"legacy", "bundle"}}, api.SignOptions{IdempotencyKey: "one"})
	h.must(err)
	if !replayed || again.ID != made.ID {
		t.Errorf("the repeated call made another signature: %s and %s", made.ID, again.ID)
	}
	_, _, err = builder.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{IdempotencyKey: "one"})
	wantProblem(t, err, http.StatusUnprocessableEntity, "idempotency_key_reused")

	passed, status, err := h.admin.VerifyOne(ctx, image, map[string]string{"namespace": "shop"})
	h.must(err)
	if status != http.StatusOK || passed.Verdict != "PASSED" || len(passed.Results[0].Policies[0].Requirements[0].Evidence) == 0 {
		t.Fatalf("signed image: %d %+v", status, passed)
	}
	_, status, err = h.admin.VerifyOne(ctx, h.push("two"), nil)
	h.must(err)
	if status != http.StatusForbidden {
		t.Errorf("an unsigned image answers %d, want 403", status)
	}
	checkRecords(t, h, made)
}

func checkRecords(t *testing.T, h *house, made api.Signature) {
	t.Helper()
	ctx := t.Context()
	list, err := h.admin.Signatures(ctx, api.SignatureFilter{Digest: made.Digest})
	h.must(err)
	if len(list.Items) != 1 || list.Items[0].ID != made.ID || list.Items[0].Signatures[0].Bundle != nil {
		t.Errorf("list of signatures: %+v", list)
	}
	got, err := h.admin.Signature(ctx, made.ID)
	h.must(err)
	if len(got.Signatures[0].Bundle) == 0 {
		t.Error("the signature has no bundle")
	}
	artifact, err := h.admin.Artifact(ctx, made.Digest)
	h.must(err)
	if len(artifact.Signatures) != 2 || len(artifact.Decisions) == 0 {
		t.Errorf("artifact: %d signatures, %d decisions", len(artifact.Signatures), len(artifact.Decisions))
	}
	decisions, err := h.admin.Decisions(ctx, api.DecisionFilter{Verdict: "PASSED"})
	h.must(err)
	decision, err := h.admin.Decision(ctx, decisions.Items[0].ID)
	h.must(err)
	if decision.Verdict != "PASSED" || len(decision.Result) == 0 {
		t.Errorf("decision: %+v", decision)
	}
	entry, err := h.client("").LogEntry(ctx, made.Signatures[0].LogEntry.Index)
	h.must(err)
	if !json.Valid(entry) || !strings.Contains(string(entry), "inclusionProof") {
		t.Errorf("log entry: %s", entry)
	}
	checkJournal(t, h)
}

// checkJournal: every change of trust has a record that it was about to be
// made, and what was done has one too.
func checkJournal(t *testing.T, h *house) {
	t.Helper()
	journal, err := h.admin.Audit(t.Context(), api.ListOptions{Limit: 200})
	h.must(err)
	var seen []string
	for _, r := range journal.Items {
		seen = append(seen, r.Action+" "+r.Outcome)
	}
	for _, want := range []string{
		"token.create allowed", "token.create done", "registry.put allowed", "registry.put done", "key.create allowed",
		"grant.put allowed", "policy.put allowed", "signature.create allowed", "signature.create done",
	} {
		if !slices.Contains(seen, want) {
			t.Errorf("the journal has no %q", want)
		}
	}
}

func TestAsyncOperation(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	op, err := builder.StartSign(t.Context(), api.SignatureRequest{Image: h.push("async"), Key: "release"}, api.SignOptions{})
	h.must(err)
	done, err := builder.WaitOperation(t.Context(), op.ID, 20*time.Millisecond)
	h.must(err)
	if done.State != api.OperationDone || len(done.Result) == 0 {
		t.Fatalf("operation: %+v", done)
	}
	_, secret := h.as("watcher", "auditor")
	events := h.ask(http.MethodGet, "/v1/operations/"+op.ID+"/events", secret, "")
	if !strings.Contains(string(events.body), "event: operation\ndata: {") || events.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("events: %s", events.body)
	}
	other, _ := h.as("other", "signer")
	_, err = other.Operation(t.Context(), op.ID)
	wantProblem(t, err, http.StatusNotFound, "not_found")
}

func TestVerifyStream(t *testing.T) {
	h := open(t)
	h.furnish()
	images := []string{h.push("a"), h.push("b"), h.push("c")}
	var got []string
	err := h.admin.VerifyStream(t.Context(), api.VerifyRequest{Images: images}, func(r api.VerifyResult) error {
		got = append(got, r.Image)
		return nil
	})
	h.must(err)
	slices.Sort(got)
	slices.Sort(images)
	if !slices.Equal(got, images) {
		t.Errorf("streamed %v", got)
	}
	err = h.admin.VerifyStream(t.Context(), api.VerifyRequest{Images: images, Policy: "nowhere"}, func(api.VerifyResult) error { return nil })
	wantProblem(t, err, http.StatusNotFound, "policy_not_found")
}

// TestRefusals: bad input of issue 2, each with its code.
func TestRefusals(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("refused")
	missing := h.registry.Host + "/team/app@sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		name   string
		req    api.SignatureRequest
		status int
		code   string
	}{
		{"unknown key is not granted", api.SignatureRequest{Image: image, Key: "nothing"}, 403, "forbidden"},
		{"ungranted repository", api.SignatureRequest{Image: strings.Replace(image, "team/app", "team", 1), Key: "release"}, 403, "registry_not_trusted"},
		{"unlisted registry", api.SignatureRequest{Image: "evil.example/team/app:1", Key: "release"}, 403, "registry_not_trusted"},
		{"missing manifest", api.SignatureRequest{Image: missing, Key: "release"}, 404, "image_not_found"},
		{"no key", api.SignatureRequest{Image: image}, 422, "identity_required"},
		{"bad reference", api.SignatureRequest{Image: "not a reference", Key: "release"}, 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := builder.Sign(t.Context(), c.req, api.SignOptions{})
			wantProblem(t, err, c.status, c.code)
		})
	}
}
