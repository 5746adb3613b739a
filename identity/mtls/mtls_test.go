package mtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/mtls"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testauthority"
)

// configured are issuers as the catalog gives them.
type configured []oidc.Issuer

func (c configured) ClientIssuers(context.Context) ([]mtls.Issuer, error) {
	var out []mtls.Issuer
	for _, i := range c {
		authorities, err := i.ClientAuthorities()
		if err != nil {
			return nil, err
		}
		out = append(out, mtls.Issuer{URL: i.URL, Authorities: authorities, Roles: i.Roles})
	}
	return out, nil
}

func issuer(name string, cas ...*testauthority.ClientCA) oidc.Issuer {
	bundle := ""
	for _, ca := range cas {
		bundle += ca.PEM()
	}
	return oidc.Issuer{Name: name, URL: "mtls:" + name, Kind: oidc.MTLS, CABundle: bundle, Roles: []identity.Role{identity.Signer}}
}

func authenticate(t testing.TB, pair tls.Certificate, now time.Time, issuers ...oidc.Issuer) (identity.Identity, error) {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	v, err := mtls.New(configured(issuers), clock.Func(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return v.Authenticate(t.Context(), chain)
}

func link(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The one name of a certificate, by kind.
func TestNames(t *testing.T) {
	ca := testauthority.NewClientCA(t, "farm")
	for name, tc := range map[string]struct {
		change        func(*x509.Certificate)
		subject, kind string
	}{
		"SPIFFE": {func(c *x509.Certificate) {
			c.URIs = []*url.URL{link(t, "spiffe://acme.example/ns/ci/sa/build")}
			c.DNSNames = []string{"a.example.com", "b.example.com"}
		}, "spiffe://acme.example/ns/ci/sa/build", "uri"},
		"DNS": {nil, "client.example.com", "dns"},
		"e-mail": {func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = nil, []string{"build@acme.example"}
		}, "build@acme.example", "email"},
		"subject": {func(c *x509.Certificate) {
			c.DNSNames = nil
			c.Subject = pkix.Name{CommonName: `build, "one"`, OrganizationalUnit: []string{"ci"}, Organization: []string{"Acme"}}
		}, `CN=build\, \"one\",OU=ci,O=Acme`, "dn"},
	} {
		id, err := authenticate(t, ca.Issue(tc.change), time.Now(), issuer("farm", ca))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if id.Issuer != "mtls:farm" || id.Subject != tc.subject || id.Kind != identity.KindMTLS || id.Claims["subjectType"] != tc.kind || !id.Has(identity.Signer) {
			t.Errorf("%s: %+v", name, id)
		}
		if len(id.Claims["fingerprint"]) != 64 || id.Claims["serial"] == "" || id.Claims["issuerDN"] != "CN=farm" {
			t.Errorf("%s: %+v", name, id.Claims)
		}
	}
	id, err := authenticate(t, ca.Issue(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "x", OrganizationalUnit: []string{"a", "b"}}
	}), time.Now(), issuer("farm", ca))
	if err != nil || id.Claims["ou.0"] != "a" || id.Claims["ou.1"] != "b" || id.Claims["ou"] != "" {
		t.Errorf("%+v, %v", id, err)
	}
}

// Rows D8 and D9. The control is the same certificate unspoilt.
func TestRefusals(t *testing.T) {
	ca := testauthority.NewClientCA(t, "farm")
	ours := issuer("farm", ca)
	if _, err := authenticate(t, ca.Issue(nil), time.Now(), ours); err != nil {
		t.Fatalf("the control: %v", err)
	}
	lookalike := testauthority.NewClientCA(t, "farm")
	leaf := ca.Issue(nil)
	clientEKU := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	constrained := ca.Below("constrained", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.ExcludedDNSDomains = true, []string{"secret.example.com"}
	})
	if _, err := authenticate(t, constrained.Issue(nil), time.Now(), ours); err != nil {
		t.Fatalf("the control below a constrained authority: %v", err)
	}
	dns := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	for name, tc := range map[string]struct {
		pair tls.Certificate
		now  time.Time
		by   []oidc.Issuer
	}{
		"D8 look-alike authority":                 {pair: lookalike.Issue(nil)},
		"D8 renewed by another authority":         {pair: testauthority.NewClientCA(t, "other").Issue(nil)},
		"D8 the authority's own certificate":      {pair: ca.Below("client", func(c *x509.Certificate) { c.ExtKeyUsage = clientEKU; c.DNSNames = []string{"client.example.com"} }).Issue(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })},
		"D8 certified by another client":          {pair: certifiedBy(t, leaf)},
		"D8 no issuer":                            {pair: ca.Issue(nil), by: []oidc.Issuer{}},
		"D8 two issuers vouch":                    {pair: ca.Issue(nil), by: []oidc.Issuer{ours, issuer("twin", ca)}},
		"expired":                                 {pair: ca.Issue(nil), now: time.Now().Add(2 * time.Hour)},
		"not yet valid":                           {pair: ca.Issue(nil), now: time.Now().Add(-2 * time.Hour)},
		"expired intermediate":                    {pair: ca.Below("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).Issue(nil)},
		"expired authority":                       {pair: ca.Issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(100 * time.Hour) }), now: time.Now().Add(25 * time.Hour)},
		"intermediate that is no authority":       {pair: ca.Below("leaf", func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageDigitalSignature }).Issue(nil)},
		"intermediate missing":                    {pair: cut(ca.Below("between", nil).Issue(nil))},
		"D9 for servers only":                     {pair: ca.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		"D9 for anything":                         {pair: ca.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })},
		"D9 for nothing said":                     {pair: ca.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
		"D9 below an authority for servers":       {pair: ca.Below("servers", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).Issue(nil)},
		"D9 excluded name":                        {pair: constrained.Issue(dns("secret.example.com"))},
		"D9 excluded name in other case":          {pair: constrained.Issue(dns("SECRET.Example.com"))},
		"D9 below an excluded name":               {pair: constrained.Issue(dns("x.secret.example.com"))},
		"D9 wildcard over an excluded name":       {pair: constrained.Issue(dns("*.example.com"))},
		"wildcard":                                {pair: ca.Issue(dns("*.example.com"))},
		"two DNS names":                           {pair: ca.Issue(dns("a.example.com", "b.example.com"))},
		"a DNS name that looks like another kind": {pair: ca.Issue(dns("spiffe://acme.example/build"))},
		"a DNS name that looks like a subject":    {pair: ca.Issue(dns("CN=client"))},
		"two URIs":                                {pair: ca.Issue(func(c *x509.Certificate) { c.URIs = []*url.URL{link(t, "spiffe://a/b"), link(t, "spiffe://a/c")} })},
		"no name":                                 {pair: ca.Issue(func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{} })},
		"a line break in the name":                {pair: ca.Issue(func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{CommonName: "a\nb"} })},
		"a name too long": {pair: ca.Issue(func(c *x509.Certificate) {
			c.DNSNames, c.Subject = nil, pkix.Name{CommonName: strings.Repeat("a", 2000)}
		})},
		"a key that signs nothing": {pair: ca.Issue(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		"an unknown critical extension": {pair: ca.Issue(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})},
		"nine certificates": {pair: long(ca.Issue(nil))},
		"nothing":           {},
	} {
		if tc.now.IsZero() {
			tc.now = time.Now()
		}
		if tc.by == nil {
			tc.by = []oidc.Issuer{ours}
		}
		if id, err := authenticate(t, tc.pair, tc.now, tc.by...); !errors.Is(err, mtls.ErrInvalid) || !id.IsZero() {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

// certifiedBy is a certificate that the holder of a client certificate signed.
func certifiedBy(t testing.TB, client tls.Certificate) tls.Certificate {
	t.Helper()
	return testauthority.CertifyBelow(t, client, nil)
}

func cut(pair tls.Certificate) tls.Certificate {
	pair.Certificate = pair.Certificate[:1]
	return pair
}

func long(pair tls.Certificate) tls.Certificate {
	for len(pair.Certificate) < 9 {
		pair.Certificate = append(pair.Certificate, pair.Certificate[0])
	}
	return pair
}

// An authority certified by the configured one, and a configured authority that
// is itself below another: both are good.
func TestIntermediates(t *testing.T) {
	ca := testauthority.NewClientCA(t, "root")
	between := ca.Below("between", nil)
	for name, by := range map[string]oidc.Issuer{"the root": issuer("farm", ca), "the intermediate alone": issuer("farm", between)} {
		if _, err := authenticate(t, between.Issue(nil), time.Now(), by); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := authenticate(t, ca.Issue(nil), time.Now(), issuer("farm", between)); !errors.Is(err, mtls.ErrInvalid) {
		t.Errorf("above the configured intermediate: %v", err)
	}
}

// FuzzAuthenticate: whatever a client sends, an identity has a plain name, and
// nobody is one without an authority.
func FuzzAuthenticate(f *testing.F) {
	ca := testauthority.NewClientCA(f, "farm")
	f.Add(ca.Issue(nil).Certificate[0])
	f.Add(ca.Issue(func(c *x509.Certificate) { c.DNSNames = nil }).Certificate[0])
	issuers := configured{issuer("farm", ca)}
	v, err := mtls.New(issuers, clock.System{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		id, err := v.Authenticate(t.Context(), []*x509.Certificate{c})
		switch {
		case err != nil && (!errors.Is(err, mtls.ErrInvalid) || !id.IsZero()):
			t.Errorf("%+v, %v", id, err)
		case err == nil && (id.Subject == "" || strings.ContainsAny(id.Subject, "\n\r\x00")):
			t.Errorf("%q", id.Subject)
		}
	})
}
