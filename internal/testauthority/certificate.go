package testauthority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/countersign/countersign/trust"
)

// CA is a certificate authority for identities with its own certificate
// transparency key, built from RFC 5280, RFC 6962 section 3 and Fulcio's
// docs/oid-info.md.
type CA struct {
	tb         testing.TB
	rootKey    *ecdsa.PrivateKey
	issuingKey *ecdsa.PrivateKey
	ctKey      *ecdsa.PrivateKey
	chain      []*x509.Certificate
}

// CAOptions bend a CA; the zero value makes a good one, valid from 1990 to 2050.
type CAOptions struct {
	// IssuingEnd is when the issuing certificate ends.
	IssuingEnd time.Time
	// Organization names it; two CAs with one name differ by their keys only.
	Organization string
}

// NewCA makes a certificate authority.
func NewCA(tb testing.TB, o CAOptions) *CA {
	tb.Helper()
	if o.Organization == "" {
		o.Organization = "test authority"
	}
	end := begin().AddDate(60, 0, 0)
	if o.IssuingEnd.IsZero() {
		o.IssuingEnd = end
	}
	c := &CA{tb: tb, rootKey: NewECDSA(tb), issuingKey: NewECDSA(tb), ctKey: NewECDSA(tb)}
	rootTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(11), NotBefore: begin(), NotAfter: end,
		Subject: pkix.Name{Organization: []string{o.Organization}, CommonName: "ca root"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	root := issue(tb, rootTemplate, rootTemplate, c.rootKey.Public(), c.rootKey)
	issuing := issue(tb, &x509.Certificate{
		SerialNumber: big.NewInt(12), NotBefore: begin(), NotAfter: o.IssuingEnd,
		Subject: pkix.Name{Organization: []string{o.Organization}, CommonName: "ca issuing"},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}, root, c.issuingKey.Public(), c.rootKey)
	c.chain = []*x509.Certificate{issuing, root}
	return c
}

// Chain is the issuing certificate and the root.
func (c *CA) Chain() []*x509.Certificate { return append([]*x509.Certificate(nil), c.chain...) }

// CTPublic is the certificate transparency key.
func (c *CA) CTPublic() crypto.PublicKey { return c.ctKey.Public() }

// Trust adds the authority and its certificate transparency log to a root.
func (c *CA) Trust(r trust.Root) trust.Root {
	r.CertificateAuthorities = append(append([]trust.CertificateAuthority(nil), r.CertificateAuthorities...),
		trust.CertificateAuthority{URI: "https://ca.test.example", Chain: c.Chain(), Start: begin()})
	r.CTLogs = append(append([]trust.Log(nil), r.CTLogs...),
		trust.Log{BaseURL: "https://ct.test.example", Public: c.ctKey.Public(), Start: begin()})
	return r
}

// CertificateRequest is a certificate to be made; the zero value of a field
// makes the good one.
type CertificateRequest struct {
	// Issuer is the OIDC issuer; Subject the URI in the subject alternative
	// name.
	Issuer  string
	Subject string
	// Extensions are Fulcio extensions by the last number of their identifier.
	Extensions map[int]string
	// At is when it is issued; it is valid for ten minutes or for Life.
	At   time.Time
	Life time.Duration
	// WithoutSCT leaves the certificate timestamp out; CT signs it instead of
	// the authority's own key.
	WithoutSCT bool
	CT         *ecdsa.PrivateKey
	// Usage replaces code signing.
	Usage []x509.ExtKeyUsage
	// MoreURIs are further subject alternative names.
	MoreURIs []string
	// Raw are further extensions.
	Raw []pkix.Extension
}

// Issue makes a certificate for public.
func (c *CA) Issue(public crypto.PublicKey, r CertificateRequest) *x509.Certificate {
	c.tb.Helper()
	if r.Life == 0 {
		r.Life = 10 * time.Minute
	}
	if r.Usage == nil {
		r.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(c.tb, err)
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: r.At, NotAfter: r.At.Add(r.Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: r.Usage,
		ExtraExtensions: append(c.extensions(r), r.Raw...),
	}
	for _, name := range append([]string{r.Subject}, r.MoreURIs...) {
		u, err := url.Parse(name)
		must(c.tb, err)
		template.URIs = append(template.URIs, u)
	}
	bare := issue(c.tb, template, c.chain[0], public, c.issuingKey)
	if r.WithoutSCT {
		return bare
	}
	key := c.ctKey
	if r.CT != nil {
		key = r.CT
	}
	template.ExtraExtensions = append(template.ExtraExtensions, c.sct(key, bare, r.At))
	return issue(c.tb, template, c.chain[0], public, c.issuingKey)
}

// extensions writes the old forms (1 to 6, raw) and the new (8 and on, DER).
func (c *CA) extensions(r CertificateRequest) []pkix.Extension {
	all := map[int]string{1: r.Issuer, 8: r.Issuer}
	for number, value := range r.Extensions {
		all[number] = value
	}
	var out []pkix.Extension
	for number := 1; number <= 24; number++ {
		value, ok := all[number]
		if !ok {
			continue
		}
		raw := []byte(value)
		if number > 6 {
			var err error
			raw, err = asn1.MarshalWithParams(value, "utf8")
			must(c.tb, err)
		}
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, number}, Value: raw})
	}
	return out
}

// sct signs a certificate timestamp over a certificate without one: the
// precertificate's TBS is the certificate's without the list (RFC 6962 section
// 3.2), so the list must come last.
func (c *CA) sct(key *ecdsa.PrivateKey, bare *x509.Certificate, at time.Time) pkix.Extension {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
	issuer := sha256.Sum256(c.chain[0].RawSubjectPublicKeyInfo)
	tbs := bare.RawTBSCertificate

	signed := []byte{0, 0} // version 1, certificate_timestamp
	signed = append(signed, stamp...)
	signed = append(signed, 0, 1) // precert_entry
	signed = append(signed, issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(signed, tbs...)
	signed = append(signed, 0, 0) // no extensions
	signature := SignP256(c.tb, key, signed)

	log := sha256.Sum256(spki(c.tb, key.Public()))
	sct := append([]byte{0}, log[:]...)
	sct = append(sct, stamp...)
	sct = append(sct, 0, 0, 4, 3) // no extensions; SHA-256 with ECDSA
	sct = append(sct, vector(signature)...)
	list, err := asn1.Marshal(vector(vector(sct)))
	must(c.tb, err)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: list}
}

// vector is TLS's opaque<0..2^16-1>.
func vector(b []byte) []byte {
	return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
}

// CertificatePEM is a certificate in PEM.
func CertificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
