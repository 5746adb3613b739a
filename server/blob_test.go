package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// A bundle of version 0.2 of the public instance, by its root as a trusted root
// of others; and what must not pass (rows F4, F7, K3).
func TestVerifyBlob(t *testing.T) {
	h := open(t)
	client, _ := h.as("deployer", "verifier")
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join("..", "verifier", "testdata", "sigstore", name))
		h.must(err)
		return raw
	}
	_, err := h.admin.PutTrustRoot(t.Context(), "sigstore", read("public-good.json"), api.PutOptions{})
	h.must(err)
	const digest = "sha256:632579b5183d418ff3dc443994fd35e0e1a2a6ce89a1ee22fdca577f8e8bc9c3"
	authority := func(subject string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"identity":{"issuer":"https://github.com/login/oauth","subject":%q,"trustRoot":"sigstore"}}`, subject))
	}
	good := api.BlobRequest{Digest: digest, Bundle: read("a.txt.sigstore.json"), Authority: authority("a@tny.town")}
	ask := func(change func(*api.BlobRequest)) api.VerifyAnswer {
		t.Helper()
		request := good
		change(&request)
		answer, err := client.VerifyBlob(t.Context(), request)
		h.must(err)
		return answer
	}
	answer := ask(func(*api.BlobRequest) {})
	if answer.Verdict != policy.Passed || len(answer.Results) != 1 || answer.Results[0].Digest != digest || answer.Results[0].DecisionID == "" {
		t.Fatalf("%+v", answer)
	}
	kept, err := h.admin.Decision(t.Context(), answer.Results[0].DecisionID)
	h.must(err)
	if kept.Image != "blob:"+digest || kept.Verdict != "PASSED" {
		t.Errorf("decision %+v", kept)
	}
	for want, change := range map[policy.Code]func(*api.BlobRequest){
		policy.SubjectMismatch:    func(r *api.BlobRequest) { r.Digest = "sha256:" + strings.Repeat("0", 64) },
		policy.IdentityMismatch:   func(r *api.BlobRequest) { r.Authority = authority("b@tny.town") },
		policy.NoPolicy:           func(r *api.BlobRequest) { r.Authority = nil },
		policy.NoSignature:        func(r *api.BlobRequest) { r.Bundle = nil },
		policy.SignatureInvalid:   func(r *api.BlobRequest) { r.Bundle = json.RawMessage(`{}`) },
		policy.DigestMismatch:     func(r *api.BlobRequest) { r.Artifact = []byte("other") },
		policy.AttestationMissing: func(r *api.BlobRequest) { r.PredicateType = "slsaprovenance1" },
	} {
		if a := ask(change); a.Verdict != policy.Failed || a.Results[0].Reasons[0].Code != want {
			t.Errorf("%s: %+v", want, a.Results[0].Reasons)
		}
	}
	_, err = client.VerifyBlob(t.Context(), api.BlobRequest{Digest: digest, Authority: json.RawMessage(`{"key":{"ref":"https://evil.example"}}`)})
	if p := wantProblem(t, err, http.StatusBadRequest, "invalid_request"); p != nil && (len(p.Errors) != 1 || p.Errors[0].Location != "body.authority.key.ref") {
		t.Errorf("errors %+v", p.Errors)
	}
}
