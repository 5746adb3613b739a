package verifier_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

const (
	ciIssuer  = "https://token.actions.githubusercontent.com"
	ciSubject = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
)

// ciPolicy trusts one identity.
func ciPolicy(who string) string {
	return `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    ci: {identity: ` + who + `}
  require: {signature: {by: ci}}
`
}

func exactly(issuer, subject string) string {
	return fmt.Sprintf("{issuer: %q, subject: %q}", issuer, subject)
}

// certified is a world that trusts a certificate authority.
type certified struct {
	*world
	ca *testauthority.CA
	// roots are those of others.
	others *memoryRoots
}

type memoryRoots struct{ roots map[string]trust.Root }

func (m *memoryRoots) TrustRoot(_ context.Context, name string) (trust.Root, error) {
	if name == "broken" {
		return trust.Root{}, errors.New("disk on fire")
	}
	root, ok := m.roots[name]
	if !ok {
		return trust.Root{}, store.ErrNotFound
	}
	return root, nil
}

func newCertified(t testing.TB, o testauthority.CAOptions) *certified {
	t.Helper()
	c := &certified{ca: testauthority.NewCA(t, o), others: &memoryRoots{roots: map[string]trust.Root{}}}
	c.world = newWorld(t, func(config *verifier.Config) { config.Roots = c.others })
	c.trust(c.ca.Trust(c.authority.Root()))
	c.policies.put(t, ciPolicy(exactly(ciIssuer, ciSubject)))
	return c
}

func (c *certified) trust(root trust.Root) { c.root.Store(&root) }

// ask is the certificate request of the honest workflow.
func (c *certified) ask() testauthority.CertificateRequest {
	return testauthority.CertificateRequest{
		Issuer: ciIssuer, Subject: ciSubject, At: c.signedAt,
		Extensions: map[int]string{
			5: "acme/app", 11: "github-hosted", 12: "https://github.com/acme/app", 14: "refs/heads/main", 24: "repo:acme/app:ref:refs/heads/main",
		},
	}
}

// sign makes an image with a signature by a certificate.
func (c *certified) sign(content string, edit func(*testauthority.CertificateRequest)) (image string) {
	c.t.Helper()
	request := c.ask()
	if edit != nil {
		edit(&request)
	}
	digest, image := c.image(content)
	c.attachBundle(digest, c.authority.IdentityBundle(c.ca, digest, request).JSON())
	return image
}

func TestIdentitySignature(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	// The certificate ended long ago; what counts is when it was used.
	r := c.wantPassed(c.sign("app", nil))
	evidence := r.Policies[0].Requirements[0].Evidence[0]
	if evidence.Signer != ciIssuer+" "+ciSubject || evidence.SignedAt != "2026-03-01T12:00:00Z" || evidence.LogIndex == nil {
		t.Errorf("evidence %+v", evidence)
	}
	t.Run("legacy", func(t *testing.T) {
		digest, image := c.image("legacy")
		key := testauthority.NewECDSA(t)
		cert := c.ca.Issue(key.Public(), c.ask())
		c.attachLegacy(digest, c.authority.CertifiedLegacy(cert, key, digest, c.signedAt))
		c.wantPassed(image)

		digest, image = c.image("legacy of another workflow")
		ask := c.ask()
		ask.Subject = "https://github.com/acme/app/.github/workflows/pr.yml@refs/pull/1/merge"
		c.attachLegacy(digest, c.authority.CertifiedLegacy(c.ca.Issue(key.Public(), ask), key, digest, c.signedAt))
		c.wantFailed(image, policy.IdentityMismatch)
	})
	t.Run("by a key", func(t *testing.T) {
		digest, image := c.image("by a key")
		c.attachBundle(digest, c.authority.Bundle(digest, c.key, c.signedAt).JSON())
		c.wantFailed(image, policy.UntrustedKey)
	})
}

// A certificate that is good but for one thing does not count, and the reason
// says which. The control is TestIdentitySignature.
func TestCertificateFaults(t *testing.T) {
	stranger := testauthority.NewECDSA(t)
	cases := []struct {
		name string
		edit func(*testauthority.CertificateRequest)
		want policy.Code
	}{
		{"issued after the signature", func(r *testauthority.CertificateRequest) { r.At = r.At.Add(time.Minute) }, policy.CertificateExpired},
		{"ended before the signature", func(r *testauthority.CertificateRequest) { r.Life = -time.Second; r.At = r.At.Add(-time.Minute) }, policy.CertificateExpired},
		{"without certificate timestamp", func(r *testauthority.CertificateRequest) { r.WithoutSCT = true }, policy.CertificateInvalid},
		{"certificate timestamp of a stranger", func(r *testauthority.CertificateRequest) { r.CT = stranger }, policy.CertificateInvalid},
		{"D9 for servers", func(r *testauthority.CertificateRequest) { r.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, policy.CertificateInvalid},
		{"D9 for anything", func(r *testauthority.CertificateRequest) { r.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, policy.CertificateInvalid},
		{"D9 for nothing in particular", func(r *testauthority.CertificateRequest) { r.Usage = []x509.ExtKeyUsage{} }, policy.CertificateInvalid},
		{"D9 for one more thing", func(r *testauthority.CertificateRequest) {
			r.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth}
		}, policy.CertificateInvalid},
		{"two subjects", func(r *testauthority.CertificateRequest) { r.MoreURIs = []string{"https://evil.io"} }, policy.CertificateInvalid},
		{"two issuers", func(r *testauthority.CertificateRequest) { r.Extensions[1] = "https://evil.io" }, policy.CertificateInvalid},
		{"no issuer", func(r *testauthority.CertificateRequest) { r.Issuer = "" }, policy.CertificateInvalid},
		{"another issuer", func(r *testauthority.CertificateRequest) { r.Issuer = "https://evil.io" }, policy.IdentityMismatch},
		{"E2 issuer in a query", func(r *testauthority.CertificateRequest) { r.Issuer = "https://evil.io/?x=" + ciIssuer }, policy.IdentityMismatch},
		{"another workflow", func(r *testauthority.CertificateRequest) {
			r.Subject = "https://github.com/acme/app/.github/workflows/pr.yml@refs/heads/main"
		}, policy.IdentityMismatch},
		{"E5 longer subject", func(r *testauthority.CertificateRequest) { r.Subject += "2" }, policy.IdentityMismatch},
		{"E2 subject in a query", func(r *testauthority.CertificateRequest) { r.Subject = "https://evil.io/?x=" + ciSubject }, policy.IdentityMismatch},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("format", "bundle-id")
			c := newCertified(t, testauthority.CAOptions{})
			digest, image := c.image("app")
			request := c.ask()
			tt.edit(&request)
			key := testauthority.NewECDSA(t)
			d := c.authority.CertifiedBundle(c.ca.Issue(key.Public(), request), key, digest, c.signedAt)
			c.attachBundle(digest, d.JSON())
			c.wantFailed(image, tt.want)
			c.setNow(c.now.Load().Add(time.Minute))
			c.attachBundle(digest, c.authority.IdentityBundle(c.ca, digest, c.ask()).JSON())
			c.wantPassed(image)
		})
	}
}

// What is wrong with the bundle around a good certificate.
func TestCertifiedBundleFaults(t *testing.T) {
	cases := []struct {
		name string
		edit func(*certified, *testauthority.Draft, attest.Digest)
		want policy.Code
	}{
		{"signature by another key", func(_ *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Key = testauthority.NewECDSA(d.TB())
			d.Signature = testauthority.SignP256(d.TB(), d.Key, d.Message())
		}, policy.SignatureInvalid},
		{"about another image", func(_ *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = testauthority.Statement(attest.DigestOf([]byte("other")), testauthority.SignPredicateType)
			d.Resign()
		}, policy.SubjectMismatch},
		{"an attestation", func(_ *certified, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = testauthority.Statement(digest, "https://slsa.dev/provenance/v1")
			d.Resign()
		}, policy.PredicateTypeMismatch},
		{"B1 entry of another signature", func(c *certified, d *testauthority.Draft, digest attest.Digest) {
			d.Entries = c.authority.CertifiedBundle(d.Certificate, d.Key, digest, d.At).Entries
		}, policy.LogEntryMismatch},
		{"B3 entry of the bare key", func(_ *certified, d *testauthority.Draft, _ attest.Digest) {
			cert := d.Certificate
			d.Certificate = nil
			d.Relog()
			d.Certificate = cert
		}, policy.LogEntryMismatch},
		{"B3 entry of another certificate of the key", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			cert := d.Certificate
			d.Certificate = c.ca.Issue(d.Key.Public(), c.ask())
			d.Relog()
			d.Certificate = cert
		}, policy.LogEntryMismatch},
		{"not logged", func(_ *certified, d *testauthority.Draft, _ attest.Digest) { d.Entries = nil }, policy.LogEntryMissing},
		{"not stamped", func(_ *certified, d *testauthority.Draft, _ attest.Digest) { d.Timestamps = nil }, policy.TimestampMissing},
		{"B6 forged integrated time", func(_ *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].IntegratedTime = d.At.Unix()
		}, policy.TimestampInvalid},
		{"B6 forged integrated time alone", func(_ *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].IntegratedTime = d.At.Unix()
			d.Timestamps = nil
		}, policy.TimestampInvalid},
		{"B6 one good and one late stamp", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = append(d.Timestamps, c.authority.Stamp(d.Signature, d.At.Add(time.Hour)))
		}, policy.CertificateExpired},
		{"B6 one good and one backdated stamp", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = append(d.Timestamps, c.authority.Stamp(d.Signature, d.At.Add(-time.Hour)))
		}, policy.CertificateExpired},
		{"D2 stamped when the certificate had ended", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{c.authority.Stamp(d.Signature, d.At.Add(10*time.Minute+time.Second))}
		}, policy.CertificateExpired},
		{"D3 stamp by a look-alike authority", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{c.authority.ForgedStamp(d.Signature, d.At)}
		}, policy.TimestampInvalid},
		{"D5 stamp by an authority that is not trusted", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{c.authority.ForeignStamp(d.Signature, d.At)}
		}, policy.TimestampMissing},
		{"certificate of a look-alike authority", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Certificate = testauthority.NewCA(d.TB(), testauthority.CAOptions{}).Issue(d.Key.Public(), c.ask())
			d.Resign()
		}, policy.CertificateInvalid},
		{"the authority's own certificate", func(c *certified, d *testauthority.Draft, _ attest.Digest) {
			d.Certificate = c.ca.Chain()[0]
			d.Resign()
		}, policy.SignatureInvalid},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("format", "bundle-id")
			c := newCertified(t, testauthority.CAOptions{})
			digest, image := c.image("app")
			d := c.authority.IdentityBundle(c.ca, digest, c.ask())
			control := d.JSON()
			tt.edit(c, d, digest)
			c.attachBundle(digest, d.JSON())
			c.wantFailed(image, tt.want)
			c.setNow(c.now.Load().Add(time.Minute))
			c.attachBundle(digest, control)
			c.wantPassed(image)
		})
	}
}

// D1: an issuing certificate that had ended when the signature was made.
func TestD1ExpiredIntermediate(t *testing.T) {
	end := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC) // the leaf lives five minutes longer
	c := newCertified(t, testauthority.CAOptions{IssuingEnd: end})
	for name, tt := range map[string]struct {
		after time.Duration
		want  policy.Verdict
	}{
		"before the end": {4 * time.Minute, policy.Passed},
		"at the end":     {5 * time.Minute, policy.Passed},
		"after the end":  {6 * time.Minute, policy.Failed},
	} {
		digest, image := c.image(name)
		key := testauthority.NewECDSA(t)
		cert := c.ca.Issue(key.Public(), c.ask())
		c.attachBundle(digest, c.authority.CertifiedBundle(cert, key, digest, c.signedAt.Add(tt.after)).JSON())
		if tt.want == policy.Passed {
			c.wantPassed(image)
		} else {
			c.wantFailed(image, policy.CertificateExpired)
		}
	}
}

// D5: each authority has its own window; a retired one borrows none.
func TestD5WindowsAreTheirOwn(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	image := c.sign("app", nil)
	full := c.ca.Trust(c.authority.Root())
	before, after := c.signedAt.Add(-time.Hour), c.signedAt.Add(time.Hour)
	other := testauthority.NewCA(t, testauthority.CAOptions{}) // open all the time
	cases := []struct {
		name   string
		change func(*trust.Root)
		want   policy.Code // "" passes
	}{
		{"control", func(*trust.Root) {}, ""},
		{"CA retired later", func(r *trust.Root) { r.CertificateAuthorities[0].End = &after }, ""},
		{"CA retired before", func(r *trust.Root) { r.CertificateAuthorities[0].End = &before }, policy.CertificateExpired},
		{"CA started later", func(r *trust.Root) { r.CertificateAuthorities[0].Start = after }, policy.CertificateExpired},
		{"CA retired before, another open", func(r *trust.Root) {
			r.CertificateAuthorities[0].End = &before
			*r = other.Trust(*r)
		}, policy.CertificateExpired},
		{"another CA first", func(r *trust.Root) {
			*r = other.Trust(*r)
			r.CertificateAuthorities[0], r.CertificateAuthorities[1] = r.CertificateAuthorities[1], r.CertificateAuthorities[0]
		}, ""},
		{"CA of another", func(r *trust.Root) {
			r.CertificateAuthorities = nil
			*r = other.Trust(*r)
		}, policy.CertificateInvalid},
		{"CT log retired later", func(r *trust.Root) { r.CTLogs[0].End = &after }, ""},
		{"CT log retired before", func(r *trust.Root) { r.CTLogs[0].End = &before }, policy.CertificateInvalid},
		{"no CT log", func(r *trust.Root) { r.CTLogs = nil }, policy.CertificateInvalid},
		{"no CA", func(r *trust.Root) { r.CertificateAuthorities = nil }, policy.CertificateInvalid},
		{"TSA retired before", func(r *trust.Root) { r.TimestampAuthorities[0].End = &before }, policy.TimestampInvalid},
		{"TSA retired before, another open", func(r *trust.Root) {
			r.TimestampAuthorities[0].End = &before
			another := testauthority.New(t).Root().TimestampAuthorities[0]
			another.URI += "/2"
			r.TimestampAuthorities = append(r.TimestampAuthorities, another)
		}, policy.TimestampInvalid},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("format", "bundle-id")
			c.t = t
			root := full
			root.CertificateAuthorities = append([]trust.CertificateAuthority(nil), full.CertificateAuthorities...)
			root.CTLogs = append([]trust.Log(nil), full.CTLogs...)
			root.TimestampAuthorities = append([]trust.TimestampAuthority(nil), full.TimestampAuthorities...)
			tt.change(&root)
			c.trust(root)
			if tt.want == "" {
				c.wantPassed(image)
			} else {
				c.wantFailed(image, tt.want)
			}
		})
	}
}

// Rows E1 to E3 and E5 at the verifier's door; what is refused at load is in
// package policy.
func TestIdentityPatterns(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	images := map[string]string{
		"release": c.sign("release", nil),
		"fork": c.sign("fork", func(r *testauthority.CertificateRequest) {
			r.Subject = "https://github.com/acme-evil/app/.github/workflows/release.yml@refs/heads/main"
			r.Extensions[5] = "acme-evil/app"
		}),
		"query": c.sign("query", func(r *testauthority.CertificateRequest) {
			r.Subject, r.Extensions[5] = "https://evil.io/?x="+ciSubject, "evil/x?y=acme/app"
		}),
		"host": c.sign("host", func(r *testauthority.CertificateRequest) {
			r.Subject = "https://evil.io/x.github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
			r.Extensions[5] = "x/acme/app"
		}),
		"bare": c.sign("bare", func(r *testauthority.CertificateRequest) { r.Extensions = map[int]string{} }),
	}
	cases := []struct {
		name, identity string
		pass           []string
	}{
		{"subject pattern", `{issuer: "` + ciIssuer + `", subjectPattern: "https://github.com/acme/*/.github/workflows/*@refs/heads/*"}`, []string{"release", "bare"}},
		{"claim", `{issuer: "` + ciIssuer + `", claims: {repository: acme/*}}`, []string{"release"}},
		{"exact claim", `{issuer: "` + ciIssuer + `", claims: {repository: acme/app, ref: refs/heads/main, runnerEnvironment: github-hosted, tokenSubject: "repo:acme/app:ref:refs/heads/main"}}`, []string{"release"}},
		{"claim of another value", `{issuer: "` + ciIssuer + `", claims: {ref: refs/heads/next}}`, nil},
		{"subject and claim", `{issuer: "` + ciIssuer + `", subject: "` + ciSubject + `", claims: {repository: acme/app}}`, []string{"release"}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			c.policies.put(t, ciPolicy(tt.identity))
			pass := map[string]bool{}
			for _, name := range tt.pass {
				pass[name] = true
				c.wantPassed(images[name])
			}
			for name, image := range images {
				if !pass[name] {
					c.wantFailed(image, policy.IdentityMismatch)
				}
			}
		})
	}
}

// Two signatures by one identity count once, whatever keys and certificates
// they were made with (row C2).
func TestC2OneIdentityCountsOnce(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	c.policies.put(t, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    one: {identity: `+exactly(ciIssuer, ciSubject)+`}
    two: {identity: {issuer: "`+ciIssuer+`", claims: {repository: acme/app}}}
  require: {atLeast: {n: 2, of: [{signature: {by: one}}, {signature: {by: two}}]}}
`)
	digest, image := c.image("app")
	for range 2 {
		c.attachBundle(digest, c.authority.IdentityBundle(c.ca, digest, c.ask()).JSON())
	}
	c.wantFailed(image, policy.ThresholdNotMet)
	c.setNow(c.now.Load().Add(time.Minute))
	other := c.ask()
	other.Subject = "https://github.com/acme/app/.github/workflows/scan.yml@refs/heads/main"
	c.attachBundle(digest, c.authority.IdentityBundle(c.ca, digest, other).JSON())
	c.wantPassed(image)
}

// Another's trusted root is used for what names it and for nothing else.
func TestOtherTrustRoots(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	partner, partnerCA := testauthority.NewNamed(t, "partner"), testauthority.NewCA(t, testauthority.CAOptions{})
	c.others.roots["partner"] = partnerCA.Trust(partner.Root())
	ofPartner := `{issuer: "` + ciIssuer + `", subject: "` + ciSubject + `", trustRoot: partner}`

	ours := c.sign("ours", nil)
	digest, theirs := c.image("theirs")
	c.attachBundle(digest, partner.IdentityBundle(partnerCA, digest, c.ask()).JSON())
	c.wantPassed(ours)
	c.wantFailed(theirs, policy.LogEntryMissing)

	c.policies.put(t, ciPolicy(ofPartner))
	c.wantPassed(theirs)
	c.wantFailed(ours, policy.LogEntryMissing)

	// Their certificate with our log and timestamps mixes two roots.
	digest, mixed := c.image("mixed")
	c.attachBundle(digest, c.authority.IdentityBundle(partnerCA, digest, c.ask()).JSON())
	c.wantFailed(mixed, policy.LogEntryMissing)

	// A root with certificate transparency logs wants their timestamp; one
	// without cannot.
	bare := c.ask()
	bare.WithoutSCT = true
	digest, unlogged := c.image("unlogged certificate")
	c.attachBundle(digest, partner.IdentityBundle(partnerCA, digest, bare).JSON())
	c.wantFailed(unlogged, policy.CertificateInvalid)
	withoutCT := partnerCA.Trust(partner.Root())
	withoutCT.CTLogs = nil
	c.others.roots["partner"] = withoutCT
	c.policies.put(t, ciPolicy(ofPartner)) // a change of a root is a new revision
	c.wantPassed(unlogged)

	c.policies.put(t, ciPolicy(`{issuer: "`+ciIssuer+`", subject: "`+ciSubject+`", trustRoot: nobody}`))
	c.wantFailed(theirs, policy.PolicyError)
	c.policies.put(t, ciPolicy(`{issuer: "`+ciIssuer+`", subject: "`+ciSubject+`", trustRoot: broken}`))
	c.wantFailed(theirs, policy.PolicyError)
}

// A change of the certificate authorities makes remembered verdicts
// unreachable (row J3).
func TestJ3CertificateAuthorityChanges(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	image := c.sign("app", nil)
	c.wantPassed(image)
	if !c.wantPassed(image).Cached {
		t.Error("the control is not remembered")
	}
	c.trust(testauthority.NewCA(t, testauthority.CAOptions{}).Trust(c.authority.Root()))
	c.wantFailed(image, policy.CertificateInvalid)
}

func TestCheckFreshCertificate(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	digest := attest.DigestOf([]byte("fresh"))
	d := c.authority.IdentityBundle(c.ca, digest, c.ask())
	fresh := verifier.Fresh{Digest: digest, Format: registry.FormatBundle, Bundle: d.JSON(), Public: d.Key.Public(), Certificate: d.Certificate.Raw}
	if err := c.CheckFresh(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	refused := map[string]func(*verifier.Fresh){
		"another certificate": func(f *verifier.Fresh) { f.Certificate = c.ca.Issue(d.Key.Public(), c.ask()).Raw },
		"no certificate in the bundle": func(f *verifier.Fresh) {
			f.Bundle = c.authority.Bundle(digest, d.Key, c.signedAt).JSON()
		},
		"malformed certificate": func(f *verifier.Fresh) { f.Certificate = []byte("x") },
		"another image":         func(f *verifier.Fresh) { f.Digest = attest.DigestOf([]byte("other")) },
		"without timestamp in the certificate": func(f *verifier.Fresh) {
			bare := c.ask()
			bare.WithoutSCT = true
			b := c.authority.IdentityBundle(c.ca, digest, bare)
			f.Bundle, f.Certificate = b.JSON(), b.Certificate.Raw
		},
	}
	for name, change := range refused {
		f := fresh
		change(&f)
		if err := c.CheckFresh(t.Context(), f); !errors.Is(err, verifier.ErrNotFresh) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := identity.ParseHolder(c.ca.Chain()[0]); !errors.Is(err, identity.ErrHolder) {
		t.Errorf("an authority's certificate names somebody: %v", err)
	}
}
