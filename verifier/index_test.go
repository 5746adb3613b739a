package verifier_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/verifier"
)

// index makes an index of images for platforms, and its pinned reference.
func (w *world) index(platforms ...string) (index attest.Digest, image string, children []attest.Digest) {
	var entries []string
	var parsed []registry.Child
	for i, platform := range platforms {
		child, _ := w.image(fmt.Sprintf("child %d for %s", i, platform))
		children = append(children, child)
		entries = append(entries, fmt.Sprintf(`{"digest":%q}`, child))
		parsed = append(parsed, registry.Child{Digest: child, Platform: platform})
	}
	index = w.registry.serve(fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[%s]}`, strings.Join(entries, ",")))
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	if w.registry.indexes == nil {
		w.registry.indexes = map[attest.Digest][]registry.Child{}
	}
	w.registry.indexes[index] = parsed
	return index, repository + "@" + index.String(), children
}

func (w *world) sign(digests ...attest.Digest) {
	for _, d := range digests {
		w.attachBundle(d, w.authority.Bundle(d, w.key, w.signedAt).JSON())
	}
}

// Row A8: whose signature counts for a child of an index is what the policy
// says, and the child asked for is one that the index's bytes name.
func TestA8IndexRules(t *testing.T) {
	const none, index, one, all = 0, 1, 2, 4 // what is signed: bits
	for _, tc := range []struct {
		rule     policy.IndexRule
		platform string
		signed   int
		want     policy.Code // empty: PASSED
	}{
		{"", "", index, ""},
		{"", "", all, policy.NoSignature},
		{"", "linux/amd64", index, policy.NoSignature},
		{"", "linux/amd64", one, ""},
		{policy.IndexItself, "", index, ""},
		{policy.IndexItself, "", all, policy.NoSignature},
		{policy.IndexItself, "linux/amd64", index, ""},
		{policy.IndexItself, "linux/amd64", all, policy.NoSignature},
		{policy.IndexChildren, "", all, ""},
		{policy.IndexChildren, "", index | one, policy.NoSignature},
		{policy.IndexChildren, "linux/amd64", one, ""},
		{policy.IndexChildren, "linux/arm64", index | one, policy.NoSignature},
		{policy.IndexBoth, "", index | all, ""},
		{policy.IndexBoth, "", all, policy.NoSignature},
		{policy.IndexBoth, "", index | one, policy.NoSignature},
		{policy.IndexBoth, "linux/amd64", index | one, ""},
		{policy.IndexBoth, "linux/amd64", index, policy.NoSignature},
		{policy.IndexBoth, "linux/amd64", one, policy.NoSignature},
		{policy.IndexBoth, "linux/amd64", none, policy.NoSignature},
		{policy.IndexItself, "windows/amd64", index, policy.ImageNotFound},
		{policy.IndexItself, "linux/arm", index, policy.AmbiguousManifest},
		{policy.IndexItself, "linux/arm/v6", index, ""},
	} {
		t.Run(fmt.Sprintf("%s %s %d", tc.rule, tc.platform, tc.signed), func(t *testing.T) {
			w := newWorld(t)
			if tc.rule != "" {
				w.policies.put(t, releasePolicy+"  index: {require: "+string(tc.rule)+"}\n")
			}
			root, image, children := w.index("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7")
			if tc.signed&index != 0 {
				w.sign(root)
			}
			if tc.signed&all != 0 {
				w.sign(children...)
			} else if tc.signed&one != 0 {
				w.sign(children[0])
			}
			answer, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Platform: tc.platform})
			if err != nil {
				t.Fatal(err)
			}
			r := answer.Results[0]
			if tc.want != "" {
				if r.Verdict != policy.Failed || r.Reasons[0].Code != tc.want {
					t.Errorf("%s %v", r.Verdict, r.Reasons)
				}
				return
			}
			if r.Verdict != policy.Passed {
				t.Fatalf("%s %v", r.Verdict, r.Reasons)
			}
			subject, at := root, map[string]int{"linux/amd64": 0, "linux/arm/v6": 2}
			if tc.platform != "" {
				subject = children[at[tc.platform]]
				if r.Index != root.String() || r.Platform != tc.platform {
					t.Errorf("index %s, platform %s", r.Index, r.Platform)
				}
			}
			if r.Digest != subject.String() || r.Pinned != repository+"@"+subject.String() {
				t.Errorf("the verdict is on %s, want %s", r.Pinned, subject)
			}
		})
	}
}

// Row A8: a child is believed to be one only under an index that names it, and an
// answer that is remembered for one platform is not another's (row J3).
func TestA8ChildOfAnotherIndex(t *testing.T) {
	w := newWorld(t)
	w.policies.put(t, releasePolicy+"  index: {require: index}\n")
	signed, image, children := w.index("linux/amd64", "linux/arm64")
	w.sign(signed)
	_, stranger, _ := w.index("linux/s390x")
	ask := func(image, platform string) verifier.Result {
		answer, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Platform: platform})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Results[0]
	}
	for range 2 {
		if r := ask(image, "linux/arm64"); r.Verdict != policy.Passed || r.Digest != children[1].String() { // control
			t.Errorf("%+v", r)
		}
		if r := ask(image, "linux/amd64"); r.Verdict != policy.Passed || r.Digest != children[0].String() {
			t.Errorf("%+v", r)
		}
	}
	if r := ask(stranger, "linux/s390x"); r.Verdict != policy.Failed {
		t.Errorf("a child of an unsigned index: %+v", r)
	}
	// Asked for alone, nothing says that it is a child.
	if r := ask(repository+"@"+children[0].String(), "linux/amd64"); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.NoSignature {
		t.Errorf("a child without its index: %+v", r)
	}
}

// An explanation lists what was considered and decides the same; it is neither
// remembered nor kept with the decision.
func TestExplain(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	other, _ := w.image("other")
	w.attachBundle(digest, w.authority.Bundle(other, w.key, w.signedAt).JSON(), []byte("{"), w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	plain := w.wantPassed(image)
	answer, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	r := answer.Results[0]
	if r.Verdict != plain.Verdict || r.Cached || r.Explanation == nil || len(r.Explanation.Evidence) != 3 || plain.Explanation != nil {
		t.Fatalf("%+v", r)
	}
	bound, broken, good := r.Explanation.Evidence[0], r.Explanation.Evidence[1], r.Explanation.Evidence[2]
	if j := bound.Judgements[0]; j.Accepted || j.Reason.Code != policy.SubjectMismatch || strings.Join(j.Checks, " ") != "read signer" || j.Policy != "production" || j.Authority != "release" {
		t.Errorf("%+v", bound)
	}
	if broken.Problem == nil || broken.Judgements[0].Accepted || len(broken.Judgements[0].Checks) != 0 {
		t.Errorf("%+v", broken)
	}
	if j := good.Judgements[0]; !j.Accepted || strings.Join(j.Checks, " ") != "read signer subject log time window" || good.Source != verifier.SourceRegistry || good.Format != "bundle" {
		t.Errorf("%+v", good)
	}
	if kept := w.archive.decisions[1]; strings.Contains(string(kept.Result), `"explain"`) {
		t.Errorf("decision %s", kept.Result)
	}
	if !w.wantPassed(image).Cached {
		t.Error("the verdict of before is forgotten")
	}
}

// Ahead tells when an exception or the age of an attestation ends a PASSED.
func TestAhead(t *testing.T) {
	w, m := exceptedWorld(t)
	digest, image := w.image("unsigned")
	end := w.now.Load().Add(48 * time.Hour)
	ask := func(before time.Time) verifier.Ahead {
		a, err := w.Ahead(t.Context(), verifier.Request{Images: []string{image}}, before)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask(end); !a.FailsAt.Equal(*w.now.Load()) || a.Reasons[0].Code != policy.NoSignature {
		t.Errorf("FAILED now: %+v", a)
	}
	m.put("inc-1", "production", digest.String(), end)
	if a := ask(end.Add(time.Hour)); !a.FailsAt.Equal(end) || a.Reasons[0].Code != policy.NoSignature || a.Result.Until == nil || !a.Result.Until.At.Equal(end) {
		t.Errorf("an exception that ends: %+v", a)
	}
	if a := ask(end); !a.FailsAt.IsZero() {
		t.Errorf("beyond what is asked for: %+v", a)
	}
	m.put("inc-2", "production", repository, end.Add(24*time.Hour))
	if a := ask(end.Add(time.Hour)); !a.FailsAt.IsZero() {
		t.Errorf("another exception goes on: %+v", a)
	}
	if len(w.archive.decisions) != 0 {
		t.Errorf("%d decisions were kept", len(w.archive.decisions))
	}
}

// A signature that is made on a child counts for the next question about its
// index: what was refused for the child's sake is not remembered, and what passed
// is.
func TestIndexMemory(t *testing.T) {
	w := newWorld(t)
	w.policies.put(t, releasePolicy+"  index: {require: both}\n")
	root, image, children := w.index("linux/amd64", "linux/arm64")
	w.sign(root, children[0])
	w.wantFailed(image, policy.NoSignature)
	w.keepBundle(children[1], attest.PredicateCosignSign, w.authority.Bundle(children[1], w.key, w.signedAt).JSON())
	if r := w.wantPassed(image); r.Cached {
		t.Error("the verdict on an index is from before its child was signed")
	}
	if r := w.wantPassed(image); !r.Cached {
		t.Error("a PASSED verdict on an index is not remembered")
	}
}
