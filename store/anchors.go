package store

import "context"

// Anchor is a log entry about one record of the chain.
type Anchor struct {
	// Sequence and Hash are the record's.
	Sequence int64
	Hash     []byte
	// Body is the log entry's, the same from Keep on.
	Body []byte
	// Logged says that LogID and LogIndex are where it stands in the log.
	Logged   bool
	LogID    []byte
	LogIndex int64
}

// AnchorProgress is how far anchoring has come.
type AnchorProgress struct {
	// Kept is the highest sequence that has an anchor, Logged the highest with
	// a logged one, 0 when there is none.
	Kept   int64
	Logged int64
	// Waiting is the number of anchors that are not logged, Oldest the lowest
	// sequence of them.
	Waiting int64
	Oldest  int64
}

// Anchors keeps the anchors of the chain.
type Anchors interface {
	// Keep inserts anchors that are not logged yet, all or none. One whose
	// sequence has an anchor already is passed over.
	Keep(ctx context.Context, anchors ...Anchor) error
	// Logged writes where anchors stand in the log; Sequence, LogID and
	// LogIndex are read. A sequence without an anchor is ErrNotFound.
	Logged(ctx context.Context, anchors ...Anchor) error
	// Waiting returns up to limit anchors that are not logged, in order.
	Waiting(ctx context.Context, limit int) ([]Anchor, error)
	// From returns up to limit logged anchors of that sequence and later ones,
	// in order and without their Body.
	From(ctx context.Context, sequence int64, limit int) ([]Anchor, error)
	// ByHash returns the anchor of the record with that hash, or ErrNotFound.
	ByHash(ctx context.Context, hash []byte) (Anchor, error)
	// Read returns up to limit anchors after a sequence, in order.
	Read(ctx context.Context, after int64, limit int) ([]Anchor, error)
	// Progress is as of now.
	Progress(ctx context.Context) (AnchorProgress, error)
}

// The states of a row. Nothing else is ever written.
const (
	anchorWaiting = "waiting"
	anchorLogged  = "logged"
)

// noLogIndex stands in rows that are not logged.
const noLogIndex = -1

// anchors implements Anchors.
type anchors struct{ db *DB }

const anchorColumns = "SELECT sequence, hash, body, state, log_id, log_index FROM anchors"

func scanAnchor(row scanner) (Anchor, error) {
	var a Anchor
	var state string
	err := row.Scan(&a.Sequence, &a.Hash, &a.Body, &state, &a.LogID, &a.LogIndex)
	a.Hash, a.Body, a.LogID = given(a.Hash), given(a.Body), given(a.LogID)
	a.Logged = state == anchorLogged
	return a, err
}

func (a anchors) Keep(ctx context.Context, fresh ...Anchor) error {
	rows := make([][]any, 0, len(fresh))
	for _, one := range fresh {
		rows = append(rows, []any{one.Sequence, kept(one.Hash), kept(one.Body), anchorWaiting, []byte{}, int64(noLogIndex)})
	}
	_, err := write(ctx, a.db, a.db.update, "keeping anchors", func(ctx context.Context, s session) (struct{}, error) {
		return struct{}{}, s.insert(ctx, "INSERT INTO anchors (sequence, hash, body, state, log_id, log_index)", "ON CONFLICT DO NOTHING", rows)
	})
	return err
}

func (a anchors) Logged(ctx context.Context, logged ...Anchor) error {
	rows := make([]Anchor, 0, len(logged))
	for _, one := range logged {
		one.LogID = kept(one.LogID)
		rows = append(rows, one)
	}
	_, err := write(ctx, a.db, a.db.update, "noting logged anchors", func(ctx context.Context, s session) (struct{}, error) {
		for _, one := range rows {
			n, err := s.exec(ctx, "UPDATE anchors SET state = $1, log_id = $2, log_index = $3 WHERE sequence = $4",
				anchorLogged, one.LogID, one.LogIndex, one.Sequence)
			if err == nil && n == 0 {
				err = ErrNotFound
			}
			if err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

func (a anchors) Waiting(ctx context.Context, limit int) ([]Anchor, error) {
	return a.list(ctx, scanAnchor, anchorColumns+" WHERE state <> 'logged' ORDER BY sequence LIMIT $1", Page{Limit: limit}.size())
}

func (a anchors) From(ctx context.Context, sequence int64, limit int) ([]Anchor, error) {
	return a.list(ctx, func(row scanner) (Anchor, error) {
		one := Anchor{Logged: true}
		err := row.Scan(&one.Sequence, &one.Hash, &one.LogID, &one.LogIndex)
		one.Hash, one.LogID = given(one.Hash), given(one.LogID)
		return one, err
	}, "SELECT sequence, hash, log_id, log_index FROM anchors WHERE sequence >= $1 AND state = 'logged' ORDER BY sequence LIMIT $2",
		sequence, Page{Limit: limit}.size())
}

func (a anchors) Read(ctx context.Context, after int64, limit int) ([]Anchor, error) {
	return a.list(ctx, scanAnchor, anchorColumns+" WHERE sequence > $1 ORDER BY sequence LIMIT $2", after, Page{Limit: limit}.size())
}

func (a anchors) list(ctx context.Context, scan func(scanner) (Anchor, error), query string, args ...any) ([]Anchor, error) {
	found, err := collect(ctx, a.db.read(), scan, query, args...)
	if err != nil {
		return nil, a.db.mapError(ctx, "reading anchors", err)
	}
	return found, nil
}

func (a anchors) ByHash(ctx context.Context, hash []byte) (Anchor, error) {
	found, err := one(ctx, a.db.read(), scanAnchor, anchorColumns+" WHERE hash = $1 ORDER BY sequence LIMIT 1", kept(hash))
	return found, a.db.mapError(ctx, "reading an anchor", err)
}

func (a anchors) Progress(ctx context.Context) (AnchorProgress, error) {
	p, err := one(ctx, a.db.read(), func(row scanner) (AnchorProgress, error) {
		var p AnchorProgress
		return p, row.Scan(&p.Kept, &p.Logged, &p.Waiting, &p.Oldest)
	}, `SELECT COALESCE((SELECT MAX(sequence) FROM anchors), 0),
		COALESCE((SELECT MAX(sequence) FROM anchors WHERE state = 'logged'), 0),
		(SELECT COUNT(*) FROM anchors WHERE state <> 'logged'),
		COALESCE((SELECT MIN(sequence) FROM anchors WHERE state <> 'logged'), 0)`)
	return p, a.db.mapError(ctx, "asking how far anchoring is", err)
}
