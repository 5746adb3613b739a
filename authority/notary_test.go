package authority_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	notaryx509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

// TestNotary: the root is kept, certificates satisfy the Notary Project's own
// rules, stay the same for a while, and are renewed before they end.
func TestNotary(t *testing.T) {
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	ca, release := key(), key()
	open := func() *authority.Notary {
		n, err := authority.OpenNotary(t.Context(), authority.NotaryConfig{Key: ca, Objects: db.Objects(), Clock: clock.Func(func() time.Time { return now })})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := open()
	chain, err := n.Certify(t.Context(), "release", release.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := notaryx509.ValidateCodeSigningCertChain(chain, &now); err != nil {
		t.Error(err)
	}
	if !chain[1].Equal(n.Roots()[0]) || chain[0].Subject.String() != "CN=release,O=Countersign,ST=none,C=ZZ" {
		t.Errorf("certified %s below %s", chain[0].Subject, chain[1].Subject)
	}
	again, err := n.Certify(t.Context(), "release", release.Public())
	if err != nil || !again[0].Equal(chain[0]) {
		t.Errorf("another certificate for the same key: %v", err)
	}
	if other, err := n.Certify(t.Context(), "other", release.Public()); err != nil || other[0].Equal(chain[0]) {
		t.Errorf("one certificate under two names: %v", err)
	}
	if back := open().Roots(); len(back) != 1 || !back[0].Equal(n.Roots()[0]) {
		t.Error("another root after opening again")
	}
	now = now.AddDate(0, 8, 0)
	if later, err := n.Certify(t.Context(), "release", release.Public()); err != nil || later[0].Equal(chain[0]) {
		t.Errorf("not renewed: %v", err)
	}
	if _, err := n.Certify(t.Context(), "release", nil); err == nil {
		t.Error("certified nothing")
	}
	if _, err := authority.OpenNotary(t.Context(), authority.NotaryConfig{}); err == nil {
		t.Error("opened without a key")
	}
}
