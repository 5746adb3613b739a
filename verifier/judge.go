package verifier

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
)

// candidate is one public key under which a signature may count.
type candidate struct {
	id     string
	public crypto.PublicKey
	// version is the managed key's life cycle; nil for a key without one.
	version *keys.Version
}

// signer is an authority of a policy with its keys read.
type signer struct {
	name string
	// trusted is the root under which log entries, timestamps and certificates
	// are believed.
	trusted    *trusted
	candidates []candidate
	// identity takes the place of candidates for a signer by certificate.
	identity *policy.IdentityAuthority
	// x509 takes their place for a signer by a certificate of the Notary Project.
	x509 *holders
	// certificate, if set, is the only one that may be used.
	certificate *x509.Certificate
	logNeeded   bool
	// timeNeeded: the key has a life cycle, so its window must be judged at a
	// proven time.
	timeNeeded bool
	// summarizes: the key signs verification summaries, and nothing else by it
	// counts, whatever it was made to sign.
	summarizes bool
	// fault says why the authority cannot accept anything.
	fault *fault
}

// bench judges the attachments of one artifact.
type bench struct {
	artifact artifact
	now      time.Time
	// signatures remembers which key made which signature, so that an
	// authority named by many policies costs one check.
	signatures map[signatureCheck]bool
	// checks are those that the evidence in hand passed, noted while tracing.
	tracing bool
	checks  []string
}

type signatureCheck struct {
	evidence *evidence
	keyID    string
}

// evidence is one parsed attachment and what is proven of it whatever the
// authority.
type evidence struct {
	signed *signed
	// fault is why it cannot be parsed or read; kind is then what it would be.
	fault *fault
	kind  policy.Kind
	// attached is the digest of the bundle or layer; empty of what is fresh.
	attached string
	// format and source are for explanations.
	format string
	source string
	// attestation is the statement as policies look at it, once one is
	// accepted.
	attestation *policy.Attestation

	// proofs are by trusted root.
	proofs map[*trusted]*proof
}

// proof is what a trusted root proves of an attachment.
type proof struct {
	entry *logged
	times []time.Time
	bad   *fault

	// holder is of the certificate, if certified and not strange.
	certified bool
	holder    identity.Holder
	strange   *fault
}

// judge decides one attachment under one authority. Its order gives the most
// telling reason: who signed, is it about this, is it logged, when, was the
// key good then. All of it must hold.
func (b *bench) judge(e *evidence, s signer) policy.Fact {
	fact := policy.Fact{Authority: s.name, Kind: e.kind}
	if e.signed != nil {
		fact.Kind, fact.PredicateType = e.signed.kind, e.signed.predicateType
	}
	key, proof, f := b.decide(e, s)
	if key != nil {
		fact.SignerID = key.id
	}
	if f != nil {
		fact.Reason = f.reason()
		return fact
	}
	fact.Accepted = true
	fact.SignatureID = hex.EncodeToString(sum(crypto.SHA256, e.signed.signature))
	fact.Evidence = policy.Evidence{
		Format: formatInAnswers(e.signed.format), Digest: b.artifact.digest.String(), Authority: s.name,
		Signer: key.id, PredicateType: e.signed.predicateType, Attachment: e.attached,
	}
	if e.signed.kind == policy.KindAttestation {
		fact.Attestation = e.attest()
	}
	if s.x509 != nil {
		fact.Expires = e.signed.expires(proof)
	} else if e.signed.notary != nil {
		fact.Expires = e.signed.notary.Expiry
	}
	if s.identity != nil {
		fact.Claims = proof.holder.Claims
	}
	if proof.entry != nil {
		fact.Evidence.LogIndex, fact.Evidence.LogID = &proof.entry.index, hex.EncodeToString(proof.entry.logID)
	}
	if len(proof.times) > 0 {
		fact.ProvenAt = earliest(proof.times)
		fact.Evidence.SignedAt = fact.ProvenAt.Format(time.RFC3339)
	}
	return fact
}

func formatInAnswers(format string) string {
	if format == formatLegacyAttestation {
		return formatLegacy
	}
	return format
}

func (e *evidence) attest() *policy.Attestation {
	if e.attestation == nil {
		e.attestation = policy.NewAttestation(e.signed.predicateType, e.signed.statement, e.signed.predicate)
	}
	return e.attestation
}

func (b *bench) decide(e *evidence, s signer) (*candidate, *proof, *fault) {
	switch {
	case s.fault != nil:
		return nil, nil, s.fault
	case e.fault != nil:
		return nil, nil, e.fault
	}
	b.passed(checkRead)
	key, f := b.whoSigned(e, s)
	if f != nil {
		return nil, nil, f
	}
	b.passed(checkSigner)
	if s.summarizes && predicate.Canonical(e.signed.predicateType) != predicate.VSAV1 {
		return key, nil, faultf(policy.PredicateTypeMismatch, "%s signs verification summaries and nothing else", s.name)
	}
	if f := bind(b.artifact, e.signed, key.public); f != nil {
		return key, nil, f
	}
	b.passed(checkSubject)
	p := e.prove(s.trusted)
	switch {
	case p.bad != nil:
		return key, p, p.bad
	case s.logNeeded && p.entry == nil:
		return key, p, faultf(policy.LogEntryMissing, "the signature is not in a trusted log")
	}
	b.passed(checkLog)
	switch {
	case s.timeNeeded && len(p.times) == 0:
		return key, p, faultf(policy.TimestampMissing, "no trusted authority says when the signature was made")
	}
	if f := notFuture(b.now, p.times); f != nil {
		return key, p, f
	}
	b.passed(checkTime)
	if f := e.signed.fresh(b.now); f != nil {
		return key, p, f
	}
	if s.x509 != nil {
		return key, p, s.x509.admit(key, e, p, b.now, s.name)
	}
	if s.identity != nil {
		if f := s.admit(key, e, p); f != nil {
			return key, p, f
		}
		b.passed(checkIdentity)
		return key, p, nil
	}
	if key.version != nil {
		if f := window(*key.version, p.times); f != nil {
			return key, p, f
		}
		b.passed(checkWindow)
	}
	return key, p, nil
}

// whoSigned finds the key that made the signature: one of the authority's, or
// that of the certificate, whose own worth is judged when the times are proven.
func (b *bench) whoSigned(e *evidence, s signer) (*candidate, *fault) {
	if s.x509 != nil {
		return s.x509.whoSigned(b, e, s)
	}
	if s.identity == nil {
		if key := b.candidateOf(e, s); key != nil {
			return key, nil
		}
		return nil, b.strange(e.signed, s)
	}
	cert := e.signed.certificate
	switch {
	case cert == nil:
		return nil, faultf(policy.UntrustedKey, "the signature is by a key, and %s is an identity with a certificate", s.name)
	case s.certificate != nil && !s.certificate.Equal(cert):
		return nil, faultf(policy.CertificateInvalid, "the certificate is another one")
	}
	id, err := keyID(cert.PublicKey)
	if err != nil {
		return nil, faultf(policy.CertificateInvalid, "the certificate's key is of an unknown kind").because(err)
	}
	key := &candidate{id: id, public: cert.PublicKey}
	if !b.signed(e, key) {
		if f := e.signed.direct.strange(b.artifact, key.public); f != nil {
			return nil, f
		}
		return nil, faultf(policy.SignatureInvalid, "the signature is not by the key of its certificate")
	}
	return key, nil
}

// admit holds a certificate against an identity authority. From here on the
// signer is who holds the certificate, and not its key of ten minutes: a
// threshold counts one identity once (row C2).
func (s signer) admit(key *candidate, e *evidence, p *proof) *fault {
	if !p.certified {
		p.certified = true
		p.holder, p.strange = s.trusted.issuers.certify(e.signed.certificate, p.times)
	}
	if p.strange != nil {
		return p.strange
	}
	if field := s.identity.Mismatch(p.holder); field != "" {
		return faultf(policy.IdentityMismatch, "the certificate's %s is not what %s must have", field, s.name)
	}
	key.id = p.holder.String()
	return nil
}

func (b *bench) candidateOf(e *evidence, s signer) *candidate {
	for i := range s.candidates {
		if key := &s.candidates[i]; b.signed(e, key) {
			return key
		}
	}
	return nil
}

func (b *bench) signed(e *evidence, key *candidate) bool {
	check := signatureCheck{e, key.id}
	good, known := b.signatures[check]
	if !known {
		if e.signed.direct != nil {
			good = signsArtifact(key.public, b.artifact, e.signed.signature)
		} else {
			good = signs(key.public, e.signed.format, e.signed.message, e.signed.signature)
		}
		b.signatures[check] = good
	}
	return good
}

func (b *bench) strange(s *signed, who signer) *fault {
	var public []crypto.PublicKey
	for _, key := range who.candidates {
		public = append(public, key.public)
	}
	if f := s.direct.strange(b.artifact, public...); f != nil {
		return f
	}
	return strangeSignature(s, who)
}

// strangeSignature words why no key of an authority made a signature: one that
// names such a key is broken, another one is somebody else's.
func strangeSignature(s *signed, who signer) *fault {
	for _, key := range who.candidates {
		if names(s, key) {
			return faultf(policy.SignatureInvalid, "the signature names a key of %s and is not that key's", who.name)
		}
	}
	return faultf(policy.UntrustedKey, "the signature is by no key of %s", who.name)
}

func names(s *signed, key candidate) bool {
	raw, err := hex.DecodeString(key.id)
	if err == nil && (s.hint == key.id || s.hint == base64.StdEncoding.EncodeToString(raw)) {
		return true
	}
	for _, entry := range s.logEntries() {
		if body, err := entry.Body(); err == nil && sameKey(body.PublicKey, key.public) {
			return true
		}
	}
	return false
}

// prove checks log entries and timestamps once for all authorities of a root. A
// fault in any of a trusted log or authority spoils the whole: good ones beside
// it do not help (row B6).
func (e *evidence) prove(t *trusted) *proof {
	if p, done := e.proofs[t]; done {
		return p
	}
	p := &proof{}
	if e.proofs == nil {
		e.proofs = make(map[*trusted]*proof)
	}
	e.proofs[t] = p
	for _, entry := range e.signed.logEntries() {
		proven, known, f := t.proveEntry(entry)
		if f != nil {
			p.bad = f
			return p
		}
		if !known {
			continue
		}
		if p.entry == nil {
			p.entry = &proven
		}
		if !proven.time.IsZero() {
			p.times = append(p.times, proven.time)
		}
	}
	for _, stamp := range e.signed.stamps() {
		at, known, f := t.proveTimestamp(stamp, e.signed.underStamps())
		if f != nil {
			p.bad = f
			return p
		}
		if known {
			p.times = append(p.times, at)
		}
	}
	return p
}

func earliest(times []time.Time) time.Time {
	first := times[0]
	for _, at := range times[1:] {
		if at.Before(first) {
			first = at
		}
	}
	return first
}
