package verifier_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/verifier"
)

func (w *world) signed(content string) string {
	w.t.Helper()
	digest, image := w.image(content)
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	return image
}

func TestPassedAnswer(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	draft := w.authority.Bundle(digest, w.key, w.signedAt)
	w.attachBundle(digest, draft.JSON())
	index := draft.Entries[0].LogIndex
	want := verifier.Answer{
		Verdict: policy.Passed,
		Results: []verifier.Result{{
			Image: image, Pinned: image, Digest: digest.String(), Verdict: policy.Passed,
			Reasons: []policy.Reason{},
			Policies: []verifier.PolicyResult{{
				Name: "production", Revision: 1, Mode: policy.Enforce, Verdict: policy.Passed,
				Requirements: []policy.RequirementResult{{
					Requirement: "signature by release", Verdict: policy.Passed,
					Evidence: []policy.Evidence{{
						Format: "bundle", Digest: digest.String(), Authority: "release",
						Signer: testauthority.KeyID(t, w.key.Public()), LogIndex: &index, LogID: hex.EncodeToString(w.authority.LogID()),
						SignedAt: "2026-03-01T12:00:00Z", PredicateType: testauthority.SignPredicateType,
					}},
				}},
			}},
			DecisionID: "decision-1",
		}},
		Warnings: []string{},
	}
	got := w.verify(image)
	attached := &got.Results[0].Policies[0].Requirements[0].Evidence[0].Attachment
	if *attached != attest.DigestOf(draft.JSON()).String() || got.Results[0].Policies[0].Digest == "" || got.Results[0].Grounds.At.IsZero() {
		t.Errorf("grounds %+v", got.Results[0])
	}
	*attached, got.Results[0].Policies[0].Digest, got.Results[0].Grounds = "", "", verifier.Grounds{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Law 6: each answer has its own record, written before it, cached or not; a
// journal that cannot be written refuses the answer.
func TestDecisionsAreJournalled(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	for want := 1; want <= 3; want++ {
		r := w.wantPassed(image)
		if got := w.archive.count(); got != want {
			t.Fatalf("%d decisions after %d answers", got, want)
		}
		d := w.archive.decisions[want-1]
		if d.ID != r.DecisionID || d.Verdict != "PASSED" || d.Caller != "local test" || d.Repository != repository || d.Pinned != image {
			t.Errorf("decision %+v", d)
		}
		r.Grounds = verifier.Grounds{} // no decision keeps them
		var kept verifier.Result
		if err := json.Unmarshal(d.Result, &kept); err != nil || !cmp.Equal(kept, r) {
			t.Errorf("kept result differs: %v\n%s", err, cmp.Diff(kept, r))
		}
	}
	if _, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, DryRun: true}); err != nil || w.archive.count() != 3 {
		t.Errorf("dry run: %v, %d decisions", err, w.archive.count())
	}
	w.archive.broken.Store(true)
	if _, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}}); !errors.Is(err, verifier.ErrJournal) {
		t.Errorf("error %v, want ErrJournal", err)
	}
	err := w.Stream(t.Context(), verifier.Request{Images: []string{image}}, func(verifier.Result) error {
		t.Error("a result was streamed without a record")
		return nil
	})
	if !errors.Is(err, verifier.ErrJournal) {
		t.Errorf("error %v, want ErrJournal", err)
	}
}

func TestBadQuestions(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	cases := map[string]struct {
		request verifier.Request
		want    error
	}{
		"no image":          {verifier.Request{}, verifier.ErrRequest},
		"too many images":   {verifier.Request{Images: slices.Repeat([]string{image}, limits.Images+1)}, verifier.ErrRequest},
		"negative timeout":  {verifier.Request{Images: []string{image}, Timeout: -1}, verifier.ErrRequest},
		"timeout too long":  {verifier.Request{Images: []string{image}, Timeout: limits.VerifyTimeoutMax + 1}, verifier.ErrRequest},
		"no such policy":    {verifier.Request{Images: []string{image}, Policy: "nope"}, verifier.ErrPolicyNotFound},
		"as many as may be": {verifier.Request{Images: slices.Repeat([]string{image}, limits.Images)}, nil},
		"named policy":      {verifier.Request{Images: []string{image}, Policy: "production"}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			answer, err := w.Verify(t.Context(), c.request)
			if !errors.Is(err, c.want) || (err == nil && answer.Verdict != policy.Passed) {
				t.Errorf("%v, %v; want %v", answer.Verdict, err, c.want)
			}
		})
	}
	for _, malformed := range []string{"", "UPPER/case", "a@sha256:zz", "registry.example.com/team/app@sha512:00", "registry.example.com/../x"} {
		w.wantFailed(malformed, policy.ImageNotFound)
	}
	// F7: a named policy does not stretch to images it does not match.
	r, err := w.Verify(t.Context(), verifier.Request{Images: []string{"other.example.com/team/app" + image[len(repository):]}, Policy: "production"})
	if err != nil || r.Verdict != policy.Failed || r.Results[0].Reasons[0].Code != policy.NoPolicy {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestModes(t *testing.T) {
	const strict = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: strict}
spec:
  match: {images: ["registry.example.com/**"], context: {cluster: ["prod-*"]}}
  mode: %s
  authorities: {absent: {key: {name: absent}}}
  require: {signature: {by: absent}}
`
	w := newWorld(t)
	image := w.signed("app")
	ask := func(cluster string) verifier.Result {
		a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Context: map[string]string{"cluster": cluster}})
		if err != nil {
			t.Fatal(err)
		}
		return a.Results[0]
	}
	for mode, want := range map[policy.Mode]policy.Verdict{policy.Enforce: policy.Failed, policy.Warn: policy.Passed, policy.Audit: policy.Passed} {
		w.policies.put(t, fmt.Sprintf(strict, mode))
		r := ask("prod-1")
		if r.Verdict != want || len(r.Policies) != 2 || r.Policies[1].Verdict != policy.Failed {
			t.Errorf("%s: %+v", mode, r)
		}
		if (mode == policy.Warn) != (len(r.Warnings) > 0) {
			t.Errorf("%s: warnings %q", mode, r.Warnings)
		}
		if mode == policy.Enforce && r.Reasons[0].Code != policy.PolicyError {
			t.Errorf("a policy with a missing key failed with %v", r.Reasons)
		}
		if r := ask("dev"); r.Verdict != policy.Passed || len(r.Policies) != 1 {
			t.Errorf("%s, other context: %+v", mode, r)
		}
	}
}

// The archive is asked first; the registry's attachments only when that does
// not suffice.
func TestArchiveFirst(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatBundle, Bundle: w.authority.Bundle(digest, w.key, w.signedAt).JSON()})
	w.wantPassed(image)
	if n := w.registry.reads.Load(); n != 0 {
		t.Errorf("%d reads of attachments, want none", n)
	}
	digest, image = w.image("legacy")
	legacy := w.authority.Legacy(digest, w.key, w.signedAt)
	w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatLegacy, Legacy: &archive.Legacy{Payload: legacy.Payload, Annotations: legacy.Annotations()}})
	w.wantPassed(image)

	digest, image = w.image("only bad in the archive")
	w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatBundle, Bundle: w.authority.Bundle(digest, testauthority.NewECDSA(t), w.signedAt).JSON()})
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)
	if n := w.registry.reads.Load(); n != 1 {
		t.Errorf("%d reads of attachments, want one", n)
	}
}

// A verdict is remembered under all it depends on (J3), FAILED only when asked
// for, and what could not be decided not at all.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	if r := w.wantPassed(image); r.Cached {
		t.Error("the first answer is cached")
	}
	before := w.registry.resolves.Load()
	if r := w.wantPassed(image); !r.Cached {
		t.Error("the second answer is not cached")
	}
	if w.registry.resolves.Load() != before {
		t.Error("a remembered digest cost the registry a round trip")
	}
	w.setNow(w.now.Load().Add(61 * time.Second))
	if r := w.wantPassed(image); r.Cached {
		t.Error("a verdict outlived its time")
	}

	t.Run("policy changes", func(t *testing.T) {
		w.policies.put(t, pemPolicy(t, testauthority.NewECDSA(t), ""))
		w.wantFailed(image, policy.UntrustedKey)
		w.policies.put(t, releasePolicy)
		if r := w.wantPassed(image); r.Cached {
			t.Error("a verdict of an older revision was used")
		}
	})
	t.Run("another repository", func(t *testing.T) { // J3: a policy may cover one and not the other
		elsewhere := "other.example.com/x/y" + image[len(repository):]
		w.wantFailed(elsewhere, policy.NoPolicy)
	})
	t.Run("failed is asked again", func(t *testing.T) {
		digest, unsigned := w.image("unsigned")
		w.wantFailed(unsigned, policy.NoSignature)
		if r := w.wantFailed(unsigned, policy.NoSignature); r.Cached {
			t.Error("FAILED was remembered")
		}
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.wantPassed(unsigned)
	})
	t.Run("failed is brief when so configured", func(t *testing.T) {
		w := newWorld(t, func(c *verifier.Config) { c.FailedTTL = 3 * time.Second })
		digest, unsigned := w.image("unsigned")
		w.wantFailed(unsigned, policy.NoSignature)
		if r := w.wantFailed(unsigned, policy.NoSignature); !r.Cached {
			t.Error("FAILED was not remembered")
		}
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.setNow(w.now.Load().Add(4 * time.Second))
		w.wantPassed(unsigned)
	})
	t.Run("errors are not remembered", func(t *testing.T) {
		digest, flaky := w.image("flaky")
		w.registry.beforeRead = func(context.Context, registry.Reference) error { return registry.ErrUnavailable }
		w.wantFailed(flaky, policy.RegistryUnavailable)
		w.registry.beforeRead = nil
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.wantPassed(flaky)
	})
	t.Run("unreadable attachment", func(t *testing.T) {
		digest, flaky := w.image("flaky attachment")
		w.registry.change(digest, func(f *registry.Found) { f.Problems = []registry.Problem{{Err: registry.ErrUnavailable}} })
		w.wantFailed(flaky, policy.RegistryUnavailable)
		w.registry.detach(digest)
		if r := w.wantFailed(flaky, policy.NoSignature); r.Cached {
			t.Error("an undecided verdict was remembered")
		}
	})
	t.Run("tag", func(t *testing.T) {
		digest, _ := w.image("tagged")
		w.registry.tag("1.4", digest)
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		before := w.registry.resolves.Load()
		w.wantPassed(repository + ":1.4")
		if r := w.wantPassed(repository + ":1.4"); !r.Cached {
			t.Error("the digest's verdict was not used for its tag")
		}
		if n := w.registry.resolves.Load() - before; n != 2 {
			t.Errorf("a tag asked twice was resolved %d times, want 2", n)
		}
	})
	t.Run("policy asked for", func(t *testing.T) {
		image := w.signed("asked for")
		w.policies.put(t, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: stricter}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities: {absent: {key: {name: absent}}}
  require: {signature: {by: absent}}
`)
		ask := func(name string) policy.Verdict {
			a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Policy: name})
			if err != nil {
				t.Fatal(err)
			}
			return a.Verdict
		}
		if ask("production") != policy.Passed || ask("") != policy.Failed || ask("stricter") != policy.Failed {
			t.Error("the verdict of one policy was used for another question")
		}
	})
	t.Run("unlisted registry", func(t *testing.T) {
		w.wantFailed("evil.test/team/app"+image[len(repository):], policy.RegistryNotTrusted)
	})
}

// 1,000 concurrent questions about one cold image are one verification.
func TestColdQuestionsShareOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		image := w.signed("app")
		w.registry.before = func(context.Context, registry.Reference) error {
			time.Sleep(time.Second)
			return nil
		}
		var done sync.WaitGroup
		var passed atomic.Int64
		for range 1000 {
			done.Go(func() {
				a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}})
				if err == nil && a.Verdict == policy.Passed {
					passed.Add(1)
				}
			})
		}
		done.Wait()
		if passed.Load() != 1000 || w.registry.resolves.Load() != 1 || w.registry.reads.Load() != 1 {
			t.Errorf("%d passed, %d resolves, %d reads of attachments; want 1000, 1, 1",
				passed.Load(), w.registry.resolves.Load(), w.registry.reads.Load())
		}
		if w.archive.count() != 1000 {
			t.Errorf("%d decisions, want 1000", w.archive.count())
		}
	})
}

// One image that hangs costs only itself; its work ends when nobody waits.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		good := w.signed("app")
		var cancelled atomic.Int64
		w.registry.before = func(ctx context.Context, ref registry.Reference) error {
			if ref.Host != host {
				<-ctx.Done()
				cancelled.Add(1)
				return ctx.Err()
			}
			return nil
		}
		digest := good[len(repository):]
		var images []string
		for i := range 20 { // more than are judged at a time
			images = append(images, fmt.Sprintf("hangs.example.com/%d%s", i, digest), fmt.Sprintf("hangs.example.com/%d:tag", i))
		}
		images = append(images, good)
		start := time.Now()
		a, err := w.Verify(t.Context(), verifier.Request{Images: images, Timeout: 5 * time.Second})
		if err != nil || time.Since(start) > 5*time.Second {
			t.Fatalf("%v after %s", err, time.Since(start))
		}
		for _, r := range a.Results[:40] {
			if r.Verdict != policy.Failed || r.Reasons[0].Code != policy.DeadlineExceeded {
				t.Errorf("%s: %s %v", r.Image, r.Verdict, r.Reasons)
			}
		}
		if a.Results[40].Verdict != policy.Passed || a.Verdict != policy.Failed {
			t.Errorf("the healthy image: %+v", a.Results[40])
		}
		synctest.Wait()
		if cancelled.Load() != limits.VerifyParallel {
			t.Errorf("%d hanging reads ended, want %d", cancelled.Load(), limits.VerifyParallel)
		}
		// Not remembered: the next question asks again.
		w.registry.before = nil
		w.policies.put(t, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: hangs}
spec:
  match: {images: ["hangs.example.com/**"]}
  authorities: {release: {key: {name: release}}}
  require: {signature: {by: release}}
`)
		w.wantPassed(images[0])
	})
}

// A waiter with a short deadline leaves without spoiling the others' answer.
func TestShortDeadlineDoesNotCancelOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		image := w.signed("app")
		w.registry.before = func(ctx context.Context, _ registry.Reference) error {
			select {
			case <-time.After(3 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		verdicts := map[time.Duration]policy.Verdict{}
		var mu sync.Mutex
		var done sync.WaitGroup
		for _, timeout := range []time.Duration{time.Second, 10 * time.Second} {
			done.Go(func() {
				a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Timeout: timeout})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					verdicts[timeout] = a.Verdict
				}
			})
		}
		done.Wait()
		if verdicts[time.Second] != policy.Failed || verdicts[10*time.Second] != policy.Passed || w.registry.resolves.Load() != 1 {
			t.Errorf("%v, %d resolves", verdicts, w.registry.resolves.Load())
		}
	})
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow, fast := w.signed("slow"), w.signed("fast")
		w.registry.before = func(_ context.Context, ref registry.Reference) error {
			if ref.Pinned(ref.Digest) == slow {
				time.Sleep(time.Second)
			}
			return nil
		}
		var got []string
		err := w.Stream(t.Context(), verifier.Request{Images: []string{slow, fast}}, func(r verifier.Result) error {
			if w.archive.count() != len(got)+1 || r.DecisionID == "" {
				t.Error("a result came before its record")
			}
			got = append(got, r.Image)
			return nil
		})
		if err != nil || !slices.Equal(got, []string{fast, slow}) {
			t.Errorf("%v, %v", got, err)
		}
		stop := errors.New("client gone")
		if err := w.Stream(t.Context(), verifier.Request{Images: []string{slow, fast}}, func(verifier.Result) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error %v", err)
		}
	})
}

// H7: a panic in a library costs the image its verdict and nothing else.
func TestPanicIsContained(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	w.registry.beforeRead = func(context.Context, registry.Reference) error { panic("index out of range") }
	w.wantFailed(image, policy.PolicyError)
	w.registry.beforeRead = nil
	w.wantPassed(image)
}

func TestCheckFresh(t *testing.T) {
	w := newWorld(t)
	digest, _ := w.image("app")
	bundle := w.authority.Bundle(digest, w.key, w.signedAt)
	legacy := w.authority.Legacy(digest, w.key, w.signedAt)
	noLog := w.authority.Bundle(digest, w.key, w.signedAt)
	noLog.Entries = nil
	noStamp := w.authority.Bundle(digest, w.key, w.signedAt)
	noStamp.Timestamps = nil
	other, _ := w.image("other")
	fresh := func(d *testauthority.Draft) verifier.Fresh {
		return verifier.Fresh{Digest: digest, Format: "bundle", Bundle: d.JSON(), Public: w.key.Public()}
	}
	good := fresh(bundle)
	wrongDigest, wrongKey := good, good
	wrongDigest.Digest = other
	wrongKey.Public = testauthority.NewECDSA(t).Public()
	cases := map[string]struct {
		fresh verifier.Fresh
		good  bool
	}{
		"bundle": {good, true},
		"legacy": {verifier.Fresh{
			Digest: digest, Format: "legacy", Public: w.key.Public(),
			Legacy: &registry.Legacy{Payload: legacy.Payload, Annotations: legacy.Annotations()},
		}, true},
		"no log entry":   {fresh(noLog), false},
		"no timestamp":   {fresh(noStamp), false},
		"another digest": {wrongDigest, false},
		"another key":    {wrongKey, false},
		"nothing":        {verifier.Fresh{}, false},
		"no key":         {verifier.Fresh{Digest: digest, Format: "bundle", Bundle: bundle.JSON()}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := w.CheckFresh(t.Context(), c.fresh)
			if c.good && err != nil || !c.good && !errors.Is(err, verifier.ErrNotFresh) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNewRefusesIncompleteConfig(t *testing.T) {
	if _, err := verifier.New(verifier.Config{Clock: clock.System{}}); err == nil {
		t.Error("no error")
	}
}

// An anonymous caller is named as such in the record.
func TestAnonymousCaller(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	if _, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Caller: identity.Identity{}}); err != nil {
		t.Fatal(err)
	}
	if got := w.archive.decisions[0].Caller; got != "anonymous" {
		t.Errorf("caller %q", got)
	}
}
