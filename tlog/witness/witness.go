package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// Reasons to refuse a checkpoint. A stale old size is a *StaleError.
var (
	// ErrConfig: a field of Config is missing or out of range.
	ErrConfig = errors.New("invalid witness configuration")
	// ErrRequest: the request is malformed, or its old size exceeds the
	// checkpoint's.
	ErrRequest = errors.New("malformed request")
	// ErrUnknownLog: the origin is not configured.
	ErrUnknownLog = errors.New("log is not witnessed here")
	// ErrSignature: no configured key of the origin signed the checkpoint.
	ErrSignature = errors.New("checkpoint is not signed by the log")
	// ErrProof: the consistency proof does not verify.
	ErrProof = errors.New("consistency proof does not verify")
	// ErrFork: the log signed two roots for one size.
	ErrFork = errors.New("log has two roots for one size")
)

// StaleError says that the request was not made from the checkpoint that was
// cosigned last.
type StaleError struct {
	// Size is what was cosigned last, 0 for nothing.
	Size uint64
}

// Error names the size.
func (e *StaleError) Error() string {
	return fmt.Sprintf("the checkpoint cosigned last has %d entries", e.Size)
}

// stateKind is the kind of the objects that states are kept as, under the
// origin as name. Their body is the newest cosigned checkpoint as the log signed
// it.
const stateKind = "witnessed-log"

// Config is what a Witness needs.
type Config struct {
	// Logs are the witnessed logs; those of one origin share one history.
	Logs []Log
	// Key signs. Whoever holds it and another store can cosign a fork.
	Key *Key
	// Objects keeps the states, for good: restoring an older copy of it lets a
	// fork be cosigned.
	Objects store.Objects
	// Logger takes what an operator must know. Nil discards it.
	Logger *slog.Logger
}

// Witness cosigns checkpoints. It is safe for concurrent use.
type Witness struct {
	cfg     Config
	logs    map[string]note.Verifiers
	metrics *metrics
}

// New makes a Witness, or fails with ErrConfig.
func New(cfg Config) (*Witness, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Key == nil || cfg.Objects == nil {
		return nil, fmt.Errorf("%w: a key and a store are needed", ErrConfig)
	}
	logs, err := byOrigin(cfg.Logs)
	if err != nil {
		return nil, err
	}
	return &Witness{cfg: cfg, logs: logs, metrics: newMetrics()}, nil
}

// state is what was cosigned last for an origin.
type state struct {
	cp       tlog.Checkpoint
	revision int64
}

// AddCheckpoint checks a checkpoint against the one cosigned last for its
// origin, keeps it, and returns the cosignature, a line of a signed note. See the
// package comment for the order of things; every error of this package means
// that nothing was signed or kept.
func (w *Witness) AddCheckpoint(ctx context.Context, r tlog.WitnessRequest) ([]byte, error) {
	text, next, err := w.open(r.Checkpoint)
	if err != nil {
		return nil, err
	}
	if r.OldSize > next.Size {
		return nil, fmt.Errorf("%w: the old size is larger than the checkpoint's", ErrRequest)
	}
	last, err := w.last(ctx, next.Origin)
	if err != nil {
		return nil, err
	}
	if err := extends(last.cp, next, r); err != nil {
		if errors.Is(err, ErrFork) || errors.Is(err, ErrProof) {
			w.cfg.Logger.ErrorContext(ctx, "a checkpoint that does not extend the last one",
				"cause", err, "origin", next.Origin, "cosigned", last.cp.Size, "checkpoint", string(r.Checkpoint))
		}
		return nil, err
	}
	if err := w.keep(ctx, last, next, r.Checkpoint); err != nil {
		return nil, err
	}
	w.metrics.cosigned(next)
	return w.cfg.Key.cosign(text)
}

// open verifies who signed a checkpoint. text is what the cosignature is over.
func (w *Witness) open(raw []byte) (text []byte, cp tlog.Checkpoint, err error) {
	body, _, ok := strings.Cut(string(raw), "\n\n")
	if cp, err = tlog.UnmarshalCheckpoint([]byte(body + "\n")); err != nil || !ok {
		return nil, tlog.Checkpoint{}, errors.Join(ErrRequest, err)
	}
	verifiers, known := w.logs[cp.Origin]
	if !known {
		return nil, tlog.Checkpoint{}, ErrUnknownLog
	}
	signed, err := note.Open(raw, verifiers)
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return nil, tlog.Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		return nil, tlog.Checkpoint{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	// The text that was verified is the one that is used.
	if cp, err = tlog.UnmarshalCheckpoint([]byte(signed.Text)); err != nil {
		return nil, tlog.Checkpoint{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return []byte(signed.Text), cp, nil
}

// extends proves that next continues last.
func extends(last, next tlog.Checkpoint, r tlog.WitnessRequest) error {
	if r.OldSize != last.Size {
		return &StaleError{Size: last.Size}
	}
	if next.Size == 0 && !bytes.Equal(next.Root, rfc6962.DefaultHasher.EmptyRoot()) {
		return fmt.Errorf("%w: an empty tree has one root", ErrFork)
	}
	if next.Size == last.Size && last.Root != nil && !bytes.Equal(next.Root, last.Root) {
		return ErrFork
	}
	// Everything extends the empty tree, and proofs of it are empty.
	if next.Size == last.Size || last.Size == 0 {
		if len(r.Proof) > 0 {
			return fmt.Errorf("%w: nothing is to be proven", ErrProof)
		}
		return nil
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, last.Size, next.Size, r.Proof, last.Root, next.Root)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return nil
}

// last is the state of an origin; the zero state when nothing was cosigned.
func (w *Witness) last(ctx context.Context, origin string) (state, error) {
	o, err := w.cfg.Objects.Get(ctx, stateKind, origin)
	if errors.Is(err, store.ErrNotFound) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("reading what was cosigned last: %w", err)
	}
	text, _, _ := strings.Cut(string(o.Body), "\n\n")
	cp, err := tlog.UnmarshalCheckpoint([]byte(text + "\n"))
	if err != nil || cp.Origin != origin {
		return state{}, fmt.Errorf("reading what was cosigned last: it is no checkpoint of %q: %w", origin, err)
	}
	return state{cp: cp, revision: o.Revision}, nil
}

// keep replaces exactly the state that was compared. Somebody who was faster is
// a StaleError with what he left.
func (w *Witness) keep(ctx context.Context, last state, next tlog.Checkpoint, raw []byte) error {
	_, err := w.cfg.Objects.Put(ctx, store.Object{Kind: stateKind, Name: next.Origin, Revision: last.revision, Body: raw})
	if errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrExists) {
		now, err := w.last(ctx, next.Origin)
		if err != nil {
			return err
		}
		return &StaleError{Size: now.cp.Size}
	}
	if err != nil {
		return fmt.Errorf("keeping the checkpoint: %w", err)
	}
	return nil
}

// cosign is the signature line over a checkpoint's text.
func (k *Key) cosign(text []byte) ([]byte, error) {
	sig, err := k.signer.Sign(text)
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	full := binary.BigEndian.AppendUint32(nil, k.signer.KeyHash())
	return fmt.Appendf(nil, "— %s %s\n", k.signer.Name(), base64.StdEncoding.EncodeToString(append(full, sig...))), nil
}
