package verifier_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

const blobPolicy = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: releases}
spec:
  match: {blobs: ["releases/**"], context: {cluster: ["*"]}}
  authorities: {release: {key: {name: release}}}
  require: {signature: {by: release}}
`

func content() []byte { return []byte("the bytes of a release") }

func (w *world) blob(change func(*verifier.BlobRequest)) verifier.Result {
	w.t.Helper()
	request := verifier.BlobRequest{Digest: attest.DigestOf(content()), Name: "releases/app.tar.gz"}
	change(&request)
	answer, err := w.VerifyBlob(w.t.Context(), request)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(answer.Results) != 1 || answer.Verdict != answer.Results[0].Verdict {
		w.t.Fatalf("%+v", answer)
	}
	return answer.Results[0]
}

func wantBlob(t *testing.T, r verifier.Result, want policy.Code) {
	t.Helper()
	switch {
	case want == "" && (r.Verdict != policy.Passed || len(r.Reasons) > 0):
		t.Errorf("verdict %s, reasons %v; want PASSED", r.Verdict, r.Reasons)
	case want != "" && (r.Verdict != policy.Failed || len(r.Reasons) == 0 || r.Reasons[0].Code != want):
		t.Errorf("verdict %s, reasons %v; want FAILED %s", r.Verdict, r.Reasons, want)
	}
	t.Attr("verdict", strings.TrimSpace(string(r.Verdict)+" "+string(want)))
}

// forms are a good signature of content in every version and form, fresh for
// each case.
func forms() map[string]func(*world) *testauthority.Draft {
	out := map[string]func(*world) *testauthority.Draft{
		"message": func(w *world) *testauthority.Draft { return w.authority.Message(content(), w.key, w.signedAt) },
		"envelope": func(w *world) *testauthority.Draft {
			return w.authority.Bundle(attest.DigestOf(content()), w.key, w.signedAt)
		},
	}
	for _, version := range []string{"0.1", "0.2", "0.3"} {
		for _, form := range []string{"message", "envelope"} {
			fresh := out[form]
			out[form+" "+version] = func(w *world) *testauthority.Draft { return fresh(w).As(version) }
		}
	}
	return out
}

// formatOf is the column of a form in the table of attacks.
func formatOf(form string) string {
	kind, version, _ := strings.Cut(form, " ")
	switch {
	case kind == "message":
		return "message"
	case version == "0.1", version == "0.2":
		return "v" + version
	default:
		return "bundle"
	}
}

// What is wrong with a bundle of any version and form. The control of each is
// the bundle itself. Edits that do not apply to a form leave it alone.
func TestFormatAttacks(t *testing.T) {
	promised := func(d *testauthority.Draft) bool { return d.Entries[0].GetInclusionPromise() != nil }
	proven := func(d *testauthority.Draft) bool { return d.Entries[0].GetInclusionProof() != nil }
	cases := []struct {
		name    string
		applies func(*testauthority.Draft) bool
		edit    func(*world, *testauthority.Draft)
		want    policy.Code
	}{
		{"B1 entry of another signature of the same blob", nil, func(w *world, d *testauthority.Draft) {
			again := *d
			again.Resign()
			if promised(d) {
				again.As(strings.TrimPrefix(d.MediaType, "application/vnd.dev.sigstore.bundle+json;version="))
			}
			d.Entries = again.Entries
		}, policy.LogEntryMismatch},
		{"B1 entry of another blob", nil, func(w *world, d *testauthority.Draft) {
			d.Entries = w.authority.Message([]byte("other"), w.key, w.signedAt).As("0.2").Entries
		}, policy.LogEntryMismatch},
		{"B2 entry of another log about another blob", nil, func(w *world, d *testauthority.Draft) {
			d.Entries = testauthority.New(w.t).Message([]byte("other"), w.key, w.signedAt).As("0.2").Entries
		}, policy.LogEntryMismatch},
		{"B4 entry of another log", nil, func(w *world, d *testauthority.Draft) {
			other := testauthority.New(w.t)
			for _, e := range d.Entries {
				e.LogId.KeyId = other.LogID()
			}
		}, policy.LogEntryMissing},
		{"B6 integrated time that nobody signed", func(d *testauthority.Draft) bool { return !promised(d) }, func(_ *world, d *testauthority.Draft) {
			d.Entries[0].IntegratedTime = d.At.Unix()
		}, policy.TimestampInvalid},
		{"B6 another integrated time", promised, func(_ *world, d *testauthority.Draft) { d.Entries[0].IntegratedTime-- }, policy.InclusionProofInvalid},
		{"B6 promise removed and its time left", func(d *testauthority.Draft) bool { return promised(d) && proven(d) }, func(_ *world, d *testauthority.Draft) {
			d.Entries[0].InclusionPromise = nil
		}, policy.TimestampInvalid},
		{"promise of another log", promised, func(w *world, d *testauthority.Draft) {
			e := d.Entries[0]
			e.InclusionPromise.SignedEntryTimestamp = testauthority.New(w.t).SET(e.GetCanonicalizedBody(), d.At, e.GetLogIndex())
		}, policy.InclusionProofInvalid},
		{"promise of another index", promised, func(_ *world, d *testauthority.Draft) {
			d.Entries[0].LogIndex++
		}, policy.InclusionProofInvalid},
		{"wrong kind version", nil, func(_ *world, d *testauthority.Draft) { d.Entries[0].KindVersion.Version = "0.0.3" }, policy.LogEntryMismatch},
		{"wrong kind", nil, func(_ *world, d *testauthority.Draft) { d.Entries[0].KindVersion.Kind = "dsse" }, policy.LogEntryMismatch},
		{"proof of another leaf", proven, func(_ *world, d *testauthority.Draft) {
			p := d.Entries[0].InclusionProof
			if len(p.Hashes) == 0 {
				p.Hashes = [][]byte{make([]byte, 32)}
			}
			p.Hashes[0][0] ^= 1
		}, policy.InclusionProofInvalid},
		{"checkpoint of another log", proven, func(w *world, d *testauthority.Draft) {
			d.Entries[0].InclusionProof.Checkpoint.Envelope = testauthority.New(w.t).Message([]byte("x"), w.key, w.signedAt).Entries[0].InclusionProof.Checkpoint.Envelope
		}, policy.CheckpointInvalid},
		{"B6 D2 not logged", nil, func(_ *world, d *testauthority.Draft) { d.Entries = nil }, policy.LogEntryMissing},
		{"J5 entry of Rekor v2 by a promise", nil, func(w *world, d *testauthority.Draft) {
			d.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1"
			d.Relog()
			e := d.Entries[0]
			e.InclusionProof, e.IntegratedTime = nil, d.At.Unix()
			e.InclusionPromise = &rekorpb.InclusionPromise{SignedEntryTimestamp: w.authority.SET(e.GetCanonicalizedBody(), d.At, e.GetLogIndex())}
		}, policy.InclusionProofInvalid},
		{"two keys: signed by another than is logged", nil, func(w *world, d *testauthority.Draft) {
			entries := d.Entries
			d.Key = testauthority.NewECDSA(w.t)
			d.Signature = testauthority.SignP256(w.t, d.Key, d.Message())
			d.Entries, d.Hint = entries, ""
		}, policy.SignatureInvalid},
		{"digest hint that lies", func(d *testauthority.Draft) bool { return d.Artifact != nil }, func(_ *world, d *testauthority.Draft) {
			d.ArtifactDigest = attest.DigestOf([]byte("other")).Bytes()
		}, policy.SubjectMismatch},
		{"about another blob", nil, func(w *world, d *testauthority.Draft) {
			other := w.authority.Message([]byte("other"), w.key, w.signedAt)
			if d.Artifact == nil {
				other = w.authority.Bundle(attest.DigestOf([]byte("other")), w.key, w.signedAt)
			}
			if promised(d) {
				other.As(strings.TrimPrefix(d.MediaType, "application/vnd.dev.sigstore.bundle+json;version="))
			}
			*d = *other
		}, policy.SubjectMismatch},
		{"about another blob with this one's digest", func(d *testauthority.Draft) bool { return d.Artifact != nil }, func(_ *world, d *testauthority.Draft) {
			digest := d.ArtifactDigest
			d.Over([]byte("other"))
			d.ArtifactDigest = digest
		}, policy.SignatureInvalid},
		{"D7 zero signature", nil, func(_ *world, d *testauthority.Draft) { d.Signature = make([]byte, len(d.Signature)) }, policy.SignatureInvalid},
	}
	for form, fresh := range forms() {
		t.Run(form, func(t *testing.T) {
			t.Attr("format", formatOf(form))
			w := newWorld(t)
			w.policies.put(t, blobPolicy)
			for _, tt := range cases {
				d := fresh(w)
				if tt.applies != nil && !tt.applies(d) {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle = d.JSON() }), "")
					tt.edit(w, d)
					for _, bytes := range [][]byte{nil, content()} {
						wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Artifact = d.JSON(), bytes }), tt.want)
					}
				})
			}
		})
	}
}

// A chain beside the certificate is not read: another one neither helps nor
// hurts (row D1).
func TestChainIsNotRead(t *testing.T) {
	c := newCertified(t, testauthority.CAOptions{})
	stranger := testauthority.NewCA(t, testauthority.CAOptions{})
	authority := json.RawMessage(fmt.Sprintf(`{"identity":{"issuer":%q,"subject":%q}}`, ciIssuer, ciSubject))
	inline, err := policy.Inline(authority, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"0.1", "0.2"} {
		for name, tt := range map[string]struct {
			ca, chain *testauthority.CA
			want      policy.Code
		}{
			"its own chain":       {c.ca, c.ca, ""},
			"substituted chain":   {c.ca, stranger, ""},
			"stranger with chain": {stranger, stranger, policy.CertificateInvalid},
			"stranger, our chain": {stranger, c.ca, policy.CertificateInvalid},
		} {
			key := testauthority.NewECDSA(t)
			d := c.authority.CertifiedMessage(tt.ca.Issue(key.Public(), c.ask()), key, content(), c.signedAt)
			d.Chain = tt.chain.Chain()
			t.Run(version+" "+name, func(t *testing.T) {
				wantBlob(t, c.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Inline = d.As(version).JSON(), inline }), tt.want)
			})
		}
	}
}

// F7, F4: a blob that no policy covers is not judged good by any.
func TestBlobPolicies(t *testing.T) {
	w := newWorld(t)
	w.policies.put(t, blobPolicy)
	w.policies.put(t, releasePolicy)
	bundle := w.authority.Message(content(), w.key, w.signedAt).JSON()
	for name, tt := range map[string]struct {
		name, policy string
		want         policy.Code
	}{
		"matching name":                   {"releases/app", "", ""},
		"F7 another name":                 {"nightly/app", "", policy.NoPolicy},
		"F7 no name":                      {"", "", policy.NoPolicy},
		"E3 name that leads elsewhere":    {"releases/../nightly", "", policy.NoPolicy},
		"named policy and its name":       {"releases/app", "releases", ""},
		"F7 named policy, another name":   {"nightly/app", "releases", policy.NoPolicy},
		"named policy of images, at word": {"", "production", ""},
	} {
		t.Run(name, func(t *testing.T) {
			wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Name, r.Policy = bundle, tt.name, tt.policy }), tt.want)
		})
	}
	_, err := w.VerifyBlob(t.Context(), verifier.BlobRequest{Digest: attest.DigestOf(content()), Policy: "absent"})
	if !errors.Is(err, verifier.ErrPolicyNotFound) {
		t.Errorf("absent policy: %v", err)
	}
	// Policies of blobs speak of no image.
	w.policies.put(t, strings.ReplaceAll(blobPolicy, "releases/**", "**"))
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	if r := w.wantPassed(image); len(r.Policies) != 1 || r.Policies[0].Name != "production" {
		t.Errorf("policies %+v", r.Policies)
	}
}

func TestBlobRequestRefused(t *testing.T) {
	w := newWorld(t)
	inline, err := policy.Inline(json.RawMessage(`{"key":{"name":"release"}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	digest := attest.DigestOf(content())
	for field, request := range map[string]verifier.BlobRequest{
		"digest":   {},
		"artifact": {Digest: digest, Artifact: make([]byte, limits.BlobArtifact+1)},
		"bundle":   {Digest: digest, Bundle: []byte{}},
		"name":     {Digest: digest, Name: "a\nb"},
		"policy":   {Digest: digest, Policy: "production", Inline: inline},
		"timeout":  {Digest: digest, Timeout: time.Hour},
	} {
		_, err := w.VerifyBlob(t.Context(), request)
		if at, ok := errors.AsType[*verifier.RequestError](err); !ok || at.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for name, authority := range map[string]string{
		"nobody": `{}`, "F4 null": `null`, "A9 twice": `{"key":{"name":"a"},"key":{"name":"b"}}`, "E1 unknown": `{"key":{"name":"a"},"x":1}`,
		"E5 everybody": `{"identity":{"issuer":"https://i"}}`, "nothing": ``,
	} {
		if p, err := policy.Inline(json.RawMessage(authority), ""); err == nil || p != nil || !errors.Is(err, policy.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlobDecision(t *testing.T) {
	w := newWorld(t)
	w.policies.put(t, blobPolicy)
	d := w.authority.Message(content(), w.key, w.signedAt)
	r := w.blob(func(r *verifier.BlobRequest) { r.Bundle = d.JSON() })
	wantBlob(t, r, "")
	evidence := r.Policies[0].Requirements[0].Evidence
	if len(evidence) != 1 || evidence[0].Format != "bundle" || evidence[0].PredicateType != "" || evidence[0].LogIndex == nil || evidence[0].SignedAt == "" {
		t.Errorf("evidence %+v", evidence)
	}
	if n := len(w.archive.decisions); n != 1 || r.DecisionID == "" {
		t.Fatalf("%d decisions, id %q", n, r.DecisionID)
	}
	if got := w.archive.decisions[0]; got.ID != r.DecisionID || got.Image != "blob:releases/app.tar.gz" || got.Repository != "" || got.Digest != r.Digest {
		t.Errorf("decision %+v", got)
	}
	w.archive.broken.Store(true)
	if _, err := w.VerifyBlob(t.Context(), verifier.BlobRequest{Digest: attest.DigestOf(content())}); !errors.Is(err, verifier.ErrJournal) {
		t.Errorf("without a journal: %v", err)
	}
	w.archive.broken.Store(false)
	wantBlob(t, w.blob(func(*verifier.BlobRequest) {}), policy.NoSignature)
	w.archive.keep(archive.Item{Digest: attest.DigestOf(content()), Format: archive.FormatBundle, Bundle: d.JSON()})
	wantBlob(t, w.blob(func(*verifier.BlobRequest) {}), "")
	// A1: the bytes are held to the digest.
	wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Artifact = d.JSON(), []byte("other") }), policy.DigestMismatch)
	// D2, and the cache forgets nothing: there is none for blobs.
	w.keys.version("release", func(v *keys.Version) { now := *w.now.Load(); v.RevokedAt = &now })
	wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle = d.JSON() }), policy.KeyRevoked)
}

// What can be judged by digest, and what needs the bytes.
func TestBlobByDigestAlone(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	pem, err := json.Marshal(string(testauthority.PublicPEM(t, public)))
	if err != nil {
		t.Fatal(err)
	}
	inline, err := policy.Inline(json.RawMessage(`{"key":{"pem":`+string(pem)+`}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(content())
	prehashed, err := private.Sign(rand.Reader, sum[:], &ed25519.Options{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	for name, signature := range map[string][]byte{"pure": ed25519.Sign(private, content()), "prehashed": prehashed} {
		d := w.authority.Message(content(), w.key, w.signedAt)
		d.Signature, d.Entries, d.Timestamps = signature, nil, nil
		ask := func(artifact []byte) verifier.Result {
			return w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Inline, r.Artifact = d.JSON(), inline, artifact })
		}
		wantBlob(t, ask(content()), "")
		r := ask(nil)
		wantBlob(t, r, policy.SignatureInvalid)
		if !strings.Contains(r.Reasons[0].Message, "send the artifact") {
			t.Errorf("%s: %s", name, r.Reasons[0].Message)
		}
	}
}

// A package index names a blob by SHA-512 alone (row A5).
func TestBlobBySHA512(t *testing.T) {
	w := newWorld(t)
	inline, err := policy.Inline(json.RawMessage(`{"key":{"name":"release"}}`), "https://slsa.dev/provenance/v1")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(content())
	good, bad := hex.EncodeToString(sum[:]), hex.EncodeToString(make([]byte, 64))
	right := attest.DigestOf(content()).Hex()
	for name, tt := range map[string]struct {
		subject  string
		artifact []byte
		want     policy.Code
	}{
		"right, with the bytes":    {`"sha512":"` + good + `"`, content(), ""},
		"right, without the bytes": {`"sha512":"` + good + `"`, nil, policy.SubjectMismatch},
		"wrong":                    {`"sha512":"` + bad + `"`, content(), policy.SubjectMismatch},
		"A5 right beside wrong":    {`"sha512":"` + good + `","sha256":"` + bad[:64] + `"`, content(), policy.SubjectMismatch},
		"A5 wrong beside right":    {`"sha512":"` + bad + `","sha256":"` + right + `"`, content(), policy.SubjectMismatch},
		"both right":               {`"sha512":"` + good + `","sha256":"` + right + `"`, content(), ""},
		"weak alone":               {`"sha1":"` + bad[:40] + `"`, content(), policy.SubjectMismatch},
	} {
		statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{%s}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`, tt.subject)
		d := w.authority.BundleOf([]byte(statement), w.key, w.signedAt)
		t.Run(name, func(t *testing.T) {
			wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Inline, r.Artifact = d.JSON(), inline, tt.artifact }), tt.want)
		})
	}
}

// F1, F2: an attestation is no signature, nor one of another type.
func TestBlobKinds(t *testing.T) {
	w := newWorld(t)
	const vuln, slsa = "https://cosign.sigstore.dev/attestation/vuln/v1", "https://slsa.dev/provenance/v1"
	attested := w.authority.BundleOf(testauthority.Statement(attest.DigestOf(content()), slsa), w.key, w.signedAt).JSON()
	message := w.authority.Message(content(), w.key, w.signedAt).JSON()
	for name, tt := range map[string]struct {
		kind   string
		bundle []byte
		want   policy.Code
	}{
		"signature":                    {"", message, ""},
		"attestation":                  {slsa, attested, ""},
		"F1 attestation of no other":   {vuln, attested, policy.PredicateTypeMismatch},
		"F2 attestation for signature": {"", attested, policy.PredicateTypeMismatch},
		"F2 signature for attestation": {slsa, message, policy.AttestationMissing},
	} {
		inline, err := policy.Inline(json.RawMessage(`{"key":{"name":"release"}}`), tt.kind)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			wantBlob(t, w.blob(func(r *verifier.BlobRequest) { r.Bundle, r.Inline = tt.bundle, inline }), tt.want)
		})
	}
}

// A message signature attached to an image is over its manifest's bytes.
func TestMessageSignatureOfAnImage(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	manifest, other := w.registry.manifests[digest], []byte("other")
	w.attachBundle(digest, w.authority.Message(other, w.key, w.signedAt).JSON())
	w.wantFailed(image, policy.SubjectMismatch)
	w.attachBundle(digest, w.authority.Message(manifest, w.key, w.signedAt).As("0.2").JSON())
	w.wantPassed(image)
}

type references struct {
	keys  map[string]crypto.PublicKey
	asked int
	down  bool
}

func (r *references) ReadPublic(_ context.Context, ref string) (crypto.PublicKey, error) {
	r.asked++
	if key, ok := r.keys[ref]; ok && !r.down {
		return key, nil
	}
	return nil, keys.ErrUnavailable
}

// A key by reference is read once while the trust stands; what cannot be read
// fails, and is asked for again.
func TestKeyByReference(t *testing.T) {
	elsewhere := &references{down: true}
	w := newWorld(t, func(c *verifier.Config) { c.References, c.FailedTTL = elsewhere, time.Hour })
	const ref = "awskms:///alias/release"
	elsewhere.keys = map[string]crypto.PublicKey{ref: w.key.Public()}
	document := strings.Replace(releasePolicy, "{name: release}", "{ref: \""+ref+"\"}", 1)
	w.policies.put(t, document)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantFailed(image, policy.PolicyError)
	elsewhere.down = false
	w.wantPassed(image) // the failure was not remembered
	asked := elsewhere.asked
	wrong, wrongImage := w.image("wrong")
	w.attachBundle(wrong, w.authority.Bundle(wrong, testauthority.NewECDSA(t), w.signedAt).JSON())
	w.wantFailed(wrongImage, policy.UntrustedKey)
	if elsewhere.asked != asked {
		t.Errorf("asked %d times more under the same trust", elsewhere.asked-asked)
	}
	w.policies.put(t, document)
	w.wantPassed(image)
	if elsewhere.asked != asked+1 {
		t.Errorf("asked %d times more under other trust", elsewhere.asked-asked)
	}
	w.setNow(w.now.Load().Add(limits.ReferenceFresh))
	elsewhere.keys[ref] = testauthority.NewECDSA(t).Public()
	w.wantFailed(image, policy.UntrustedKey)
}
