package verifier

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digests that subjects, entries and stamps use
	_ "crypto/sha512"
	"encoding/hex"

	"github.com/digitorus/timestamp"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
)

// artifact is what was asked about.
type artifact struct {
	digest attest.Digest
	// content is the manifest's bytes when they were read, else nil.
	content []byte
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
// It compares; it verifies no signature. A nil fault says that whoever made
// the signatures (which judge checks one by one), they were made about this.
//
// It holds for entries and stamps of authorities that are not trusted here as
// well: an entry about something else is a fault in the bundle whoever signed
// it, so a transplant fails under every trusted root (rows B1, B2).
func bind(a artifact, s *signed, public crypto.PublicKey) *fault {
	if f := bindSubject(a, s.subjects); f != nil {
		return f
	}
	if f := bindTarget(a, s); f != nil {
		return f
	}
	for _, entry := range s.entries {
		if f := bindEntry(entry, s, public); f != nil {
			return f
		}
	}
	for _, stamp := range s.timestamps {
		if f := bindTimestamp(stamp, s.underStamps()); f != nil {
			return f
		}
	}
	return nil
}

// bindSubject wants a subject whose sha256 is the artifact's, and that no such
// subject says anything false of it in another strong digest (row A5). Weak and
// unknown algorithms neither help nor hurt.
func bindSubject(a artifact, subjects []map[string]string) *fault {
	named := false
	for _, digests := range subjects {
		if digests["sha256"] != a.digest.Hex() || a.digest.IsZero() {
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
func bindEntry(entry *rekorpb.TransparencyLogEntry, s *signed, public crypto.PublicKey) *fault {
	body, err := tlog.ParseBody(entry.GetCanonicalizedBody())
	switch {
	case err != nil:
		return faultf(policy.LogEntryMismatch, "the log entry is not a record of a signature")
	case body.Kind != entry.GetKindVersion().GetKind() || body.Version != entry.GetKindVersion().GetVersion():
		return faultf(policy.LogEntryMismatch, "the log entry is not of the kind it claims")
	case body.EnvelopeDigest != nil && (s.envelope == nil || !bytes.Equal(body.EnvelopeDigest, sum(crypto.SHA256, s.envelope))):
		// Rekor's first in-toto entries have no signature: the digest of the
		// envelope, which holds it, stands for it.
		return faultf(policy.LogEntryMismatch, "the log entry records another envelope")
	case body.EnvelopeDigest == nil && !bytes.Equal(body.Signature, s.logged(public)):
		return faultf(policy.LogEntryMismatch, "the log entry records another signature")
	case !bytes.Equal(body.Digest, sum(body.DigestAlgorithm, s.recorded(body))):
		return faultf(policy.LogEntryMismatch, "the log entry records another document")
	case !sameKey(body.PublicKey, public):
		return faultf(policy.LogEntryMismatch, "the log entry records another key")
	case s.certificate != nil && !s.certificate.Equal(body.Certificate):
		return faultf(policy.LogEntryMismatch, "the log entry records another certificate")
	}
	return nil
}

// recorded is what the digest of a log entry is of: the signed message, or the
// envelope's payload in Rekor v1's own entries of envelopes.
func (s *signed) recorded(body tlog.Body) []byte {
	if body.Kind == tlog.KindDSSE || body.Kind == tlog.KindInToto {
		return s.statement
	}
	return s.message
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
func bindTimestamp(response, signature []byte) *fault {
	stamp, err := timestamp.ParseResponse(response)
	if err != nil {
		return faultf(policy.TimestampInvalid, "the timestamp is malformed")
	}
	switch stamp.HashAlgorithm {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return faultf(policy.TimestampInvalid, "the timestamp uses a weak or unknown digest")
	}
	if !bytes.Equal(stamp.HashedMessage, sum(stamp.HashAlgorithm, signature)) {
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
