package tlog

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

// ErrCheckpoint says that a checkpoint is malformed, of another origin, or not
// signed by the key.
var ErrCheckpoint = errors.New("checkpoint does not verify")

// checkpointBytes bounds a checkpoint: three short lines and a few dozen
// signatures of witnesses.
const checkpointBytes = 64 << 10

// Checkpoint is a log's signed statement of its size and root.
type Checkpoint struct {
	Origin string
	Size   uint64
	// Root is the 32 byte root hash, RFC 6962 §2.1.
	Root []byte
}

// ParseCheckpoint reads a checkpoint and verifies its signature with pub.
// Signatures of others, witnesses for instance, are passed over. Every
// failure is ErrCheckpoint.
func ParseCheckpoint(raw []byte, origin string, pub crypto.PublicKey) (Checkpoint, error) {
	verifier, err := NewCheckpointVerifier(origin, pub)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return OpenCheckpoint(raw, verifier)
}

// OpenCheckpoint is ParseCheckpoint with a verifier made once.
func OpenCheckpoint(raw []byte, verifier note.Verifier) (Checkpoint, error) {
	return openCheckpoint(raw, verifier, UnmarshalCheckpoint)
}

// OpenExtendedCheckpoint is OpenCheckpoint for who compares what other people's
// logs show, and passes over extension lines (C2SP tlog-checkpoint): what they
// say is signed and understood by nobody here. Nothing that is relied on for more
// than size and root may be read with it.
func OpenExtendedCheckpoint(raw []byte, verifier note.Verifier) (Checkpoint, error) {
	return openCheckpoint(raw, verifier, unmarshalExtended)
}

func openCheckpoint(raw []byte, verifier note.Verifier, unmarshal func([]byte) (Checkpoint, error)) (Checkpoint, error) {
	if len(raw) > checkpointBytes {
		return Checkpoint{}, fmt.Errorf("%w: larger than %d bytes", ErrCheckpoint, checkpointBytes)
	}
	signed, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	cp, err := unmarshal([]byte(signed.Text))
	if err != nil {
		return Checkpoint{}, err
	}
	if cp.Origin != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("%w: it is of another origin", ErrCheckpoint)
	}
	return cp, nil
}

// UnmarshalCheckpoint reads a checkpoint's text, the signed part of the note,
// without verifying anything. Only the three lines are accepted: extension
// lines would be signed statements that nobody here understands.
func UnmarshalCheckpoint(text []byte) (Checkpoint, error) {
	var parsed log.Checkpoint
	rest, err := parsed.Unmarshal(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if len(rest) != 0 || len(parsed.Hash) != sha256.Size || !bytes.Equal(parsed.Marshal(), text) {
		return Checkpoint{}, fmt.Errorf("%w: not in canonical form", ErrCheckpoint)
	}
	return Checkpoint{Origin: parsed.Origin, Size: parsed.Size, Root: parsed.Hash}, nil
}

// unmarshalExtended reads the three lines and any number of extension lines. Each
// must be a whole line and not empty.
func unmarshalExtended(text []byte) (Checkpoint, error) {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) < 4 || len(lines[len(lines)-1]) != 0 {
		return Checkpoint{}, fmt.Errorf("%w: not of three lines or more", ErrCheckpoint)
	}
	for _, line := range lines[3 : len(lines)-1] {
		if len(line) == 1 {
			return Checkpoint{}, fmt.Errorf("%w: an extension line is empty", ErrCheckpoint)
		}
	}
	return UnmarshalCheckpoint(bytes.Join(lines[:3], nil))
}

// Marshal is the text that UnmarshalCheckpoint reads.
func (c Checkpoint) Marshal() []byte {
	return log.Checkpoint{Origin: c.Origin, Size: c.Size, Hash: c.Root}.Marshal()
}
