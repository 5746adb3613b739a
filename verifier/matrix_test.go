package verifier_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/trust"
)

// matrixAttack is a row in every form that it applies to.
type matrixAttack struct {
	name    string // row, then what is done
	applies func(form) bool
	// spoil changes a good specimen; the same unspoiled is the control.
	spoil func(h *hall, x *specimen)
	// run, in the place of spoil, is the whole of the case.
	run  func(t *testing.T, h *hall)
	want policy.Code
	// but are other codes, by the first of the name's parts or by the signer.
	but map[string]policy.Code
}

func (a matrixAttack) code(f form) policy.Code {
	kind, _, _ := strings.Cut(f.name, "-")
	for _, name := range []string{f.name, kind, f.by} {
		if code, ok := a.but[name]; ok {
			return code
		}
	}
	return a.want
}

func logged(f form) bool        { return f.logged }
func keyed(f form) bool         { return f.by == "key" }
func byCertificate(f form) bool { return f.by != "key" }
func statements(f form) bool    { return f.statement }
func rewritable(f form) bool    { return !strings.HasPrefix(f.name, "message") }
func bundles(f form) bool {
	return f.logged && !strings.HasPrefix(f.name, "legacy") && f.name != "att" && f.name != "att-id"
}

// hexOf replaces a digest by another.
func hexOf(from, to attest.Digest) func(string) string {
	return func(s string) string { return strings.Replace(s, from.Hex(), to.Hex(), 1) }
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}

// Rows of the catalogue in every form that they apply to. What is told of only
// one form is in the tests of that form.
func TestAttackMatrix(t *testing.T) {
	other := attest.DigestOf([]byte("other"))
	attacks := append(bindingAttacks(other), logAttacks(other)...)
	attacks = append(attacks, timeAttacks()...)
	attacks = append(attacks, identityAttacks()...)
	attacks = append(attacks, policyAttacks()...)
	attacks = append(attacks, hostileAttacks()...)
	for _, f := range allForms() {
		for _, a := range attacks {
			if a.applies != nil && !a.applies(f) {
				continue
			}
			t.Run(a.name+" in "+f.name, func(t *testing.T) {
				t.Attr("format", f.name)
				h := newHall(t, f, testauthority.CAOptions{})
				if a.run != nil {
					a.run(t, h)
					return
				}
				digest, image := h.image("control")
				h.good(digest, first).attach()
				h.wantPassed(image)
				digest, image = h.image("spoiled")
				x := h.good(digest, first)
				a.spoil(h, x)
				x.attach()
				h.wantFailed(image, a.code(f))
			})
		}
	}
}

func bindingAttacks(other attest.Digest) []matrixAttack {
	return []matrixAttack{
		{name: "A1 about another digest", want: policy.SubjectMismatch, spoil: func(_ *hall, x *specimen) {
			if x.bundle != nil && x.bundle.Artifact != nil {
				x.bundle.Over([]byte("other"))
				x.relog()
				return
			}
			x.rewrite(hexOf(x.digest, other))
		}},
		{name: "A5 one of two digests wrong", applies: statements, want: policy.SubjectMismatch, spoil: func(_ *hall, x *specimen) {
			x.rewrite(replace(`"digest":{`, `"digest":{"sha512":"`+strings.Repeat("0", 128)+`",`))
		}},
		{name: "A5 digest of another algorithm", applies: func(f form) bool { return rewritable(f) && !f.statement }, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(replace("sha256:"+x.digest.Hex(), "sha1:"+x.digest.Hex()[:40]))
		}},
		{name: "A6 null subject", want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			switch {
			case x.bundle != nil && x.bundle.Artifact != nil:
				x.raw = func(s string) string { return nulled(s, "messageDigest") }
			case x.legacy != nil:
				x.rewrite(func(s string) string { return nulled(s, "image") })
			case x.notary != nil:
				x.rewrite(func(string) string { return `{"targetArtifact":null}` })
			default:
				x.rewrite(replace(`"subject":[`, `"subject":[null,`))
			}
		}},
		{name: "A6 no digest", want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			switch {
			case x.bundle != nil && x.bundle.Artifact != nil:
				x.bundle.ArtifactDigest = nil
			case x.legacy != nil, x.notary != nil:
				x.rewrite(replace(x.digest.String(), ""))
			default:
				x.rewrite(func(s string) string { return strings.Replace(s, `"sha256":"`+x.digest.Hex()+`"`, "", 1) })
			}
		}},
		{name: "A8 signature of the index on its child", run: func(_ *testing.T, h *hall) {
			index, _, children := h.index("linux/amd64", "linux/arm64")
			child := repository + "@" + children[1].String()
			x := h.good(index, first)
			x.digest = children[1]
			x.attach()
			h.wantFailed(child, policy.SubjectMismatch)
			h.later()
			h.good(children[1], first).attach()
			h.wantPassed(child)
		}},
		{name: "A9 a name twice in what is signed", applies: rewritable, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(replace("{", `{"twice":1,"twice":2,`))
		}},
		{name: "A9 data after what is signed", applies: rewritable, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(func(s string) string { return s + "{}" })
		}},
		{name: "A9 data after the attachment", want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.raw = func(s string) string { return s + "{}" }
		}},
	}
}

func logAttacks(other attest.Digest) []matrixAttack {
	return []matrixAttack{
		{name: "A2 broken signature whose good copy is in the log", applies: logged, want: policy.LogEntryMismatch, spoil: func(h *hall, x *specimen) {
			again := h.good(x.digest, first)
			if x.bundle != nil && x.h.form.by == "identity" {
				again.bundle.Certificate = x.bundle.Certificate
				again.resign()
			}
			x.transplant(again)
		}},
		{name: "B1 entry of another artifact", applies: logged, want: policy.LogEntryMismatch, spoil: func(h *hall, x *specimen) {
			another, _ := h.image("another")
			x.transplant(h.good(another, first))
		}},
		{name: "B2 entry of another artifact where no log is known", applies: func(f form) bool { return keyed(f) && logged(f) && !f.attests }, run: func(t *testing.T, h *hall) {
			h.policies.put(t, pemPolicy(t, h.key, "optional"))
			h.changeRoot(func(r *trust.Root) { r.Logs = nil })
			digest, image := h.image("control")
			h.good(digest, first).attach()
			h.wantPassed(image)
			digest, image = h.image("spoiled")
			another, _ := h.image("another")
			x := h.good(digest, first)
			x.transplant(h.good(another, first))
			x.attach()
			h.wantFailed(image, policy.LogEntryMismatch)
		}},
		{name: "B3 entry of the same signature over another document", applies: logged, want: policy.LogEntryMismatch, spoil: func(h *hall, x *specimen) {
			switch {
			case x.bundle != nil && x.bundle.Artifact != nil:
				was := x.bundle.Artifact
				x.bundle.Artifact = []byte("other")
				x.relog()
				x.bundle.Artifact = was
			case x.bundle != nil:
				was := x.bundle.Payload
				x.bundle.Payload = []byte("other")
				x.relog()
				x.bundle.Payload = was
			case x.legacy != nil:
				was := x.legacy.Payload
				x.legacy.Payload = []byte("other")
				x.relog()
				x.legacy.Payload = was
			default:
				was := x.att.Statement
				x.att.Statement = []byte("other")
				x.relog()
				x.att.Statement = was
				x.att.Wrap()
			}
		}},
		{name: "B4 log with its own key", applies: logged, want: policy.LogEntryMissing, spoil: func(h *hall, x *specimen) {
			mitm := testauthority.New(h.t)
			switch {
			case x.bundle != nil:
				x.bundle.Entries[0].LogId.KeyId = mitm.LogID()
			case x.legacy != nil:
				x.legacy.LogID, x.legacy.Promise = mitm.LogID(), mitm.SET(x.legacy.Body, x.legacy.At, x.legacy.Index)
			default:
				x.att.LogID, x.att.Promise = mitm.LogID(), mitm.SET(x.att.Body, x.att.At, x.att.Index)
			}
		}},
		{name: "B5 proof against another tree", applies: func(f form) bool { return bundles(f) && f.version != "0.1" }, want: policy.InclusionProofInvalid, spoil: func(h *hall, x *specimen) {
			p := x.bundle.Entries[0].InclusionProof
			p.RootHash = bytes.Repeat([]byte{7}, 32)
			p.Checkpoint.Envelope = h.authority.Checkpoint(testauthority.Origin, int(p.TreeSize), p.RootHash)
		}},
		{name: "B6 another integrated time", applies: logged, want: policy.InclusionProofInvalid, spoil: func(_ *hall, x *specimen) {
			switch {
			case x.bundle != nil:
				x.bundle.Entries[0].IntegratedTime = x.bundle.At.Add(-time.Minute).Unix()
			case x.legacy != nil:
				x.legacy.IntegratedTime = x.legacy.IntegratedTime.Add(-time.Minute)
			default:
				x.att.IntegratedTime = x.att.IntegratedTime.Add(-time.Minute)
			}
		}, but: map[string]policy.Code{
			"bundle": policy.TimestampInvalid, "attested": policy.TimestampInvalid, "message": policy.TimestampInvalid, "message-id": policy.InclusionProofInvalid,
		}},
		{name: "C1 an entry twice", applies: bundles, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.bundle.Entries = append(x.bundle.Entries, x.bundle.Entries[0])
		}},
		{name: "H2 more entries than are read", applies: bundles, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			for range 64 {
				x.bundle.Entries = append(x.bundle.Entries, x.bundle.Entries[0])
			}
		}},
		{name: "J5 stripped of the log's evidence", applies: logged, want: policy.LogEntryMissing, spoil: func(_ *hall, x *specimen) {
			switch {
			case x.bundle != nil:
				x.bundle.Entries = nil
			case x.legacy != nil:
				x.legacy.Promise = nil
			default:
				x.att.Promise = nil
			}
		}},
	}
}

func timeAttacks() []matrixAttack {
	return []matrixAttack{
		{name: "B6 timestamp of another signature", want: policy.TimestampInvalid, spoil: func(h *hall, x *specimen) {
			x.stamp(func([]byte) []byte { return h.authority.Stamp([]byte("another"), h.signedAt) })
		}},
		{name: "D1 certificate of an authority that had ended", applies: byCertificate, run: func(t *testing.T, h *hall) {
			end := h.signedAt.Add(5 * time.Minute) // the leaf lives five minutes longer
			h = newHall(t, h.form, testauthority.CAOptions{IssuingEnd: end})
			if h.form.by == "x509" {
				digest, image := h.image("control")
				h.good(digest, first).attach()
				h.wantPassed(image)
				digest, image = h.image("spoiled")
				x := h.good(digest, first)
				x.notary.Chain = h.notary.Issue(x.notary.Key.Public(), func(c *x509.Certificate) {
					c.Subject.CommonName, c.NotAfter = commonNameOf(first), h.signedAt.Add(-time.Hour)
				})
				x.attach()
				h.wantFailed(image, policy.CertificateExpired)
				return
			}
			issuedAt := h.signedAt
			for after, fails := range map[time.Duration]bool{4 * time.Minute: false, 6 * time.Minute: true} {
				digest, image := h.image(after.String())
				x := h.good(digest, first)
				x.at(issuedAt.Add(after))
				x.attach()
				if fails {
					h.wantFailed(image, policy.CertificateExpired)
				} else {
					h.wantPassed(image)
				}
			}
		}},
		{name: "D2 key in use only later", applies: keyed, run: func(t *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			later := h.signedAt.Add(time.Hour)
			h.world.keys.version("release", func(v *keys.Version) { v.ActivatedAt = &later })
			h.wantFailed(image, policy.KeyOutsideWindow)
		}},
		{name: "D3 timestamp by a look-alike authority", want: policy.TimestampInvalid, spoil: func(h *hall, x *specimen) {
			x.stamp(func(over []byte) []byte { return h.authority.ForgedStamp(over, h.signedAt) })
		}},
		{name: "D5 D6 timestamp authority lost before, another open", run: func(t *testing.T, h *hall) {
			digest, image := h.image("app")
			x := h.good(digest, first)
			x.stamp(func(over []byte) []byte { return h.authority.Stamp(over, h.signedAt) })
			if x.notary != nil { // where the time is needed
				x.notary.Chain = h.notary.Issue(x.notary.Key.Public(), func(c *x509.Certificate) {
					c.Subject.CommonName, c.NotAfter = commonNameOf(first), h.signedAt.Add(time.Hour)
				})
			}
			x.attach()
			h.wantPassed(image)
			h.changeRoot(func(r *trust.Root) {
				lost := h.signedAt.Add(-time.Hour)
				r.TimestampAuthorities[0].End = &lost
				another := testauthority.New(t).Root().TimestampAuthorities[0]
				another.URI += "/2"
				r.TimestampAuthorities = append(r.TimestampAuthorities, another)
			})
			h.wantFailed(image, policy.TimestampInvalid)
		}},
		{name: "J2 replay of what a revoked key signed", applies: keyed, run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			now := *h.now.Load()
			h.world.keys.version("release", func(v *keys.Version) { v.State, v.RevokedAt = keys.Compromised, &now })
			h.wantFailed(image, policy.KeyRevoked)
		}},
	}
}

func identityAttacks() []matrixAttack {
	holder := func(change func(*testauthority.CertificateRequest), named func(*x509.Certificate)) func(*hall, *specimen) {
		return func(h *hall, x *specimen) {
			if x.notary != nil {
				x.notary.Chain = h.notary.Issue(x.notary.Key.Public(), func(c *x509.Certificate) {
					c.Subject.CommonName = commonNameOf(first)
					named(c)
				})
				return
			}
			ask := h.ask()
			change(&ask)
			x.certify(h.ca.Issue(h.key.Public(), ask))
			x.resign()
		}
	}
	return []matrixAttack{
		{name: "D7 empty signature", want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) { x.unsigned([]byte{}) }},
		{name: "D7 zero signature", want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) { x.unsigned(make([]byte, 64)) }},
		{name: "D9 certificate for anything", applies: byCertificate, want: policy.CertificateInvalid, spoil: holder(
			func(r *testauthority.CertificateRequest) { r.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
			func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })},
		{name: "E2 name within a longer one", applies: byCertificate, want: policy.IdentityMismatch, spoil: holder(
			func(r *testauthority.CertificateRequest) { r.Subject = "https://evil.io/?x=" + ciSubject },
			func(c *x509.Certificate) { c.Subject.CommonName = "x,CN=release" })},
		{name: "E5 longer name", applies: byCertificate, want: policy.IdentityMismatch, spoil: holder(
			func(r *testauthority.CertificateRequest) { r.Subject += "2" },
			func(c *x509.Certificate) { c.Subject.CommonName = "release2" })},
		{name: "E7 signature by another algorithm", want: policy.SignatureInvalid, spoil: func(h *hall, x *specimen) {
			_, private, err := ed25519.GenerateKey(nil)
			if err != nil {
				h.t.Fatal(err)
			}
			switch {
			case x.bundle != nil:
				x.unsigned(ed25519.Sign(private, x.bundle.Message()))
			case x.legacy != nil:
				x.unsigned(ed25519.Sign(private, x.legacy.Payload))
			case x.att != nil:
				x.unsigned(ed25519.Sign(private, x.att.Message()))
			default:
				x.notary.Algorithm = "PS256"
			}
		}},
		{name: "signed by somebody else", run: func(_ *testing.T, h *hall) {
			want := map[string]policy.Code{"key": policy.UntrustedKey}[h.form.by]
			if want == "" {
				want = policy.IdentityMismatch
			}
			digest, image := h.image("app")
			h.good(digest, stranger).attach()
			h.wantFailed(image, want)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
	}
}
