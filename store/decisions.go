package store

import (
	"context"
	"fmt"
)

// decisions implements Decisions. In the embedded database a decision is in
// decisions_recent first.
type decisions struct{ db *DB }

const decisionColumns = "id, image, digest, verdict, policy, caller, body, created_at"

func scanDecision(row scanner) (Decision, error) {
	var d Decision
	var created int64
	err := row.Scan(&d.ID, &d.Image, &d.Digest, &d.Verdict, &d.Policy, &d.Caller, &d.Body, &created)
	d.Body, d.CreatedAt = given(d.Body), toTime(created)
	return d, err
}

func (d decisions) Add(ctx context.Context, ds ...Decision) error {
	rows := make([][]any, 0, len(ds))
	for _, one := range ds {
		rows = append(rows, []any{
			one.ID, one.Image, one.Digest, one.Verdict, one.Policy, one.Caller,
			kept(one.Body), toInteger(orNow(one.CreatedAt)),
		})
	}
	table := "decisions"
	if d.db.embedded() {
		table = "decisions_recent"
	}
	_, err := write(ctx, d.db, d.db.update, "adding decisions", func(ctx context.Context, s session) (struct{}, error) {
		return struct{}{}, s.insert(ctx, "INSERT INTO "+table+" ("+decisionColumns+")", "ON CONFLICT DO NOTHING", rows)
	})
	if err == nil && d.db.filer != nil {
		d.db.filer.tell(int64(len(ds)))
	}
	return err
}

func (d decisions) Get(ctx context.Context, id string) (Decision, error) {
	var w where
	w.add("id", "=", id)
	query, args := d.find(w, 1)
	found, err := one(ctx, d.db.read(), scanDecision, query, args...)
	return found, d.db.mapError(ctx, "reading a decision", err)
}

func (d decisions) List(ctx context.Context, filter DecisionFilter, page Page) ([]Decision, string, error) {
	const list = "d"
	before, err := page.after(list)
	if err != nil {
		return nil, "", err
	}
	var w where
	w.equal("verdict", filter.Verdict)
	w.equal("digest", filter.Digest)
	w.equal("image", filter.Image)
	if before != "" {
		w.add("id", "<", before)
	}
	query, args := d.find(w, page.size()+1)
	rows, err := collect(ctx, d.db.read(), scanDecision, query, args...)
	if err != nil {
		return nil, "", d.db.mapError(ctx, "listing decisions", err)
	}
	rows, next := paginate(page, list, rows, func(d Decision) string { return d.ID })
	return rows, next, nil
}

// find is the newest that fulfil the conditions, in one statement: between two, a
// decision that is being filed could be missed.
func (d decisions) find(w where, limit int) (string, []any) {
	const order = "id DESC"
	query, args := w.list("SELECT "+decisionColumns+" FROM decisions", order, limit)
	if !d.db.embedded() {
		return query, args
	}
	w.text = append(w.text[:len(w.text):len(w.text)], "NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.id = decisions_recent.id)")
	recent, _ := w.list("SELECT "+decisionColumns+" FROM decisions_recent", order, limit)
	return fmt.Sprintf("SELECT * FROM (%s) UNION ALL SELECT * FROM (%s) ORDER BY %s LIMIT $%d", query, recent, order, len(args)), args
}
