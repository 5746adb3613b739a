package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	vsapb "github.com/in-toto/attestation/go/predicates/vsa/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// summaryKey is the service's own.
const summaryKey = "countersign-vsa"

// asked asks for summaries of images.
func (h *house) asked(c *api.Client, attach bool, images ...string) api.VerifyAnswer {
	h.t.Helper()
	a, err := c.Verify(h.t.Context(), api.VerifyRequest{Images: images, VSA: true, VSAAttach: attach})
	h.must(err)
	return a
}

// signedImage pushes an image and signs it with the key release.
func (h *house) signedImage(builder *api.Client, content string) string {
	h.t.Helper()
	image := h.push(content)
	_, _, err := builder.Sign(h.t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	return image
}

// summaryIn reads a predicate as the in-toto library does.
func summaryIn(t *testing.T, bundle []byte) *vsapb.VerificationSummary {
	t.Helper()
	statement := statementIn(t, bundle)
	if statement.PredicateType != predicate.VSAV1 || len(statement.Subjects) != 1 {
		t.Fatalf("%+v", statement)
	}
	out := &vsapb.VerificationSummary{}
	if err := protojson.Unmarshal(statement.Predicate, out); err != nil {
		t.Fatalf("the in-toto library refuses it: %v", err)
	}
	return out
}

// TestSummary: a PASSED image has a signed and logged summary that says what
// was decided; asking again gives the same one and nothing more in the log;
// FAILED and unasked ones have none.
func TestSummary(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	asker, _ := h.as("gate", "verifier")
	image, unsigned := h.signedImage(builder, "summarised"), h.push("unsigned")
	answer := h.asked(asker, false, image, unsigned)
	passed, failed := answer.Results[0], answer.Results[1]
	if passed.VSA == nil || passed.VSAProblem != nil || failed.Verdict != policy.Failed || failed.VSA != nil || failed.VSAProblem != nil {
		t.Fatalf("%+v\n%+v", passed, failed)
	}
	vsa := summaryIn(t, passed.VSA.Bundle)
	subject := statementIn(t, passed.VSA.Bundle).Subjects[0]
	p := passed.Policies[0]
	evidence := p.Requirements[0].Evidence[0]
	for name, same := range map[string]bool{
		"subject":  "sha256:"+subject.Digest["sha256"] == passed.Digest && subject.Name == h.registry.Host+"/team/app",
		"verifier": vsa.GetVerifier().GetId() == h.url,
		"resource": vsa.GetResourceUri() == "oci://"+h.registry.Host+"/team/app",
		"policy":   vsa.GetPolicy().GetUri() == h.url+"/v1/policies/production" && "sha256:"+vsa.GetPolicy().GetDigest()["sha256"] == p.Digest,
		"inputs":   len(vsa.GetInputAttestations()) == 1 && "sha256:"+vsa.GetInputAttestations()[0].GetDigest()["sha256"] == evidence.Attachment,
		"result":   vsa.GetVerificationResult() == "PASSED",
		"levels":   slices.Equal(vsa.GetVerifiedLevels(), []string{"SLSA_BUILD_LEVEL_UNEVALUATED"}),
		"signer":   passed.VSA.Signer.Key == summaryKey,
		"place":    passed.VSA.Referrer == "" && passed.VSA.LogEntry.Checkpoint != "",
	} {
		if !same {
			t.Errorf("%s: %+v %+v", name, vsa, passed.VSA)
		}
	}
	again := h.asked(asker, false, image).Results[0]
	if again.VSA == nil || !again.VSA.Reused || again.VSA.ID != passed.VSA.ID || again.VSA.LogEntry.Index != passed.VSA.LogEntry.Index {
		t.Errorf("again %+v", again.VSA)
	}
	if plain, err := asker.Verify(t.Context(), api.VerifyRequest{Images: []string{image}}); err != nil || plain.Results[0].VSA != nil {
		t.Errorf("unasked: %+v, %v", plain, err)
	}
	h.checkJournal(passed)
}

// checkJournal wants the decision in the journal before the summary's end, and
// the attestation among those of the digest.
func (h *house) checkJournal(r api.VerifyResult) {
	h.t.Helper()
	l, err := h.admin.Audit(h.t.Context(), api.ListOptions{})
	h.must(err)
	var outcomes []string
	for _, record := range l.Items {
		if record.Action == "summary.create" {
			outcomes = append(outcomes, record.Outcome)
			if record.Detail["verdict"] != r.DecisionID || record.Detail["operation"] != r.VSA.ID {
				h.t.Errorf("record %+v", record)
			}
		}
	}
	if !slices.Equal(outcomes, []string{"done", "allowed"}) {
		h.t.Errorf("journalled %v", outcomes)
	}
	kept, err := h.admin.Attestations(h.t.Context(), api.AttestationFilter{Digest: r.Digest, PredicateType: "vsa", Key: summaryKey})
	if err != nil || len(kept.Items) != 1 || kept.Items[0].ID != r.VSA.ID {
		h.t.Errorf("%+v, %v", kept, err)
	}
}

// TestSummaryRefused: what is asked for wrongly is refused before anything is
// judged.
func TestSummaryRefused(t *testing.T) {
	h := open(t, func(c *daemon.Config) { c.AnonymousVerify = true })
	h.furnish()
	image := h.push("refused")
	many := make([]string, limits.Summaries+1)
	for i := range many {
		many[i] = image
	}
	_, err := h.admin.Verify(t.Context(), api.VerifyRequest{Images: many, VSA: true})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = h.admin.Verify(t.Context(), api.VerifyRequest{Images: []string{image}, VSAAttach: true})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = h.client("").Verify(t.Context(), api.VerifyRequest{Images: []string{image}, VSA: true})
	wantProblem(t, err, http.StatusUnauthorized, "unauthenticated")
	if a, err := h.client("").Verify(t.Context(), api.VerifyRequest{Images: []string{image}}); err != nil || a.Verdict != policy.Failed {
		t.Errorf("the control: %+v, %v", a, err)
	}
}

// TestSummaryOfNothing: an image that only policies in mode warn or audit let
// pass has no summary; its verdict stands.
func TestSummaryOfNothing(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.signedImage(builder, "app")
	p, err := h.admin.Policy(t.Context(), "production")
	h.must(err)
	for _, mode := range []string{"warn", "audit"} {
		document := strings.Replace(strings.ReplaceAll(releasePolicy, "%s", h.registry.Host), "spec:", "spec:\n  mode: "+mode, 1)
		p, err = h.admin.PutPolicy(t.Context(), "production", []byte(document), api.PutOptions{Revision: p.Revision})
		h.must(err)
		for _, image := range []string{image, h.push("unsigned " + mode)} {
			r := h.asked(h.admin, true, image).Results[0]
			if r.Verdict != policy.Passed || r.VSA != nil || r.VSAProblem == nil || r.VSAProblem.Code != "summary_not_applicable" {
				t.Errorf("%s: %+v", mode, r)
			}
		}
	}
}

// TestSummaryKeyForgesNothing: no grant lets a caller sign with the key of
// summaries, whoever it is and whatever it says; its public half is to be had,
// and it is rotated as any key. Row E9: what the service vouches for is never
// taken from a caller.
func TestSummaryKeyForgesNothing(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.signedImage(builder, "app")
	_, err := h.admin.PutGrant(t.Context(), "everything", api.GrantRequest{
		Issuer: "local", Subject: "*", Repositories: []string{h.registry.Host + "/**"}, Keys: []string{"*"},
		Actions: []string{"sign", "attest", "provenance"}, PredicateTypes: []string{"https://slsa.dev/**"},
	}, api.PutOptions{})
	h.must(err)
	forged := json.RawMessage(fmt.Sprintf(`{"verifier":{"id":%q},"resourceUri":"oci://%s/team/app","policy":{"uri":"https://p.example/p"},
"verificationResult":"PASSED","verifiedLevels":["SLSA_BUILD_LEVEL_3"]}`, h.url, h.registry.Host))
	for _, key := range []string{summaryKey, "countersign-log", "nobody"} {
		for _, c := range []*api.Client{h.admin, builder} {
			_, _, err := c.Sign(t.Context(), api.SignatureRequest{Image: image, Key: key}, api.SignOptions{})
			wantProblem(t, err, http.StatusNotFound, "key_not_found")
			_, _, err = c.Attest(t.Context(), api.AttestationRequest{Image: image, Key: key, PredicateType: "vsa", Predicate: forged}, api.SignOptions{})
			wantProblem(t, err, http.StatusNotFound, "key_not_found")
		}
	}
	_, _, err = h.buildOf(image, summaryKey)
	wantProblem(t, err, http.StatusNotFound, "key_not_found")
	if _, _, err := h.buildOf(image, "release"); err != nil {
		t.Errorf("the control: %v", err)
	}
	if _, _, err := builder.Attest(t.Context(), api.AttestationRequest{Image: image, Key: "release", PredicateType: "vsa", Predicate: forged}, api.SignOptions{}); err != nil {
		t.Errorf("the control: %v", err)
	}
	h.checkSummaryKey(builder, image)
}

// buildOf has a job's provenance of an image signed with a key.
func (h *house) buildOf(image, key string) (a api.Attestation, replayed bool, err error) {
	h.t.Helper()
	if h.issuer == nil {
		h.issuer = h.believe("github", "github")
		_, err := h.admin.PutGrant(h.t.Context(), "builds", api.GrantRequest{
			Issuer: h.issuer.URL, Subject: "repo:acme/app:ref:refs/heads/main", Repositories: []string{h.registry.Host + "/**"},
			Keys: []string{"*"}, Actions: []string{"provenance"},
		}, api.PutOptions{})
		h.must(err)
	}
	return h.client(h.issuer.GitHub(nil)).Provenance(h.t.Context(), api.ProvenanceRequest{Image: image, Key: key}, api.SignOptions{})
}

func (h *house) checkSummaryKey(reader *api.Client, image string) {
	h.t.Helper()
	before, err := reader.Key(h.t.Context(), summaryKey)
	if err != nil || !slices.Equal(before.Purposes, []string{"vsa"}) || !strings.HasPrefix(before.Versions[0].PublicKey, "-----BEGIN PUBLIC KEY") {
		h.t.Fatalf("%+v, %v", before, err)
	}
	first := h.asked(h.admin, false, image).Results[0].VSA
	if _, err := h.admin.RotateKey(h.t.Context(), summaryKey, api.RotateRequest{}); err != nil {
		h.t.Fatal(err)
	}
	second := h.asked(h.admin, false, image).Results[0].VSA
	if first == nil || second == nil || second.Reused || second.Signer.KeyID == first.Signer.KeyID {
		h.t.Errorf("%+v\n%+v", first, second)
	}
	_, err = h.admin.KeyAction(h.t.Context(), summaryKey, "suspend")
	h.must(err)
	r := h.asked(h.admin, false, image).Results[0]
	if r.Verdict != policy.Passed || r.VSA != nil || r.VSAProblem == nil || r.VSAProblem.Code != "key_not_active" {
		h.t.Errorf("with its key suspended: %+v", r)
	}
}

// TestSummaryStream: summaries come with their lines, also of many images, and
// concurrent questions about one image share one.
func TestSummaryStream(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	var images []string
	for i := range 2 * limits.SummaryParallel {
		images = append(images, h.signedImage(builder, fmt.Sprint("image ", i)))
	}
	images = append(images, h.push("unsigned"))
	var mu sync.Mutex
	found := map[string]string{}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			err := h.admin.VerifyStream(t.Context(), api.VerifyRequest{Images: images, VSA: true}, func(r api.VerifyResult) error {
				mu.Lock()
				defer mu.Unlock()
				if (r.VSA != nil) != (r.Verdict == policy.Passed) {
					t.Errorf("%+v", r)
				}
				if r.VSA != nil && found[r.Digest] != "" && found[r.Digest] != r.VSA.ID {
					t.Errorf("%s has two summaries", r.Image)
				}
				if r.VSA != nil {
					found[r.Digest] = r.VSA.ID
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(found) != len(images)-1 {
		t.Errorf("%d summaries of %d images", len(found), len(images))
	}
}
