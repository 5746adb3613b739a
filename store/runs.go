package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	// runLength is how many decisions are filed as one run.
	runLength = 4096
	// runsAtOnce bounds how many runs one query looks into.
	runsAtOnce = 64
)

// runs is how the embedded database finds decisions by digest and image. An index
// of all of them is written at a random place for each decision, which is two
// thirds of what keeping the decisions of a large pod costs. So a decision is
// first among the unfiled, which are few enough to be looked through, and is
// filed with some thousand others as a run: sorted, and written in one piece.
// Who asks looks into the runs from the newest on, as far as need be.
type runs struct {
	writer  runner
	unfiled atomic.Int64
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
}

// newRuns starts filing, which ends with close and not with ctx.
func newRuns(ctx context.Context, db *DB) (*runs, error) {
	left, err := one(ctx, db.read(), scanInteger, "SELECT COUNT(*) FROM decisions_unfiled")
	if err != nil {
		return nil, err
	}
	r := &runs{writer: db.update, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	r.added(left)
	go r.loop(context.WithoutCancel(ctx))
	return r, nil
}

// added says that n more are unfiled.
func (r *runs) added(n int64) {
	if r.unfiled.Add(n) < runLength {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *runs) loop(ctx context.Context) {
	defer close(r.done)
	for {
		select {
		case <-r.stop:
			return
		case <-r.wake:
		}
		// What a failing disk keeps unfiled is found all the same, and filed
		// after the next addition.
		if r.unfiled.Load() >= runLength && r.writer.run(ctx, file) == nil {
			r.unfiled.Store(0)
		}
	}
}

// close ends it before the writer ends.
func (r *runs) close() error {
	close(r.stop)
	<-r.done
	return nil
}

// file makes a run of all that are unfiled.
func file(ctx context.Context, s session) error {
	next, err := one(ctx, s, scanInteger, "SELECT COALESCE(MAX(run), 0) + 1 FROM decision_runs")
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"INSERT INTO decision_keys (run, key, id) SELECT $1, key, id FROM (SELECT 'd' || digest AS key, id FROM decisions_unfiled" +
			" UNION ALL SELECT 'i' || image, id FROM decisions_unfiled) ORDER BY key, id",
		"INSERT INTO decision_runs (run, low, high) SELECT $1, MIN(id), MAX(id) FROM decisions_unfiled HAVING COUNT(*) > 0",
	} {
		if _, err := s.exec(ctx, statement, next); err != nil {
			return err
		}
	}
	_, err = s.exec(ctx, "DELETE FROM decisions_unfiled")
	return err
}

// run is one run: its number, and the smallest and largest id in it.
type run struct {
	number    int64
	low, high string
}

func scanRun(row scanner) (r run, err error) {
	err = row.Scan(&r.number, &r.low, &r.high)
	return r, err
}

// listFiled is the newest of a digest or an image that fulfil w, which holds all
// conditions of the filter, and have a smaller id than before. The unfiled are read
// first: what is filed meanwhile is then found twice, not missed.
func (d decisions) listFiled(ctx context.Context, filter DecisionFilter, w where, before string, limit int) ([]Decision, error) {
	column, value := "digest", filter.Digest
	if value == "" {
		column, value = "image", filter.Image
	}
	found, err := d.listAmong(ctx, "decisions_unfiled WHERE "+column, value, w, before, limit)
	if err != nil {
		return nil, err
	}
	var of where
	if before != "" {
		of.add("low", "<", before)
	}
	query, args := of.list("SELECT run, low, high FROM decision_runs", "high DESC", math.MaxInt32)
	all, err := collect(ctx, d.db.read(), scanRun, query, args...)
	if err != nil {
		return nil, err
	}
	for size := 1; len(all) > 0; size = min(2*size, runsAtOnce) {
		if len(found) == limit && all[0].high < found[limit-1].ID {
			break
		}
		some := all[:min(size, len(all))]
		all = all[len(some):]
		numbers := make([]string, len(some))
		for i, r := range some {
			numbers[i] = strconv.FormatInt(r.number, 10)
		}
		among := "decision_keys WHERE run IN (" + strings.Join(numbers, ", ") + ") AND key"
		more, err := d.listAmong(ctx, among, column[:1]+value, w, before, limit)
		if err != nil {
			return nil, err
		}
		found = newest(append(found, more...), limit)
	}
	return found, nil
}

// listAmong is the newest that fulfil w among ids of another table: text is what
// chooses them, up to the column that has the value. The bound of the id is put to
// that table: put to the decisions, SQLite would go through all below it.
func (d decisions) listAmong(ctx context.Context, text, value string, w where, before string, limit int) ([]Decision, error) {
	w.args = append(slices.Clone(w.args), value)
	ids := fmt.Sprintf("SELECT id FROM %s = $%d", text, len(w.args))
	if before != "" {
		w.args = append(w.args, before)
		ids += fmt.Sprintf(" AND id < $%d", len(w.args))
	}
	w.text = append(slices.Clone(w.text), "id IN ("+ids+")")
	query, args := w.list(selectDecision, "id DESC", limit)
	return collect(ctx, d.db.read(), scanDecision, query, args...)
}

// newest is at most limit of them, the newest first, each once.
func newest(ds []Decision, limit int) []Decision {
	slices.SortFunc(ds, func(a, b Decision) int { return cmp.Compare(b.ID, a.ID) })
	ds = slices.CompactFunc(ds, func(a, b Decision) bool { return a.ID == b.ID })
	return ds[:min(limit, len(ds))]
}
