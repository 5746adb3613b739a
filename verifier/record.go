package verifier

import (
	"context"
	"errors"
	"log/slog"

	"github.com/countersign/countersign/store"
)

// unrecordedWarning is what an answer says that is not in the journal.
const unrecordedWarning = "this decision is not recorded: the service's storage is exhausted"

// record journals the decisions. While the journal's storage is exhausted the
// results are answered all the same and marked: a full disk must not stop every
// deployment of those who ask, and a verdict gives nobody power over keys or
// trust, which are refused meanwhile. The log's line is then the only trace.
// Every other failure of the journal refuses the answer.
func (v *Verifier) record(ctx context.Context, q *question, results []Result) error {
	err := v.journal(ctx, q, results)
	if !errors.Is(err, store.ErrExhausted) {
		return err
	}
	v.unrecorded.Add(uint64(len(results)))
	for i := range results {
		r := &results[i]
		v.log.ErrorContext(ctx, "decision not recorded", slog.String("id", r.DecisionID), slog.String("image", r.Image),
			slog.String("digest", r.Digest), slog.String("verdict", string(r.Verdict)), slog.String("caller", q.request.Caller.String()), slog.Any("error", err))
		r.DecisionID, r.Unrecorded = "", true
		r.Warnings = append(r.Warnings[:len(r.Warnings):len(r.Warnings)], unrecordedWarning)
	}
	return nil
}

// Unrecorded is how many verdicts were answered that the journal could not
// take.
func (v *Verifier) Unrecorded() uint64 { return v.unrecorded.Load() }
