package verifier_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/trust"
)

// A1: bytes of another manifest under the digest asked for.
func TestA1RegistryLies(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)

	digest, image = w.image("lied about")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.registry.lie[digest] = []byte(`{"schemaVersion":2}`)
	w.wantFailed(image, policy.DigestMismatch)
}

// A3 and others: what the registry says becomes a reason, never an error, and
// is never remembered as a verdict.
func TestRegistryFaults(t *testing.T) {
	cases := []struct {
		row  string
		err  error
		want policy.Code
	}{
		{"A3", registry.ErrAmbiguous, policy.AmbiguousManifest},
		{"A1", registry.ErrDigestMismatch, policy.DigestMismatch},
		{"H8", registry.ErrUnavailable, policy.RegistryUnavailable},
		{"H8", registry.ErrDenied, policy.RegistryUnavailable},
		{"I3", registry.ErrUnsafe, policy.RegistryUnavailable},
		{"H1", registry.ErrLimit, policy.LimitExceeded},
		{"F1", registry.ErrNotFound, policy.ImageNotFound},
		{"I5", registry.ErrNotListed, policy.RegistryNotTrusted},
		{"H8", context.DeadlineExceeded, policy.DeadlineExceeded},
	}
	for _, c := range cases {
		t.Run(c.row+" "+c.err.Error(), func(t *testing.T) {
			w := newWorld(t)
			digest, image := w.image("app")
			w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
			w.registry.before = func(context.Context, registry.Reference) error { return fmt.Errorf("reading: %w", c.err) }
			w.wantFailed(image, c.want)
			w.registry.before = nil
			w.wantPassed(image)
		})
	}
}

// A8: the signature of an index says nothing of its children.
func TestA8ChildOfSignedIndex(t *testing.T) {
	w := newWorld(t)
	child, childImage := w.image("arm64")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"digest":%q,"size":1,"mediaType":"application/vnd.oci.image.manifest.v1+json"}]}`, child)
	index := w.registry.serve(raw)
	signature := w.authority.Bundle(index, w.key, w.signedAt).JSON()
	w.attachBundle(index, signature)
	w.wantPassed(repository + "@" + index.String())

	w.wantFailed(childImage, policy.NoSignature)
	w.attachBundle(child, signature)
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantFailed(childImage, policy.SubjectMismatch)
	w.attachBundle(child, w.authority.Bundle(child, w.key, w.signedAt).JSON())
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantPassed(childImage)
}

// B2: a transplanted entry fails under every trusted root, also where no entry
// is needed at all.
func TestB2TransplantUnderEveryRoot(t *testing.T) {
	key := testauthority.NewECDSA(t)
	roots := map[string]func(trust.Root) trust.Root{
		"full root":     func(r trust.Root) trust.Root { return r },
		"no log":        func(r trust.Root) trust.Root { r.Logs = nil; return r },
		"no timestamps": func(r trust.Root) trust.Root { r.TimestampAuthorities = nil; return r },
		"empty root":    func(trust.Root) trust.Root { return trust.Root{} },
	}
	for name, change := range roots {
		for _, format := range []string{"bundle", "legacy"} {
			t.Run(name+" "+format, func(t *testing.T) {
				w := newWorld(t)
				w.policies.put(t, pemPolicy(t, key, "optional"))
				root := change(w.authority.Root())
				w.root.Store(&root)
				for _, spoiled := range []bool{false, true} {
					digest, image := w.image(fmt.Sprint(name, format, spoiled))
					other := attest.DigestOf([]byte("other"))
					if format == "bundle" {
						d := w.authority.Bundle(digest, key, w.signedAt)
						if spoiled {
							d.Entries = w.authority.Bundle(other, key, w.signedAt).Entries
						}
						w.attachBundle(digest, d.JSON())
					} else {
						d := w.authority.Legacy(digest, key, w.signedAt)
						if spoiled {
							o := w.authority.Legacy(other, key, w.signedAt)
							d.Body, d.Index, d.Promise = o.Body, o.Index, o.Promise
						}
						w.attachLegacy(digest, d)
					}
					if spoiled {
						w.wantFailed(image, policy.LogEntryMismatch)
					} else {
						w.wantPassed(image)
					}
				}
			})
		}
	}
}

// What authorities say that are not trusted here is nothing, unless it is of
// something else: then the bundle is spoiled (B1, B2, B4).
func TestForeignAuthorities(t *testing.T) {
	foreign := testauthority.New(t)
	cases := map[string]struct {
		change func(w *world, d *testauthority.Draft)
		want   policy.Code // empty: passes
	}{
		"entry of a foreign log": {func(w *world, d *testauthority.Draft) {
			body := testauthority.HashedRekordV002(w.t, d.Key.Public(), d.Message(), d.Signature)
			d.Entries = []*rekorpb.TransparencyLogEntry{foreign.Append("hashedrekord", "0.0.2", body)}
		}, ""},
		"foreign entry of something else": {func(w *world, d *testauthority.Draft) {
			d.Entries = foreign.Bundle(attest.DigestOf([]byte("other")), d.Key, d.At).Entries
		}, policy.LogEntryMismatch},
		"foreign entry of another kind than it says": {func(w *world, d *testauthority.Draft) {
			body := testauthority.HashedRekordV002(w.t, d.Key.Public(), d.Message(), d.Signature)
			d.Entries = []*rekorpb.TransparencyLogEntry{foreign.Append("hashedrekord", "0.0.1", body)}
		}, policy.LogEntryMismatch},
		"foreign stamp": {func(w *world, d *testauthority.Draft) {
			d.Timestamps = [][]byte{w.authority.ForeignStamp(d.Signature, d.At)}
		}, ""},
		"foreign stamp of another signature": {func(w *world, d *testauthority.Draft) {
			d.Timestamps = [][]byte{w.authority.ForeignStamp([]byte("other"), d.At)}
		}, policy.TimestampInvalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policies.put(t, pemPolicy(t, w.key, "optional"))
			digest, image := w.image(name)
			draft := w.authority.Bundle(digest, w.key, w.signedAt)
			c.change(w, draft)
			w.attachBundle(digest, draft.JSON())
			if c.want == "" {
				w.wantPassed(image)
			} else {
				w.wantFailed(image, c.want)
			}
		})
	}
}

// A log's promises count only from its time in use.
func TestRetiredLog(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.attachLegacy(digest, w.authority.Legacy(digest, w.key, w.signedAt))
	root := w.authority.Root()
	after, before := w.signedAt.Add(time.Hour), w.signedAt.Add(-time.Hour)
	root.Logs[0].End = &after
	w.root.Store(&root)
	w.wantPassed(image)
	ended := w.authority.Root()
	ended.Logs[0].End = &before
	w.root.Store(&ended)
	w.wantFailed(image, policy.CheckpointInvalid)
	late := w.authority.Root()
	late.Logs[0].Start = after
	w.root.Store(&late)
	w.wantFailed(image, policy.CheckpointInvalid)
}

// A service key never vouches for an image, whatever a policy says.
func TestServiceKeyIsNoSigner(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)
	service := w.managed("release", w.key)
	service.Purposes = []string{"log"}
	w.keys.put(service)
	w.wantFailed(image, policy.PolicyError)
}

// A2 J5: a bad bundle is not outvoted by a weaker copy where the policy needs
// the log, and a stripped one is not enough.
func TestJ5Downgrade(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	bare := w.authority.Legacy(digest, w.key, w.signedAt)
	bare.Promise, bare.Timestamp = nil, nil
	w.attachLegacy(digest, bare)
	w.wantFailed(image, policy.LogEntryMissing)
	w.setNow(w.now.Load().Add(time.Minute))
	w.attachLegacy(digest, w.authority.Legacy(digest, w.key, w.signedAt))
	w.wantPassed(image)
}

// C2 C3: one key under two authorities and in two formats counts once.
func TestC2ThresholdCountsKeys(t *testing.T) {
	const text = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    release: {key: {name: release}}
    copy: {key: {name: copy}}
    second: {key: {name: second}}
  require:
    atLeast:
      n: 2
      of: [{signature: {by: release}}, {signature: {by: copy}}, {signature: {by: second}}]
`
	w := newWorld(t)
	second := testauthority.NewECDSA(t)
	w.keys.put(w.managed("copy", w.key))
	w.keys.put(w.managed("second", second))
	w.policies.put(t, text)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON(), w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.attachLegacy(digest, w.authority.Legacy(digest, w.key, w.signedAt))
	w.wantFailed(image, policy.ThresholdNotMet)

	w.attachBundle(digest, w.authority.Bundle(digest, second, w.signedAt).JSON())
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantPassed(image)
}

// F7: an image that no policy covers is refused.
func TestF7NoPolicy(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)
	elsewhere := "other.example.com/team/app@" + digest.String()
	w.wantFailed(elsewhere, policy.NoPolicy)
}

// F1: nothing attached, or only somebody else's.
func TestF1NothingFound(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.wantFailed(image, policy.NoSignature)
	w.setNow(w.now.Load().Add(time.Minute))
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)
}

// G3: the tag is read once; the answer names what was judged.
func TestG3TagMovesBetweenReads(t *testing.T) {
	w := newWorld(t)
	good, _ := w.image("good")
	bad, _ := w.image("bad")
	w.attachBundle(good, w.authority.Bundle(good, w.key, w.signedAt).JSON())
	w.registry.tag("1.4", good)
	w.registry.beforeRead = func(context.Context, registry.Reference) error {
		w.registry.tag("1.4", bad)
		return nil
	}
	r := w.wantPassed(repository + ":1.4")
	if r.Digest != good.String() || r.Pinned != repository+"@"+good.String() {
		t.Errorf("pinned %s", r.Pinned)
	}
	if n := w.registry.resolves.Load(); n != 1 {
		t.Errorf("resolved %d times, want once", n)
	}
	if r := w.wantFailed(repository+":1.4", policy.NoSignature); r.Digest != bad.String() {
		t.Errorf("the moved tag was answered with %s", r.Digest)
	}
}

// H1 H3: more attachments than are read is no proof that none is good, and no
// pass either.
func TestH3Truncated(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
	w.wantFailed(image, policy.LimitExceeded)
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantPassed(image)
}

// C4: every signature is evaluated; bad ones before or after a good one do not
// matter.
func TestC4OneGoodAmongBad(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	stranger := testauthority.NewECDSA(t)
	for range 5 {
		w.attachBundle(digest, w.authority.Bundle(digest, stranger, w.signedAt).JSON(), []byte("{}"))
	}
	w.wantFailed(image, policy.SignatureInvalid)
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.attachBundle(digest, []byte("{"))
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantPassed(image)
}

// An attachment that is listed and gone is not a missing image, and the reason
// that not all was read comes before it (H3).
func TestH3ListedAndGone(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	gone := registry.Problem{Err: fmt.Errorf("reading: %w", registry.ErrNotFound)}
	w.registry.change(digest, func(f *registry.Found) { f.Problems = append(f.Problems, gone) })
	w.wantFailed(image, policy.RegistryUnavailable)
	w.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
	w.wantFailed(image, policy.LimitExceeded)
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.setNow(w.now.Load().Add(time.Minute))
	w.wantPassed(image)
}
