package testauthority

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/clock"
)

// ClientCA certifies clients, servers and authorities below it.
type ClientCA struct {
	tb    testing.TB
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

// NewClientCA makes an authority with a root of that name, valid from an hour
// before now for a day.
func NewClientCA(tb testing.TB, name string) *ClientCA {
	tb.Helper()
	ca := &ClientCA{tb: tb, key: NewECDSA(tb)}
	template := authorityTemplate(name)
	ca.chain = []*x509.Certificate{issue(tb, template, template, ca.key.Public(), ca.key)}
	return ca
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: clock.System{}.Now().Add(-time.Hour), NotAfter: clock.System{}.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

// Below makes an authority certified by this one; change edits its certificate.
func (c *ClientCA) Below(name string, change func(*x509.Certificate)) *ClientCA {
	c.tb.Helper()
	below := &ClientCA{tb: c.tb, key: NewECDSA(c.tb)}
	template := authorityTemplate(name)
	if change != nil {
		change(template)
	}
	made := issue(c.tb, template, c.chain[0], below.key.Public(), c.key)
	below.chain = append([]*x509.Certificate{made}, c.chain...)
	return below
}

// Issue certifies a fresh key: for client authentication and with one DNS name,
// unless change says otherwise. The root is not part of what the holder sends.
func (c *ClientCA) Issue(change func(*x509.Certificate)) tls.Certificate {
	c.tb.Helper()
	key := NewECDSA(c.tb)
	template := &x509.Certificate{
		SerialNumber: serial(c.tb), Subject: pkix.Name{CommonName: "client"}, DNSNames: []string{"client.example.com"},
		NotBefore: clock.System{}.Now().Add(-time.Hour), NotAfter: clock.System{}.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	leaf := issue(c.tb, template, c.chain[0], key.Public(), c.key)
	out := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, between := range c.chain[:len(c.chain)-1] {
		out.Certificate = append(out.Certificate, between.Raw)
	}
	return out
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(tb, err)
	return n
}

// PEM is the authority's own certificate.
func (c *ClientCA) PEM() string { return string(CertificatePEM(c.chain[0])) }

// RootPEM is the root's certificate.
func (c *ClientCA) RootPEM() string { return string(CertificatePEM(c.chain[len(c.chain)-1])) }

// PairPEM is a certificate with its chain, and its key.
func PairPEM(tb testing.TB, pair tls.Certificate) (certificate, key []byte) {
	tb.Helper()
	for _, der := range pair.Certificate {
		certificate = append(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(tb, err)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// CertifyBelow is what the holder of an end certificate makes of it: another
// certificate, signed with its key.
func CertifyBelow(tb testing.TB, holder tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	key, ok := holder.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		tb.Fatal("not an ECDSA key")
	}
	ca := &ClientCA{tb: tb, key: key, chain: []*x509.Certificate{holder.Leaf, holder.Leaf}}
	return ca.Issue(change)
}
