package verifier_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

const verifierURL = "https://countersign.example"

func named(c *verifier.Config) { c.PublicURL, c.Version = verifierURL, "1.2.3" }

// vsa is a summary as its readers see it.
type vsa struct {
	Verifier     struct{ Version map[string]string }
	TimeVerified time.Time
	ResourceURI  string
	Policy       struct {
		URI    string
		Digest map[string]string
	}
	InputAttestations []struct{ Digest map[string]string }
	VerifiedLevels    []string
}

// summarize makes the summary of an image that must pass, and checks what holds
// for every one.
func (w *world) summarize(image string) (vsa, verifier.Summary) {
	w.t.Helper()
	made, err := w.Summary(w.wantPassed(image))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := predicate.Check(predicate.VSAV1, made.Predicate); err != nil || made.Image != image {
		w.t.Errorf("%s: %v", made.Image, err)
	}
	var read vsa
	if err := json.Unmarshal(made.Predicate, &read); err != nil {
		w.t.Fatal(err)
	}
	return read, made
}

// TestSummaryNamesPolicies: one policy by its own digest, several as one set
// whose digest anybody can compute from the answer; those that do not enforce
// are not named.
func TestSummaryNamesPolicies(t *testing.T) {
	w := newWorld(t, named)
	image := w.signed("app")
	one, first := w.summarize(image)
	r := w.wantPassed(image)
	if one.Policy.URI != verifierURL+"/v1/policies/production" || "sha256:"+one.Policy.Digest["sha256"] != r.Policies[0].Digest {
		t.Errorf("%+v", one)
	}
	if one.Verifier.Version["countersign"] != "1.2.3" || one.ResourceURI != "oci://"+repository || !slices.Equal(one.VerifiedLevels, []string{"SLSA_BUILD_LEVEL_UNEVALUATED"}) {
		t.Errorf("%+v", one)
	}
	w.policies.put(t, strings.Replace(strings.Replace(releasePolicy, "production", "observed", 1), "enforce", "warn", 1))
	if again, second := w.summarize(image); again.Policy.URI != one.Policy.URI || second.Basis == first.Basis {
		t.Errorf("beside a policy that warns: %+v, same basis %v", again, second.Basis == first.Basis)
	}
	w.policies.put(t, strings.Replace(releasePolicy, "production", "base", 1))
	both, _ := w.summarize(image)
	digests := map[string]string{}
	for _, p := range w.wantPassed(image).Policies {
		digests[p.Name] = p.Digest
	}
	set := fmt.Sprintf(`[{"digest":%q,"name":"base"},{"digest":%q,"name":"production"}]`, digests["base"], digests["production"])
	if both.Policy.URI != verifierURL+"/v1/policies#base,production" || "sha256:"+both.Policy.Digest["sha256"] != attest.DigestOf([]byte(set)).String() {
		t.Errorf("%+v", both)
	}
}

// TestSummaryBasis: the basis is that of what is said and of the trust behind
// it, and not of the time.
func TestSummaryBasis(t *testing.T) {
	w := newWorld(t, named, func(c *verifier.Config) { c.CacheSize = -1 })
	image := w.signed("app")
	earlier, first := w.summarize(image)
	w.setNow(w.now.Load().Add(time.Minute))
	later, second := w.summarize(image)
	if first.Basis != second.Basis || !later.TimeVerified.After(earlier.TimeVerified) {
		t.Errorf("%v and %v", earlier.TimeVerified, later.TimeVerified)
	}
	if _, other := w.summarize(w.signed("other")); other.Basis == first.Basis {
		t.Error("two images have one basis")
	}
	w.keys.put(w.managed("another", testauthority.NewECDSA(t)))
	if _, changed := w.summarize(image); changed.Basis == first.Basis {
		t.Error("the keys changed and the basis did not")
	}
}

// TestSummaryInputs: all that the verdict rests on is named, or nothing: links
// of a layout are not told apart.
func TestSummaryInputs(t *testing.T) {
	w := newWorld(t, named)
	digest, image := w.image("app")
	bundle, legacy := w.authority.Bundle(digest, w.key, w.signedAt), w.authority.Legacy(digest, w.key, w.signedAt)
	w.attachBundle(digest, bundle.JSON())
	w.attachLegacy(digest, legacy)
	read, _ := w.summarize(image)
	var got []string
	for _, input := range read.InputAttestations {
		got = append(got, "sha256:"+input.Digest["sha256"])
	}
	want := []string{attest.DigestOf(bundle.JSON()).String(), attest.DigestOf(legacy.Payload).String()}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("inputs %v, want %v", got, want)
	}

	s := newSupply(t, named)
	digest, image = s.image("supplied")
	app := attest.DigestOf([]byte("app"))
	s.attachBundle(digest, s.authority.BundleOf(link("build", "", "app", app), s.build, s.signedAt).JSON())
	s.attachBundle(digest, s.authority.BundleOf(link("pack", app.Hex(), "image", digest), s.pack, s.signedAt).JSON())
	if read, _ := s.summarize(image); read.InputAttestations != nil {
		t.Errorf("a layout's inputs: %+v", read.InputAttestations)
	}
}

// TestNoSummary: FAILED, a pass that no policy enforces, and a verifier without
// a name have none.
func TestNoSummary(t *testing.T) {
	w := newWorld(t, named)
	image := w.signed("app")
	_, unsigned := w.image("unsigned")
	passed := w.wantPassed(image)
	excepted := passed
	excepted.Reasons = []policy.Reason{{Code: policy.Excepted}}
	for name, r := range map[string]verifier.Result{
		"failed": w.verify(unsigned).Results[0], "excepted": excepted, "nothing": {}, "made up": {Verdict: policy.Passed, Policies: passed.Policies},
	} {
		if made, err := w.Summary(r); !errors.Is(err, verifier.ErrNoSummary) {
			t.Errorf("%s: %+v, %v", name, made, err)
		}
	}
	for _, mode := range []string{"warn", "audit"} {
		w.policies.put(t, strings.Replace(releasePolicy, "enforce", mode, 1))
		for _, image := range []string{image, unsigned} {
			if made, err := w.Summary(w.wantPassed(image)); !errors.Is(err, verifier.ErrNoSummary) {
				t.Errorf("%s: %+v, %v", mode, made, err)
			}
		}
	}
	nameless := newWorld(t)
	if made, err := nameless.Summary(nameless.wantPassed(nameless.signed("app"))); !errors.Is(err, verifier.ErrNoSummary) {
		t.Errorf("nameless: %+v, %v", made, err)
	}
}

// summaryBy is a summary of a time, to be signed.
func (w *world) summaryBy(digest attest.Digest, at time.Time) []byte {
	return testauthority.Attested(digest, predicate.VSAV1, fmt.Sprintf(`{"verifier":{"id":%q},"timeVerified":%q,"resourceUri":"oci://%s",
"policy":{"uri":"https://p.example"},"verificationResult":"PASSED","verifiedLevels":["SLSA_BUILD_LEVEL_3"]}`, verifierURL, at.Format(time.RFC3339), repository))
}

// TestSummaryKeyIsForSummaries: policies may name the service's key of
// summaries; a signature or another attestation by it is none, whatever it was
// made to sign. Other keys of the service do not exist to a policy.
func TestSummaryKeyIsForSummaries(t *testing.T) {
	const wants = `{attestation: {predicateType: %s, by: second}}`
	w := attested(t, fmt.Sprintf(wants, "vsa"))
	key := testauthority.NewECDSA(t)
	own := w.managed("second", key)
	own.Purposes = []string{keys.PurposeVSA}
	w.keys.put(own)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.BundleOf(w.summaryBy(digest, w.signedAt), key, w.signedAt).JSON())
	w.wantPassed(image)

	other, strange := w.image("other")
	w.attachBundle(other, w.authority.Bundle(other, key, w.signedAt).JSON(),
		w.authority.BundleOf(testauthority.Attested(other, predicate.CosignCustom, `{}`), key, w.signedAt).JSON())
	for _, require := range []string{`{signature: {by: second}}`, fmt.Sprintf(wants, "custom")} {
		w.policies.put(t, requiring(require))
		w.wantFailed(strange, policy.PredicateTypeMismatch)
	}
	own.Purposes = []string{"log"}
	w.keys.put(own)
	w.wantFailed(strange, policy.PolicyError)
}

// TestSummaryOfSummary: what rests on a summary is as old as that, and says the
// level that was asked for.
func TestSummaryOfSummary(t *testing.T) {
	w := newWorld(t, named)
	w.keys.put(w.managed("second", testauthority.NewECDSA(t)))
	w.policies.put(t, requiring(`{attestation: {predicateType: vsa, by: release, vsa: {verifier: "`+verifierURL+`", levels: [SLSA_BUILD_LEVEL_2]}}}`))
	digest, image := w.image("app")
	verified := w.signedAt.Add(-48 * time.Hour)
	w.attachBundle(digest, w.authority.BundleOf(w.summaryBy(digest, verified), w.key, w.signedAt).JSON())
	read, _ := w.summarize(image)
	if !read.TimeVerified.Equal(verified) || !slices.Equal(read.VerifiedLevels, []string{"SLSA_BUILD_LEVEL_2"}) {
		t.Errorf("%+v, want %s", read, verified)
	}
}
