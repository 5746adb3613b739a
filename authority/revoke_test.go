package authority_test

import (
	"crypto/elliptic"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/authority"
)

func ago(b time.Time, d time.Duration) *time.Time {
	at := b.Add(-d)
	return &at
}

// D6: a revoked timestamp key vouches for nothing from the moment that the
// revocation is kept, does not come back, and its successor has another root.
func TestRevokeTimestampKey(t *testing.T) {
	b := open(t)
	stamp(t, b)
	if err := b.Revoke(t.Context(), "", authority.Revocation{Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stamp(t.Context(), []byte("m")); !errors.Is(err, authority.ErrRevoked) {
		t.Errorf("it stamps: %v", err)
	}
	if c := b.Chains()[0]; c.Believed() || c.Revoked.Reason != "stolen" || c.End == nil {
		t.Errorf("%+v", c)
	}
	if _, err := authority.OpenTimestamper(t.Context(), b.config); !errors.Is(err, authority.ErrRevoked) {
		t.Errorf("opening with it: %v", err)
	}
	old := b.config.Leaf
	b.config.Leaf = newKey(t, elliptic.P256())
	b.Timestamper = b.reopen(t)
	verifyStamp(t, stamp(t, b), b.verifyOptions())
	chains := b.Chains()
	if len(chains) != 2 || chains[0].Believed() || !chains[1].Believed() || chains[1].Revoked != nil {
		t.Fatalf("%+v", chains)
	}
	if chains[0].Certificates[1].Equal(chains[1].Certificates[1]) {
		t.Error("the root that certified the revoked key certifies its successor")
	}
	if err := b.Rotate(t.Context(), nil, old); !errors.Is(err, authority.ErrRevoked) {
		t.Errorf("the revoked key returns: %v", err)
	}
}

// With a time the window ends there; a later revocation may take away more and
// gives nothing back; an earlier key is named by its id. D6
func TestRevocationWindows(t *testing.T) {
	b := open(t)
	b.now = b.now.AddDate(0, 1, 0)
	b.config.Leaf = newKey(t, elliptic.P256())
	b.Timestamper = b.reopen(t)
	first := b.Chains()[0].ID()
	for i, step := range []struct {
		since *time.Time
		want  *time.Time // the end, or nil when nothing is believed
	}{
		{ago(b.now, 240*time.Hour), ago(b.now, 240*time.Hour)},
		{ago(b.now, time.Hour), ago(b.now, 240*time.Hour)},
		{ago(b.now, 480*time.Hour), ago(b.now, 480*time.Hour)},
		{nil, nil},
		{ago(b.now, time.Hour), nil},
	} {
		if err := b.Revoke(t.Context(), first, authority.Revocation{Reason: "stolen", CompromisedAt: step.since}); err != nil {
			t.Fatal(err)
		}
		b.Timestamper = b.reopen(t)
		chains := b.Chains()
		if len(chains) != 2 || chains[1].Revoked != nil || chains[0].Believed() != (step.want != nil) {
			t.Fatalf("step %d: %+v", i, chains)
		}
		if step.want != nil && !chains[0].End.Equal(step.want.Truncate(time.Second)) {
			t.Errorf("step %d: ends %v, want %v", i, chains[0].End, step.want)
		}
	}
	stamp(t, b)
	for what, want := range map[string]error{"ab": authority.ErrGeneration, first: nil} {
		if err := b.Revoke(t.Context(), what, authority.Revocation{Reason: "x"}); !errors.Is(err, want) {
			t.Errorf("%q: %v", what, err)
		}
	}
	tomorrow := b.now.Add(24 * time.Hour)
	for name, r := range map[string]authority.Revocation{"no reason": {}, "future": {Reason: "x", CompromisedAt: &tomorrow}} {
		if err := b.Revoke(t.Context(), "", r); !errors.Is(err, authority.ErrRevocation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := b.Chains()[1].Start.Add(-time.Hour)
	if err := b.Revoke(t.Context(), "", authority.Revocation{Reason: "x", CompromisedAt: &before}); err != nil || b.Chains()[1].Believed() {
		t.Errorf("compromised before its first use: %v, %+v", err, b.Chains()[1])
	}
}

// D6 for the certificate authority and its transparency key: nothing is issued
// until there is another key, and clients refuse what the revoked one vouched
// for after the time of the loss.
func TestRevokeIssuer(t *testing.T) {
	w := openWorld(t)
	w.at(w.Now().Add(24 * time.Hour))
	early := w.issue(t, service())
	lost := w.Now().Add(time.Hour)
	w.at(lost.Add(time.Hour))
	late := w.issue(t, service())
	for name, step := range map[string]struct {
		revoke func() error
		want   error
		next   authority.IssuerKeys
	}{
		"ca": {func() error {
			return w.issuer.Revoke(t.Context(), "", authority.Revocation{Reason: "stolen", CompromisedAt: &lost})
		}, authority.ErrRevoked, authority.IssuerKeys{Root: newKey(t, elliptic.P256()), Issuing: newKey(t, elliptic.P256())}},
		"ct": {func() error {
			return w.issuer.RevokeCT(t.Context(), "", authority.Revocation{Reason: "stolen", CompromisedAt: &lost})
		}, authority.ErrRevokedCT, authority.IssuerKeys{CT: newKey(t, elliptic.P256())}},
	} {
		if err := step.revoke(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: service(), Public: newKey(t, elliptic.P256()).Public()})
		if !errors.Is(err, step.want) {
			t.Errorf("%s: it issues: %v", name, err)
		}
		if _, err := authority.OpenIssuer(t.Context(), w.config); !errors.Is(err, step.want) {
			t.Errorf("%s: opening with it: %v", name, err)
		}
		if err := w.issuer.Rotate(t.Context(), step.next); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.config.Keys = merged(w.config.Keys, step.next)
		fresh, root := w.issue(t, service()), w.root()
		for what, c := range map[string]struct {
			leaf []byte
			good bool
		}{"before the loss": {early.Leaf, true}, "after it": {late.Leaf, false}, "by the next": {fresh.Leaf, true}} {
			err := verifyWithStock(t, root, c.leaf, parse(t, c.leaf).NotBefore.Add(time.Minute))
			if (err == nil) != c.good {
				t.Errorf("%s, issued %s: %v", name, what, err)
			}
		}
	}
	w.reopen(t)
	if err := w.issuer.Revoke(t.Context(), w.issuer.Chains()[0].ID(), authority.Revocation{Reason: "worse"}); err != nil {
		t.Fatal(err)
	}
	if err := verifyWithStock(t, w.root(), early.Leaf, parse(t, early.Leaf).NotBefore.Add(time.Minute)); err == nil {
		t.Error("a dropped authority is believed")
	}
}

func merged(keys, next authority.IssuerKeys) authority.IssuerKeys {
	if next.Root != nil {
		keys.Root = next.Root
	}
	if next.Issuing != nil {
		keys.Issuing = next.Issuing
	}
	if next.CT != nil {
		keys.CT = next.CT
	}
	return keys
}
