package verifier_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/verifier"
)

// flowing lets a world's clock go on with synctest's.
func flowing(w **world) func(*verifier.Config) {
	began := time.Now()
	return func(c *verifier.Config) {
		c.Clock = clock.Func(func() time.Time { return (*(*w).now.Load()).Add(time.Since(began)) })
	}
}

func remembering(c *verifier.Config) { c.FailedTTL = 0 }

func (w *world) keepBundle(digest attest.Digest, predicateType string, bundle []byte) {
	w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatBundle, PredicateType: predicateType, Bundle: bundle})
}

// A FAILED is remembered for seconds, and not a moment longer than until a
// signature is kept for it; so is a PASSED that more evidence could change.
func TestKeptSignatureEndsFailed(t *testing.T) {
	w := newWorld(t, remembering)
	digest, image := w.image("app")
	w.wantFailed(image, policy.NoSignature)
	if !w.wantFailed(image, policy.NoSignature).Cached {
		t.Error("FAILED was not remembered")
	}
	w.keepBundle(digest, "", w.authority.Bundle(digest, testauthority.NewECDSA(t), w.signedAt).JSON())
	if w.wantFailed(image, policy.UntrustedKey).Cached {
		t.Error("a verdict from before the signature was answered")
	}
	w.keepBundle(digest, "", w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)

	_, other := w.image("attached elsewhere")
	w.wantFailed(other, policy.NoSignature)
	w.setNow(w.now.Load().Add(limits.FailedTTL))
	if w.wantFailed(other, policy.NoSignature).Cached {
		t.Error("FAILED outlived its time")
	}

	t.Run("the newest attestation counts", func(t *testing.T) {
		w := attested(t, wantsScan)
		digest, image := w.image("app")
		scan := func(critical int, at time.Time) []byte {
			return w.authority.BundleOf(testauthority.Attested(digest, scanType, scanOf(critical, at)), w.key, at).JSON()
		}
		w.keepBundle(digest, scanType, scan(0, w.signedAt))
		w.wantPassed(image)
		if !w.wantPassed(image).Cached {
			t.Error("PASSED was not remembered")
		}
		w.keepBundle(digest, scanType, scan(3, w.signedAt.Add(time.Hour)))
		w.wantFailed(image, policy.ConditionFalse)
	})
}

// A question that was put after a signature was kept does not share the round
// that began before.
func TestRoundBeforeSignatureIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, remembering)
		digest, image := w.image("app")
		w.registry.beforeRead = func(context.Context, registry.Reference) error { time.Sleep(2 * time.Second); return nil }
		first := make(chan policy.Verdict, 1)
		go func() { first <- w.verify(image).Results[0].Verdict }()
		time.Sleep(time.Second)
		w.keepBundle(digest, "", w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.wantPassed(image)
		if v := <-first; v != policy.Failed {
			t.Errorf("the first question: %s", v)
		}
		if r := w.wantPassed(image); !r.Cached {
			t.Error("the older round took the place of the newer one")
		}
	})
}

// slowKeys takes its time to tell the revision.
type slowKeys struct {
	*memoryKeys
	readings atomic.Int64
}

func (s *slowKeys) Revision(ctx context.Context) (int64, error) {
	s.readings.Add(1)
	revision, err := s.memoryKeys.Revision(ctx)
	time.Sleep(time.Second)
	return revision, err
}

// Questions that come together read the trust in force together, and none is
// answered by a reading that began before it: a revocation counts at once.
func TestRevocationCountsWhileTrustIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowKeys{}
		w := newWorld(t, func(c *verifier.Config) {
			slow.memoryKeys = c.Keys.(*memoryKeys)
			c.Keys = slow
		})
		image := w.signed("app")
		w.wantPassed(image)
		before := slow.readings.Load()
		go w.verify(image) // reads for a second
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		w.keys.version("release", func(v *keys.Version) { now := w.signedAt; v.RevokedAt = &now })
		var done sync.WaitGroup
		for range 100 {
			done.Go(func() { w.wantFailed(image, policy.KeyRevoked) })
		}
		done.Wait()
		if n := slow.readings.Load() - before; n != 2 {
			t.Errorf("%d readings, want 2", n)
		}
		if n := w.Stats().SharedReadings; n != 99 {
			t.Errorf("%d questions shared a reading, want 99", n)
		}
	})
}

// While its registry cannot be reached, a digest that passed within the
// configured time under the same trust passes, marked. Nothing else does.
func TestStaleIfError(t *testing.T) {
	down := func(err error) func(context.Context, registry.Reference) error {
		return func(context.Context, registry.Reference) error { return err }
	}
	begin := func(t *testing.T) (*world, string) {
		w := newWorld(t, func(c *verifier.Config) { c.StaleIfError = time.Hour })
		image := w.signed("app")
		w.wantPassed(image)
		w.setNow(w.now.Load().Add(10 * time.Minute))
		w.registry.before = down(registry.ErrUnavailable)
		return w, image
	}
	w, image := begin(t)
	r := w.wantPassed(image)
	if !r.Stale || !r.Cached || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "cannot be reached") {
		t.Errorf("%+v", r)
	}
	if d := w.archive.decisions[len(w.archive.decisions)-1]; !strings.Contains(string(d.Result), `"stale":true`) {
		t.Errorf("the record does not say it: %s", d.Result)
	}
	if _, err := w.Summary(r); err == nil {
		t.Error("there is a summary of a stale verdict")
	}
	w.registry.before = nil
	if r := w.wantPassed(image); r.Stale || r.Cached || len(r.Warnings) > 0 {
		t.Errorf("once it is back: %+v", r)
	}

	for name, change := range map[string]func(w *world, image string){
		"too old": func(w *world, _ string) { w.setNow(w.now.Load().Add(50 * time.Minute)) },
		"revoked": func(w *world, _ string) {
			w.keys.version("release", func(v *keys.Version) { at := w.signedAt; v.RevokedAt = &at })
		},
		"policy changed": func(w *world, _ string) { w.policies.put(w.t, releasePolicy) },
		"access refused": func(w *world, _ string) { w.registry.before = down(registry.ErrDenied) },
		"not there":      func(w *world, _ string) { w.registry.before = down(registry.ErrNotFound) },
		"was not there": func(w *world, image string) {
			w.registry.before = down(registry.ErrNotFound)
			w.verify(image)
			w.registry.before = down(registry.ErrUnavailable)
		},
		"other bytes":      func(w *world, _ string) { w.registry.before = down(registry.ErrDigestMismatch) },
		"asked in no time": func(w *world, _ string) { w.registry.before = down(context.DeadlineExceeded) },
	} {
		t.Run(name, func(t *testing.T) {
			w, image := begin(t)
			change(w, image)
			if name == "asked in no time" {
				// The registry's own time-out is one thing; this is the caller's.
				w.registry.before = func(ctx context.Context, _ registry.Reference) error { <-ctx.Done(); return ctx.Err() }
				a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Timeout: time.Millisecond})
				if err != nil || a.Verdict != policy.Failed || a.Results[0].Stale {
					t.Errorf("%+v, %v", a, err)
				}
				return
			}
			if r := w.verify(image).Results[0]; r.Verdict != policy.Failed || r.Stale {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("first seen", func(t *testing.T) {
		w, _ := begin(t)
		w.wantFailed(w.signed("another"), policy.RegistryUnavailable)
	})
	t.Run("a tag", func(t *testing.T) {
		w, image := begin(t)
		ref, err := registry.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		w.registry.tag("1", ref.Digest)
		w.wantFailed(repository+":1", policy.RegistryUnavailable)
	})
	t.Run("another context", func(t *testing.T) {
		w, image := begin(t)
		a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Context: map[string]string{"cluster": "x"}})
		if err != nil || a.Verdict != policy.Failed {
			t.Errorf("%+v, %v", a, err)
		}
	})
	t.Run("off unless configured", func(t *testing.T) {
		w := newWorld(t)
		image := w.signed("app")
		w.wantPassed(image)
		w.setNow(w.now.Load().Add(2 * time.Minute))
		w.registry.before = down(registry.ErrUnavailable)
		w.wantFailed(image, policy.RegistryUnavailable)
	})
	t.Run("what it rests on is too old", func(t *testing.T) {
		w := newWorld(t, func(c *verifier.Config) { c.StaleIfError = 20 * time.Hour })
		w.policies.put(t, requiringRelease(`{attestation: {predicateType: custom, by: release, maxAge: 25h}}`))
		digest, image := w.image("app")
		w.attachBundle(digest, w.authority.BundleOf(testauthority.Attested(digest, predicate.CosignCustom, `{"Data":"","Timestamp":""}`), w.key, w.signedAt).JSON())
		w.wantPassed(image)
		w.registry.before = down(registry.ErrUnavailable)
		w.setNow(w.signedAt.Add(25*time.Hour - time.Second))
		if !w.wantPassed(image).Stale {
			t.Error("not stale")
		}
		w.setNow(w.signedAt.Add(25 * time.Hour))
		w.wantFailed(image, policy.RegistryUnavailable)
	})
}

func requiringRelease(require string) string {
	return strings.Replace(releasePolicy, "\n    all:\n      - signature: {by: release}", " "+require, 1)
}

// A registry that hangs gets stale answers only after it was waited for.
func TestStaleAfterWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		w = newWorld(t, func(c *verifier.Config) { c.StaleIfError = time.Hour }, flowing(&w))
		image := w.signed("app")
		w.wantPassed(image)
		time.Sleep(2 * time.Minute)
		w.registry.before = func(ctx context.Context, _ registry.Reference) error { <-ctx.Done(); return ctx.Err() }
		for timeout, want := range map[time.Duration]bool{time.Second: false, 3 * time.Second: true} {
			a, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}, Timeout: timeout})
			if err != nil || a.Results[0].Stale != want {
				t.Errorf("%s: %+v, %v", timeout, a.Results, err)
			}
		}
	})
}

// A registry that hangs holds a bounded number of questions; what comes then is
// refused at once, and others are as quick as ever.
func TestHangingRegistryIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		good := w.signed("app")
		w.registry.before = func(ctx context.Context, ref registry.Reference) error {
			if ref.Host != host {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		hanging := func(i int) string {
			return "hangs.example.com/x@" + attest.DigestOf(fmt.Appendf(nil, "image %d", i)).String()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		for i := range limits.RegistryRounds + limits.RegistryRoundsWaiting {
			done.Go(func() {
				_, _ = w.Verify(ctx, verifier.Request{Images: []string{hanging(i)}, Timeout: 30 * time.Second})
			})
		}
		synctest.Wait()
		if n := w.registry.resolves.Load(); n != limits.RegistryRounds {
			t.Errorf("%d questions ask the registry, want %d", n, limits.RegistryRounds)
		}
		began := time.Now()
		for _, image := range []string{hanging(-1), "hangs.example.com/x:tag"} {
			w.wantFailed(image, policy.RegistryUnavailable)
		}
		w.wantPassed(good)
		if time.Since(began) != 0 || w.Stats().Refused != 2 {
			t.Errorf("took %s, %d refused", time.Since(began), w.Stats().Refused)
		}
		cancel()
		done.Wait()
		synctest.Wait()
		w.registry.before = nil
		w.wantFailed(hanging(0), policy.ImageNotFound) // there is room again
	})
}

// By digest, manifest and attachments are read at the same time; what is kept
// needs the manifest alone, and what no policy covers no attachments.
func TestReadingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		second := func(context.Context, registry.Reference) error { time.Sleep(time.Second); return nil }
		image := w.signed("app")
		tagged, err := registry.ParseReference(w.signed("tagged"))
		if err != nil {
			t.Fatal(err)
		}
		w.registry.tag("1", tagged.Digest)
		kept, keptImage := w.image("kept")
		w.keepBundle(kept, "", w.authority.Bundle(kept, w.key, w.signedAt).JSON())
		w.registry.before, w.registry.beforeRead = second, second
		for _, c := range []struct {
			image   string
			seconds int
			reads   int64
		}{{image, 1, 1}, {repository + ":1", 2, 1}, {keptImage, 1, 0}} {
			began, before := time.Now(), w.registry.reads.Load()
			w.wantPassed(c.image)
			if took := time.Since(began); took != time.Duration(c.seconds)*time.Second || w.registry.reads.Load()-before != c.reads {
				t.Errorf("%s took %s and %d readings of attachments", c.image, took, w.registry.reads.Load()-before)
			}
		}
		before := w.registry.reads.Load()
		w.wantFailed("other.example.com/x"+image[len(repository):], policy.NoPolicy)
		if w.registry.reads.Load() != before {
			t.Error("attachments of an image that no policy covers were read")
		}
	})
}

// 8 containers and 5 identities that want one digest in one place are one
// round; so are the rules that name its keys.
func TestManyPlacesShareOneRound(t *testing.T) {
	w := newWorld(t)
	image := w.signed("app")
	var done sync.WaitGroup
	for range 5 {
		done.Go(func() {
			images := make([]string, 8)
			for i := range images {
				images[i] = image
			}
			w.verify(images...)
		})
	}
	done.Wait()
	if w.registry.resolves.Load() != 1 || w.registry.reads.Load() != 1 {
		t.Errorf("%d resolves, %d readings of attachments; want one each", w.registry.resolves.Load(), w.registry.reads.Load())
	}
	if s := w.Stats(); s.Rounds != 1 || s.Hits+s.Shared != 39 {
		t.Errorf("%+v", s)
	}
}
