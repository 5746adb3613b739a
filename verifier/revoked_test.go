package verifier_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// changeRoot puts another trusted root in force.
func (w *world) changeRoot(change func(*trust.Root)) {
	root := *w.root.Load()
	root.TimestampAuthorities = slices.Clone(root.TimestampAuthorities)
	change(&root)
	w.root.Store(&root)
}

// Row D6: what a revoked timestamp authority said counts until the time of its
// loss, or not at all; a verdict reached before is not used again.
func TestD6RevokedTimestampAuthority(t *testing.T) {
	partner := testauthority.NewNamed(t, "partner")
	closed := func(before time.Duration) func(w *world, r *trust.Root) {
		return func(w *world, r *trust.Root) {
			end := w.signedAt.Add(-before)
			r.TimestampAuthorities[0].End = &end
		}
	}
	dropped := func(_ *world, r *trust.Root) { r.TimestampAuthorities = r.TimestampAuthorities[1:] }
	for _, tc := range []struct {
		name   string
		second bool // a good stamp by another authority stands beside it
		revoke func(*world, *trust.Root)
		want   policy.Code // empty: PASSED
	}{
		{"lost after the stamp", false, closed(-time.Second), ""},
		{"lost when it stamped", false, closed(0), ""},
		{"lost before the stamp", false, closed(time.Second), policy.TimestampInvalid},
		{"lost at an unknown time", false, dropped, policy.TimestampMissing},
		{"lost after the stamp, beside a good one", true, closed(-time.Second), ""},
		// The authority is known and the stamp is not within its window: a
		// fault that nothing beside it heals (row B6).
		{"lost before the stamp, beside a good one", true, closed(time.Second), policy.TimestampInvalid},
		{"lost at an unknown time, beside a good one", true, dropped, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.changeRoot(func(r *trust.Root) {
				other := partner.Root().TimestampAuthorities[0]
				other.URI = "https://tsa.partner.example"
				r.TimestampAuthorities = append(r.TimestampAuthorities, other)
			})
			digest, image := w.image(tc.name)
			d := w.authority.Bundle(digest, w.key, w.signedAt)
			if tc.second {
				d.Timestamps = append(d.Timestamps, partner.Stamp(d.Signature, w.signedAt))
			}
			w.attachBundle(digest, d.JSON())
			w.wantPassed(image)
			if r := w.wantPassed(image); !r.Cached {
				t.Fatal("the verdict is not remembered: the case proves nothing of caches")
			}
			w.changeRoot(func(r *trust.Root) { tc.revoke(w, r) })
			if tc.want != "" {
				w.wantFailed(image, tc.want)
				return
			}
			if r := w.wantPassed(image); r.Cached {
				t.Error("the verdict under the old root is used again")
			}
		})
	}
}

// inForce shows a catalog to the verifier.
type inForce struct{ *catalog.Catalog }

func (c inForce) Policies(ctx context.Context) ([]verifier.Loaded, error) {
	entries, err := c.Catalog.Policies(ctx)
	var loaded []verifier.Loaded
	for _, e := range entries {
		loaded = append(loaded, verifier.Loaded{Policy: e.Value, Revision: e.Revision})
	}
	return loaded, err
}

// Row D6 for somebody else's authorities: their trusted root is replaced by one
// in which the timestamp authority is closed, then deleted. Remembered verdicts
// are not used again.
func TestD6ForeignTrustRoot(t *testing.T) {
	r := newReal(t)
	kept, err := catalog.New(catalog.Config{Objects: r.store.Objects(), Sealer: r.master})
	r.must(err)
	partner, partnerCA := testauthority.NewNamed(t, "partner"), testauthority.NewCA(t, testauthority.CAOptions{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	put := func(root trust.Root) {
		t.Helper()
		document, err := root.MarshalTrustedRoot()
		r.must(err)
		draft, err := kept.DraftTrustRoot("partner", document)
		r.must(err)
		var revision int64
		if e, err := kept.TrustRootObjects().Get(t.Context(), "partner"); err == nil {
			revision = e.Revision
		}
		_, err = kept.TrustRootObjects().Put(t.Context(), draft, revision)
		r.must(err)
	}
	root := partnerCA.Trust(partner.Root())
	put(root)
	text := strings.ReplaceAll(ciPolicy(`{issuer: "`+ciIssuer+`", subject: "`+ciSubject+`", trustRoot: partner}`), host, r.host)
	draft, err := kept.DraftPolicy("production", []byte(text))
	r.must(err)
	_, err = kept.PolicyObjects().Put(t.Context(), draft, 0)
	r.must(err)
	v, err := verifier.New(verifier.Config{
		Registry: r.client, Archive: r.archive, Keys: r.ring, Policies: inForce{kept}, Roots: kept,
		Trust: func() trust.Root { return r.authority.Root() }, NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	})
	r.must(err)
	ref := r.push("team/app", "v1")
	bundle := partner.IdentityBundle(partnerCA, ref.Digest, testauthority.CertificateRequest{
		Issuer: ciIssuer, Subject: ciSubject, At: at, Extensions: map[int]string{24: "repo:acme/app:ref:refs/heads/main"},
	})
	r.must(r.archive.Keep(t.Context(), archive.Item{Digest: ref.Digest, Repository: ref.Name(), Format: archive.FormatBundle, Bundle: bundle.JSON()}))
	ask := func(want policy.Code) {
		t.Helper()
		answer, err := v.Verify(t.Context(), verifier.Request{Images: []string{ref.Pinned(ref.Digest)}})
		r.must(err)
		got := answer.Results[0]
		if want == "" && got.Verdict != policy.Passed || want != "" && (got.Verdict != policy.Failed || got.Reasons[0].Code != want) {
			t.Fatalf("%s %+v, want %q", got.Verdict, got.Reasons, want)
		}
	}
	ask("")
	ask("")
	lost := at.Add(-time.Second)
	root.TimestampAuthorities[0].End = &lost
	put(root)
	ask(policy.TimestampInvalid)
	root.TimestampAuthorities[0].End = nil
	put(root)
	ask("")
	e, err := kept.TrustRootObjects().Get(t.Context(), "partner")
	r.must(err)
	r.must(kept.TrustRootObjects().Delete(t.Context(), "partner", e.Revision))
	ask(policy.PolicyError)
}
