package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/countersign/countersign/store"
)

// verifyBatch is how many records Verify holds at a time.
const verifyBatch = 512

// ChainError says where the chain is broken first. It wraps ErrChain.
type ChainError struct {
	// Sequence is the first bad record: the one that is missing, or the one
	// whose content or predecessor is not what was written.
	Sequence int64
	// Problem says what is wrong with it.
	Problem string
}

// Error names the sequence and the problem.
func (e *ChainError) Error() string {
	return fmt.Sprintf("audit chain broken at record %d: %s", e.Sequence, e.Problem)
}

// Unwrap makes errors.Is(err, ErrChain) true.
func (e *ChainError) Unwrap() error { return ErrChain }

// Verify reads the whole chain and returns nil when it is the one that was
// written, a *ChainError with the first bad record when it is not, or an error
// of the store when it could not be read. Records may be appended meanwhile.
func (j *Journal) Verify(ctx context.Context) error {
	size, head, err := j.chain.Head(ctx)
	if err != nil {
		return err
	}
	v := verification{size: size, head: head}
	for {
		links, err := j.chain.Read(ctx, v.last, verifyBatch)
		if err != nil {
			return err
		}
		if len(links) == 0 {
			return j.verifyEnd(ctx, v)
		}
		for _, l := range links {
			if err := v.next(l); err != nil {
				return err
			}
		}
	}
}

// verification is how far Verify has come.
type verification struct {
	// size and head are what the store remembered when Verify began.
	size int64
	head []byte
	// last and previous are the last good record's sequence and hash.
	last     int64
	previous []byte
}

// next checks the record that follows.
func (v *verification) next(l store.Link) error {
	want := v.last + 1
	if l.Sequence != want {
		return &ChainError{want, fmt.Sprintf("it is missing; record %d follows record %d", l.Sequence, v.last)}
	}
	if problem := v.problem(l); problem != "" {
		return &ChainError{want, problem}
	}
	v.last, v.previous = l.Sequence, l.Hash
	return nil
}

func (v *verification) problem(l store.Link) string {
	sum := sha256.Sum256(l.Body)
	if !bytes.Equal(sum[:], l.Hash) {
		return "its hash is not that of its content"
	}
	r, err := ParseLink(l)
	if err != nil {
		return "its content cannot be read: " + err.Error()
	}
	if canonical, err := r.canonical(); err != nil || !bytes.Equal(canonical, l.Body) {
		return "its content is not in the canonical form"
	}
	if r.Sequence != l.Sequence {
		return fmt.Sprintf("its content is that of record %d", r.Sequence)
	}
	if r.PreviousHash != hex.EncodeToString(v.previous) {
		return "it does not name the record before"
	}
	if l.Sequence == v.size && !bytes.Equal(l.Hash, v.head) {
		return "it is not the record that was last appended"
	}
	return ""
}

// verifyEnd checks that nothing is missing at the end and nothing was added
// there. A record and the head move together, so the head read after the last
// record is never behind it.
func (j *Journal) verifyEnd(ctx context.Context, v verification) error {
	if v.last < v.size {
		return &ChainError{v.last + 1, fmt.Sprintf("it is missing, as is every record up to %d", v.size)}
	}
	size, head, err := j.chain.Head(ctx)
	if err != nil {
		return err
	}
	if v.last > size {
		return &ChainError{size + 1, "it was not appended through the journal"}
	}
	if v.last == size && !bytes.Equal(v.previous, head) {
		return &ChainError{v.last, "it is not the record that was last appended"}
	}
	return nil
}
