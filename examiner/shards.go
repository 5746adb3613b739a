package examiner

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

// shards proves each shard, and its index against it.
func (e *examination) shards(ctx context.Context) (err error) {
	if e.counts, err = e.local.Counts(ctx); err != nil {
		return err
	}
	for i := range e.Logs {
		if err := e.shard(ctx, i+1); err != nil {
			return fmt.Errorf("shard %d: %w", i+1, err)
		}
	}
	return e.unknownShards(ctx)
}

func (e *examination) shard(ctx context.Context, number int) error {
	log := e.Logs[number-1]
	index := &leafIndex{e: e, shard: number, count: e.counts[number], last: beforeAll}
	config := sequencer.AuditConfig{
		Dir: e.Dir(number), Origin: log.Origin, Public: log.Public, AnyDuplicates: true,
		Leaf: func(ctx context.Context, at uint64, hash, body []byte) error {
			if at%1024 == 0 {
				e.Progress(fmt.Sprintf("%slog entries", ofShard(number)), at, uint64(max(index.count, 1)))
			}
			if err := index.next(ctx, at, hash); err != nil {
				return err
			}
			return e.journal.entry(ctx, e, number, at, body)
		},
	}
	if e.From != nil && number == e.FromShard+1 {
		config.From = e.From
	}
	found, err := sequencer.Audit(ctx, config)
	if errors.Is(err, os.ErrNotExist) {
		e.report.Add(ofShard(number)+"checkpoint", "missing")
		return nil
	}
	if err != nil {
		return err
	}
	e.entries.sizes[number] = found.Size
	e.report.AddShard(Shard{Shard: number, LogID: e.logOf(number), Report: found})
	e.frozen(number, found.FrozenAt)
	if err := index.end(ctx); err != nil {
		return err
	}
	return e.duplicates(ctx, number)
}

// frozen holds the mark against what was published of the shard: the end of its
// key is the second of the mark and the overlap that verifiers are given.
func (e *examination) frozen(number int, at *time.Time) {
	where := ofShard(number) + ".state/frozen"
	end := e.Logs[number-1].End
	switch {
	case at == nil && end != nil:
		e.report.Add(where, "missing: the trusted root says that the shard was frozen")
	case at != nil && number == len(e.Logs):
		e.report.Add(where, "the shard is frozen and no other follows")
	case at != nil && end != nil && !at.Add(authority.Overlap).UTC().Truncate(time.Second).Equal(end.UTC()):
		e.report.Add(where, "it names another time than the trusted root")
	}
}

func (e *examination) duplicates(ctx context.Context, number int) error {
	again, err := e.local.Again(ctx, number, maxProblems)
	if err != nil {
		return err
	}
	for _, leaf := range again {
		first, _, err := e.Local.ShardLeaves(number).Find(ctx, leaf.Hash)
		if err != nil {
			return err
		}
		e.report.Duplicates = append(e.report.Duplicates, sequencer.Duplicate{
			LeafHash: hex.EncodeToString(leaf.Hash), First: first, Again: uint64(leaf.Position), //nolint:gosec // compared with the tree
		})
	}
	return nil
}

// unknownShards finds a shard that the trusted root does not know, in the
// folder and in the index.
func (e *examination) unknownShards(ctx context.Context) error {
	next := len(e.Logs) + 1
	_, err := os.Stat(filepath.Join(e.Dir(next), "checkpoint"))
	if err == nil {
		e.report.Add(fmt.Sprintf("shard %d", next), "the trusted root does not name it; believe a newer one")
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for shard %d: %w", next, err)
	}
	held, err := e.local.Shards(ctx)
	if err != nil {
		return err
	}
	for shard := range e.counts {
		held = append(held, int64(shard))
	}
	slices.Sort(held)
	for _, shard := range slices.Compact(held) {
		if shard < 1 || shard > int64(len(e.Logs)) {
			e.report.Add(fmt.Sprintf("leaf index of shard %d", shard), "there is no such shard")
		}
	}
	return nil
}

// leafIndex walks the rows of one shard's index beside its tree.
type leafIndex struct {
	e     *examination
	shard int
	// count is the number of rows that the index says it holds.
	count int64
	page  []store.Leaf
	last  int64
	// seen is how many positions the rows reach.
	seen int64
}

// beforeAll is a position below any that a database can hold.
const beforeAll = math.MinInt64

func (x *leafIndex) where(position int64) string {
	return fmt.Sprintf("%sleaf index, position %d", ofShard(x.shard), position)
}

// peek is the next row, nil at the end.
func (x *leafIndex) peek(ctx context.Context) (*store.Leaf, error) {
	if len(x.page) == 0 {
		var err error
		if x.page, err = x.e.local.Leaves(ctx, x.shard, x.last, store.MaxPage); err != nil || len(x.page) == 0 {
			return nil, err
		}
		x.last = x.page[len(x.page)-1].Position
	}
	return &x.page[0], nil
}

// next holds the row of a position against the tree.
func (x *leafIndex) next(ctx context.Context, at uint64, hash []byte) error {
	position := int64(at) //nolint:gosec // an index of a tree on disk
	row, err := x.peek(ctx)
	if err != nil {
		return err
	}
	for row != nil && row.Position < position {
		x.e.report.Add(x.where(row.Position), "there is no such position")
		if row, err = x.pop(ctx); err != nil {
			return err
		}
	}
	if row == nil || row.Position > position {
		if position < x.count {
			x.e.report.Add(x.where(position), "missing")
		} else {
			x.e.report.Counts.Behind++
		}
		return nil
	}
	x.seen = position + 1
	x.e.report.Counts.Leaves++
	if !bytes.Equal(row.Hash, hash) {
		x.e.report.Add(x.where(position), fmt.Sprintf("its hash is not that of log entry %d", position))
	}
	_, err = x.pop(ctx)
	return err
}

// pop moves to the following row.
func (x *leafIndex) pop(ctx context.Context) (*store.Leaf, error) {
	x.page = x.page[1:]
	return x.peek(ctx)
}

// end finds rows and counts beyond the tree, and a count below the rows: both
// are written together. The tree and the count are read again: they may have
// grown since.
func (x *leafIndex) end(ctx context.Context) error {
	row, err := x.peek(ctx)
	if err != nil {
		return err
	}
	if row != nil || x.count > x.size() {
		if err := x.e.entries.renew(x.shard); err != nil && !errors.Is(err, sequencer.ErrCorrupt) {
			return err
		}
	}
	for row != nil {
		if row.Position >= x.size() {
			x.e.report.Add(x.where(row.Position), "the checkpoint does not cover it")
		}
		if row, err = x.pop(ctx); err != nil {
			return err
		}
	}
	counts, err := x.e.local.Counts(ctx)
	if err != nil {
		return err
	}
	if x.count > x.size() || counts[x.shard] < x.seen || counts[x.shard] < 0 {
		x.e.report.Add(ofShard(x.shard)+"leaf index", fmt.Sprintf("it counts %d entries and has %d; the checkpoint has %d", x.count, x.seen, x.size()))
	}
	return nil
}

func (x *leafIndex) size() int64 {
	return int64(x.e.entries.sizes[x.shard]) //nolint:gosec // a tree on disk
}
