package verifier_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// requiring is releasePolicy with another requirement, and an identity.
func requiring(require string) string {
	return `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    release: {key: {name: release}}
    second: {key: {name: second}}
    ci: {identity: {issuer: "https://issuer.example", subject: "https://ci.example/acme/app/build.yml@refs/heads/main"}}
  require: ` + require + "\n"
}

const (
	scanType  = predicate.CosignVuln
	wantsScan = `{attestation: {predicateType: vuln, by: release, condition: "predicate.scanner.result.critical == 0"}}`
)

func scanOf(critical any, finished time.Time) string {
	return fmt.Sprintf(`{"invocation":{"parameters":[],"uri":"","event_id":"","builder.id":""},`+
		`"scanner":{"uri":"https://scanner.example","version":"1","db":{"uri":"","version":"","lastUpdate":%q},"result":{"critical":%v}},`+
		`"metadata":{"scanStartedOn":%q,"scanFinishedOn":%q}}`,
		finished.Format(time.RFC3339), critical, finished.Format(time.RFC3339), finished.Format(time.RFC3339))
}

// attested is a world with a policy about attestations.
func attested(t testing.TB, require string) *world {
	t.Helper()
	w := newWorld(t)
	w.keys.put(w.managed("second", testauthority.NewECDSA(t)))
	w.policies.put(t, requiring(require))
	return w
}

func (w *world) attachAttestation(digest attest.Digest, d *testauthority.AttestationDraft) {
	w.registry.attach(digest, registry.Attachment{
		Format: registry.FormatLegacyAttestation,
		Legacy: &registry.Legacy{Payload: d.Payload, Annotations: d.Annotations()},
	})
}

// attachStatement attaches a statement signed by the release key in one of the
// two formats.
func (w *world) attachStatement(format string, digest attest.Digest, statement []byte, at time.Time) {
	if format == "bundle" {
		w.attachBundle(digest, w.authority.BundleOf(statement, w.key, at).JSON())
		return
	}
	w.attachAttestation(digest, w.authority.LegacyAttestation(statement, w.key, at))
}

func formats() []string { return []string{"bundle", "att"} }

// F1 F2: no attestation, one of another type, or a signature is not the
// attestation that is wanted; nor is an attestation a signature.
func TestF1AttestationOfAnotherKind(t *testing.T) {
	for _, format := range formats() {
		w := attested(t, wantsScan)
		digest, image := w.image(format)
		w.wantFailed(image, policy.AttestationMissing)
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.attachLegacy(digest, w.authority.Legacy(digest, w.key, w.signedAt))
		w.wantFailed(image, policy.AttestationMissing)
		w.attachStatement(format, digest, testauthority.Attested(digest, predicate.CosignCustom, `{"Data":"","Timestamp":""}`), w.signedAt)
		w.wantFailed(image, policy.PredicateTypeMismatch)
		w.attachStatement(format, digest, testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.signedAt)
		r := w.wantPassed(image)
		e := r.Policies[0].Requirements[0].Evidence
		want := map[string]string{"bundle": "bundle", "att": "legacy"}[format]
		if len(e) != 1 || e[0].PredicateType != scanType || e[0].Format != want || e[0].LogIndex == nil || e[0].SignedAt == "" {
			t.Errorf("%s: evidence %+v", format, e)
		}

		w.policies.put(t, requiring(`{signature: {by: release}}`))
		w.registry.detach(digest)
		w.attachStatement(format, digest, testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.signedAt)
		w.wantFailed(image, policy.PredicateTypeMismatch)
	}
}

// Each case spoils a good attestation; the same unspoiled is the control.
func TestAttestationAttacks(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(statement string, digest attest.Digest) string
		want  policy.Code
	}{
		{"A5 only sha512 right", func(s string, d attest.Digest) string {
			return strings.Replace(s, `"sha256":"`+d.Hex(), `"sha512":"`+strings.Repeat("0", 64)+d.Hex(), 1)
		}, policy.SubjectMismatch},
		{"A5 right and wrong sha512 of one digest twice", func(s string, d attest.Digest) string {
			one := `{"digest":{"sha256":"` + d.Hex() + `"}}`
			two := `{"digest":{"sha256":"` + d.Hex() + `","sha512":"` + strings.Repeat("0", 128) + `"}}`
			return strings.Replace(s, `"subject":[`, `"subject":[`+one+","+two+",", 1)
		}, policy.SubjectMismatch},
		{"A6 null subject", func(s string, _ attest.Digest) string {
			return strings.Replace(s, `"subject":[`, `"subject":[null,`, 1)
		}, policy.SignatureInvalid},
		{"A6 no subject", func(_ string, _ attest.Digest) string {
			return `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"` + scanType + `","predicate":{}}`
		}, policy.SignatureInvalid},
		{"A6 subject without digest", func(s string, _ attest.Digest) string {
			return strings.Replace(s, `"subject":[`, `"subject":[{"name":"x","digest":{}},`, 1)
		}, policy.SignatureInvalid},
		{"A8 about another digest", func(s string, d attest.Digest) string {
			return strings.Replace(s, d.Hex(), attest.DigestOf([]byte("other")).Hex(), 1)
		}, policy.SubjectMismatch},
		{"A9 duplicate names", func(s string, _ attest.Digest) string {
			return strings.Replace(s, `"critical":0`, `"critical":7,"critical":0`, 1)
		}, policy.SignatureInvalid},
		{"A9 data after the statement", func(s string, _ attest.Digest) string { return s + "{}" }, policy.SignatureInvalid},
		{"F2 malformed payload", func(string, attest.Digest) string { return `{"_type":` }, policy.SignatureInvalid},
		{"F2 no statement", func(string, attest.Digest) string { return `{"critical":0}` }, policy.SignatureInvalid},
		{"F2 wrong predicateType", func(s string, _ attest.Digest) string { return strings.Replace(s, scanType, scanType+"x", 1) }, policy.PredicateTypeMismatch},
		{"F2 predicateType in another case", func(s string, _ attest.Digest) string {
			return strings.Replace(s, `"predicateType"`, `"PredicateType"`, 1)
		}, policy.SignatureInvalid},
		{"E5 prefix of the predicateType", func(s string, _ attest.Digest) string {
			return strings.Replace(s, scanType, scanType[:len(scanType)-1], 1)
		}, policy.PredicateTypeMismatch},
		{"predicate that is no scan", func(s string, _ attest.Digest) string {
			at := strings.Index(s, `"predicate":`)
			return s[:at] + `"predicate":[0]}`
		}, policy.PredicateInvalid},
		{"no predicate", func(s string, _ attest.Digest) string {
			at := strings.Index(s, `,"predicate":`)
			return s[:at] + `}`
		}, policy.PredicateInvalid},
		{"condition is false", func(s string, _ attest.Digest) string { return strings.Replace(s, `"critical":0`, `"critical":1`, 1) }, policy.ConditionFalse},
		{"condition without its field", func(s string, _ attest.Digest) string { return strings.Replace(s, `"critical":0`, `"critica":0`, 1) }, policy.ConditionError},
		{"condition over another type", func(s string, _ attest.Digest) string { return strings.Replace(s, `"critical":0`, `"critical":"0"`, 1) }, policy.ConditionFalse},
	}
	for _, c := range cases {
		for _, format := range formats() {
			t.Run(c.name+" "+format, func(t *testing.T) {
				t.Attr("format", map[string]string{"bundle": "attested", "att": "att"}[format])
				w := attested(t, wantsScan)
				digest, image := w.image("good")
				good := string(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)))
				w.attachStatement(format, digest, []byte(good), w.signedAt)
				w.wantPassed(image)

				digest, image = w.image("spoiled")
				good = string(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)))
				bad := c.spoil(good, digest)
				if bad == good {
					t.Fatal("nothing was spoiled")
				}
				w.attachStatement(format, digest, []byte(bad), w.signedAt)
				w.wantFailed(image, c.want)
			})
		}
	}
}

// What may differ: the statement's older type, numbers written with a point,
// fields that nobody knows, an in-toto payload type with a name, a digest
// named twice.
func TestAttestationSpellings(t *testing.T) {
	for name, change := range map[string]func(string, attest.Digest) string{
		"as it is":       func(s string, _ attest.Digest) string { return s },
		"statement v0.1": func(s string, _ attest.Digest) string { return strings.Replace(s, "Statement/v1", "Statement/v0.1", 1) },
		"zero as 0.0":    func(s string, _ attest.Digest) string { return strings.Replace(s, `"critical":0`, `"critical":0.0`, 1) },
		"zero as 0e5":    func(s string, _ attest.Digest) string { return strings.Replace(s, `"critical":0`, `"critical":0e5`, 1) },
		"unknown fields": func(s string, _ attest.Digest) string {
			s = strings.Replace(s, `"critical":0`, `"critical":0,"news":{"a":[1e400,null]}`, 1)
			return strings.Replace(s, `"predicateType"`, `"more":null,"predicateType"`, 1)
		},
		"a subject twice": func(s string, d attest.Digest) string {
			return strings.Replace(s, `"subject":[`, `"subject":[{"name":"x","digest":{"sha256":"`+d.Hex()+`"}},`, 1)
		},
		"another subject first": func(s string, _ attest.Digest) string {
			return strings.Replace(s, `"subject":[`, `"subject":[{"digest":{"sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}},`, 1)
		},
	} {
		for _, format := range formats() {
			if name == "unknown fields" {
				continue // null outside the predicate is refused: see below
			}
			w := attested(t, wantsScan)
			digest, image := w.image(name)
			w.attachStatement(format, digest, []byte(change(string(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt))), digest)), w.signedAt)
			if r := w.verify(image).Results[0]; r.Verdict != policy.Passed {
				t.Errorf("%s %s: %v", name, format, r.Reasons)
			}
		}
	}
	// A field that nobody knows reaches the condition as it was signed.
	w := attested(t, `{attestation: {predicateType: vuln, by: release, condition: "predicate.scanner.result.news.a[1] == null && predicate.scanner.result.critical == 0"}}`)
	digest, image := w.image("unknown")
	statement := strings.Replace(string(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt))), `"critical":0`, `"critical":0,"news":{"a":[1e99,null]}`, 1)
	w.attachStatement("att", digest, []byte(statement), w.signedAt)
	w.wantPassed(image)

	for payloadType, passes := range map[string]bool{
		"application/vnd.in-toto.vuln+json": true, "application/vnd.in-toto.+json": false, "application/vnd.in-toto.a b+json": false,
		"application/vnd.in-totox+json": false, "application/json": false,
	} {
		w := attested(t, wantsScan)
		digest, image := w.image(payloadType)
		draft := w.authority.BundleOf(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.key, w.signedAt)
		draft.PayloadType = payloadType
		draft.Resign()
		w.attachBundle(digest, draft.JSON())
		if passes {
			w.wantPassed(image)
		} else {
			w.wantFailed(image, policy.SignatureInvalid)
		}
	}
}

// The log entries that cosign's tag may carry, each bound to exactly this
// envelope (rows B1, B3).
func TestLegacyAttestationEntries(t *testing.T) {
	for _, kind := range []string{"dsse 0.0.1", "intoto 0.0.1", "intoto 0.0.2"} {
		w := attested(t, wantsScan)
		digest, image := w.image(kind)
		good := w.authority.LegacyAttestation(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.key, w.signedAt)
		good.Kind = kind
		good.Resign()
		w.attachAttestation(digest, good)
		w.wantPassed(image)

		for name, spoil := range map[string]func(d, other *testauthority.AttestationDraft){
			"entry of another statement": func(d, other *testauthority.AttestationDraft) {
				other.Statement = testauthority.Attested(attest.DigestOf([]byte("other")), scanType, scanOf(0, w.signedAt))
				other.Resign()
				d.Body, d.Index, d.Promise = other.Body, other.Index, other.Promise
			},
			"entry of another signature of the same statement": func(d, other *testauthority.AttestationDraft) {
				other.Resign()
				d.Body, d.Index, d.Promise = other.Body, other.Index, other.Promise
			},
			"entry of another key": func(d, other *testauthority.AttestationDraft) {
				other.Signature, other.Payload = d.Signature, d.Payload
				other.Key = testauthority.NewECDSA(t)
				other.Relog()
				d.Body, d.Index, d.Promise = other.Body, other.Index, other.Promise
			},
		} {
			digest, image := w.image(kind + name)
			draft := func() *testauthority.AttestationDraft {
				d := w.authority.LegacyAttestation(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.key, w.signedAt)
				d.Kind = kind
				d.Resign()
				return d
			}
			d := draft()
			spoil(d, draft())
			w.attachAttestation(digest, d)
			if r := w.verify(image).Results[0]; r.Verdict == policy.Passed || r.Reasons[0].Code != policy.LogEntryMismatch {
				t.Errorf("%s %s: %s %v", kind, name, r.Verdict, r.Reasons)
			}
		}
	}
	// A stamp of the signature alone is not cosign's stamp of an envelope, and
	// a plain signature has no place under the tag.
	w := attested(t, wantsScan)
	digest, image := w.image("stamp")
	d := w.authority.LegacyAttestation(testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.key, w.signedAt)
	d.Timestamp = w.authority.Stamp(d.Signature, w.signedAt)
	w.attachAttestation(digest, d)
	w.wantFailed(image, policy.TimestampInvalid)
	w.policies.put(t, requiring(`{signature: {by: release}}`))
	digest, image = w.image("signature in .att")
	w.attachAttestation(digest, w.authority.LegacyAttestation(testauthority.Statement(digest, testauthority.SignPredicateType), w.key, w.signedAt))
	w.wantFailed(image, policy.NoSignature)
}

// C4 F5: with `any` one good attestation is enough wherever it stands among bad
// ones, and two requirements need both.
func TestC4F5SeveralAttestations(t *testing.T) {
	for _, format := range formats() {
		w := attested(t, `{attestation: {predicateType: vuln, by: release, which: any, condition: "predicate.scanner.result.critical == 0"}}`)
		digest, image := w.image(format)
		for i := range 3 {
			w.attachStatement(format, digest, testauthority.Attested(digest, scanType, scanOf(i+1, w.signedAt)), w.signedAt)
		}
		w.attachBundle(digest, []byte("{}"))
		w.wantFailed(image, policy.ConditionFalse)
		w.attachStatement(format, digest, testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.signedAt)
		w.wantPassed(image)

		// Delete or corrupt one of two that are required.
		both := `{all: [` + wantsScan + `, {attestation: {predicateType: custom, by: release}}]}`
		w.policies.put(t, requiring(both))
		digest, image = w.image("both")
		scan := testauthority.Attested(digest, scanType, scanOf(0, w.signedAt))
		w.attachStatement(format, digest, scan, w.signedAt)
		w.wantFailed(image, policy.PredicateTypeMismatch)
		broken := w.authority.BundleOf(testauthority.Attested(digest, predicate.CosignCustom, `{"Data":"a","Timestamp":""}`), w.key, w.signedAt)
		broken.Payload = bytes.Replace(broken.Payload, []byte(`"Data":"a"`), []byte(`"Data":"b"`), 1)
		w.attachBundle(digest, broken.JSON())
		if r := w.verify(image).Results[0]; r.Verdict != policy.Failed {
			t.Errorf("passes with a corrupted attestation: %+v", r)
		}
		w.attachStatement(format, digest, testauthority.Attested(digest, predicate.CosignCustom, `{"Data":"a","Timestamp":""}`), w.signedAt)
		w.wantPassed(image)
	}
}

// The newest report counts: an earlier good one cannot be brought back by
// copying it, by stamping it again, or by hiding others behind it.
func TestNewestAttestationCounts(t *testing.T) {
	w := attested(t, wantsScan)
	digest, image := w.image("app")
	early, late := w.signedAt, w.signedAt.Add(time.Hour)
	good := w.authority.BundleOf(testauthority.Attested(digest, scanType, scanOf(0, early)), w.key, early)
	w.attachBundle(digest, good.JSON())
	w.wantPassed(image)
	w.attachStatement("att", digest, testauthority.Attested(digest, scanType, scanOf(3, late)), late)
	w.setNow(w.now.Load().Add(2 * time.Minute))
	w.wantFailed(image, policy.ConditionFalse)

	again := *good
	again.Timestamps = [][]byte{w.authority.Stamp(good.Signature, late.Add(time.Hour))}
	w.attachBundle(digest, again.JSON())
	w.wantFailed(image, policy.ConditionFalse)
	// Also where the first stamp is gone: the scan says itself when it was made.
	w.registry.change(digest, func(f *registry.Found) { f.Attachments = f.Attachments[1:] })
	w.wantFailed(image, policy.ConditionFalse)

	// Fixed: a newer scan is clean.
	later := late.Add(2 * time.Hour)
	w.attachStatement("bundle", digest, testauthority.Attested(digest, scanType, scanOf(0, later)), later)
	w.wantPassed(image)
	w.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
	w.setNow(w.now.Load().Add(2 * time.Minute))
	w.wantFailed(image, policy.LimitExceeded)

	w.policies.put(t, requiring(`{attestation: {predicateType: vuln, by: release, which: every, condition: "predicate.scanner.result.critical == 0"}}`))
	w.registry.change(digest, func(f *registry.Found) { f.Truncated = false })
	w.wantFailed(image, policy.ConditionFalse)
}

// What is kept here and gone from the registry still counts against an image,
// and both are asked where the newest counts.
func TestNewestAttestationOfArchive(t *testing.T) {
	w := attested(t, wantsScan)
	digest, image := w.image("app")
	late := w.signedAt.Add(time.Hour)
	w.attachStatement("bundle", digest, testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.signedAt)
	w.wantPassed(image)
	bad := w.authority.LegacyAttestation(testauthority.Attested(digest, scanType, scanOf(1, late)), w.key, late)
	w.archive.keep(archive.Item{Digest: digest, Format: archive.FormatLegacyAttestation, PredicateType: scanType, Legacy: &archive.Legacy{Payload: bad.Payload, Annotations: bad.Annotations()}})
	w.setNow(w.now.Load().Add(2 * time.Minute))
	w.wantFailed(image, policy.ConditionFalse)
}

// maxAge is judged at the time of the question, from the earliest proven time,
// and a verdict is not remembered beyond it.
func TestMaxAge(t *testing.T) {
	w := attested(t, `{attestation: {predicateType: custom, by: release, maxAge: 25h}}`)
	digest, image := w.image("app")
	statement := testauthority.Attested(digest, predicate.CosignCustom, `{"Data":"","Timestamp":""}`)
	good := w.authority.BundleOf(statement, w.key, w.signedAt)
	w.attachBundle(digest, good.JSON())
	expires := w.signedAt.Add(25 * time.Hour)
	w.setNow(expires.Add(-time.Second))
	w.wantPassed(image)
	if !w.wantPassed(image).Cached {
		t.Error("not remembered")
	}
	w.setNow(expires)
	w.wantFailed(image, policy.AttestationTooOld)
	// Another stamp makes it no younger while the first is known.
	again := *good
	again.Timestamps = [][]byte{w.authority.Stamp(good.Signature, expires.Add(-time.Hour))}
	w.attachBundle(digest, again.JSON())
	w.wantFailed(image, policy.AttestationTooOld)
	w.attachBundle(digest, w.authority.BundleOf(statement, w.key, expires).JSON()) // attested again
	w.wantPassed(image)
}

// E5 F6: an authority vouches for what the policy names it for, and no other
// in its place.
func TestF6AttestationByAnother(t *testing.T) {
	for _, format := range formats() {
		w := attested(t, `{attestation: {predicateType: vuln, by: second}}`)
		digest, image := w.image(format)
		w.attachStatement(format, digest, testauthority.Attested(digest, scanType, scanOf(0, w.signedAt)), w.signedAt)
		w.wantFailed(image, policy.UntrustedKey)
		w.policies.put(t, requiring(`{attestation: {predicateType: vuln, by: [second, release]}}`))
		w.wantPassed(image)
		// Two of two must be two signers, each of its own.
		w.policies.put(t, requiring(`{atLeast: {n: 2, of: [{attestation: {predicateType: vuln, by: [second, release]}}, {signature: {by: release}}]}}`))
		w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
		w.wantFailed(image, policy.ThresholdNotMet)
	}
}

// A8: provenance of one platform says nothing of another, nor of the index, nor
// the index's of its children.
func TestA8AttestationOfAnotherPlatform(t *testing.T) {
	w := attested(t, wantsScan)
	amd, _ := w.image("amd64")
	arm, armImage := w.image("arm64")
	index := w.registry.serve(fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"digest":%q},{"digest":%q}]}`, amd, arm))
	for _, about := range []attest.Digest{amd, index} {
		statement := testauthority.Attested(about, scanType, scanOf(0, w.signedAt))
		w.attachStatement("bundle", arm, statement, w.signedAt)
	}
	w.wantFailed(armImage, policy.SubjectMismatch)
	w.attachStatement("bundle", index, testauthority.Attested(amd, scanType, scanOf(0, w.signedAt)), w.signedAt)
	w.wantFailed(repository+"@"+index.String(), policy.SubjectMismatch)
	w.attachStatement("bundle", arm, testauthority.Attested(arm, scanType, scanOf(0, w.signedAt)), w.signedAt)
	w.wantPassed(armImage)
}

// Attestations by certificate, in both formats, and level 2 proven by one.
func TestAttestationByIdentity(t *testing.T) {
	const signerURI = "https://ci.example/acme/app/build.yml@refs/heads/main"
	statement := func(d attest.Digest, source string) []byte {
		return testauthority.Attested(d, predicate.SLSAProvenanceV1, fmt.Sprintf(`{"buildDefinition":{"buildType":"https://actions.github.io/buildtypes/workflow/v1",
			"externalParameters":{"workflow":{"ref":"refs/heads/main","repository":%q,"path":".github/workflows/build.yml"}},
			"resolvedDependencies":[{"uri":"git+%s@refs/heads/main","digest":{"gitCommit":"6dcb09b5b57875f334f61aebed695e2e4193db5e"}}]},
			"runDetails":{"builder":{"id":%q}}}`, source, source, signerURI))
	}
	request := testauthority.CertificateRequest{Issuer: "https://issuer.example", Subject: signerURI, Extensions: map[int]string{
		9: signerURI, 11: "github-hosted", 12: "https://ci.example/acme/app", 14: "refs/heads/main",
	}}
	const require = `{attestation: {predicateType: slsaprovenance1, by: ci, provenance: {
		builder: "https://ci.example/acme/app/*@refs/heads/main", source: "git+https://ci.example/acme/app", ref: refs/heads/main, minLevel: 2}}}`
	for _, format := range formats() {
		for name, c := range map[string]struct {
			source string
			change func(*testauthority.CertificateRequest)
			want   policy.Code
		}{
			"good":             {"https://ci.example/acme/app", func(*testauthority.CertificateRequest) {}, ""},
			"another source":   {"https://ci.example/acme/apple", func(*testauthority.CertificateRequest) {}, policy.SourceMismatch},
			"self-hosted":      {"https://ci.example/acme/app", func(r *testauthority.CertificateRequest) { r.Extensions[11] = "self-hosted" }, policy.BuildLevelTooLow},
			"another workflow": {"https://ci.example/acme/app", func(r *testauthority.CertificateRequest) { r.Extensions[9] += "x" }, policy.BuildLevelTooLow},
			"another ref":      {"https://ci.example/acme/app", func(r *testauthority.CertificateRequest) { r.Extensions[14] = "refs/heads/x" }, policy.BuildLevelTooLow},
			"another identity": {"https://ci.example/acme/app", func(r *testauthority.CertificateRequest) { r.Subject += "2" }, policy.IdentityMismatch},
		} {
			w := attested(t, require)
			ca := testauthority.NewCA(t, testauthority.CAOptions{})
			root := ca.Trust(w.authority.Root())
			w.root.Store(&root)
			ask := request
			ask.At, ask.Extensions = w.signedAt, map[int]string{}
			for k, v := range request.Extensions {
				ask.Extensions[k] = v
			}
			c.change(&ask)
			key := testauthority.NewECDSA(t)
			certificate := ca.Issue(key.Public(), ask)
			digest, image := w.image(format + name)
			if format == "bundle" {
				w.attachBundle(digest, w.authority.CertifiedBundleOf(certificate, key, statement(digest, c.source), w.signedAt).JSON())
			} else {
				w.attachAttestation(digest, w.authority.CertifiedLegacyAttestation(certificate, key, statement(digest, c.source), w.signedAt))
			}
			r := w.verify(image).Results[0]
			if c.want == "" && r.Verdict != policy.Passed || c.want != "" && (r.Verdict != policy.Failed || r.Reasons[0].Code != c.want) {
				t.Errorf("%s %s: %s %v", format, name, r.Verdict, r.Reasons)
			}
		}
	}
}

// Accepted judges what is attached under whoever the policies trust, and says
// why not.
func TestAccepted(t *testing.T) {
	w := attested(t, wantsScan)
	digest, image := w.image("app")
	stranger := testauthority.NewECDSA(t)
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON(), w.authority.Bundle(digest, stranger, w.signedAt).JSON())
	w.attachStatement("att", digest, testauthority.Attested(digest, predicate.CosignCustom, `{}`), w.signedAt)
	w.attachBundle(digest, []byte("{}"))
	got, judged, complete, err := w.Accepted(t.Context(), image)
	if err != nil || got != digest || !complete || len(judged) != 4 {
		t.Fatalf("%s, %d judged, complete %t, %v", got, len(judged), complete, err)
	}
	for i, want := range []struct {
		accepted      bool
		predicateType string
		code          policy.Code
	}{{true, "", ""}, {false, "", policy.UntrustedKey}, {true, predicate.CosignCustom, ""}, {false, "", policy.SignatureInvalid}} {
		j := judged[i]
		if j.Accepted != want.accepted || j.PredicateType != want.predicateType || j.Reason.Code != want.code {
			t.Errorf("%d: %+v", i, j)
		}
		if j.Accepted && (j.Policy != "production" || j.Authority != "release" || j.Evidence.Signer == "") {
			t.Errorf("%d: %+v", i, j)
		}
	}
	w.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
	if _, _, complete, err := w.Accepted(t.Context(), image); complete || err != nil {
		t.Errorf("complete %t, %v", complete, err)
	}
	if _, _, _, err := w.Accepted(t.Context(), "bad reference"); err == nil {
		t.Error("a malformed reference is taken")
	}
	if _, _, _, err := w.Accepted(t.Context(), "elsewhere.test/app@"+digest.String()); err == nil {
		t.Error("an unlisted registry is asked")
	}
}
