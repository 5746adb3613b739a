package authority_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

// servingRing keeps keys as the ring does.
type servingRing struct {
	t    *testing.T
	keys []crypto.Signer
}

func (r *servingRing) Signers(context.Context) ([]crypto.Signer, error) { return r.keys, nil }

func (r *servingRing) Add(context.Context) (crypto.Signer, error) {
	r.keys = append(r.keys, newKey(r.t, elliptic.P256()))
	return r.keys[len(r.keys)-1], nil
}

// believes reports whether a caller with that bundle would speak to the server.
func believes(t *testing.T, bundle []byte, served *tls.Certificate, name string, now time.Time) bool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatal("the bundle has no certificate")
	}
	_, err := served.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err == nil
}

// TestServingNeverOutrunsItsBundle: over 25 years a caller that fetches the
// bundle once in a month believes the certificate on every day looked at, and at no
// time is one served that does not last.
func TestServingNeverOutrunsItsBundle(t *testing.T) {
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	ring := &servingRing{t: t}
	var published []byte
	config := authority.ServingConfig{
		Keys: ring, Objects: db.Objects(), Names: []string{"countersign.countersign.svc", "127.0.0.1"},
		Clock:   clock.Func(func() time.Time { return now }),
		Publish: func(bundle []byte) error { published = bundle; return nil },
	}
	s, err := authority.OpenServing(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	held, leaves := s.Bundle(), map[string]bool{}
	for day := 0; day < 25*365; day += 5 {
		now = now.Add(5 * 24 * time.Hour)
		served, err := s.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leaves[served.Leaf.SerialNumber.String()] = true
		for _, name := range config.Names {
			if !believes(t, held, served, name, now) {
				t.Fatalf("day %d: a caller does not believe the certificate for %s", day, name)
			}
		}
		if believes(t, held, served, "other.svc", now) {
			t.Fatal("the certificate is for a name that nobody configured")
		}
		if day%30 == 0 {
			held = s.Bundle()
		}
		if day == 3000 { // a restart finds the same authority
			if s, err = authority.OpenServing(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(ring.keys) != 3 {
		t.Errorf("%d keys were made in 25 years, want 3", len(ring.keys))
	}
	if len(leaves) < 25*12 {
		t.Errorf("only %d certificates were served in 25 years", len(leaves))
	}
	if string(published) == "" || !believes(t, published, mustServe(t, s), "127.0.0.1", now) {
		t.Error("what was published last is not to be believed")
	}
}

func mustServe(t *testing.T, s *authority.Serving) *tls.Certificate {
	t.Helper()
	c, err := s.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
