package store

import (
	"context"
)

// decisions implements Decisions.
type decisions struct{ db *DB }

const (
	decisionColumns = "id, image, digest, verdict, policy, caller, body, created_at"
	selectDecision  = "SELECT " + decisionColumns + " FROM decisions"
)

func scanDecision(row scanner) (Decision, error) {
	var d Decision
	var created int64
	err := row.Scan(&d.ID, &d.Image, &d.Digest, &d.Verdict, &d.Policy, &d.Caller, &d.Body, &created)
	d.Body, d.CreatedAt = given(d.Body), toTime(created)
	return d, err
}

func (d decisions) Add(ctx context.Context, ds ...Decision) error {
	rows, keys := make([][]any, 0, len(ds)), make([][]any, 0, len(ds))
	for _, one := range ds {
		rows = append(rows, []any{
			one.ID, one.Image, one.Digest, one.Verdict, one.Policy, one.Caller,
			kept(one.Body), toInteger(orNow(one.CreatedAt)),
		})
		keys = append(keys, []any{one.ID, one.Digest, one.Image})
	}
	_, err := write(ctx, d.db, d.db.update, "adding decisions", func(ctx context.Context, s session) (struct{}, error) {
		err := s.insert(ctx, "INSERT INTO decisions ("+decisionColumns+")", "ON CONFLICT DO NOTHING", rows)
		if err == nil && d.db.embedded() {
			err = s.insert(ctx, "INSERT INTO decisions_unfiled (id, digest, image)", "ON CONFLICT DO NOTHING", keys)
		}
		return struct{}{}, err
	})
	if err == nil && d.db.runs != nil {
		d.db.runs.added(int64(len(ds)))
	}
	return err
}

func (d decisions) Get(ctx context.Context, id string) (Decision, error) {
	found, err := one(ctx, d.db.read(), scanDecision, selectDecision+" WHERE id = $1", id)
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
	var rows []Decision
	if d.db.embedded() && filter.Digest+filter.Image != "" {
		rows, err = d.listFiled(ctx, filter, w, before, page.size()+1)
	} else {
		if before != "" {
			w.add("id", "<", before)
		}
		query, args := w.list(selectDecision, "id DESC", page.size()+1)
		rows, err = collect(ctx, d.db.read(), scanDecision, query, args...)
	}
	if err != nil {
		return nil, "", d.db.mapError(ctx, "listing decisions", err)
	}
	rows, next := paginate(page, list, rows, func(d Decision) string { return d.ID })
	return rows, next, nil
}
