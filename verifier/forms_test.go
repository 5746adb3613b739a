package verifier_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/registry"
)

// who made a signature: whom the policy names first, whom it names beside, or
// somebody else.
type who int

const (
	first who = iota
	second
	stranger
)

// form is one of the ways in which a signature or an attestation is attached,
// by one of the ways in which its signer is known.
type form struct {
	// name is a column of the table of attacks: what follows a hyphen is how
	// the signer is known.
	name string
	// version is of bundles that are not the newest.
	version string
	// statement: what is signed is a statement, of a predicate if attests is
	// set. logged: the log must have it. by: key, identity or x509.
	statement, attests, logged bool
	by                         string
}

const ownType = "https://own.example/type"

func allForms() []form {
	return []form{
		{name: "legacy", logged: true, by: "key"},
		{name: "legacy-id", logged: true, by: "identity"},
		{name: "att", statement: true, attests: true, logged: true, by: "key"},
		{name: "att-id", statement: true, attests: true, logged: true, by: "identity"},
		{name: "bundle", statement: true, logged: true, by: "key"},
		{name: "bundle-id", statement: true, logged: true, by: "identity"},
		{name: "attested", statement: true, attests: true, logged: true, by: "key"},
		{name: "attested-id", statement: true, attests: true, logged: true, by: "identity"},
		{name: "v0.1", version: "0.1", statement: true, logged: true, by: "key"},
		{name: "v0.2", version: "0.2", statement: true, logged: true, by: "key"},
		{name: "message", logged: true, by: "key"},
		{name: "message-id", version: "0.2", logged: true, by: "identity"},
		{name: "jws", by: "x509"},
		{name: "cose", by: "x509"},
	}
}

// hall is a world with a policy for one form.
type hall struct {
	*certified
	form   form
	notary *testauthority.NotaryCA
	keys   map[who]*ecdsa.PrivateKey
}

func newHall(t *testing.T, f form, o testauthority.CAOptions) *hall {
	t.Helper()
	h := &hall{certified: newCertified(t, o), form: f, notary: testauthority.NewNotaryCA(t, "acme CA"), keys: map[who]*ecdsa.PrivateKey{}}
	h.keys[first], h.keys[second], h.keys[stranger] = h.key, testauthority.NewECDSA(t), testauthority.NewECDSA(t)
	h.world.keys.put(h.managed("copy", h.key))
	h.world.keys.put(h.managed("second", h.keys[second]))
	h.require("one")
	return h
}

// subject is of the certificate of somebody.
func subjectOf(s who) string {
	return strings.Replace(ciSubject, "release.yml", []string{"release.yml", "second.yml", "stranger.yml"}[s], 1)
}

func commonNameOf(s who) string { return []string{"release", "second", "stranger"}[s] }

// authorities are one and copy, who are the same, and two.
func (h *hall) authorities() string {
	switch h.form.by {
	case "key":
		return `{one: {key: {name: release}}, copy: {key: {name: copy}}, two: {key: {name: second}}}`
	case "identity":
		pattern := strings.Replace(ciSubject, "refs/heads/main", "refs/heads/*", 1)
		return fmt.Sprintf(`{one: {identity: %s}, copy: {identity: {issuer: %q, subjectPattern: %q}}, two: {identity: %s}}`,
			exactly(ciIssuer, subjectOf(first)), ciIssuer, pattern, exactly(ciIssuer, subjectOf(second)))
	default:
		pem, _ := json.Marshal(string(testauthority.CertificatePEM(h.notary.Root)))
		return fmt.Sprintf(`{one: {x509: {roots: %s, subjects: ["CN=release"]}}, copy: {x509: {roots: %s, subjects: ["O=acme, CN=release"]}}, two: {x509: {roots: %s, subjects: ["CN=second"]}}}`,
			pem, pem, pem)
	}
}

// leaf is what a policy demands of an authority.
func (h *hall) leaf(by string) string {
	if h.form.attests {
		return fmt.Sprintf(`{attestation: {predicateType: %q, by: %s}}`, ownType, by)
	}
	return fmt.Sprintf(`{signature: {by: %s}}`, by)
}

// require puts a policy that wants the authority named, or whatever the
// requirement in braces says.
func (h *hall) require(what string) {
	h.t.Helper()
	if !strings.HasPrefix(what, "{") {
		what = h.leaf(what)
	}
	h.policies.put(h.t, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities: `+h.authorities()+`
  require: `+what+"\n")
}

// specimen is one attachment before it is attached; one of the drafts is set.
type specimen struct {
	h      *hall
	digest attest.Digest
	bundle *testauthority.Draft
	legacy *testauthority.LegacyDraft
	att    *testauthority.AttestationDraft
	notary *testauthority.NotaryDraft
	// raw changes the bytes that carry it; of a legacy signature those are its
	// payload's.
	raw func(string) string
}

// good is an attachment about a digest by somebody, as it should be.
func (h *hall) good(digest attest.Digest, s who) *specimen {
	h.t.Helper()
	x := &specimen{h: h, digest: digest}
	key, certificate := h.keys[s], (*x509.Certificate)(nil)
	if h.form.by == "identity" {
		ask := h.ask()
		ask.Subject = subjectOf(s)
		certificate = h.ca.Issue(key.Public(), ask)
	}
	statement := testauthority.Statement(digest, testauthority.SignPredicateType)
	if h.form.attests {
		statement = testauthority.Attested(digest, ownType, `{"a":1}`)
	}
	kind, _, _ := strings.Cut(h.form.name, "-")
	switch kind {
	case "legacy":
		x.legacy = h.authority.Legacy(digest, key, h.signedAt)
		x.legacy.Certificate = certificate
	case "att":
		x.att = h.authority.LegacyAttestation(statement, key, h.signedAt)
		x.att.Certificate = certificate
	case "message":
		x.bundle = h.authority.Message(h.registry.manifests[digest], key, h.signedAt)
		x.bundle.Certificate = certificate
	case "jws", "cose":
		mediaType := map[string]string{"jws": notary.MediaTypeJWS, "cose": notary.MediaTypeCOSE}[kind]
		x.notary = h.notary.Notary(mediaType, digest, len(h.registry.manifests[digest]), h.signedAt)
		x.notary.Chain = h.notary.Issue(x.notary.Key.Public(), func(c *x509.Certificate) { c.Subject.CommonName = commonNameOf(s) })
		x.notary.Stamp = func(b []byte) []byte { return h.authority.Stamp(b, h.signedAt) }
	default:
		x.bundle = h.authority.BundleOf(statement, key, h.signedAt)
		x.bundle.Certificate = certificate
	}
	x.resign()
	return x
}

// resign signs and logs what the specimen says by now.
func (x *specimen) resign() {
	switch {
	case x.bundle != nil:
		x.bundle.Resign()
		x.relog()
	case x.legacy != nil:
		x.legacy.Resign()
	case x.att != nil:
		x.att.Resign()
	}
}

// relog logs its signature as it is by now.
func (x *specimen) relog() {
	switch {
	case x.bundle != nil && x.h.form.version != "":
		x.bundle.As(x.h.form.version)
	case x.bundle != nil:
		x.bundle.Relog()
	case x.legacy != nil:
		l, other := x.legacy, *x.legacy
		other.Resign()
		l.Body = testauthority.HashedRekordV001(x.h.t, l.Key.Public(), l.Payload, l.Signature)
		l.Index = x.h.authority.Append("hashedrekord", "0.0.1", l.Body).GetLogIndex()
		l.Promise = x.h.authority.SET(l.Body, l.At, l.Index)
	case x.att != nil:
		x.att.Wrap()
		x.att.Relog()
	}
}

// rewrite changes what is signed, and signs it.
func (x *specimen) rewrite(change func(string) string) {
	x.h.t.Helper()
	at := map[bool]*[]byte{}
	switch {
	case x.bundle != nil:
		at[true] = &x.bundle.Payload
	case x.legacy != nil:
		at[true] = &x.legacy.Payload
	case x.att != nil:
		at[true] = &x.att.Statement
	default:
		payload := []byte(x.notary.Payload)
		at[true] = &payload
		defer func() { x.notary.Payload = string(payload) }()
	}
	before := string(*at[true])
	after := change(before)
	if after == before {
		x.h.t.Fatal("nothing was changed")
	}
	*at[true] = []byte(after)
	x.resign()
}

// transplant takes the log's evidence of another specimen.
func (x *specimen) transplant(other *specimen) {
	switch {
	case x.bundle != nil:
		x.bundle.Entries = other.bundle.Entries
	case x.legacy != nil:
		transplant(x.legacy, other.legacy)
	case x.att != nil:
		transplant(&x.att.LegacyDraft, &other.att.LegacyDraft)
	}
}

func transplant(to, from *testauthority.LegacyDraft) {
	to.Body, to.Index, to.Promise, to.IntegratedTime, to.LogID = from.Body, from.Index, from.Promise, from.IntegratedTime, from.LogID
}

// stamp puts one RFC 3161 response in the place of those that are there; make
// gets what the stamp must be over.
func (x *specimen) stamp(make func(over []byte) []byte) {
	switch {
	case x.bundle != nil:
		x.bundle.Timestamps = [][]byte{make(x.bundle.Signature)}
	case x.legacy != nil:
		x.legacy.Timestamp = make(x.legacy.Signature)
	case x.att != nil:
		x.att.Timestamp = make(x.att.Payload)
	default:
		x.notary.Stamp = make
	}
}

// unsigned puts other bytes in the place of the signature, and logs them.
func (x *specimen) unsigned(signature []byte) {
	switch {
	case x.bundle != nil:
		x.bundle.Signature = signature
		x.relog()
	case x.legacy != nil:
		x.legacy.Signature = signature
		x.relog()
	case x.att != nil:
		x.att.Signature = signature
		x.relog()
	default:
		x.notary.Signature = signature
	}
}

// attach puts the specimen beside what is attached.
func (x *specimen) attach() {
	x.h.t.Helper()
	raw := x.raw
	if raw == nil {
		raw = func(s string) string { return s }
	}
	var a registry.Attachment
	switch {
	case x.bundle != nil:
		a = registry.Attachment{Format: registry.FormatBundle, Bundle: []byte(raw(string(x.bundle.JSON())))}
	case x.legacy != nil:
		a = registry.Attachment{Format: registry.FormatLegacy, Legacy: &registry.Legacy{
			Payload: []byte(raw(string(x.legacy.Payload))), Annotations: x.legacy.Annotations(),
		}}
	case x.att != nil:
		a = registry.Attachment{Format: registry.FormatLegacyAttestation, Legacy: &registry.Legacy{
			Payload: []byte(raw(string(x.att.Payload))), Annotations: x.att.Annotations(),
		}}
	default:
		a = registry.Attachment{Format: registry.FormatNotation, Envelope: &registry.Envelope{
			MediaType: x.notary.MediaType, Content: []byte(raw(string(x.notary.Envelope()))),
		}}
	}
	x.h.registry.attach(x.digest, a)
}
