package verifier

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digests that subjects, entries and stamps use
	_ "crypto/sha512"
	"encoding/hex"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
)

// artifact is what was asked about.
type artifact struct {
	digest attest.Digest
	// blob: it is in no registry, and may be named by other digests than SHA-256.
	blob bool
	// content is the bytes of the manifest or the blob when they are known, else
	// nil.
	content []byte
}

// sum is the artifact's digest by an algorithm, if it can be known.
func (a artifact) sum(h crypto.Hash) (digest []byte, known bool) {
	switch {
	case a.content != nil:
		return sum(h, a.content), true
	case h == crypto.SHA256 && !a.digest.IsZero():
		return a.digest.Bytes(), true
	}
	return nil, false
}

// bind is the one place that decides whether a signature, the document it is
// over, its log entries and its timestamps all speak of one and the same
// artifact, signed by one and the same key. Every format comes through here.
//
//	digest ── subjects of the signed document
//	          the document ── message ── signature ── public
//	                             └── digest, signature and key of every entry
//	                                          └── imprint of every timestamp
//
// A signature over the artifact itself has no document between: it was verified
// over the artifact's own bytes or digest.
//
// It compares; it verifies no signature. A nil fault says that whoever made
// the signatures (which judge checks one by one), they were made about this.
//
// It holds for entries and stamps of authorities that are not trusted here as
// well: an entry about something else is a fault in the bundle whoever signed
// it, so a transplant fails under every trusted root (rows B1, B2).
func bind(a artifact, s *signed, public crypto.PublicKey) *fault {
	if f := bindDocument(a, s); f != nil {
		return f
	}
	if f := bindTarget(a, s); f != nil {
		return f
	}
	for _, entry := range s.logEntries() {
		if f := bindEntry(a, entry, s, public); f != nil {
			return f
		}
	}
	for _, stamp := range s.stamps() {
		if f := bindTimestamp(stamp, s.underStamps()); f != nil {
			return f
		}
	}
	return nil
}

// bindDocument wants the signed document to speak of the artifact. The digest
// beside a signature over the artifact itself is a hint, and a hint that lies is
// a fault of the bundle: a reader who looked by it would look at another.
func bindDocument(a artifact, s *signed) *fault {
	if s.direct == nil {
		return bindSubject(a, s.subjects)
	}
	if s.direct.deniedBy(a) {
		return faultf(policy.SubjectMismatch, "the bundle names another artifact, not %s", a.digest)
	}
	return nil
}

// bindSubject wants a subject whose sha256 is the artifact's, and that no such
// subject says anything false of it in another strong digest (row A5). Weak and
// unknown algorithms neither help nor hurt.
func bindSubject(a artifact, subjects []map[string]string) *fault {
	named := false
	for _, digests := range subjects {
		if a.digest.IsZero() || !a.namedBy(digests) {
			continue
		}
		if f := bindOtherDigests(a, digests); f != nil {
			return f
		}
		named = true
	}
	if named {
		return nil
	}
	return faultf(policy.SubjectMismatch, "the signature speaks of another artifact, not of %s", a.digest)
}

// namedBy reports whether a subject is the artifact: by its SHA-256, which is
// what a registry names an image by. Package indexes name a blob by SHA-512
// alone; that counts where its bytes are known, so that it can be compared.
func (a artifact) namedBy(digests map[string]string) bool {
	if value, ok := digests["sha256"]; ok || !a.blob || a.content == nil {
		return value == a.digest.Hex()
	}
	return digests["sha512"] != "" || digests["sha384"] != ""
}

func bindOtherDigests(a artifact, digests map[string]string) *fault {
	for name, hash := range map[string]crypto.Hash{"sha384": crypto.SHA384, "sha512": crypto.SHA512} {
		value, ok := digests[name]
		if !ok {
			continue
		}
		if a.content == nil || hex.EncodeToString(sum(hash, a.content)) != value {
			return faultf(policy.SubjectMismatch, "the statement's %s digest is not the artifact's", name)
		}
	}
	return nil
}

// bindEntry wants the entry to be the record of exactly this signature:
// Rekor's rule that digest, signature and key all match (CVE-2022-36056,
// CVE-2026-22703), and that it is of the kind it claims.
func bindEntry(a artifact, entry tlog.Entry, s *signed, public crypto.PublicKey) *fault {
	body, err := entry.Body()
	claimed := entry.Proto().GetKindVersion()
	recorded, known := s.recorded(a, body)
	switch {
	case err != nil:
		return faultf(policy.LogEntryMismatch, "the log entry is not a record of a signature")
	case body.Kind != claimed.GetKind() || body.Version != claimed.GetVersion():
		return faultf(policy.LogEntryMismatch, "the log entry is not of the kind it claims")
	case body.EnvelopeDigest != nil && (s.envelope == nil || !bytes.Equal(body.EnvelopeDigest, sum(crypto.SHA256, s.envelope))):
		// Rekor's first in-toto entries have no signature: the digest of the
		// envelope, which holds it, stands for it.
		return faultf(policy.LogEntryMismatch, "the log entry records another envelope")
	case body.EnvelopeDigest == nil && !bytes.Equal(body.Signature, s.logged(public)):
		return faultf(policy.LogEntryMismatch, "the log entry records another signature")
	case !known:
		return faultf(policy.LogEntryMismatch, "the log entry cannot be compared with the artifact: it records an envelope, or a digest that needs the artifact's bytes")
	case !bytes.Equal(body.Digest, recorded):
		return faultf(policy.LogEntryMismatch, "the log entry records another document")
	case !sameKey(body.PublicKey, public):
		return faultf(policy.LogEntryMismatch, "the log entry records another key")
	case s.certificate != nil && !s.certificate.Equal(body.Certificate):
		return faultf(policy.LogEntryMismatch, "the log entry records another certificate")
	}
	return nil
}

// recorded is the digest that a log entry must have: of the signed message, of
// the envelope's payload in Rekor v1's own entries of envelopes, or of the
// artifact that is signed without a document.
func (s *signed) recorded(a artifact, body tlog.Body) (digest []byte, known bool) {
	ofEnvelope := body.Kind == tlog.KindDSSE || body.Kind == tlog.KindInToto
	switch {
	case !body.DigestAlgorithm.Available():
		return nil, false
	case s.direct != nil && ofEnvelope:
		return nil, false
	case s.direct != nil:
		return a.sum(body.DigestAlgorithm)
	case ofEnvelope:
		return sum(body.DigestAlgorithm, s.statement), true
	}
	return sum(body.DigestAlgorithm, s.message), true
}

// underStamps is what the imprints of timestamps are of.
func (s *signed) underStamps() []byte {
	if s.envelope != nil {
		return s.envelope
	}
	return s.signature
}

// bindTimestamp wants the imprint of a stamp to be of this signature, or of the
// envelope that holds it.
func bindTimestamp(s stamp, signature []byte) *fault {
	if s.err != nil {
		return faultf(policy.TimestampInvalid, "the timestamp is malformed")
	}
	switch s.parsed.HashAlgorithm {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return faultf(policy.TimestampInvalid, "the timestamp uses a weak or unknown digest")
	}
	if !bytes.Equal(s.parsed.HashedMessage, sum(s.parsed.HashAlgorithm, signature)) {
		return faultf(policy.TimestampInvalid, "the timestamp is of another signature")
	}
	return nil
}

func sameKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

func sum(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
