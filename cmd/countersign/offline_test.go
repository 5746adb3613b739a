package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/store"
)

// TestLoadRoots: one file is self, others have the names that a policy uses.
func TestLoadRoots(t *testing.T) {
	public := filepath.Join("..", "..", "verifier", "testdata", "sigstore", "public-good.json")
	roots, err := loadRoots([]string{public, "sigstore=" + public})
	if err != nil {
		t.Fatal(err)
	}
	judge := &offlineJudge{roots: roots}
	for _, name := range []string{policy.SelfRoot, "sigstore"} {
		if root, err := judge.TrustRoot(t.Context(), name); err != nil || len(root.CertificateAuthorities) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := judge.TrustRoot(t.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("other: %v", err)
	}
	for _, args := range [][]string{{public, public}, {"x=" + public, "x=" + public}, {"no such file"}, {"x="}, {"offline_test.go"}} {
		if _, err := loadRoots(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
