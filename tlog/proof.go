package tlog

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strconv"
	"strings"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// ErrProof says that an inclusion proof does not lead from the body to the root.
var ErrProof = errors.New("inclusion proof does not verify")

// maxProof is the longest proof of any tree: one hash for each bit of an
// index.
const maxProof = 64

// LeafHash is SHA-256(0x00 ‖ body), RFC 6962 §2.1: 32 bytes.
func LeafHash(body []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(body) }

// VerifyInclusion is Log.VerifyInclusion for the log with that origin and key,
// under the id that its key gives it. An origin or key that no log has is
// ErrCheckpoint.
func VerifyInclusion(entry *rekorpb.TransparencyLogEntry, origin string, pub crypto.PublicKey) error {
	log, err := NewLog(origin, pub, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return log.VerifyInclusion(entry)
}

// VerifyInclusionV1 is Log.VerifyInclusionV1 for the log with that name and key.
func VerifyInclusionV1(entry *rekorpb.TransparencyLogEntry, name string, pub crypto.PublicKey) error {
	log, err := NewLog(name, pub, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return log.VerifyInclusionV1(entry)
}

// VerifyInclusion proves that entry.CanonicalizedBody stands at entry.LogIndex
// of the log. The leaf is hashed from the body, size and root come from the
// checkpoint whose signature was verified; the copies of them beside the proof
// must agree. Kind and version must be the body's own.
//
// ErrCheckpoint says that the checkpoint is not the log's, ErrProof that the
// entry is not under it, ErrBody that the body is no entry of a known kind.
//
// It does not say what the entry is about: whoever asks compares the body's
// digest, signature and key with what was verified (rows B1 to B3).
func (l *Log) VerifyInclusion(entry *rekorpb.TransparencyLogEntry) error {
	return l.VerifyParsed(ParseEntry(entry))
}

// VerifyParsed is VerifyInclusion of an entry whose body was parsed already.
func (l *Log) VerifyParsed(parsed Entry) error {
	entry := parsed.proto
	cp, err := OpenCheckpoint([]byte(entry.GetInclusionProof().GetCheckpoint().GetEnvelope()), l.verifier)
	if err != nil {
		return err
	}
	if entry.GetLogIndex() != entry.GetInclusionProof().GetLogIndex() {
		return fmt.Errorf("%w: entry and proof name different indices", ErrProof)
	}
	return l.verifyUnder(parsed, cp)
}

// VerifyInclusionV1 is VerifyInclusion for an entry of a Rekor v1 log. There the
// origin of a checkpoint is the host that signed followed by the number of one of
// the log's trees (`rekor.sigstore.dev - 2605736670972794746`), and the index in
// the proof is of that tree. The host need not be the log's name, as that of a
// private instance in a cluster is not; that the key is the log's counts. The
// entry's own index counts over all trees and is proven by the signed entry
// timestamp alone (VerifySET). A checkpoint that is of a single tree is taken as
// VerifyInclusion takes it.
func (l *Log) VerifyInclusionV1(entry *rekorpb.TransparencyLogEntry) error {
	return l.VerifyParsedV1(ParseEntry(entry))
}

// VerifyParsedV1 is VerifyInclusionV1 of an entry whose body was parsed already.
func (l *Log) VerifyParsedV1(parsed Entry) error {
	entry := parsed.proto
	envelope := entry.GetInclusionProof().GetCheckpoint().GetEnvelope()
	origin, _, _ := strings.Cut(envelope, "\n")
	host, tree, sharded := strings.Cut(origin, " - ")
	if !sharded {
		return l.VerifyParsed(parsed)
	}
	if _, err := strconv.ParseUint(tree, 10, 64); err != nil {
		return fmt.Errorf("%w: its origin names no tree", ErrCheckpoint)
	}
	cp, err := openShard([]byte(envelope), origin, host, l.public)
	if err != nil {
		return err
	}
	return l.verifyUnder(parsed, cp)
}

// verifyUnder proves an entry under the log's checkpoint, at the index that the
// proof names.
func (l *Log) verifyUnder(parsed Entry, cp Checkpoint) error {
	entry := parsed.proto
	if err := l.checkBody(parsed); err != nil {
		return err
	}
	inclusion := entry.GetInclusionProof()
	size := inclusion.GetTreeSize()
	if size < 0 || uint64(size) != cp.Size || !bytes.Equal(inclusion.GetRootHash(), cp.Root) {
		return fmt.Errorf("%w: size or root differ from the checkpoint", ErrProof)
	}
	return VerifyLeaf(entry.GetCanonicalizedBody(), inclusion.GetLogIndex(), inclusion.GetHashes(), cp)
}

// checkBody compares what an entry says of itself with its body and the log.
func (l *Log) checkBody(parsed Entry) error {
	entry := parsed.proto
	if !bytes.Equal(entry.GetLogId().GetKeyId(), l.id) {
		return fmt.Errorf("%w: entry names another log", ErrProof)
	}
	body, err := parsed.Body()
	if err != nil {
		return err
	}
	if entry.GetKindVersion().GetKind() != body.Kind || entry.GetKindVersion().GetVersion() != body.Version {
		return fmt.Errorf("%w: entry names another kind than its body", ErrProof)
	}
	return nil
}

// openShard reads a checkpoint whose signer has the log's name and whose origin
// is one of its trees. The lines that old ones add (a time, for people) are
// passed over.
func openShard(raw []byte, origin, name string, pub crypto.PublicKey) (Checkpoint, error) {
	if len(raw) > checkpointBytes {
		return Checkpoint{}, fmt.Errorf("%w: larger than %d bytes", ErrCheckpoint, checkpointBytes)
	}
	verifier, err := NewCheckpointVerifier(name, pub)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	signed, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var parsed log.Checkpoint
	if _, err := parsed.Unmarshal([]byte(signed.Text)); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if parsed.Origin != origin {
		return Checkpoint{}, fmt.Errorf("%w: it is of another origin", ErrCheckpoint)
	}
	return Checkpoint{Origin: parsed.Origin, Size: parsed.Size, Root: parsed.Hash}, nil
}

// VerifyLeaf proves that body is leaf number index of the tree of cp, which
// the caller has verified.
func VerifyLeaf(body []byte, index int64, hashes [][]byte, cp Checkpoint) error {
	if index < 0 || len(hashes) > maxProof {
		return fmt.Errorf("%w: index or length out of range", ErrProof)
	}
	for _, h := range hashes {
		if len(h) != rfc6962.DefaultHasher.Size() {
			return fmt.Errorf("%w: hash of the wrong length", ErrProof)
		}
	}
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), cp.Size, LeafHash(body), hashes, cp.Root)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return nil
}
