package verifier

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
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
	name       string
	candidates []candidate
	logNeeded  bool
	// timeNeeded: the key has a life cycle, so its window must be judged at a
	// proven time.
	timeNeeded bool
	// fault says why the authority cannot accept anything.
	fault *fault
}

// bench judges the attachments of one artifact.
type bench struct {
	artifact artifact
	trusted  *trusted
	now      time.Time
	// signatures remembers which key made which signature, so that an
	// authority named by many policies costs one check.
	signatures map[signatureCheck]bool
}

type signatureCheck struct {
	evidence *evidence
	keyID    string
}

// evidence is one parsed attachment and what is proven of it whatever the
// authority.
type evidence struct {
	signed *signed
	// fault is why it cannot be parsed or read.
	fault *fault

	proven   bool
	entry    *logged
	times    []time.Time
	proofBad *fault
}

// judge decides one attachment under one authority. Its order gives the most
// telling reason: who signed, is it about this, is it logged, when, was the
// key good then. All of it must hold.
func (b *bench) judge(e *evidence, s signer) policy.Fact {
	fact := policy.Fact{Authority: s.name}
	key, f := b.decide(e, s)
	if key != nil {
		fact.SignerID = key.id
	}
	if f != nil {
		fact.Reason = f.reason()
		return fact
	}
	fact.Accepted = true
	fact.PredicateType = e.signed.predicateType
	fact.Statement = e.signed.statement
	fact.Evidence = policy.Evidence{
		Format: e.signed.format, Digest: b.artifact.digest.String(), Authority: s.name,
		Signer: key.id, PredicateType: e.signed.predicateType,
	}
	if e.entry != nil {
		fact.Evidence.LogIndex = &e.entry.index
	}
	if len(e.times) > 0 {
		fact.Evidence.SignedAt = earliest(e.times).Format(time.RFC3339)
	}
	return fact
}

func (b *bench) decide(e *evidence, s signer) (*candidate, *fault) {
	switch {
	case s.fault != nil:
		return nil, s.fault
	case e.fault != nil:
		return nil, e.fault
	}
	key := b.whoSigned(e, s)
	if key == nil {
		return nil, strangeSignature(e.signed, s)
	}
	if f := bind(b.artifact, e.signed, key.public); f != nil {
		return key, f
	}
	if e.signed.format == formatBundle && e.signed.predicateType != predicateSign {
		return key, faultf(policy.PredicateTypeMismatch, "it is an attestation and not a signature")
	}
	b.prove(e)
	switch {
	case e.proofBad != nil:
		return key, e.proofBad
	case s.logNeeded && e.entry == nil:
		return key, faultf(policy.LogEntryMissing, "the signature is not in a trusted log")
	case s.timeNeeded && len(e.times) == 0:
		return key, faultf(policy.TimestampMissing, "no trusted authority says when the signature was made")
	}
	if f := notFuture(b.now, e.times); f != nil {
		return key, f
	}
	if key.version != nil {
		return key, window(*key.version, e.times)
	}
	return key, nil
}

func (b *bench) whoSigned(e *evidence, s signer) *candidate {
	for i := range s.candidates {
		key := &s.candidates[i]
		check := signatureCheck{e, key.id}
		good, known := b.signatures[check]
		if !known {
			good = signs(key.public, e.signed.format, e.signed.message, e.signed.signature)
			b.signatures[check] = good
		}
		if good {
			return key
		}
	}
	return nil
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
	for _, entry := range s.entries {
		if body, err := tlog.ParseBody(entry.GetCanonicalizedBody()); err == nil && sameKey(body.PublicKey, key.public) {
			return true
		}
	}
	return false
}

// prove checks log entries and timestamps once for all authorities. A fault in
// any of a trusted log or authority spoils the whole: good ones beside it do
// not help (row B6).
func (b *bench) prove(e *evidence) {
	if e.proven {
		return
	}
	e.proven = true
	for _, entry := range e.signed.entries {
		proof, known, f := b.trusted.proveEntry(e.signed.format, entry)
		if f != nil {
			e.proofBad = f
			return
		}
		if !known {
			continue
		}
		if e.entry == nil {
			e.entry = &proof
		}
		if !proof.time.IsZero() {
			e.times = append(e.times, proof.time)
		}
	}
	for _, stamp := range e.signed.timestamps {
		at, known, f := b.trusted.proveTimestamp(stamp, e.signed.signature)
		if f != nil {
			e.proofBad = f
			return
		}
		if known {
			e.times = append(e.times, at)
		}
	}
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
