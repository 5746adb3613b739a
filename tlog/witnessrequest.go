package tlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// ErrWitnessRequest says that a request to a witness is malformed.
var ErrWitnessRequest = errors.New("malformed request to a witness")

// WitnessRequestBytes bounds a request to a witness: a checkpoint, and the
// longest proof.
const WitnessRequestBytes = checkpointBytes + 4<<10

// witnessProof is how many hashes a request may carry (C2SP tlog-witness,
// add-checkpoint).
const witnessProof = 63

// WitnessRequest asks a witness to cosign a checkpoint: the body of C2SP
// tlog-witness add-checkpoint,
//
//	old 20852014
//	PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
//
//	log.example.com
//	20852163
//	…
type WitnessRequest struct {
	// OldSize is the tree size that the witness cosigned last.
	OldSize uint64
	// Proof is the consistency proof from there, of 32 byte hashes.
	Proof [][]byte
	// Checkpoint is a signed note, not verified here.
	Checkpoint []byte
}

// ParseWitnessRequest reads what Marshal writes and nothing else. Every failure
// is ErrWitnessRequest.
func ParseWitnessRequest(raw []byte) (WitnessRequest, error) {
	if len(raw) > WitnessRequestBytes {
		return WitnessRequest{}, fmt.Errorf("%w: larger than %d bytes", ErrWitnessRequest, WitnessRequestBytes)
	}
	line, rest, ok := bytes.Cut(raw, []byte("\n"))
	digits, old := bytes.CutPrefix(line, []byte("old "))
	if !ok || !old {
		return WitnessRequest{}, fmt.Errorf("%w: want the line: old SIZE", ErrWitnessRequest)
	}
	size, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != string(digits) {
		return WitnessRequest{}, fmt.Errorf("%w: the old size is no decimal number", ErrWitnessRequest)
	}
	r := WitnessRequest{OldSize: size}
	for {
		line, rest, ok = bytes.Cut(rest, []byte("\n"))
		if !ok {
			return WitnessRequest{}, fmt.Errorf("%w: no empty line before the checkpoint", ErrWitnessRequest)
		}
		if len(line) == 0 {
			break
		}
		hash, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(hash) != sha256.Size || len(r.Proof) == witnessProof {
			return WitnessRequest{}, fmt.Errorf("%w: want at most %d hashes of %d bytes in base64", ErrWitnessRequest, witnessProof, sha256.Size)
		}
		r.Proof = append(r.Proof, hash)
	}
	if r.Checkpoint = bytes.Clone(rest); len(r.Checkpoint) == 0 || len(r.Checkpoint) > checkpointBytes {
		return WitnessRequest{}, fmt.Errorf("%w: no checkpoint, or one larger than %d bytes", ErrWitnessRequest, checkpointBytes)
	}
	return r, nil
}

// Marshal is the body of the request.
func (r WitnessRequest) Marshal() []byte {
	out := fmt.Appendf(nil, "old %d\n", r.OldSize)
	for _, hash := range r.Proof {
		out = base64.StdEncoding.AppendEncode(out, hash)
		out = append(out, '\n')
	}
	out = append(out, '\n')
	return append(out, r.Checkpoint...)
}
