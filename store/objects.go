package store

import (
	"context"
)

// objects implements Objects.
type objects struct{ db *DB }

const objectColumns = "SELECT kind, name, alias, revision, body, created_at, updated_at FROM objects"

func scanObject(row scanner) (Object, error) {
	var o Object
	var created, updated int64
	err := row.Scan(&o.Kind, &o.Name, &o.Alias, &o.Revision, &o.Body, &created, &updated)
	o.Body, o.CreatedAt, o.UpdatedAt = given(o.Body), toTime(created), toTime(updated)
	return o, err
}

func (o objects) Get(ctx context.Context, kind, name string) (Object, error) {
	return o.read(ctx, objectColumns+" WHERE kind = $1 AND name = $2", kind, name)
}

func (o objects) GetByAlias(ctx context.Context, kind, alias string) (Object, error) {
	if alias == "" {
		return Object{}, ErrNotFound
	}
	// The second condition is the index's own and lets SQLite use it.
	return o.read(ctx, objectColumns+" WHERE kind = $1 AND alias = $2 AND alias <> ''", kind, alias)
}

func (o objects) read(ctx context.Context, query string, args ...any) (Object, error) {
	found, err := one(ctx, o.db.read(), scanObject, query, args...)
	return found, o.db.mapError(ctx, "reading an object", err)
}

func (o objects) List(ctx context.Context, kind string, page Page) ([]Object, string, error) {
	list := "o" + kind
	after, err := page.after(list)
	if err != nil {
		return nil, "", err
	}
	var w where
	w.add("kind", "=", kind)
	w.add("name", ">", after)
	query, args := w.list(objectColumns, "name", page.size()+1)
	rows, err := collect(ctx, o.db.read(), scanObject, query, args...)
	if err != nil {
		return nil, "", o.db.mapError(ctx, "listing objects", err)
	}
	rows, next := paginate(page, list, rows, func(o Object) string { return o.Name })
	return rows, next, nil
}

func (o objects) Put(ctx context.Context, object Object) (Object, error) {
	object.Body = kept(object.Body)
	object.UpdatedAt = orNow(object.UpdatedAt)
	if object.CreatedAt.IsZero() {
		object.CreatedAt = object.UpdatedAt
	}
	return write(ctx, o.db, o.db.update, "writing an object", func(ctx context.Context, s session) (Object, error) {
		if err := countChange(ctx, s); err != nil {
			return Object{}, err
		}
		if object.Revision == 0 {
			return createObject(ctx, s, object)
		}
		return replaceObject(ctx, s, object)
	})
}

func createObject(ctx context.Context, s session, o Object) (Object, error) {
	n, err := s.exec(ctx, `INSERT INTO objects (kind, name, alias, revision, body, created_at, updated_at)
		VALUES ($1, $2, $3, 1, $4, $5, $6) ON CONFLICT DO NOTHING`,
		o.Kind, o.Name, o.Alias, o.Body, toInteger(o.CreatedAt), toInteger(o.UpdatedAt))
	if err != nil {
		return Object{}, err
	}
	if n == 0 {
		return Object{}, ErrExists
	}
	return readObject(ctx, s, o.Kind, o.Name)
}

func replaceObject(ctx context.Context, s session, o Object) (Object, error) {
	n, err := s.exec(ctx, `UPDATE objects SET alias = $1, body = $2, updated_at = $3, revision = revision + 1
		WHERE kind = $4 AND name = $5 AND revision = $6`,
		o.Alias, o.Body, toInteger(o.UpdatedAt), o.Kind, o.Name, o.Revision)
	if err != nil && s.dialect.duplicate(err) {
		return Object{}, ErrExists
	}
	if err != nil {
		return Object{}, err
	}
	if n == 0 {
		return Object{}, staleOrMissing(ctx, s, o.Kind, o.Name)
	}
	return readObject(ctx, s, o.Kind, o.Name)
}

func readObject(ctx context.Context, s session, kind, name string) (Object, error) {
	return one(ctx, s, scanObject, objectColumns+" WHERE kind = $1 AND name = $2", kind, name)
}

// staleOrMissing says why no row had the revision.
func staleOrMissing(ctx context.Context, s session, kind, name string) error {
	if _, err := readObject(ctx, s, kind, name); err != nil {
		return err
	}
	return ErrStale
}

func (o objects) Delete(ctx context.Context, kind, name string, revision int64) error {
	_, err := write(ctx, o.db, o.db.update, "deleting an object", func(ctx context.Context, s session) (struct{}, error) {
		if err := countChange(ctx, s); err != nil {
			return struct{}{}, err
		}
		n, err := s.exec(ctx, "DELETE FROM objects WHERE kind = $1 AND name = $2 AND revision = $3", kind, name, revision)
		if err == nil && n == 0 {
			err = staleOrMissing(ctx, s, kind, name)
		}
		return struct{}{}, err
	})
	return err
}

func (o objects) Revision(ctx context.Context) (int64, error) {
	n, err := readCounter(ctx, o.db.read(), "objects")
	return n, o.db.mapError(ctx, "reading the revision", err)
}

// countChange moves the revision of all objects. It comes first in every change
// and holds the counter's row, so that on PostgreSQL no two changes overlap and
// none can deadlock with another.
func countChange(ctx context.Context, s session) error {
	_, err := s.exec(ctx, "UPDATE counters SET value = value + 1 WHERE name = 'objects'")
	return err
}

func readCounter(ctx context.Context, s session, name string) (int64, error) {
	return one(ctx, s, scanInteger, "SELECT value FROM counters WHERE name = $1", name)
}

func scanInteger(row scanner) (int64, error) {
	var n int64
	err := row.Scan(&n)
	return n, err
}
