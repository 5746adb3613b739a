package verifier_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
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

func policyAttacks() []matrixAttack {
	somebody := func(h *hall) policy.Code {
		if h.form.by == "key" {
			return policy.UntrustedKey
		}
		return policy.IdentityMismatch
	}
	return []matrixAttack{
		{name: "C2 one signer under two names", run: func(_ *testing.T, h *hall) {
			h.require(`{atLeast: {n: 2, of: [` + h.leaf("one") + "," + h.leaf("copy") + "," + h.leaf("two") + `]}}`)
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.good(digest, first).attach()
			h.wantFailed(image, policy.ThresholdNotMet)
			h.later()
			h.good(digest, second).attach()
			h.wantPassed(image)
		}},
		{name: "C4 bad ones first", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			for range 3 {
				h.good(digest, stranger).attach()
			}
			h.wantFailed(image, somebody(h))
			h.later()
			h.good(digest, first).attach()
			h.good(digest, stranger).attach()
			h.wantPassed(image)
		}},
		{name: "F1 F3 nothing attached", run: func(_ *testing.T, h *hall) {
			want := policy.NoSignature
			if h.form.attests {
				want = policy.AttestationMissing
			}
			digest, image := h.image("app")
			h.wantFailed(image, want)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "F1 F2 of another kind", applies: statements, run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			x := h.good(digest, first)
			from, to := testauthority.SignPredicateType, "https://slsa.dev/provenance/v1"
			if h.form.attests {
				from, to = ownType, ownType+"x"
			}
			x.rewrite(replace(from, to))
			x.attach()
			h.wantFailed(image, policy.PredicateTypeMismatch)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "F2 malformed payload", applies: rewritable, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(func(s string) string { return s[:len(s)/2] })
		}},
		{name: "F5 second of two missing, then broken", run: func(_ *testing.T, h *hall) {
			h.require(`{all: [` + h.leaf("one") + "," + h.leaf("two") + `]}`)
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantFailed(image, somebody(h))
			h.later()
			x := h.good(digest, second)
			x.unsigned(make([]byte, 64))
			x.attach()
			if r := h.verify(image).Results[0]; r.Verdict != policy.Failed {
				h.t.Fatalf("%+v", r)
			}
			h.later()
			h.good(digest, second).attach()
			h.wantPassed(image)
		}},
		{name: "F7 no policy covers it", run: func(t *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			h.wantFailed("other.example.com/team/app@"+digest.String(), policy.NoPolicy)
		}},
		{name: "G3 tag moves between reads", run: func(_ *testing.T, h *hall) {
			good, _ := h.image("good")
			bad, _ := h.image("bad")
			h.good(good, first).attach()
			h.registry.tag("1.4", good)
			h.registry.beforeRead = func(context.Context, registry.Reference) error { h.registry.tag("1.4", bad); return nil }
			if r := h.wantPassed(repository + ":1.4"); r.Digest != good.String() {
				h.t.Errorf("judged %s", r.Digest)
			}
			x := h.good(good, first)
			x.digest = bad
			x.attach()
			h.wantFailed(repository+":1.4", policy.SubjectMismatch)
		}},
		{name: "H11 condition that costs too much", applies: func(f form) bool { return f.attests }, run: func(_ *testing.T, h *hall) {
			for condition, want := range map[string]policy.Code{
				"predicate.n.all(a, a >= 0)": "",
				"predicate.n.all(a, predicate.n.all(b, predicate.n.all(c, predicate.n.all(d, a + b + c + d >= 0))))": policy.ConditionError,
			} {
				h.require(fmt.Sprintf(`{attestation: {predicateType: %q, by: one, condition: %q}}`, ownType, condition))
				digest, image := h.image(condition)
				x := h.good(digest, first)
				x.rewrite(replace(`{"a":1}`, `{"n":[`+strings.Repeat("0,", 4000)+"0]}"))
				x.attach()
				if want == "" {
					h.wantPassed(image)
				} else {
					h.wantFailed(image, want)
				}
			}
		}},
		{name: "J3 policy changes after it is remembered", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			if !h.wantPassed(image).Cached {
				h.t.Error("the control is not remembered")
			}
			h.require("two")
			h.wantFailed(image, somebody(h))
		}},
	}
}

func hostileAttacks() []matrixAttack {
	return []matrixAttack{
		{name: "A1 other bytes under the digest", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			digest, image = h.image("lied about")
			h.good(digest, first).attach()
			h.registry.lie[digest] = []byte(`{"schemaVersion":2}`)
			h.wantFailed(image, policy.DigestMismatch)
		}},
		{name: "H1 H3 more than is read", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
			h.wantFailed(image, policy.LimitExceeded)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "H2 more subjects than are read", applies: statements, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(replace(`"subject":[`, `"subject":[`+strings.Repeat(`{"digest":{"sha256":"`+x.digest.Hex()+`"}},`, 1024)))
		}},
		{name: "H7 null in the place of each part", run: func(t *testing.T, h *hall) {
			digest, image := h.image("control")
			h.good(digest, first).attach()
			h.wantPassed(image)
			digest, image = h.image("spoiled")
			for i := range 200 {
				x, more, neutral := h.good(digest, first), false, false
				x.raw = func(s string) (out string) {
					out, more = nullAt(s, i)
					neutral = out == s || strings.Contains(out, `"hint":null`) // a hint is only a hint
					return out
				}
				h.registry.detach(digest)
				x.attach()
				if !more {
					return
				}
				h.later()
				r := h.verify(image).Results[0]
				if !neutral && (r.Verdict != policy.Failed || len(r.Reasons) == 0) {
					t.Errorf("null %d: %+v", i, r)
				} else if !neutral {
					t.Attr("verdict", "FAILED "+string(r.Reasons[0].Code))
				}
			}
			t.Error("more nulls than the test tries")
		}, applies: func(f form) bool { return f.by != "x509" || f.name == "jws" }},
		{name: "H9 deep nesting", want: policy.SignatureInvalid, spoil: func(h *hall, x *specimen) {
			x.raw = func(string) string {
				if h.form.name == "cose" {
					return strings.Repeat("\x81", 100_000)
				}
				return `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"
			}
		}},
		{name: "H10 deep ASN.1 in the place of a certificate", applies: func(f form) bool { return f.by == "x509" }, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.notary.Chain = append(x.notary.Chain, &x509.Certificate{Raw: bytes.Repeat([]byte{0x30, 0x80}, 50_000)})
		}},
		{name: "H10 more certificates than are read", applies: func(f form) bool { return f.by == "x509" }, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			for range 1000 {
				x.notary.Chain = append(x.notary.Chain, x.notary.Chain[1])
			}
		}},
	}
}

// later is past the time for which a refusal is remembered.
func (h *hall) later() { h.setNow(h.now.Load().Add(2 * time.Minute)) }

// certify changes the certificate that the specimen's key is of.
func (x *specimen) certify(c *x509.Certificate) {
	switch {
	case x.bundle != nil:
		x.bundle.Certificate = c
	case x.legacy != nil:
		x.legacy.Certificate = c
	case x.att != nil:
		x.att.Certificate = c
	}
}

// at signs again at another time.
func (x *specimen) at(t time.Time) {
	switch {
	case x.bundle != nil:
		x.bundle.At = t
	case x.legacy != nil:
		x.legacy.At = t
	case x.att != nil:
		x.att.At = t
	}
	x.resign()
}

// nulled puts null in the place of a member, which must be an object.
func nulled(s, name string) string {
	i := strings.Index(s, fmt.Sprintf("%q:", name))
	if i < 0 {
		return s
	}
	start := i + len(name) + 3
	end := start + strings.Index(s[start:], "}") + 1
	return s[:start] + "null" + s[end:]
}

// nullAt puts null in the place of the member or element number n of a JSON
// document, in the order of names; more reports whether there is one.
func nullAt(s string, n int) (out string, more bool) {
	var tree any
	if err := json.Unmarshal([]byte(s), &tree); err != nil {
		return s, false
	}
	var visit func(node any)
	visit = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(node)) {
				if n--; n == -1 {
					node[name], more = nil, true
					return
				}
				visit(node[name])
			}
		case []any:
			for i := range node {
				if n--; n == -1 {
					node[i], more = nil, true
					return
				}
				visit(node[i])
			}
		}
	}
	visit(tree)
	raw, err := json.Marshal(tree)
	if err != nil {
		return s, false
	}
	return string(raw), more
}
