package verifier_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// notaryPolicy trusts the holder of a name below a root; more are further fields
// of the authority.
func notaryPolicy(root *x509.Certificate, subject, more string) string {
	pem, _ := json.Marshal(string(testauthority.CertificatePEM(root)))
	return fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    partner: {x509: {roots: %s, subjects: [%q]%s}}
  require: {signature: {by: partner}}
`, pem, subject, more)
}

const acme = "C=US, ST=WA, O=acme"

func envelopeTypes() []string { return []string{notary.MediaTypeJWS, notary.MediaTypeCOSE} }

// notaryWorld is a world whose one policy trusts a CA of the Notary Project.
func notaryWorld(t *testing.T) (*world, *testauthority.NotaryCA, attest.Digest, string, int) {
	t.Helper()
	w := newWorld(t)
	ca := testauthority.NewNotaryCA(t, "acme CA")
	digest, image := w.image("app")
	w.policies.put(t, notaryPolicy(ca.Root, acme, ""))
	return w, ca, digest, image, len(w.registry.manifests[digest])
}

func (w *world) attachEnvelope(digest attest.Digest, mediaType string, envelope []byte) {
	w.registry.detach(digest)
	w.registry.attach(digest, registry.Attachment{
		Format: registry.FormatNotation, Envelope: &registry.Envelope{MediaType: mediaType, Content: envelope},
	})
}

// TestNotaryAttacks changes one thing of an envelope that is accepted, in both
// forms.
func TestNotaryAttacks(t *testing.T) {
	const skip = `, revocation: skip`
	type attack struct {
		name   string
		change func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft)
		tamper func(string) string
		policy func(ca *testauthority.NotaryCA) string
		want   policy.Code // empty: a control of its own
	}
	reissue := func(change func(*x509.Certificate)) func(*testing.T, *world, *testauthority.NotaryCA, *testauthority.NotaryDraft) {
		return func(_ *testing.T, _ *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Chain = ca.Issue(d.Key.Public(), change)
		}
	}
	signedBefore := func(w *world) time.Time { return w.signedAt.AddDate(-2, 0, 0) }
	old := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	attacks := []attack{
		{name: "A1 another image", want: policy.SubjectMismatch, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Payload = strings.Replace(d.Payload, `"digest":"sha256:`, `"digest":"sha256:`+strings.Repeat("0", 64)+`","x":"`, 1)
		}},
		{name: "A1 another size", want: policy.SubjectMismatch, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Payload = strings.Replace(d.Payload, `"size":`, `"size":9`, 1)
		}},
		{name: "A9 duplicate digest", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Payload = strings.Replace(d.Payload, `"size":`, `"size":0,"size":`, 1)
		}},
		{name: "another root of the same name", want: policy.CertificateInvalid, change: func(t *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Chain = testauthority.NewNotaryCA(t, "acme CA").Issue(d.Key.Public(), nil)
		}},
		{name: "the trusted root at the end of another chain", want: policy.CertificateInvalid, change: func(t *testing.T, _ *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Chain = append(testauthority.NewNotaryCA(t, "acme CA").Issue(d.Key.Public(), nil), ca.Root)
		}},
		{name: "a chain without its intermediate", want: policy.CertificateInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Chain = []*x509.Certificate{d.Chain[0], d.Chain[2]}
		}},
		{name: "a certificate of another key", want: policy.SignatureInvalid, change: func(t *testing.T, _ *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Chain = ca.Issue(testauthority.NewECDSA(t).Public(), nil)
		}},
		{name: "J2 expired signature", want: policy.SignatureExpired, change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Expiry = w.signedAt.Add(time.Hour)
		}},
		{name: "a signature that expires later", change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Expiry = w.signedAt.AddDate(1, 0, 0)
		}},
		{name: "D1 expired certificate without a timestamp", want: policy.CertificateExpired, change: reissue(old)},
		{name: "expired certificate with a timestamp of when it was valid", change: func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			reissue(old)(t, w, ca, d)
			d.Stamp = func(b []byte) []byte { return w.authority.Stamp(b, signedBefore(w)) }
		}},
		{name: "expired certificate with a later timestamp", want: policy.CertificateExpired, change: func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			reissue(old)(t, w, ca, d)
			d.Stamp = func(b []byte) []byte { return w.authority.Stamp(b, w.signedAt) }
		}},
		{name: "D5 timestamp of an authority that is not trusted", want: policy.CertificateExpired, change: func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			reissue(old)(t, w, ca, d)
			d.Stamp = func(b []byte) []byte { return w.authority.ForeignStamp(b, signedBefore(w)) }
		}},
		{name: "forged timestamp", want: policy.TimestampInvalid, change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Stamp = func(b []byte) []byte { return w.authority.ForgedStamp(b, w.signedAt) }
		}},
		{name: "B6 timestamp of another signature", want: policy.TimestampInvalid, change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Stamp = func([]byte) []byte { return w.authority.Stamp([]byte("another"), w.signedAt) }
		}},
		{name: "no timestamp where one is required", want: policy.TimestampMissing, policy: func(ca *testauthority.NotaryCA) string {
			return notaryPolicy(ca.Root, acme, ", timestamp: required")
		}},
		{name: "a timestamp where one is required", change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Stamp = func(b []byte) []byte { return w.authority.Stamp(b, w.signedAt) }
		}, policy: func(ca *testauthority.NotaryCA) string { return notaryPolicy(ca.Root, acme, ", timestamp: required") }},
		{name: "expired certificate with a timestamp where none is believed", want: policy.CertificateExpired, change: func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			reissue(old)(t, w, ca, d)
			d.Stamp = func(b []byte) []byte { return w.authority.Stamp(b, signedBefore(w)) }
		}, policy: func(ca *testauthority.NotaryCA) string { return notaryPolicy(ca.Root, acme, ", timestamp: ignored") }},
		{name: "D9 certificate for TLS", want: policy.CertificateInvalid, change: reissue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{name: "D9 certificate for anything", want: policy.CertificateInvalid, change: reissue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })},
		{name: "certificate without extended usages", change: reissue(func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
		{name: "D8 certificate of an authority", want: policy.CertificateInvalid, change: reissue(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })},
		{name: "E7 alg none", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Algorithm = "none"
		}},
		{name: "E7 alg HS256", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Algorithm = "HS256"
		}},
		{name: "E7 alg of another key", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Algorithm = "ES384"
		}},
		{name: "weak key", want: policy.CertificateInvalid, change: func(t *testing.T, _ *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			key, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				t.Skip("this runtime makes no short keys")
			}
			d.Key, d.Algorithm, d.Chain = key, "PS256", ca.Issue(key.Public(), nil)
		}},
		{name: "RSA 2048", change: func(t *testing.T, _ *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			d.Key, d.Algorithm, d.Chain = key, "PS256", ca.Issue(key.Public(), nil)
		}},
		{name: "unknown critical attribute", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Critical = []string{"io.cncf.notary.verificationPlugin"}
		}},
		{name: "signing authority where none is named", want: policy.SignatureInvalid, change: func(_ *testing.T, _ *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Scheme = "notary.x509.signingAuthority"
		}},
		{name: "signing authority that is named", policy: func(ca *testauthority.NotaryCA) string {
			return notaryPolicy(ca.Root, acme, ", scheme: notary.x509.signingAuthority")
		}, change: func(t *testing.T, w *world, ca *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			reissue(old)(t, w, ca, d)
			d.Scheme, d.At = "notary.x509.signingAuthority", signedBefore(w)
		}},
		{name: "signing authority that tells the future", want: policy.TimestampInvalid, policy: func(ca *testauthority.NotaryCA) string {
			return notaryPolicy(ca.Root, acme, ", scheme: notary.x509.signingAuthority")
		}, change: func(_ *testing.T, w *world, _ *testauthority.NotaryCA, d *testauthority.NotaryDraft) {
			d.Scheme, d.At = "notary.x509.signingAuthority", w.now.Load().Add(24*time.Hour)
		}},
		{name: "D6 revocation told somewhere", want: policy.CertificateInvalid, change: reissue(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example.com/ca.crl"} })},
		{name: "D6 revocation by OCSP", want: policy.CertificateInvalid, change: reissue(func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.example.com"} })},
		{name: "revocation skipped by the policy", change: reissue(func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.example.com"} }), policy: func(ca *testauthority.NotaryCA) string {
			return notaryPolicy(ca.Root, acme, skip)
		}},
		{name: "another holder", want: policy.IdentityMismatch, change: reissue(func(c *x509.Certificate) { c.Subject.Organization = []string{"acme2"} })},
		{name: "H10 attribute twice", want: policy.IdentityMismatch, change: reissue(func(c *x509.Certificate) { c.Subject.Organization = []string{"acme", "other"} })},
		{name: "H10 name in a value", want: policy.IdentityMismatch, change: reissue(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: acme} })},
		{name: "tampered signature", want: policy.SignatureInvalid, tamper: func(s string) string { return s[:len(s)-12] + strings.Repeat("A", 8) + s[len(s)-4:] }},
	}
	for _, a := range attacks {
		for _, mediaType := range envelopeTypes() {
			t.Run(a.name+" "+mediaType, func(t *testing.T) {
				t.Attr("format", map[string]string{notary.MediaTypeJWS: "jws", notary.MediaTypeCOSE: "cose"}[mediaType])
				w, ca, digest, image, size := notaryWorld(t)
				w.attachEnvelope(digest, mediaType, ca.Notary(mediaType, digest, size, w.signedAt).Envelope())
				w.wantPassed(image) // the control

				d := ca.Notary(mediaType, digest, size, w.signedAt)
				if a.change != nil {
					a.change(t, w, ca, d)
				}
				if a.policy != nil {
					w.policies.put(t, a.policy(ca))
				}
				envelope := string(d.Envelope())
				if a.tamper != nil {
					if mediaType == notary.MediaTypeJWS {
						t.Skip("TestNotaryTamperedJWS")
					}
					envelope = a.tamper(envelope)
				}
				w.attachEnvelope(digest, mediaType, []byte(envelope))
				w.setNow(w.now.Load().Add(2 * time.Minute))
				if a.want == "" {
					w.wantPassed(image)
				} else {
					w.wantFailed(image, a.want)
				}
			})
		}
	}
}

// TestNotaryTamperedJWS changes each part of a JWS envelope.
func TestNotaryTamperedJWS(t *testing.T) {
	w, ca, digest, image, size := notaryWorld(t)
	good := ca.Notary(notary.MediaTypeJWS, digest, size, w.signedAt).Envelope()
	other := ca.Notary(notary.MediaTypeJWS, digest, size, w.signedAt.Add(time.Second)).Envelope()
	w.attachEnvelope(digest, notary.MediaTypeJWS, good)
	w.wantPassed(image)
	for _, part := range []string{"protected", "header", "signature"} {
		var a, b map[string]json.RawMessage
		if json.Unmarshal(good, &a) != nil || json.Unmarshal(other, &b) != nil {
			t.Fatal("not JSON")
		}
		a[part] = b[part]
		mixed, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		w.attachEnvelope(digest, notary.MediaTypeJWS, mixed)
		w.setNow(w.now.Load().Add(2 * time.Minute))
		w.wantFailed(image, policy.SignatureInvalid)
	}
	// A second envelope that is no good hides nothing.
	w.registry.attach(digest, registry.Attachment{Format: registry.FormatNotation, Envelope: &registry.Envelope{MediaType: notary.MediaTypeJWS, Content: good}})
	w.setNow(w.now.Load().Add(2 * time.Minute))
	w.wantPassed(image)
}

// TestNotaryTimestampRoots: authorities of which only the root is known.
func TestNotaryTimestampRoots(t *testing.T) {
	w, ca, digest, image, size := notaryWorld(t)
	old := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	attach := func(stamp func([]byte, time.Time) []byte) {
		d := ca.Notary(notary.MediaTypeJWS, digest, size, w.signedAt)
		d.Chain = ca.Issue(d.Key.Public(), old)
		d.Stamp = func(b []byte) []byte { return stamp(b, time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)) }
		w.attachEnvelope(digest, notary.MediaTypeJWS, d.Envelope())
		w.setNow(w.now.Load().Add(2 * time.Minute))
	}
	trust := func(root *x509.Certificate) {
		pem, _ := json.Marshal(string(testauthority.CertificatePEM(root)))
		w.policies.put(t, notaryPolicy(ca.Root, acme, ", timestampRoots: "+string(pem)))
	}
	partner := testauthority.NewNamed(t, "partner")
	chain := partner.TimestampChain()
	trust(chain[len(chain)-1])
	attach(partner.CertifiedStamp)
	w.wantPassed(image)
	attach(w.authority.CertifiedStamp) // the trusted root's own do not count beside them
	w.wantFailed(image, policy.CertificateExpired)
	attach(testauthority.NewNamed(t, "another").CertifiedStamp)
	w.wantFailed(image, policy.CertificateExpired)
	attach(partner.Stamp) // nobody says who made it
	w.wantFailed(image, policy.TimestampInvalid)
	attach(func(b []byte, at time.Time) []byte { return partner.CertifiedStamp(append([]byte("x"), b...), at) })
	w.wantFailed(image, policy.TimestampInvalid)
}

// TestNotaryThreshold: row C2: one holder with two certificates is one signer.
func TestNotaryThreshold(t *testing.T) {
	w, ca, digest, image, size := notaryWorld(t)
	pem, _ := json.Marshal(string(testauthority.CertificatePEM(ca.Root)))
	w.policies.put(t, fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    one: {x509: {roots: %s, subjects: ["CN=release"]}}
    two: {x509: {roots: %s, subjects: ["O=acme"]}}
  require: {atLeast: {n: 2, of: [{signature: {by: one}}, {signature: {by: two}}]}}
`, pem, pem))
	add := func(change func(*x509.Certificate)) {
		d := ca.Notary(notary.MediaTypeJWS, digest, size, w.signedAt)
		d.Chain = ca.Issue(d.Key.Public(), change)
		w.registry.attach(digest, registry.Attachment{
			Format: registry.FormatNotation, Envelope: &registry.Envelope{MediaType: notary.MediaTypeJWS, Content: d.Envelope()},
		})
		w.setNow(w.now.Load().Add(2 * time.Minute))
	}
	add(nil)
	add(nil)
	w.wantFailed(image, policy.ThresholdNotMet)
	add(func(c *x509.Certificate) { c.Subject.CommonName = "second" })
	w.wantPassed(image)
}

// TestNotaryByManagedKey: a key authority takes its key's signature in this
// format too, logged and stamped as in every other.
func TestNotaryByManagedKey(t *testing.T) {
	w, ca, _, _, _ := notaryWorld(t)
	w.policies.put(t, releasePolicy)
	digest, image := w.image("managed")
	d := ca.Notary(notary.MediaTypeJWS, digest, len(w.registry.manifests[digest]), w.signedAt)
	d.Key, d.Chain = w.key, ca.Issue(w.key.Public(), nil)
	d.Stamp = func(b []byte) []byte { return w.authority.Stamp(b, w.signedAt) }
	envelope := d.Envelope()
	w.attachEnvelope(digest, notary.MediaTypeJWS, envelope)
	w.wantFailed(image, policy.LogEntryMissing)

	parsed, err := notary.Parse(notary.MediaTypeJWS, envelope)
	if err != nil {
		t.Fatal(err)
	}
	der, err := notary.DER(&w.key.PublicKey, parsed.Signature)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(message []byte) {
		entry := w.authority.Append("hashedrekord", "0.0.2", testauthority.HashedRekordV002(t, w.key.Public(), message, der))
		raw := testauthority.EntryJSON(t, entry)
		w.archive.items = nil
		w.archive.keep(archive.Item{Digest: digest, Repository: repository, Format: archive.FormatNotation, Notation: &archive.Notation{
			MediaType: notary.MediaTypeJWS, Envelope: envelope, LogEntry: raw,
		}})
		w.setNow(w.now.Load().Add(2 * time.Minute))
	}
	keep(parsed.Message)
	w.wantPassed(image)
	w.registry.detach(digest)
	keep([]byte("another message")) // row B1
	w.wantFailed(image, policy.LogEntryMismatch)
	if elliptic.P256() != w.key.Curve {
		t.Fatal("another key than drafts sign with")
	}
}
