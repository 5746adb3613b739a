package verifier

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
)

// trusted is a trusted root prepared for verification, with a fingerprint that
// changes when anything in it does.
type trusted struct {
	logs     map[string]trustedLog
	stampers []*root.SigstoreTimestampingAuthority
	// roots, if set, take the place of stampers.
	roots       *stampRoots
	issuers     *issuers
	fingerprint [sha256.Size]byte
}

// trustedLog is a log of a trusted root, ready to prove entries.
type trustedLog struct {
	*tlog.Log
	start time.Time
	end   *time.Time
}

// prepare reads the trusted root that policies call name.
func prepare(name string, r trust.Root) (*trusted, error) {
	t := &trusted{logs: make(map[string]trustedLog, len(r.Logs))}
	h := sha256.New()
	var err error
	if t.issuers, err = prepareIssuers(name, r, h); err != nil {
		return nil, err
	}
	for _, log := range r.Logs {
		// A log with a key of an unknown kind cannot be checked here: its
		// entries count as those of an unknown log. The root's own id for a log
		// is the one that counts.
		reader, err := tlog.NewLog(log.Origin, log.Public, log.ID)
		if err != nil {
			continue
		}
		key, err := keyID(log.Public)
		if err != nil {
			return nil, err
		}
		t.logs[string(reader.ID())] = trustedLog{Log: reader, start: log.Start, end: log.End}
		fmt.Fprintf(h, "log %x %q %s ", reader.ID(), log.Origin, key)
		writeWindow(h, log.Start, log.End)
	}
	for _, authority := range r.TimestampAuthorities {
		stamper, err := stamperOf(authority)
		if err != nil {
			return nil, err
		}
		t.stampers = append(t.stampers, stamper)
		for _, certificate := range authority.Chain {
			fmt.Fprintf(h, "tsa %x ", sha256.Sum256(certificate.Raw))
		}
		writeWindow(h, authority.Start, authority.End)
	}
	fmt.Fprintf(h, "notary %x", sha256.Sum256(notaryFingerprint(r)))
	t.fingerprint = [sha256.Size]byte(h.Sum(nil))
	return t, nil
}

func writeWindow(h hash.Hash, start time.Time, end *time.Time) {
	fmt.Fprintf(h, "%d", start.UnixNano())
	if end != nil {
		fmt.Fprintf(h, "-%d", end.UnixNano())
	}
	fmt.Fprintln(h)
}

func stamperOf(a trust.TimestampAuthority) (*root.SigstoreTimestampingAuthority, error) {
	n := len(a.Chain)
	if n < 2 {
		return nil, fmt.Errorf("trusted root: timestamp authority %s: want a chain of leaf and root", a.URI)
	}
	out := &root.SigstoreTimestampingAuthority{
		URI: a.URI, Leaf: a.Chain[0], Intermediates: a.Chain[1 : n-1], Root: a.Chain[n-1],
		ValidityPeriodStart: a.Start,
	}
	if a.End != nil {
		out.ValidityPeriodEnd = *a.End
	}
	return out, nil
}

// logged is a proven log entry.
type logged struct {
	logID []byte
	index int64
	// time is the log's promise of when, or zero: Rekor v2 gives none.
	time time.Time
}

// proveEntry proves that an entry is in a trusted log. known is false when no
// trusted log has the entry's log id: such an entry says nothing and is as
// good as absent, since anybody could have removed it (row B4).
func (t *trusted) proveEntry(parsed tlog.Entry) (proven logged, known bool, f *fault) {
	entry := parsed.Proto()
	log, known := t.logs[string(entry.GetLogId().GetKeyId())]
	if !known {
		return logged{}, false, nil
	}
	if entry.GetInclusionProof() == nil && entry.GetKindVersion().GetKind() == tlog.KindHashedRekord && entry.GetKindVersion().GetVersion() == "0.0.2" {
		return logged{}, true, faultf(policy.InclusionProofInvalid, "the log entry has no inclusion proof, and entries of Rekor v2 have no other")
	}
	if entry.GetInclusionProof() != nil {
		if f := proveInclusion(log, parsed); f != nil {
			return logged{}, true, f
		}
	}
	proven.logID, proven.index = entry.GetLogId().GetKeyId(), entry.GetLogIndex()
	proven.time, f = provePromise(log, entry)
	return proven, true, f
}

func proveInclusion(log trustedLog, entry tlog.Entry) *fault {
	prove := log.VerifyParsed
	if len(entry.Proto().GetInclusionPromise().GetSignedEntryTimestamp()) > 0 {
		// A Rekor v1 log promises an index over all its trees; provePromise
		// checks that.
		prove = log.VerifyParsedV1
	}
	err := prove(entry)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tlog.ErrCheckpoint):
		return faultf(policy.CheckpointInvalid, "the checkpoint under the log entry is not the log's")
	case errors.Is(err, tlog.ErrBody):
		return faultf(policy.LogEntryMismatch, "the log entry is not a record of a signature")
	default:
		return faultf(policy.InclusionProofInvalid, "the inclusion proof does not lead to the log's checkpoint")
	}
}

// provePromise believes an integrated time only under the log's signature
// (row B6). Legacy signatures have nothing else to prove their entries with, and
// bundles of version 0.1 need nothing else; a later version without a proof was
// refused when it was parsed.
func provePromise(log trustedLog, entry *rekorpb.TransparencyLogEntry) (time.Time, *fault) {
	promise := entry.GetInclusionPromise().GetSignedEntryTimestamp()
	switch {
	case len(promise) == 0 && entry.GetInclusionProof() == nil:
		return time.Time{}, faultf(policy.InclusionProofInvalid, "the log entry has neither proof nor promise")
	case len(promise) == 0 && entry.GetInclusionPromise() != nil:
		return time.Time{}, faultf(policy.InclusionProofInvalid, "the log entry has an empty promise")
	case len(promise) == 0 && entry.GetIntegratedTime() != 0:
		return time.Time{}, faultf(policy.TimestampInvalid, "the log entry claims a time that nobody signed")
	case len(promise) == 0:
		return time.Time{}, nil
	}
	at := time.Unix(entry.GetIntegratedTime(), 0).UTC()
	err := log.VerifySET(entry.GetCanonicalizedBody(), at, entry.GetLogIndex(), entry.GetLogId().GetKeyId(), promise)
	if err != nil {
		return time.Time{}, faultf(policy.InclusionProofInvalid, "the promise of the log entry is not the log's")
	}
	if at.Before(log.start) || (log.end != nil && at.After(*log.end)) {
		return time.Time{}, faultf(policy.CheckpointInvalid, "the log's key was not in use when it promised the entry")
	}
	return at, nil
}

// proveTimestamp is the time at which a trusted authority saw the signature.
// known is false for a stamp that names a signer who is not trusted here: it
// is as good as absent. A stamp that names a trusted one and does not verify
// is a fault.
func (t *trusted) proveTimestamp(s stamp, signature []byte) (at time.Time, known bool, f *fault) {
	switch {
	case t.roots != nil && t.roots.none:
		return time.Time{}, false, nil
	case t.roots != nil:
		return t.roots.prove(s, signature)
	}
	stampers, err := t.namedBy(s)
	if err != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is malformed")
	}
	for _, stamper := range stampers {
		// The chain and both windows are judged at the stamp's own time, by
		// the one authority that it names: no window is borrowed (row D5).
		if proven, ok := s.provenBy(stamper, signature); ok {
			return proven, true, nil
		}
	}
	if len(stampers) == 0 {
		return time.Time{}, false, nil
	}
	return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is not the authority's, or not within its validity")
}

// keyID is the hexadecimal SHA-256 of the key's SubjectPublicKeyInfo: the same
// for every encoding and name of one key (row C2).
func keyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(der)), nil
}
