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
		c.tb.Fatalf("a mutant passes:\n%s\n%s %v\n%s", a.bundle, a.payload, a.annotations, a.envelope.Content)
	}
	return true
}

func neutral(a, b *signed) bool {
	if (a.notary == nil) != (b.notary == nil) || a.notary != nil && !a.notary.Chain[0].Equal(b.notary.Chain[0]) {
		return false
	}
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
func legacyDocument(t testing.TB, d *testauthority.LegacyDraft) []byte {
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
