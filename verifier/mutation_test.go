package verifier

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
)

// court judges attachments about one artifact under one key, as strictly as a
// managed key is, and knows every honest signature about it.
type court struct {
	tb     testing.TB
	bench  bench
	signer signer
	honest []*signed
}

func newCourt(tb testing.TB) (*court, *testauthority.Authority, *testauthority.Draft, *testauthority.LegacyDraft) {
	tb.Helper()
	authority := testauthority.New(tb)
	c, bundle := newCourtOf(tb, authority)
	legacy := authority.Legacy(c.bench.artifact.digest, bundle.Key, bundle.At)
	c.admit(attachment{format: formatLegacy, payload: legacy.Payload, annotations: legacy.Annotations()})
	return c, authority, bundle, legacy
}

// newCourtOf is newCourt under another authority, with a bundle alone.
func newCourtOf(tb testing.TB, authority *testauthority.Authority) (*court, *testauthority.Draft) {
	tb.Helper()
	key := testauthority.NewECDSA(tb)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	root, err := prepare(policy.SelfRoot, authority.Root())
	if err != nil {
		tb.Fatal(err)
	}
	digest := attest.DigestOf([]byte("artifact"))
	c := &court{tb: tb, bench: bench{artifact: artifact{digest: digest, content: []byte("artifact")}, now: at.Add(time.Hour)}}
	c.signer = signer{
		name: "release", trusted: root, logNeeded: true, timeNeeded: true,
		candidates: []candidate{{id: testauthority.KeyID(tb, key.Public()), public: key.Public()}},
	}
	bundle := authority.Bundle(digest, key, at)
	c.admit(attachment{format: formatBundle, bundle: bundle.JSON()})
	return c, bundle
}

const (
	courtIssuer  = "https://issuer.example"
	courtSubject = "https://s.example/workflow"
)

// newIdentityCourt judges signatures by the holder of a certificate.
func newIdentityCourt(tb testing.TB) (*court, *testauthority.Authority, *testauthority.CA, *testauthority.Draft) {
	tb.Helper()
	authority, ca := testauthority.New(tb), testauthority.NewCA(tb, testauthority.CAOptions{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	root, err := prepare(policy.SelfRoot, ca.Trust(authority.Root()))
	if err != nil {
		tb.Fatal(err)
	}
	digest := attest.DigestOf([]byte("artifact"))
	c := &court{tb: tb, bench: bench{artifact: artifact{digest: digest, content: []byte("artifact")}, now: at.Add(time.Hour)}}
	c.signer = signer{
		name: "ci", trusted: root, logNeeded: true, timeNeeded: true,
		identity: policy.ExactIdentity(courtIssuer, courtSubject, policy.SelfRoot),
	}
	draft := authority.IdentityBundle(ca, digest, testauthority.CertificateRequest{Issuer: courtIssuer, Subject: courtSubject, At: at})
	c.admit(attachment{format: formatBundle, bundle: draft.JSON()})
	return c, authority, ca, draft
}

// admit is the positive control: what is honest passes.
func (c *court) admit(a attachment) {
	c.tb.Helper()
	fact, parsed := c.judge(a)
	if !fact.Accepted {
		c.tb.Fatalf("an honest signature is refused: %v", fact.Reason)
	}
	c.honest = append(c.honest, parsed)
}

func (c *court) judge(a attachment) (policy.Fact, *signed) {
	e := &evidence{}
	e.signed, e.fault = a.parse()
	c.bench.signatures = make(map[signatureCheck]bool)
	return c.bench.judge(e, c.signer), e.signed
}

// try fails the test when a mutant passes that is not a neutral mutation of an
// honest signature. Neutral are: another key hint; white space, order and
// explicit defaults of the JSON; the parts of a timestamp response that no one
// signed; further signatures under the checkpoint; one timestamp less where
// another proof of time is left. All else must be equal.
func (c *court) try(a attachment) (passed bool) {
	c.tb.Helper()
	fact, parsed := c.judge(a)
	if !fact.Accepted {
		if fact.Reason.Code == "" || fact.Reason.Message == "" {
			c.tb.Fatalf("refused without a reason: %s", a.bundle)
		}
		return false
	}
	if !slices.ContainsFunc(c.honest, func(h *signed) bool { return neutral(h, parsed) }) {
		c.tb.Fatalf("a mutant passes:\n%s\n%s %v", a.bundle, a.payload, a.annotations)
	}
	return true
}

func neutral(a, b *signed) bool {
	return a.format == b.format && bytes.Equal(a.message, b.message) && bytes.Equal(a.signature, b.signature) &&
		slices.EqualFunc(a.entries, b.entries, sameEntry) && fewer(b.timestamps, a.timestamps)
}

func fewer(some, all [][]byte) bool {
	for _, s := range some {
		if !slices.ContainsFunc(all, func(a []byte) bool { return sameStamp(a, s) }) {
			return false
		}
	}
	return true
}

func sameEntry(a, b *rekorpb.TransparencyLogEntry) bool {
	text := func(e *rekorpb.TransparencyLogEntry) (string, *rekorpb.TransparencyLogEntry) {
		c := proto.Clone(e).(*rekorpb.TransparencyLogEntry)
		head, _, _ := strings.Cut(c.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n\n")
		if c.GetInclusionProof().GetCheckpoint() != nil {
			c.InclusionProof.Checkpoint.Envelope = ""
		}
		return head, c
	}
	headA, restA := text(a)
	headB, restB := text(b)
	return headA == headB && proto.Equal(restA, restB)
}

func sameStamp(a, b []byte) bool {
	x, errX := timestamp.ParseResponse(a)
	y, errY := timestamp.ParseResponse(b)
	return errX == nil && errY == nil && x.Time.Equal(y.Time) && x.HashAlgorithm == y.HashAlgorithm && bytes.Equal(x.HashedMessage, y.HashedMessage)
}

// mutator makes mutants of JSON documents: of the tree, of numbers and text,
// of the bytes inside base64, and of the raw document. donor is a valid
// document about something else to take subtrees from.
type mutator struct {
	r     *rand.Rand
	donor any
}

func (m *mutator) mutate(raw []byte) []byte {
	if m.r.IntN(8) == 0 {
		return m.flip(bytes.Clone(raw))
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		panic(err)
	}
	for range 1 + m.r.IntN(2) {
		places := walk(tree, m.donor, nil)
		p := places[m.r.IntN(len(places))]
		m.change(p)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		panic(err)
	}
	return out
}

// place is a node with its parent and the node at the same path in the donor.
type place struct {
	object map[string]any
	name   string
	list   []any
	index  int
	value  any
	donor  any
}

func (p place) set(v any) {
	if p.object != nil {
		p.object[p.name] = v
	} else {
		p.list[p.index] = v
	}
}

func walk(node, donor any, out []place) []place {
	switch node := node.(type) {
	case map[string]any:
		other, _ := donor.(map[string]any)
		for _, name := range sorted(node) {
			out = append(out, place{object: node, name: name, value: node[name], donor: other[name]})
			out = walk(node[name], other[name], out)
		}
	case []any:
		other, _ := donor.([]any)
		for i, v := range node {
			var d any
			if i < len(other) {
				d = other[i]
			}
			out = append(out, place{list: node, index: i, value: v, donor: d})
			out = walk(v, d, out)
		}
	}
	return out
}

func sorted(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m *mutator) change(p place) {
	switch choice := m.r.IntN(10); {
	case choice < 3 && p.donor != nil:
		p.set(p.donor)
	case choice == 3 && p.object != nil:
		delete(p.object, p.name)
	case choice == 4:
		p.set(nil)
	case choice == 5 && p.object != nil:
		p.object[p.name+"x"] = p.value
	default:
		p.set(m.other(p.value))
	}
}

func (m *mutator) other(v any) any {
	switch v := v.(type) {
	case string:
		if raw, err := base64.StdEncoding.DecodeString(v); err == nil && len(raw) > 8 && m.r.IntN(4) > 0 {
			return base64.StdEncoding.EncodeToString(m.flip(raw))
		}
		return string(m.flip([]byte(v)))
	case []any:
		switch m.r.IntN(3) {
		case 0:
			return append(slices.Clone(v), v...)
		case 1:
			return []any{}
		default:
			c := slices.Clone(v)
			m.r.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
			return c
		}
	case float64:
		return v + float64(m.r.IntN(5)-2)
	default:
		return fmt.Sprint(v)
	}
}

func (m *mutator) flip(b []byte) []byte {
	if len(b) == 0 {
		return []byte{0}
	}
	i := m.r.IntN(len(b))
	switch m.r.IntN(4) {
	case 0:
		return append(b[:i], b[i+1:]...)
	case 1:
		return slices.Insert(b, i, b[m.r.IntN(len(b))])
	default:
		b[i] ^= 1 << m.r.IntN(8)
		return b
	}
}

// A mutated signature passes only if the mutation is neutral. The number of
// mutants is bounded so that the test takes a few seconds; -short takes fewer.
func TestMutantsNeverPass(t *testing.T) {
	mutants := 3000
	if testing.Short() {
		mutants = 500
	}
	c, authority, bundle, legacy := newCourt(t)
	donorKey := testauthority.NewECDSA(t)
	other, later := attest.DigestOf([]byte("other")), bundle.At.Add(time.Minute)
	// Donors: same key and other artifact, other key and same artifact.
	donors := [][]byte{
		authority.Bundle(other, bundle.Key, later).JSON(),
		authority.Bundle(c.bench.artifact.digest, donorKey, later).JSON(),
	}
	raw, passed := bundle.JSON(), 0
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(1, uint64(i)))}
		if err := json.Unmarshal(donors[i%len(donors)], &m.donor); err != nil {
			t.Fatal(err)
		}
		if c.try(attachment{format: formatBundle, bundle: m.mutate(raw)}) {
			passed++
		}
	}
	t.Logf("%d mutants of a bundle, %d neutral", mutants, passed)
	if passed > mutants/4 {
		t.Errorf("%d of %d mutants are neutral: the mutator is too tame to prove anything", passed, mutants)
	}
	donor := legacyDocument(t, authority.Legacy(other, legacy.Key, later))
	document := legacyDocument(t, legacy)
	passed = 0
	for i := range mutants / 2 {
		m := &mutator{r: rand.New(rand.NewPCG(2, uint64(i)))}
		if err := json.Unmarshal(donor, &m.donor); err != nil {
			t.Fatal(err)
		}
		if a, ok := legacyAttachment(m.mutate(document)); ok && c.try(a) {
			passed++
		}
	}
	t.Logf("%d mutants of a legacy signature, %d neutral", mutants/2, passed)
}

// The same for signatures by certificate. Donors have the same authority and
// another identity, another artifact, another time, or no certificate.
func TestIdentityMutantsNeverPass(t *testing.T) {
	mutants := 3000
	if testing.Short() {
		mutants = 500
	}
	c, authority, ca, draft := newIdentityCourt(t)
	digest, other := c.bench.artifact.digest, attest.DigestOf([]byte("other"))
	ask := testauthority.CertificateRequest{Issuer: courtIssuer, Subject: courtSubject, At: draft.At}
	stranger, late := ask, ask
	stranger.Subject += "2"
	late.At = late.At.Add(time.Hour)
	donors := [][]byte{
		authority.IdentityBundle(ca, digest, stranger).JSON(),
		authority.IdentityBundle(ca, other, ask).JSON(),
		authority.IdentityBundle(ca, other, late).JSON(),
		authority.Bundle(digest, draft.Key, draft.At).JSON(),
	}
	raw, passed := draft.JSON(), 0
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(5, uint64(i)))}
		if err := json.Unmarshal(donors[i%len(donors)], &m.donor); err != nil {
			t.Fatal(err)
		}
		if c.try(attachment{format: formatBundle, bundle: m.mutate(raw)}) {
			passed++
		}
	}
	t.Logf("%d mutants, %d neutral", mutants, passed)
	if passed > mutants/4 {
		t.Errorf("%d of %d mutants are neutral: the mutator is too tame to prove anything", passed, mutants)
	}
}

// newAttestationCourt judges attestations in both formats, of one key.
func newAttestationCourt(tb testing.TB) (*court, *testauthority.Authority, *testauthority.Draft, *testauthority.AttestationDraft) {
	tb.Helper()
	c, authority, bundle, _ := newCourt(tb)
	c.honest = nil
	statement := testauthority.Attested(c.bench.artifact.digest, "https://own.example/type", `{"critical":0,"list":[1,2.5,null],"text":"a"}`)
	draft := authority.BundleOf(statement, bundle.Key, bundle.At)
	legacy := authority.LegacyAttestation(statement, bundle.Key, bundle.At)
	c.admit(attachment{format: formatBundle, bundle: draft.JSON()})
	c.admit(attachment{format: formatLegacyAttestation, payload: legacy.Payload, annotations: legacy.Annotations()})
	return c, authority, draft, legacy
}

// The same for attestations: what passes has the predicate that was signed.
func TestAttestationMutantsNeverPass(t *testing.T) {
	mutants := 3000
	if testing.Short() {
		mutants = 500
	}
	c, authority, draft, legacy := newAttestationCourt(t)
	other := testauthority.Attested(attest.DigestOf([]byte("other")), "https://own.example/other", `{"critical":7}`)
	var donor any
	if err := json.Unmarshal(authority.BundleOf(other, draft.Key, draft.At.Add(time.Minute)).JSON(), &donor); err != nil {
		t.Fatal(err)
	}
	raw, passed := draft.JSON(), 0
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(7, uint64(i))), donor: donor}
		if c.try(attachment{format: formatBundle, bundle: m.mutate(raw)}) {
			passed++
		}
	}
	// Of a statement inside, not resigned: nothing may pass but what is equal.
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(8, uint64(i))), donor: donor}
		spoiled := *draft
		if spoiled.Payload = m.mutate(draft.Payload); bytes.Equal(spoiled.Payload, draft.Payload) {
			continue
		}
		if c.try(attachment{format: formatBundle, bundle: spoiled.JSON()}) {
			t.Fatalf("a statement that nobody signed passes: %s", spoiled.Payload)
		}
	}
	t.Logf("%d mutants of a bundle, %d neutral", mutants, passed)
	if passed > mutants/4 {
		t.Errorf("%d of %d mutants are neutral: the mutator is too tame to prove anything", passed, mutants)
	}
	foreign := authority.LegacyAttestation(other, draft.Key, draft.At.Add(time.Minute))
	if err := json.Unmarshal(attestationDocument(t, foreign), &donor); err != nil {
		t.Fatal(err)
	}
	document := attestationDocument(t, legacy)
	passed = 0
	for i := range mutants / 2 {
		m := &mutator{r: rand.New(rand.NewPCG(9, uint64(i))), donor: donor}
		if a, ok := legacyAttachment(m.mutate(document)); ok {
			a.format = formatLegacyAttestation
			if c.try(a) {
				passed++
			}
		}
	}
	t.Logf("%d mutants of a legacy attestation, %d neutral", mutants/2, passed)
}

// attestationDocument is legacyDocument of an attestation.
func attestationDocument(t *testing.T, d *testauthority.AttestationDraft) []byte {
	t.Helper()
	tree := map[string]any{"payload": base64.StdEncoding.EncodeToString(d.Payload)}
	for name, text := range d.Annotations() {
		var v any = text
		if strings.HasPrefix(text, "{") {
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
		}
		tree[name] = v
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// legacyDocument holds a legacy signature as one JSON tree, annotations
// unfolded, for the mutator.
func legacyDocument(t *testing.T, d *testauthority.LegacyDraft) []byte {
	t.Helper()
	tree := map[string]any{"payload": base64.StdEncoding.EncodeToString(d.Payload)}
	for name, text := range d.Annotations() {
		var v any = text
		if strings.HasPrefix(text, "{") {
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
		}
		tree[name] = v
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func legacyAttachment(document []byte) (attachment, bool) {
	var tree map[string]any
	if json.Unmarshal(document, &tree) != nil {
		return attachment{}, false
	}
	a := attachment{format: formatLegacy, annotations: map[string]string{}}
	for name, v := range tree {
		text, ok := v.(string)
		if !ok {
			raw, err := json.Marshal(v)
			if err != nil {
				return attachment{}, false
			}
			text = string(raw)
		}
		if name == "payload" {
			a.payload, _ = base64.StdEncoding.DecodeString(text)
			continue
		}
		a.annotations[name] = text
	}
	return a, true
}

// FuzzBundle: whatever the bytes, no panic, and nothing passes that is not an
// honest signature.
func FuzzBundle(f *testing.F) {
	c, authority, bundle, _ := newCourt(f)
	f.Add(bundle.JSON())
	f.Add(authority.Bundle(attest.DigestOf([]byte("other")), bundle.Key, bundle.At).JSON())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"dsseEnvelope":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c.tb = t
		c.try(attachment{format: formatBundle, bundle: raw})
	})
}

// FuzzLegacy is FuzzBundle for legacy signatures.
func FuzzLegacy(f *testing.F) {
	c, _, _, legacy := newCourt(f)
	a := legacy.Annotations()
	f.Add(legacy.Payload, a[annotationSignature], a[annotationLog], a[annotationTimestamp])
	f.Add([]byte("{}"), "", "{}", "{}")
	f.Fuzz(func(t *testing.T, payload []byte, signature, log, stamp string) {
		c.tb = t
		annotations := map[string]string{annotationSignature: signature}
		if log != "" {
			annotations[annotationLog] = log
		}
		if stamp != "" {
			annotations[annotationTimestamp] = stamp
		}
		c.try(attachment{format: formatLegacy, payload: payload, annotations: annotations})
	})
}

// FuzzLegacyAttestation is FuzzBundle for layers of an .att tag.
func FuzzLegacyAttestation(f *testing.F) {
	c, _, _, legacy := newAttestationCourt(f)
	a := legacy.Annotations()
	f.Add(legacy.Payload, a[annotationLog], a[annotationTimestamp])
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AA=="}]}`), "{}", "{}")
	f.Fuzz(func(t *testing.T, payload []byte, log, stamp string) {
		c.tb = t
		c.try(attachment{format: formatLegacyAttestation, payload: payload, annotations: map[string]string{annotationLog: log, annotationTimestamp: stamp}})
	})
}

// FuzzTimestamp: a hostile RFC 3161 response neither panics nor proves a time
// that the authority did not state.
func FuzzTimestamp(f *testing.F) {
	c, authority, bundle, _ := newCourt(f)
	f.Add(bundle.Timestamps[0])
	f.Add(authority.ForeignStamp(bundle.Signature, bundle.At))
	f.Add([]byte("0\x03\x02\x01\x00"))
	f.Fuzz(func(t *testing.T, response []byte) {
		s := parseStamp(response)
		if bindTimestamp(s, bundle.Signature) != nil {
			return
		}
		at, known, fault := c.signer.trusted.proveTimestamp(s, bundle.Signature)
		if known && fault == nil && !at.Equal(bundle.At) {
			t.Fatalf("proved %s", at)
		}
	})
}
