package verifier_test

import (
	"crypto/x509"
	"testing"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/revocation"
	"github.com/countersign/countersign/verifier"
)

// Row D6: what the authority revoked is refused in both forms, within the time
// that an answer counts; a certificate that nobody speaks of is, too.
func TestRevokedCertificate(t *testing.T) {
	for _, mediaType := range envelopeTypes() {
		t.Run(mediaType, func(t *testing.T) {
			checker, err := revocation.New(revocation.Config{PrivateHosts: []string{"127.0.0.1"}})
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, func(c *verifier.Config) { c.Revocations = checker })
			ca := testauthority.NewNotaryCA(t, "acme CA")
			r := ca.Revoker()
			attach := func(name string, change func(*x509.Certificate)) (*x509.Certificate, string) {
				digest, image := w.image(name)
				d := ca.Notary(mediaType, digest, len(w.registry.manifests[digest]), w.signedAt)
				d.Chain = ca.Issue(d.Key.Public(), change)
				w.attachEnvelope(digest, mediaType, d.Envelope())
				return d.Chain[0], image
			}
			w.policies.put(t, notaryPolicy(ca.Root, acme, ""))
			for name, points := range map[string]func(*x509.Certificate){
				"list":      func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} },
				"responder": func(c *x509.Certificate) { c.OCSPServer = []string{r.URL + "/ocsp"} },
			} {
				_, good := attach("good-"+name, points)
				w.wantPassed(good)
				cert, bad := attach("bad-"+name, points)
				r.Revoke(cert)
				w.wantFailed(bad, policy.CertificateRevoked)
			}
			_, silent := attach("silent", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/nothing"} })
			w.wantFailed(silent, policy.CertificateInvalid)

			// One below another root makes this service ask nobody.
			asked := r.Asked.Load()
			digest, image := w.image("stranger")
			other := testauthority.NewNotaryCA(t, "acme CA")
			d := other.Notary(mediaType, digest, len(w.registry.manifests[digest]), w.signedAt)
			d.Chain = other.Issue(d.Key.Public(), func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} })
			w.attachEnvelope(digest, mediaType, d.Envelope())
			w.wantFailed(image, policy.CertificateInvalid)
			if n := r.Asked.Load(); n != asked {
				t.Errorf("a publisher's certificate made this service ask %d times", n-asked)
			}
		})
	}
}
