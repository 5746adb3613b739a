package store

import (
	"context"
	"strconv"
)

// LimitPages makes the writer's connection refuse to grow the SQLite file
// beyond n pages.
func LimitPages(ctx context.Context, d *DB, n int) error {
	var now int
	return d.update.(*group).db.QueryRowContext(ctx, "PRAGMA max_page_count = "+strconv.Itoa(n)).Scan(&now)
}

// Pragma reads a setting of the writer's connection and of a reader's.
func Pragma(ctx context.Context, d *DB, name string) (writer, reader string, err error) {
	if err := d.update.(*group).db.QueryRowContext(ctx, "PRAGMA "+name).Scan(&writer); err != nil {
		return "", "", err
	}
	err = d.pool.QueryRowContext(ctx, "PRAGMA "+name).Scan(&reader)
	return writer, reader, err
}

// Alone makes every write of a SQLite store its own transaction, to compare.
func Alone(d *DB) {
	g := d.update.(*group)
	d.update = alone{g}
	d.chain = alone{g}
}

type alone struct{ g *group }

func (a alone) run(ctx context.Context, w work) error {
	tx, err := a.g.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := w(ctx, session{q: tx, dialect: a.g.dialect}); err != nil {
		return err
	}
	return tx.Commit()
}
