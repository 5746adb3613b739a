package examiner

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

// idSum stands for a set of operations: the exclusive or of their ids' hashes.
// Two sets that differ have the same one with a chance that nobody meets.
type idSum [sha256.Size]byte

func (s *idSum) add(id string) {
	sum := sha256.Sum256([]byte(id))
	for i := range s {
		s[i] ^= sum[i]
	}
}

// replay gathers what the journal says must be there.
type replay struct {
	// sealed are the operations whose record was found to be true; firstSealed
	// is the lowest id of one that the journal seals.
	sealed      idSum
	firstSealed string
	// open are operations that are not what their last record says, with that
	// record: a later one may say what they are.
	open map[string]claim
	// objects is what the records say of managed objects, by resource.
	objects map[string]*object
}

type claim struct {
	sequence int64
	problem  string
}

func newReplay() *replay {
	return &replay{open: map[string]claim{}, objects: map[string]*object{}}
}

// record takes one record in.
func (p *replay) record(ctx context.Context, e *examination, r audit.Record) error {
	if id := r.Detail[signer.OperationDetail]; id != "" && !audit.TrustChange(r.Action) {
		return p.operation(ctx, e, r, id)
	}
	p.object(r)
	return nil
}

// operation holds a finished operation against its record.
func (p *replay) operation(ctx context.Context, e *examination, r audit.Record, id string) error {
	seal := r.Detail[signer.SealDetail]
	if r.Outcome == audit.Failed {
		delete(p.open, id) // it was finished once and did not stay so
		return nil
	}
	if r.Outcome != audit.Done || seal == "" {
		return nil
	}
	if p.firstSealed == "" || id < p.firstSealed {
		p.firstSealed = id
	}
	problem, err := sealProblem(ctx, e, id, seal)
	switch {
	case err != nil:
		return err
	case problem == "":
		p.sealed.add(id)
		delete(p.open, id)
	case len(p.open) < maxProblems:
		p.open[id] = claim{r.Sequence, problem}
	}
	return nil
}

// sealProblem is why an operation is not what a record says, "" if it is.
func sealProblem(ctx context.Context, e *examination, id, seal string) (string, error) {
	op, err := e.Main.Operations().Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	got, err := signer.Seal(op)
	if err != nil {
		return "", err
	}
	if got == seal {
		return "", nil
	}
	if op.State == signer.StatePending && signer.Unfinished(op) {
		// The process died between the record and the end: the next start
		// finishes it, and journals that anew.
		return "pending", nil
	}
	return "it is not what was finished", nil
}

// settle reports the operations whose last record is not true.
func (p *replay) settle(e *examination) {
	for id, c := range p.open {
		if c.problem != "pending" {
			e.report.Add("operation "+id, fmt.Sprintf("%s: audit record %d tells of it", c.problem, c.sequence))
		}
	}
}
