package authority_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"github.com/countersign/countersign/authority"
)

// TestRotation: what was issued before verifies after, with an end. D1, D2
func TestRotation(t *testing.T) {
	w := openWorld(t)
	start := w.Now()
	first := w.issue(t, service())
	old := first
	for n, next := range []authority.IssuerKeys{
		{Issuing: newKey(t, elliptic.P384())},
		{CT: newKey(t, elliptic.P256())},
		{Root: newKey(t, elliptic.P256()), Issuing: newKey(t, elliptic.P256())},
	} {
		w.at(w.Now().Add(24 * time.Hour))
		if err := w.issuer.Rotate(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		fresh := w.issue(t, service())
		r := w.root()
		for what, c := range map[string]struct {
			leaf []byte
		}{"first": {first.Leaf}, "before": {old.Leaf}, "after": {fresh.Leaf}} {
			if err := verifyWithStock(t, r, c.leaf, parse(t, c.leaf).NotBefore); err != nil {
				t.Errorf("rotation %d, certificate %s: %v", n, what, err)
			}
		}
		old = fresh
	}
	chains, logs := w.issuer.Chains(), w.issuer.CTLogs()
	if len(chains) != 3 || len(logs) != 2 {
		t.Fatalf("%d chains, %d logs", len(chains), len(logs))
	}
	if !chains[0].Certificates[1].Equal(chains[1].Certificates[1]) || chains[1].Certificates[1].Equal(chains[2].Certificates[1]) {
		t.Error("an issuing key alone must stay under the root that is trusted already, a root key must make a new one")
	}
	if end := chains[0].End; end == nil || !end.Equal(start.Add(24*time.Hour+authority.Overlap).Truncate(time.Second)) {
		t.Errorf("first chain ends %v", end)
	}
	for i, c := range chains {
		if (c.End == nil) != (i == len(chains)-1) || (c.End != nil && !c.End.After(chains[i+1].Start)) {
			t.Errorf("chain %d: %v to %v", i, c.Start, c.End)
		}
	}
	if logs[0].End == nil || logs[1].End != nil || !logs[0].End.After(logs[1].Start) {
		t.Errorf("logs %+v", logs)
	}
	// After a certificate's own authority is closed its key proves nothing new.
	if err := verifyWithStock(t, w.root(), first.Leaf, chains[0].End.Add(time.Second)); err == nil {
		t.Error("verifies after the end of its authority")
	}
}

// TestRotationByRestart: a process that died between making a key and rotating
// to it is repaired by opening with the key; the key before does not return.
func TestRotationByRestart(t *testing.T) {
	w := openWorld(t)
	before := w.config.Keys
	w.config.Keys.Issuing, w.config.Keys.CT = newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	w.reopen(t)
	if len(w.issuer.Chains()) != 2 || len(w.issuer.CTLogs()) != 2 {
		t.Error("another key must have another chain")
	}
	current := w.issuer.Chains()[1].Certificates[0]
	w.reopen(t)
	if len(w.issuer.Chains()) != 2 || !w.issuer.Chains()[1].Certificates[0].Equal(current) {
		t.Error("a restart made new certificates")
	}
	for what, keys := range map[string]authority.IssuerKeys{
		"issuing": {Root: before.Root, Issuing: before.Issuing, CT: w.config.Keys.CT},
		"CT":      {Root: before.Root, Issuing: w.config.Keys.Issuing, CT: before.CT},
	} {
		if err := w.issuer.Rotate(t.Context(), keys); !errors.Is(err, authority.ErrRetired) {
			t.Errorf("%s key returns: %v", what, err)
		}
	}
	w.issue(t, service())
	// Near its end the certificate is renewed for the same key.
	w.at(current.NotAfter.AddDate(0, -1, 0))
	w.reopen(t)
	if chains := w.issuer.Chains(); len(chains) != 3 || chains[2].Certificates[0].Equal(current) {
		t.Error("a certificate near its end must be replaced")
	}
	w.issue(t, service())
}

// TestRotationWhileIssuing: nobody fails, and every certificate verifies with
// the root that is published when it is released.
func TestRotationWhileIssuing(t *testing.T) {
	w := openWorld(t)
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 20 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := w.issue(t, service())
				if err := verifyWithStock(t, w.root(), c.Leaf, w.Now()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		for _, next := range []authority.IssuerKeys{
			{Issuing: newKey(t, elliptic.P256())}, {CT: newKey(t, elliptic.P256())}, {Root: newKey(t, elliptic.P256())},
		} {
			if err := w.issuer.Rotate(t.Context(), next); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	close(stop)
	clients.Wait()
	if got := len(w.issuer.Chains()); got != 7 {
		t.Errorf("%d chains", got)
	}
}

// TestTwoIssuerStarts: processes that start together issue under one chain.
func TestTwoIssuerStarts(t *testing.T) {
	w := openWorld(t)
	w.config.Keys.Root = newKey(t, elliptic.P256())
	roots := make([]*x509.Certificate, 4)
	var wg sync.WaitGroup
	for i := range roots {
		wg.Go(func() {
			issuer, err := authority.OpenIssuer(t.Context(), w.config)
			if err != nil {
				t.Error(err)
				return
			}
			roots[i] = issuer.Chains()[len(issuer.Chains())-1].Certificates[1]
		})
	}
	wg.Wait()
	for _, r := range roots {
		if r == nil || !r.Equal(roots[0]) {
			t.Fatal("two chains")
		}
	}
}

// TestTimestampRotation: stamps of both keys verify, the old chain has an end.
func TestTimestampRotation(t *testing.T) {
	b := open(t)
	before, options := stamp(t, b), b.verifyOptions()
	old := b.config.Leaf
	if err := b.Rotate(t.Context(), nil, newKey(t, elliptic.P384())); err != nil {
		t.Fatal(err)
	}
	verifyStamp(t, before, options)
	verifyStamp(t, stamp(t, b), b.verifyOptions())
	chains := b.Chains()
	if len(chains) != 2 || chains[1].End != nil || chains[0].End == nil || !chains[0].End.Equal(b.now.Add(authority.Overlap).Truncate(time.Second)) {
		t.Errorf("%+v", chains)
	}
	if !chains[0].Certificates[1].Equal(chains[1].Certificates[1]) {
		t.Error("a new leaf key must stay under the root that is trusted already")
	}
	if err := b.Rotate(t.Context(), newKey(t, elliptic.P256()), nil); err != nil {
		t.Fatal(err)
	}
	verifyStamp(t, stamp(t, b), b.verifyOptions())
	if err := b.Rotate(t.Context(), nil, old); !errors.Is(err, authority.ErrRetired) {
		t.Errorf("a replaced key returns: %v", err)
	}
	if len(b.Chains()) != 3 {
		t.Errorf("%d chains", len(b.Chains()))
	}
}

// TestTimestampRecordWithoutWindows: records of before windows were kept.
func TestTimestampRecordWithoutWindows(t *testing.T) {
	b := open(t)
	if err := b.Rotate(t.Context(), nil, newKey(t, elliptic.P256())); err != nil {
		t.Fatal(err)
	}
	o, err := b.config.Objects.Get(t.Context(), "certificate", "timestamp")
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(o.Body, &kept); err != nil {
		t.Fatal(err)
	}
	delete(kept, "windows")
	o.Body = mustJSON(t, kept)
	if _, err := b.config.Objects.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.config.Leaf = newKey(t, elliptic.P256())
	chains := b.reopen(t).Chains()
	leaf := chains[0].Certificates[0]
	if len(chains) != 3 || !chains[0].Start.Equal(leaf.NotBefore) || chains[0].End == nil || !chains[0].End.Equal(leaf.NotAfter) {
		t.Errorf("%+v", chains[0])
	}
}

func stamp(t testing.TB, b *bench) []byte {
	t.Helper()
	response, err := b.Stamp(t.Context(), []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func verifyStamp(t testing.TB, response []byte, options verification.VerifyOpts) {
	t.Helper()
	if _, err := verification.VerifyTimestampResponse(response, strings.NewReader("m"), options); err != nil {
		t.Error(err)
	}
}
