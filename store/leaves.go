package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
)

// leaves implements Leaves.
type leaves struct{ db *DB }

func (l leaves) Find(ctx context.Context, leafHash []byte) (uint64, bool, error) {
	position, err := one(ctx, l.db.read(), scanInteger,
		"SELECT position FROM leaves WHERE hash = $1 ORDER BY position LIMIT 1", kept(leafHash))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, l.db.mapError(ctx, "finding a leaf", err)
	}
	return uint64(position), true, nil //nolint:gosec // Record stores none below 0
}

func (l leaves) Record(ctx context.Context, first uint64, leafHashes [][]byte) error {
	if first > math.MaxInt64-uint64(len(leafHashes)) {
		return fmt.Errorf("recording leaves: position %d is beyond what a database can count", first)
	}
	rows := make([][]any, 0, len(leafHashes))
	for i, hash := range leafHashes {
		rows = append(rows, []any{int64(first) + int64(i), kept(hash)}) //nolint:gosec // bounded above
	}
	_, err := write(ctx, l.db, l.db.update, "recording leaves", func(ctx context.Context, s session) (struct{}, error) {
		// Touching the counter first lets one recorder at a time through.
		if _, err := s.exec(ctx, "UPDATE counters SET value = value WHERE name = 'leaves'"); err != nil {
			return struct{}{}, err
		}
		if err := s.insert(ctx, "INSERT INTO leaves (position, hash)", "ON CONFLICT DO NOTHING", rows); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, extendLeaves(ctx, s)
	})
	return err
}

// extendLeaves moves the count of consecutive positions over what is stored
// beyond it.
func extendLeaves(ctx context.Context, s session) error {
	size, err := readCounter(ctx, s, "leaves")
	if err != nil {
		return err
	}
	for start := size; ; {
		positions, err := collect(ctx, s, scanInteger,
			"SELECT position FROM leaves WHERE position >= $1 ORDER BY position LIMIT $2", start, MaxPage)
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
	_, err = s.exec(ctx, "UPDATE counters SET value = $1 WHERE name = 'leaves'", size)
	return err
}

func (l leaves) Size(ctx context.Context) (uint64, error) {
	n, err := readCounter(ctx, l.db.read(), "leaves")
	if err != nil {
		return 0, l.db.mapError(ctx, "counting leaves", err)
	}
	return uint64(n), nil //nolint:gosec // a count
}
