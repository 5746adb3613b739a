package verifier

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

var mutantCount = flag.Int("mutants", 6000, "how many mutants TestMutants makes, over all forms")

// species is a form whose mutants are tried: a good document as JSON, documents
// about something else to take parts from, and the way from a document to an
// attachment.
type species struct {
	name     string
	court    *court
	document []byte
	donors   [][]byte
	attach   func(document []byte) (attachment, bool)
	// whole changes bytes of the attachment too, where the document is an
	// unfolded form of it.
	whole bool
}

// TestMutants: a mutated signature passes only if the mutation is neutral (see
// court.try). -mutants bounds the number, so that the test takes a few seconds.
func TestMutants(t *testing.T) {
	total := *mutantCount
	if testing.Short() {
		total = min(total, 1000)
	}
	all := everySpecies(t)
	for n, s := range all {
		t.Run(s.name, func(t *testing.T) {
			s.court.tb = t
			share, passed, tried := (total+len(all)-1)/len(all), 0, 0
			for i := 0; tried < share; i++ {
				m := &mutator{r: rand.New(rand.NewPCG(uint64(n)+1, uint64(i)))}
				if err := json.Unmarshal(s.donors[i%len(s.donors)], &m.donor); err != nil {
					t.Fatal(err)
				}
				a, ok := s.mutant(m)
				if !ok {
					continue // no document any more: a form without a way back
				}
				tried++
				if s.court.try(a) {
					passed++
				}
			}
			t.Logf("%d mutants, %d neutral", tried, passed)
			if passed > share/3 {
				t.Errorf("%d of %d mutants are neutral: the mutator is too tame to prove anything", passed, tried)
			}
		})
	}
}

func (s species) mutant(m *mutator) (attachment, bool) {
	if s.whole && m.r.IntN(4) == 0 {
		a, ok := s.attach(s.document)
		a.envelope.Content = m.flip(bytes.Clone(a.envelope.Content))
		return a, ok
	}
	return s.attach(m.mutate(s.document))
}

func bundleOf(document []byte) (attachment, bool) {
	return attachment{format: formatBundle, bundle: document}, true
}

func attestationOf(document []byte) (attachment, bool) {
	a, ok := legacyAttachment(document)
	a.format = formatLegacyAttestation
	return a, ok
}

func envelopeOf(mediaType string, content []byte) attachment {
	return attachment{format: formatNotary, envelope: registry.Envelope{MediaType: mediaType, Content: content}}
}

func jwsOf(document []byte) (attachment, bool) {
	return envelopeOf(notary.MediaTypeJWS, document), true
}

func everySpecies(t *testing.T) []species {
	t.Helper()
	return append(append(keySpecies(t), attestationSpecies(t)...), append(identitySpecies(t), notarySpecies(t)...)...)
}

// keySpecies are signatures by key. Donors: same key and other artifact, other
// key and same artifact.
func keySpecies(t *testing.T) (out []species) {
	c, authority, bundle, legacy := newCourt(t)
	key, stranger, later := bundle.Key, testauthority.NewECDSA(t), bundle.At.Add(time.Minute)
	digest, other := c.bench.artifact.digest, attest.DigestOf([]byte("other"))
	forms := map[string]func(attest.Digest, []byte, *ecdsa.PrivateKey, time.Time) *testauthority.Draft{
		"bundle": func(d attest.Digest, _ []byte, k *ecdsa.PrivateKey, at time.Time) *testauthority.Draft {
			return authority.Bundle(d, k, at)
		},
		"message": func(_ attest.Digest, b []byte, k *ecdsa.PrivateKey, at time.Time) *testauthority.Draft {
			return authority.Message(b, k, at)
		},
	}
	for _, form := range []string{"bundle", "message"} {
		for _, version := range []string{"", "0.1", "0.2"} {
			as := func(d *testauthority.Draft) []byte {
				if version != "" {
					d.As(version)
				}
				return d.JSON()
			}
			s := species{name: form + version, court: c, attach: bundleOf, document: as(forms[form](digest, []byte("artifact"), key, bundle.At))}
			s.donors = [][]byte{as(forms[form](other, []byte("other"), key, later)), as(forms[form](digest, []byte("artifact"), stranger, later))}
			c.admit(attachment{format: formatBundle, bundle: s.document})
			out = append(out, s)
		}
	}
	return append(out, species{
		name: "legacy", court: c, attach: legacyAttachment, document: legacyDocument(t, legacy),
		donors: [][]byte{legacyDocument(t, authority.Legacy(other, key, later)), legacyDocument(t, authority.Legacy(digest, stranger, later))},
	})
}

// attestationSpecies are attestations: what passes has the predicate that was
// signed. In the statement inside, not signed again, nothing may pass but what
// is equal.
func attestationSpecies(t *testing.T) []species {
	c, authority, draft, legacy := newAttestationCourt(t)
	later := draft.At.Add(time.Minute)
	other := testauthority.Attested(attest.DigestOf([]byte("other")), "https://own.example/other", `{"critical":7}`)
	return []species{
		{name: "attested", court: c, attach: bundleOf, document: draft.JSON(), donors: [][]byte{authority.BundleOf(other, draft.Key, later).JSON()}},
		{name: "statement", court: c, document: draft.Payload, donors: [][]byte{other}, attach: func(document []byte) (attachment, bool) {
			spoiled := *draft
			spoiled.Payload = document
			return attachment{format: formatBundle, bundle: spoiled.JSON()}, true
		}},
		{
			name: "att", court: c, attach: attestationOf, document: attestationDocument(t, legacy),
			donors: [][]byte{attestationDocument(t, authority.LegacyAttestation(other, draft.Key, later))},
		},
	}
}

// identitySpecies are signatures by certificate. Donors have the same authority
// and another identity, another artifact, another time, or no certificate.
func identitySpecies(t testing.TB) []species {
	c, authority, ca, draft := newIdentityCourt(t)
	digest, other := c.bench.artifact.digest, attest.DigestOf([]byte("other"))
	ask := testauthority.CertificateRequest{Issuer: courtIssuer, Subject: courtSubject, At: draft.At}
	stranger, late := ask, ask
	stranger.Subject += "2"
	late.At = late.At.Add(time.Hour)
	message := func(r testauthority.CertificateRequest, b string) []byte {
		key := testauthority.NewECDSA(t)
		return authority.CertifiedMessage(ca.Issue(key.Public(), r), key, []byte(b), draft.At).As("0.2").JSON()
	}
	legacy := func(r testauthority.CertificateRequest, d attest.Digest) []byte {
		key := testauthority.NewECDSA(t)
		return legacyDocument(t, authority.CertifiedLegacy(ca.Issue(key.Public(), r), key, d, draft.At))
	}
	out := []species{
		{name: "bundle-id", court: c, attach: bundleOf, document: draft.JSON(), donors: [][]byte{
			authority.IdentityBundle(ca, digest, stranger).JSON(), authority.IdentityBundle(ca, other, ask).JSON(),
			authority.IdentityBundle(ca, other, late).JSON(), authority.Bundle(digest, draft.Key, draft.At).JSON(),
		}},
		{
			name: "message-id", court: c, attach: bundleOf, document: message(ask, "artifact"),
			donors: [][]byte{message(stranger, "artifact"), message(ask, "other"), message(late, "artifact")},
		},
		{
			name: "legacy-id", court: c, attach: legacyAttachment, document: legacy(ask, digest),
			donors: [][]byte{legacy(stranger, digest), legacy(ask, other), legacy(late, digest)},
		},
	}
	for _, s := range out[1:] {
		a, ok := s.attach(s.document)
		if !ok {
			t.Fatal(s.name)
		}
		c.admit(a)
	}
	return out
}

// notarySpecies are envelopes of the Notary Project, as they are and unfolded.
func notarySpecies(t testing.TB) []species {
	authority, ca := testauthority.New(t), testauthority.NewNotaryCA(t, "acme CA")
	c, bundle := newCourtOf(t, authority)
	c.honest = nil
	name, err := notary.ParseName("O=acme, CN=release")
	if err != nil {
		t.Fatal(err)
	}
	c.signer = signer{name: "partner", trusted: c.signer.trusted, x509: &holders{
		X509Authority: &policy.X509Authority{
			Roots: []*x509.Certificate{ca.Root}, Subjects: []notary.Name{name}, Scheme: notary.SchemeX509, Revocation: policy.RevocationSkip,
		},
		anchors: anchorsOf([]*x509.Certificate{ca.Root}),
	}}
	make := func(mediaType string, d attest.Digest, change func(*x509.Certificate)) []byte {
		draft := ca.Notary(mediaType, d, len("artifact"), bundle.At)
		// In the order in which names are sorted.
		draft.Payload = `{"targetArtifact":{"digest":"` + d.String() + `","mediaType":"application/vnd.oci.image.manifest.v1+json","size":8}}`
		draft.Stamp = func(b []byte) []byte { return authority.Stamp(b, bundle.At) }
		if change != nil {
			draft.Chain = ca.Issue(draft.Key.Public(), change)
		}
		return draft.Envelope()
	}
	digest, other := c.bench.artifact.digest, attest.DigestOf([]byte("other"))
	stranger := func(c *x509.Certificate) { c.Subject.CommonName = "stranger" }
	var out []species
	for _, s := range []struct {
		name, mediaType string
		unfold          func([]byte) []byte
		attach          func([]byte) (attachment, bool)
	}{
		{"jws", notary.MediaTypeJWS, func(b []byte) []byte { return b }, jwsOf},
		{"jws unfolded", notary.MediaTypeJWS, func(b []byte) []byte { return unfoldJWS(t, b) }, func(b []byte) (attachment, bool) {
			envelope, ok := foldJWS(b)
			return envelopeOf(notary.MediaTypeJWS, envelope), ok
		}},
		{"cose", notary.MediaTypeCOSE, func(b []byte) []byte { return testauthority.UnfoldCOSE(t, b) }, func(b []byte) (attachment, bool) {
			envelope, ok := testauthority.FoldCOSE(b)
			return envelopeOf(notary.MediaTypeCOSE, envelope), ok
		}},
	} {
		next := species{
			name: s.name, court: c, attach: s.attach, whole: s.name != "jws", document: s.unfold(make(s.mediaType, digest, nil)),
			donors: [][]byte{s.unfold(make(s.mediaType, other, nil)), s.unfold(make(s.mediaType, digest, stranger))},
		}
		a, ok := s.attach(next.document)
		if !ok {
			t.Fatal(s.name)
		}
		if _, f := a.parse(); f != nil {
			t.Fatalf("%s: %v %s", s.name, f.cause, next.document)
		}
		c.admit(a)
		out = append(out, next)
	}
	return out
}

// unfoldJWS writes the header and the payload of a JWS as the JSON that they are.
func unfoldJWS(t testing.TB, envelope []byte) []byte {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal(envelope, &tree); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"protected", "payload"} {
		text, _ := tree[name].(string)
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		tree[name] = json.RawMessage(raw)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// foldJWS is the way back.
func foldJWS(document []byte) ([]byte, bool) {
	var tree map[string]any
	if json.Unmarshal(document, &tree) != nil {
		return nil, false
	}
	for _, name := range []string{"protected", "payload"} {
		if value, ok := tree[name]; ok && value != nil {
			raw, err := json.Marshal(value)
			if err != nil {
				return nil, false
			}
			tree[name] = base64.RawURLEncoding.EncodeToString(raw)
		}
	}
	out, err := json.Marshal(tree)
	return out, err == nil
}
