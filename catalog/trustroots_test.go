package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/store"
)

// TestTrustRoot: what is kept is what was given, and counts for the next
// question; a stored document that cannot be read denies.
func TestTrustRoot(t *testing.T) {
	f := open(t)
	public, err := os.ReadFile(filepath.Join("..", "verifier", "testdata", "sigstore", "public-good.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.TrustRoot(t.Context(), "sigstore"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	d, err := f.DraftTrustRoot("sigstore", public)
	if err != nil {
		t.Fatal(err)
	}
	before, err := f.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := f.TrustRootObjects().Put(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := f.Revision(t.Context()); err != nil || after <= before {
		t.Errorf("the revision went from %d to %d, %v", before, after, err)
	}
	root, err := f.TrustRoot(t.Context(), "sigstore")
	if err != nil || len(root.CertificateAuthorities) == 0 || len(root.CertificateAuthorities) != len(d.Value().Root.CertificateAuthorities) {
		t.Errorf("%d authorities, %v", len(root.CertificateAuthorities), err)
	}
	again, err := f.DraftTrustRoot("sigstore", kept.Value.Document)
	if err != nil || again.Hash() != d.Hash() {
		t.Errorf("the kept document is another one: %v", err)
	}
	if _, err := f.objects.Put(t.Context(), store.Object{Kind: catalog.KindTrustRoot, Name: "broken", Body: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.TrustRoot(t.Context(), "sigstore"); !errors.Is(err, catalog.ErrStored) {
		t.Errorf("with a broken one beside it: %v", err)
	}
}

func TestTrustRootNames(t *testing.T) {
	f := open(t)
	for _, name := range []string{"self", "", "../x", "a b"} {
		if _, err := f.DraftTrustRoot(name, []byte(`{}`)); !errors.Is(err, catalog.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := f.DraftTrustRoot("other", []byte(`{}`)); !errors.Is(err, catalog.ErrTrustRoot) {
		t.Errorf("empty document: %v", err)
	}
}
