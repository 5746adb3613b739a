package search

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

// whatToDo ends every refusal of CheckKept.
const whatToDo = "signing again would fork the log: restore the newest copy of the data folder, " +
	"or the database from the backup that belongs to this folder"

// CheckKept compares the shards of a log, before anybody writes to them, with
// the checkpoints that a Follower kept in the store, which may have outlived the
// log's folder. A shard that is missing, of another key, smaller, or with another
// root at that size, is sequencer.ErrRollback; other errors are the Reader's.
func CheckKept(ctx context.Context, kept store.Checkpoints, shards []Shard) error {
	all, err := kept.All(ctx)
	if err != nil {
		return fmt.Errorf("asking how far the log had come: %w", err)
	}
	for _, k := range all {
		if k.Shard > len(shards) {
			return fmt.Errorf("%w: the database knows shard %d of the log, which the data folder does not have; %s", sequencer.ErrRollback, k.Shard, whatToDo)
		}
		err := checkKept(ctx, k, shards[k.Shard-1])
		// Damage of a shard that is only read keeps nobody from signing; whoever
		// opens it tells.
		if k.Shard < len(shards) && !errors.Is(err, sequencer.ErrRollback) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkKept(ctx context.Context, k store.KeptCheckpoint, s Shard) error {
	if !bytes.Equal(k.LogID, s.LogID) {
		return fmt.Errorf("%w: the database knows shard %d of the log under the key %s, the data folder has another key; %s",
			sequencer.ErrRollback, k.Shard, hex.EncodeToString(k.LogID), whatToDo)
	}
	cp, _, err := s.Reader.Head(ctx)
	switch {
	case errors.Is(err, sequencer.ErrNotFound) && k.Size > 0:
		return fmt.Errorf("%w: the database knows %d entries of shard %d, the data folder has no checkpoint of it; %s",
			sequencer.ErrRollback, k.Size, k.Shard, whatToDo)
	case errors.Is(err, sequencer.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("shard %d: %w", k.Shard, err)
	case cp.Size < k.Size:
		return fmt.Errorf("%w: the database knows %d entries of shard %d, the data folder has %d; %s",
			sequencer.ErrRollback, k.Size, k.Shard, cp.Size, whatToDo)
	}
	root, err := s.Reader.Root(ctx, k.Size)
	if err != nil {
		return fmt.Errorf("shard %d: %w", k.Shard, err)
	}
	if !bytes.Equal(root, k.Root) {
		return fmt.Errorf("%w: the first %d entries of shard %d are not those that the database knows; %s",
			sequencer.ErrRollback, k.Size, k.Shard, whatToDo)
	}
	return nil
}
