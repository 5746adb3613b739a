package examiner

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// fewOperations is a page of operations: each may hold tens of megabytes.
const fewOperations = 16

// operations proves every finished operation: its entries are in the log with
// the bytes that were answered, their proofs verify, the archive has what it
// made, and the journal tells of it.
func (e *examination) operations(ctx context.Context) error {
	var stored idSum
	err := e.eachOperation(ctx, func(op store.Operation) error {
		if op.State != signer.StateDone {
			return e.odd(op)
		}
		e.report.Counts.Operations++
		if e.replay.firstSealed == "" || op.ID < e.replay.firstSealed {
			e.report.Counts.Unsealed++
		} else {
			stored.add(op.ID)
		}
		return e.operation(ctx, op)
	})
	if err != nil {
		return err
	}
	e.replay.settle(e)
	if stored == e.replay.sealed {
		return nil
	}
	return e.untold(ctx)
}

func (e *examination) eachOperation(ctx context.Context, do func(store.Operation) error) error {
	_, total, _, err := e.main.Size(ctx)
	if err != nil {
		return err
	}
	done := int64(0)
	for after := ""; ; {
		ops, err := e.main.Operations(ctx, after, fewOperations)
		if err != nil || len(ops) == 0 {
			return err
		}
		for _, op := range ops {
			if err := do(op); err != nil {
				return err
			}
		}
		after, done = ops[len(ops)-1].ID, done+int64(len(ops))
		e.Progress("operations", uint64(done), uint64(max(done, total)))
	}
}

// odd finds an operation in a state that is never stored.
func (e *examination) odd(op store.Operation) error {
	if op.State != signer.StatePending && op.State != signer.StateFailed {
		e.report.Add("operation "+op.ID, fmt.Sprintf("it has the state %q", op.State))
	}
	return nil
}

func (e *examination) operation(ctx context.Context, op store.Operation) error {
	where := "operation " + op.ID
	result, err := signer.ParseResult(op.Result)
	if err != nil {
		e.report.Add(where, "its result cannot be read")
		return nil
	}
	for _, s := range result.Signatures {
		if err := e.signature(ctx, where, s); err != nil {
			return err
		}
	}
	items, err := signer.Items(op)
	if err != nil {
		e.report.Add(where, "what it made cannot be read")
		return nil
	}
	for _, want := range items {
		if err := e.item(ctx, where, want); err != nil {
			return err
		}
	}
	return nil
}

// signature proves that one signature is in the log as it was answered.
func (e *examination) signature(ctx context.Context, where string, s signer.Signature) error {
	entry, err := s.LoggedEntry()
	if err != nil {
		e.report.Add(where, err.Error())
		return nil
	}
	logID, err := hex.DecodeString(entry.LogID)
	if err != nil {
		e.report.Add(where, "it names no log")
		return nil
	}
	problem, err := e.entries.problem(ctx, logID, entry.Index, entry.Body)
	if err != nil {
		return err
	}
	if problem == "" && entry.Proof != nil {
		problem = e.proof(logID, entry)
	}
	if problem != "" {
		e.report.Add(where, problem)
	}
	return nil
}

// proof verifies the proof that was answered.
func (e *examination) proof(logID []byte, entry signer.Entry) string {
	log := e.Logs[e.entries.shardOf(logID)-1]
	kept, err := tlog.UnmarshalEntry(entry.Proof)
	if err != nil {
		return "its log entry cannot be read"
	}
	if err := tlog.VerifyInclusion(kept, log.Origin, log.Public); err != nil {
		return err.Error()
	}
	if kept.GetLogIndex() != entry.Index {
		return "its proof is of another entry"
	}
	return ""
}

// item holds what the archive keeps against what the operation made.
func (e *examination) item(ctx context.Context, where string, want archive.Item) error {
	row, err := e.main.Bundle(ctx, want.ID)
	if errors.Is(err, store.ErrNotFound) {
		e.report.Add("kept bundle "+want.ID, "missing: "+where+" made it")
		return nil
	}
	if err != nil {
		return err
	}
	e.report.Counts.Bundles++
	got, err := archive.ParseItem(row)
	if err != nil {
		e.report.Add("kept bundle "+want.ID, "it cannot be read")
		return nil
	}
	if !sameItem(got, want) {
		e.report.Add("kept bundle "+want.ID, "it is not what "+where+" made")
	}
	return nil
}

// sameItem compares all fields; a bundle is compared without its white space,
// which a result does not keep.
func sameItem(got, want archive.Item) bool {
	if (got.Legacy == nil) != (want.Legacy == nil) || (got.LogIndex == nil) != (want.LogIndex == nil) {
		return false
	}
	if got.LogIndex != nil && *got.LogIndex != *want.LogIndex {
		return false
	}
	if got.Legacy != nil && (!bytes.Equal(got.Legacy.Payload, want.Legacy.Payload) || !maps.Equal(got.Legacy.Annotations, want.Legacy.Annotations)) {
		return false
	}
	if (got.Notation == nil) != (want.Notation == nil) || got.Notation != nil && (got.Notation.MediaType != want.Notation.MediaType ||
		!bytes.Equal(got.Notation.Envelope, want.Notation.Envelope) || !bytes.Equal(compact(got.Notation.LogEntry), compact(want.Notation.LogEntry))) {
		return false
	}
	return got.ID == want.ID && got.Digest == want.Digest && got.Repository == want.Repository && got.Format == want.Format &&
		got.PredicateType == want.PredicateType && got.KeyID == want.KeyID && got.Signer == want.Signer &&
		got.Operation == want.Operation && got.CreatedAt.Equal(want.CreatedAt) && bytes.Equal(compact(got.Bundle), compact(want.Bundle))
}

func compact(document []byte) []byte {
	if len(document) == 0 {
		return nil
	}
	out, err := json.Marshal(json.RawMessage(document))
	if err != nil {
		return document
	}
	return out
}

// untold finds the finished operations that no record seals. It is asked only
// when there must be one, since it needs memory for each operation.
func (e *examination) untold(ctx context.Context) error {
	told := map[string]bool{}
	if err := e.eachRecord(ctx, func(_ store.Link, r audit.Record) error {
		if r.Outcome == audit.Done && r.Detail[signer.SealDetail] != "" {
			told[r.Detail[signer.OperationDetail]] = true
		}
		return nil
	}); err != nil {
		return err
	}
	return e.eachOperation(ctx, func(op store.Operation) error {
		if op.State == signer.StateDone && op.ID >= e.replay.firstSealed && !told[op.ID] {
			e.report.Add("operation "+op.ID, "it is finished and no audit record tells of it")
		}
		return nil
	})
}

// bundles reads the archive: each row is whole, and what says that an operation
// made it is what one made.
func (e *examination) bundles(ctx context.Context) error {
	_, _, total, err := e.main.Size(ctx)
	if err != nil {
		return err
	}
	done := int64(0)
	for after := ""; ; {
		rows, err := e.main.Bundles(ctx, after, fewOperations)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := e.bundle(ctx, row); err != nil {
				return err
			}
		}
		after, done = rows[len(rows)-1].ID, done+int64(len(rows))
		e.Progress("kept bundles", uint64(done), uint64(max(done, total)))
	}
}

func (e *examination) bundle(ctx context.Context, row store.ExaminedBundle) error {
	where := "kept bundle " + row.ID
	if !bytes.Equal(row.BodyHash, sum(row.Body)) {
		e.report.Add(where, "its hash is not that of its content")
	}
	if row.Operation == "" {
		e.report.Counts.Foreign++
		return nil
	}
	op, err := e.Main.Operations().Get(ctx, row.Operation)
	if errors.Is(err, store.ErrNotFound) {
		e.report.Add(where, "there is no operation "+row.Operation+", which made it")
		return nil
	}
	if err != nil {
		return err
	}
	if op.State != signer.StateDone {
		return nil // kept before its operation came to its end
	}
	items, err := signer.Items(op)
	if err != nil {
		return nil //nolint:nilerr // told with the operation
	}
	for _, item := range items {
		if item.ID == row.ID {
			return nil
		}
	}
	e.report.Add(where, "operation "+op.ID+" did not make it")
	return nil
}
