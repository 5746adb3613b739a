package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/server/api"
)

// company is somebody's own certificate authority.
type company struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

func newCompany(t *testing.T) company {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	root, err := x509.ParseCertificate(der)
	must(t, err)
	return company{key, root}
}

// certify answers a certificate request with a chain.
func (c company) certify(t *testing.T, request string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(request))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	must(t, csr.CheckSignature())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: csr.Subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, csr.PublicKey, c.key)
	must(t, err)
	encode := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return encode(der) + encode(c.root.Raw)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func admin(t *testing.T, d *daemon.Daemon, dir string) *api.Client {
	t.Helper()
	server := httptest.NewServer(d.Handler())
	t.Cleanup(server.Close)
	client, err := api.NewClient(server.URL, token(t, dir))
	must(t, err)
	return client
}

// current is the subject of the authority in use.
func current(t *testing.T, l api.AuthorityList, name string) (subject string, retired int) {
	t.Helper()
	for _, item := range l.Items {
		if item.Name != name {
			continue
		}
		if item.End != nil {
			retired++
			continue
		}
		subject = item.Subject
	}
	return subject, retired
}

// TestImportedIssuingCertificate: the company's root certifies a key that never
// leaves; the service issues under it, also after a restart, and refuses chains
// about other keys or of no use.
func TestImportedIssuingCertificate(t *testing.T) {
	dir := t.TempDir()
	d := open(t, config(dir))
	client := admin(t, d, dir)
	acme := newCompany(t)
	requested, err := client.RequestAuthority(t.Context())
	must(t, err)
	chain := acme.certify(t, requested.Request)

	var problem *api.Problem
	own, err := client.Authorities(t.Context())
	must(t, err)
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: acme.root.Raw})
	for name, bad := range map[string]string{"no certificate": "x", "the root alone": string(other), "another key": string(other) + string(other)} {
		if _, err := client.ImportAuthority(t.Context(), api.AuthorityChain{Chain: bad}); !errors.As(err, &problem) || problem.Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := client.Authorities(t.Context()); err != nil || len(after.Items) != len(own.Items) {
		t.Errorf("a refused import changed something: %+v, %v", after, err)
	}

	imported, err := client.ImportAuthority(t.Context(), api.AuthorityChain{Chain: chain})
	must(t, err)
	subject, retired := current(t, imported, "ca")
	if retired != 1 || subject != "CN=Countersign certificate authority,O=Countersign" {
		t.Errorf("after the import: %q, %d retired", subject, retired)
	}
	if _, err := client.RotateAuthority(t.Context(), "ca"); !errors.As(err, &problem) || problem.Status != 400 {
		t.Errorf("rotating an imported certificate here: %v", err)
	}
	must(t, d.Close(t.Context()))
	again := admin(t, open(t, config(dir)), dir)
	kept, err := again.Authorities(t.Context())
	must(t, err)
	if len(kept.Items) != len(imported.Items) {
		t.Errorf("after a restart: %+v, want %+v", kept, imported)
	}
}

// TestRotationSurvivesARestart: each rotation leaves one authority in use and
// the one before with its end, in the published trusted root too.
func TestRotationSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	d := open(t, config(dir))
	client := admin(t, d, dir)
	for _, name := range []string{"ca", "ct", "tsa", "log"} {
		l, err := client.RotateAuthority(t.Context(), name)
		must(t, err)
		if subject, retired := current(t, l, name); subject == "" || retired != 1 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	var problem *api.Problem
	if _, err := client.RotateAuthority(t.Context(), "nobody"); !errors.As(err, &problem) || problem.Status != 404 {
		t.Errorf("an unknown authority: %v", err)
	}
	before, err := client.TrustedRoot(t.Context())
	must(t, err)
	must(t, d.Close(t.Context()))
	after, err := admin(t, open(t, config(dir)), dir).TrustedRoot(t.Context())
	must(t, err)
	if string(before) != string(after) {
		t.Errorf("the trusted root changed with a restart:\n%s\n%s", before, after)
	}
}
