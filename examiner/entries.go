package examiner

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// keptBundles bounds the entry bundles in memory: what is asked for is nearly
// in the log's order.
const keptBundles = 8

// entries reads single entries of the shards.
type entries struct {
	logs  []trust.Log
	dir   func(int) string
	sizes map[int]uint64
	kept  []keptBundle
}

type keptBundle struct {
	shard   int
	first   uint64
	entries [][]byte
}

func newEntries(c Config) *entries {
	return &entries{logs: c.Logs, dir: c.Dir, sizes: map[int]uint64{}}
}

// shardOf is the number of the shard with that id, 0 when there is none.
func (e *entries) shardOf(logID []byte) int {
	for i, log := range e.logs {
		if bytes.Equal(log.ID, logID) {
			return i + 1
		}
	}
	return 0
}

// problem says what is wrong with the claim that body stands at an index of a
// log; "" when nothing is.
func (e *entries) problem(ctx context.Context, logID []byte, index int64, body []byte) (string, error) {
	shard := e.shardOf(logID)
	if shard == 0 {
		return "it names log " + hex.EncodeToString(logID) + ", which is none of this service", nil
	}
	if index < 0 {
		return fmt.Sprintf("it names log entry %d", index), nil
	}
	stored, err := e.at(ctx, shard, uint64(index))
	where := fmt.Sprintf("%slog entry %d", ofShard(shard), index)
	switch {
	case errors.Is(err, sequencer.ErrNotFound):
		return where + " is not under the checkpoint", nil
	case errors.Is(err, sequencer.ErrCorrupt):
		return where + " cannot be read", nil
	case err != nil:
		return "", err
	case !bytes.Equal(stored, body):
		return where + " holds other bytes", nil
	}
	return "", nil
}

// at is one entry, under the newest checkpoint when the one examined does not
// cover it: the service may be running.
func (e *entries) at(ctx context.Context, shard int, index uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, b := range e.kept {
		if b.shard == shard && index >= b.first && index-b.first < uint64(len(b.entries)) {
			return b.entries[index-b.first], nil
		}
	}
	if index >= e.sizes[shard] {
		if err := e.renew(shard); err != nil {
			return nil, err
		}
	}
	found, first, err := sequencer.EntryBundle(e.dir(shard), index, e.sizes[shard])
	if err != nil {
		return nil, err
	}
	if len(e.kept) >= keptBundles {
		e.kept = e.kept[1:]
	}
	e.kept = append(e.kept, keptBundle{shard, first, found})
	return found[index-first], nil
}

// renew reads the size of the newest checkpoint.
func (e *entries) renew(shard int) error {
	raw, err := os.ReadFile(filepath.Join(e.dir(shard), "checkpoint"))
	if err != nil {
		return fmt.Errorf("%w: %w", sequencer.ErrCorrupt, err)
	}
	cp, err := tlog.ParseCheckpoint(raw, e.logs[shard-1].Origin, e.logs[shard-1].Public)
	if err != nil {
		return fmt.Errorf("%w: %w", sequencer.ErrCorrupt, err)
	}
	e.sizes[shard] = max(e.sizes[shard], cp.Size)
	return nil
}
