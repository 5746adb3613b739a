package store

import (
	"context"
	"strconv"
	"strings"
)

// Examination reads whole tables in their order, for an audit. Rows that are
// written meanwhile may or may not be seen.
type Examination struct{ db *DB }

// Examine is the reader of whole tables.
func (d *DB) Examine() Examination { return Examination{d} }

// Leaf is a row of the leaf index.
type Leaf struct {
	Position int64
	Hash     []byte
}

// Counts returns the number of consecutive leaves that each shard's index says
// it holds.
func (e Examination) Counts(ctx context.Context) (map[int]int64, error) {
	type count struct {
		name  string
		value int64
	}
	rows, err := collect(ctx, e.db.read(), func(row scanner) (c count, err error) {
		return c, row.Scan(&c.name, &c.value)
	}, "SELECT name, value FROM counters WHERE name = 'leaves' OR name LIKE 'leaves/%'")
	if err != nil {
		return nil, e.db.mapError(ctx, "counting leaves", err)
	}
	counts := make(map[int]int64, len(rows))
	for _, c := range rows {
		shard := 1
		if number, later := strings.CutPrefix(c.name, "leaves/"); later {
			if shard, err = strconv.Atoi(number); err != nil {
				shard = 0 // a counter of no shard
			}
		}
		counts[shard] = c.value
	}
	return counts, nil
}

// Shards returns the shards that have leaves, in order.
func (e Examination) Shards(ctx context.Context) ([]int64, error) {
	rows, err := collect(ctx, e.db.read(), scanInteger, "SELECT DISTINCT shard FROM leaves ORDER BY shard")
	return rows, e.db.mapError(ctx, "listing shards", err)
}

// Leaves returns up to limit rows of a shard after a position.
func (e Examination) Leaves(ctx context.Context, shard int, after int64, limit int) ([]Leaf, error) {
	rows, err := collect(ctx, e.db.read(), scanLeaf,
		"SELECT position, hash FROM leaves WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3",
		int64(shard), after, Page{Limit: limit}.size())
	return rows, e.db.mapError(ctx, "reading leaves", err)
}

func scanLeaf(row scanner) (l Leaf, err error) { return l, row.Scan(&l.Position, &l.Hash) }

// Again returns up to limit rows of a shard whose hash stands at a lower
// position too.
func (e Examination) Again(ctx context.Context, shard, limit int) ([]Leaf, error) {
	rows, err := collect(ctx, e.db.read(), scanLeaf,
		`SELECT MAX(position), hash FROM leaves WHERE shard = $1 GROUP BY hash HAVING COUNT(*) > 1 ORDER BY 1 LIMIT $2`,
		int64(shard), Page{Limit: limit}.size())
	return rows, e.db.mapError(ctx, "looking for duplicates", err)
}

// Operations returns up to limit operations after an id, lowest first.
func (e Examination) Operations(ctx context.Context, after string, limit int) ([]Operation, error) {
	rows, err := collect(ctx, e.db.read(), scanOperation, operationColumns+" WHERE id > $1 ORDER BY id LIMIT $2", after, Page{Limit: limit}.size())
	return rows, e.db.mapError(ctx, "reading operations", err)
}

// ExaminedBundle is a kept bundle with the hash that stands beside it.
type ExaminedBundle struct {
	Bundle
	BodyHash []byte
}

// Bundles returns up to limit bundles after an id, lowest first.
func (e Examination) Bundles(ctx context.Context, after string, limit int) ([]ExaminedBundle, error) {
	query := strings.Replace(bundleColumns, " FROM", ", body_hash FROM", 1) + " WHERE id > $1 ORDER BY id LIMIT $2"
	rows, err := collect(ctx, e.db.read(), func(row scanner) (b ExaminedBundle, err error) {
		b.Bundle, err = scanBundle(also{row, &b.BodyHash})
		return b, err
	}, query, after, Page{Limit: limit}.size())
	return rows, e.db.mapError(ctx, "reading bundles", err)
}

// Bundle returns the bundle with that id, or ErrNotFound.
func (e Examination) Bundle(ctx context.Context, id string) (Bundle, error) {
	found, err := one(ctx, e.db.read(), scanBundle, bundleColumns+" WHERE id = $1", id)
	return found, e.db.mapError(ctx, "reading a bundle", err)
}

// SameBundle reports whether a bundle of that digest and repository has the
// content with that SHA-256.
func (e Examination) SameBundle(ctx context.Context, digest, repository string, hash []byte) (bool, error) {
	n, err := one(ctx, e.db.read(), scanInteger,
		"SELECT COUNT(*) FROM bundles WHERE digest = $1 AND repository = $2 AND body_hash = $3", digest, repository, kept(hash))
	return n > 0, e.db.mapError(ctx, "looking for a bundle", err)
}

// Size is how many rows a table of the examination has, for a progress bar.
func (e Examination) Size(ctx context.Context) (records, operations, bundles int64, err error) {
	for _, c := range []struct {
		query string
		into  *int64
	}{
		{"SELECT COUNT(*) FROM chain", &records}, {"SELECT COUNT(*) FROM operations", &operations}, {"SELECT COUNT(*) FROM bundles", &bundles},
	} {
		if *c.into, err = one(ctx, e.db.read(), scanInteger, c.query); err != nil {
			return 0, 0, 0, e.db.mapError(ctx, "counting rows", err)
		}
	}
	return records, operations, bundles, nil
}

// also scans one column more than a row's scanner asks for.
type also struct {
	row  scanner
	more any
}

// Scan appends the last column.
func (a also) Scan(dest ...any) error { return a.row.Scan(append(dest, a.more)...) }
