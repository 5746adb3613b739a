package authority_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/countersign/countersign/authority"
)

// outside is somebody else's authority with an intermediate for our key.
type outside struct {
	rootKey      *ecdsa.PrivateKey
	root, middle *x509.Certificate
}

func importable(t testing.TB, w *world, issuing crypto.PublicKey, changeRoot, changeMiddle func(*x509.Certificate)) outside {
	t.Helper()
	now := w.Now()
	o := outside{rootKey: newKey(t, elliptic.P384())}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corporate root"}, NotBefore: now.AddDate(-5, 0, 0), NotAfter: now.AddDate(15, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if changeRoot != nil {
		changeRoot(template)
	}
	o.root = create(t, template, template, o.rootKey.Public(), o.rootKey)
	template = &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Corporate signing"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if changeMiddle != nil {
		changeMiddle(template)
	}
	o.middle = create(t, template, o.root, issuing, o.rootKey)
	return o
}

func create(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der)
}

// TestImportedIntermediate: somebody else's authority, taken in by rotation.
func TestImportedIntermediate(t *testing.T) {
	w := openWorld(t)
	before := w.issue(t, service())
	key := newKey(t, elliptic.P256())
	o := importable(t, w, key.Public(), nil, nil)
	chain := []*x509.Certificate{o.middle, o.root}
	if err := w.issuer.Rotate(t.Context(), authority.IssuerKeys{Issuing: key, Imported: chain}); err != nil {
		t.Fatal(err)
	}
	after := w.issue(t, service())
	if !bytes.Equal(after.Chain[0], o.middle.Raw) || !bytes.Equal(after.Chain[1], o.root.Raw) {
		t.Error("issued by another authority")
	}
	for what, c := range map[string]authority.Certificate{"before": before, "after": after} {
		if err := verifyWithStock(t, w.root(), c.Leaf, w.Now()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.config.Keys = authority.IssuerKeys{Issuing: key, CT: w.config.Keys.CT, Imported: chain}
	w.reopen(t)
	if len(w.issuer.Chains()) != 2 {
		t.Error("a restart took the chain for another one")
	}
	// Back to an authority of our own.
	if err := w.issuer.Rotate(t.Context(), authority.IssuerKeys{Root: newKey(t, elliptic.P256()), Issuing: newKey(t, elliptic.P256())}); err != nil {
		t.Fatal(err)
	}
	if err := verifyWithStock(t, w.root(), after.Leaf, w.Now()); err != nil {
		t.Error(err)
	}
}

// TestImportedRefused: D8 (who is no authority certifies nobody) and D9 (a
// usage must be named).
func TestImportedRefused(t *testing.T) {
	w := openWorld(t)
	key := newKey(t, elliptic.P256())
	good := importable(t, w, key.Public(), nil, nil)
	other := importable(t, w, newKey(t, elliptic.P256()).Public(), nil, nil)
	now := w.Now()
	chainOf := func(changeRoot, changeMiddle func(*x509.Certificate)) []*x509.Certificate {
		o := importable(t, w, key.Public(), changeRoot, changeMiddle)
		return []*x509.Certificate{o.middle, o.root}
	}
	noAuthority := func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLenZero, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
	}
	for what, chain := range map[string][]*x509.Certificate{
		"alone":             {good.middle},
		"wrong order":       {good.root, good.middle},
		"another root":      {good.middle, other.root},
		"another key":       {other.middle, other.root},
		"expired middle":    chainOf(nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }),
		"expired root":      chainOf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, nil),
		"not yet valid":     chainOf(nil, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }),
		"leaf as authority": chainOf(nil, noAuthority),
		"leaf as root":      chainOf(noAuthority, nil),
		"no usage":          chainOf(nil, func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"any usage":         chainOf(nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		"any usage too":     chainOf(nil, func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }),
		"server usage":      chainOf(nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"root for servers":  chainOf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, nil),
		"path too short":    chainOf(func(c *x509.Certificate) { c.MaxPathLenZero = true }, nil),
		"no certificates":   chainOf(nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
	} {
		if err := w.issuer.Rotate(t.Context(), authority.IssuerKeys{Issuing: key, Imported: chain}); !errors.Is(err, authority.ErrCertificate) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.issuer.Rotate(t.Context(), authority.IssuerKeys{Issuing: key, Imported: []*x509.Certificate{good.middle, good.root}}); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestNameConstraints: what an imported authority may not name is neither
// logged nor released, in whatever spelling. D9
func TestNameConstraints(t *testing.T) {
	w := openWorld(t)
	key := newKey(t, elliptic.P256())
	o := importable(t, w, key.Public(), nil, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.ExcludedURIDomains = []string{"evil.example"}
	})
	if err := w.issuer.Rotate(t.Context(), authority.IssuerKeys{Issuing: key, Imported: []*x509.Certificate{o.middle, o.root}}); err != nil {
		t.Fatal(err)
	}
	w.issue(t, generic("https://good.example/x", nil))
	logged := len(w.entries)
	for _, subject := range []string{"https://evil.example/x", "https://EVIL.example/x", "https://Evil.Example:443/x"} {
		_, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: generic(subject, nil), Public: newKey(t, elliptic.P256()).Public()})
		if !errors.Is(err, authority.ErrCertificate) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	if len(w.entries) != logged {
		t.Error("a refused certificate was logged")
	}
}
