package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// leaves implements Leaves over the rows of one shard.
type leaves struct {
	db    *DB
	shard int
}

// counter is the name of the shard's count; the first shard's is older than
// shards.
func (l leaves) counter() string {
	if l.shard == 1 {
		return "leaves"
	}
	return "leaves/" + strconv.Itoa(l.shard)
}

func (l leaves) Find(ctx context.Context, leafHash []byte) (uint64, bool, error) {
	position, err := one(ctx, l.db.read(), scanInteger,
		"SELECT position FROM leaves WHERE shard = $1 AND hash = $2 ORDER BY position LIMIT 1", int64(l.shard), kept(leafHash))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, l.db.mapError(ctx, "finding a leaf", err)
	}
	return uint64(position), true, nil //nolint:gosec // Record stores none below 0
}

func (l leaves) Record(ctx context.Context, first uint64, leafHashes [][]byte) error {
	if l.shard < 1 {
		return fmt.Errorf("recording leaves: shards count from 1, not %d", l.shard)
	}
	if first > math.MaxInt64-uint64(len(leafHashes)) {
		return fmt.Errorf("recording leaves: position %d is beyond what a database can count", first)
	}
	rows := make([][]any, 0, len(leafHashes))
	for i, hash := range leafHashes {
		rows = append(rows, []any{int64(l.shard), int64(first) + int64(i), kept(hash)}) //nolint:gosec // bounded above
	}
	_, err := write(ctx, l.db, l.db.update, "recording leaves", func(ctx context.Context, s session) (struct{}, error) {
		// Touching the counter first lets one recorder at a time through.
		if err := l.touch(ctx, s); err != nil {
			return struct{}{}, err
		}
		if err := s.insert(ctx, "INSERT INTO leaves (shard, position, hash)", "ON CONFLICT DO NOTHING", rows); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, l.extend(ctx, s)
	})
	return err
}

// touch takes the shard's counter for this transaction, making it at the first
// record of a later shard.
func (l leaves) touch(ctx context.Context, s session) error {
	touched, err := s.exec(ctx, "UPDATE counters SET value = value WHERE name = $1", l.counter())
	if err != nil || touched > 0 {
		return err
	}
	// Of concurrent recorders one makes it; the others wait for that one's end.
	if _, err := s.exec(ctx, "INSERT INTO counters (name, value) VALUES ($1, 0) ON CONFLICT DO NOTHING", l.counter()); err != nil {
		return err
	}
	_, err = s.exec(ctx, "UPDATE counters SET value = value WHERE name = $1", l.counter())
	return err
}

// extend moves the count of consecutive positions over what is stored beyond
// it.
func (l leaves) extend(ctx context.Context, s session) error {
	size, err := readCounter(ctx, s, l.counter())
	if err != nil {
		return err
	}
	for start := size; ; {
		positions, err := collect(ctx, s, scanInteger,
			"SELECT position FROM leaves WHERE shard = $1 AND position >= $2 ORDER BY position LIMIT $3", int64(l.shard), start, MaxPage)
		if err != nil {
			return err
		}
		for _, p := range positions {
			if p == size {
				size++
			}
		}
		if len(positions) < MaxPage || size != positions[len(positions)-1]+1 {
			break
		}
		start = size
	}
	_, err = s.exec(ctx, "UPDATE counters SET value = $1 WHERE name = $2", size, l.counter())
	return err
}

func (l leaves) Size(ctx context.Context) (uint64, error) {
	n, err := readCounter(ctx, l.db.read(), l.counter())
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, l.db.mapError(ctx, "counting leaves", err)
	}
	return uint64(n), nil //nolint:gosec // a count
}
