package store

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
)

// bundles implements Bundles.
type bundles struct{ db *DB }

const bundleColumns = `SELECT id, digest, repository, format, predicate_type, key_id, signer, log_index, operation,
	body, created_at FROM bundles`

func scanBundle(row scanner) (Bundle, error) {
	var b Bundle
	var created int64
	err := row.Scan(&b.ID, &b.Digest, &b.Repository, &b.Format, &b.PredicateType, &b.KeyID, &b.Signer, &b.LogIndex,
		&b.Operation, &b.Body, &created)
	b.Body, b.CreatedAt = given(b.Body), toTime(created)
	return b, err
}

func (b bundles) Keep(ctx context.Context, bundle Bundle) error {
	bundle.Body, bundle.CreatedAt = kept(bundle.Body), orNow(bundle.CreatedAt)
	hash := sha256.Sum256(bundle.Body)
	logged := slices.Clone(bundle.Logged)
	_, err := write(ctx, b.db, b.db.update, "keeping a bundle", func(ctx context.Context, s session) (struct{}, error) {
		_, err := s.exec(ctx, `INSERT INTO bundles (id, digest, repository, format, predicate_type, key_id, signer,
			log_index, operation, body, body_hash, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			bundle.ID, bundle.Digest, bundle.Repository, bundle.Format, bundle.PredicateType, bundle.KeyID, bundle.Signer,
			bundle.LogIndex, bundle.Operation, bundle.Body, hash[:], toInteger(bundle.CreatedAt))
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, relate(ctx, s, bundle.Digest, logged)
	})
	return err
}

func (b bundles) Get(ctx context.Context, id string) (Bundle, error) {
	found, err := one(ctx, b.db.read(), scanBundle, bundleColumns+" WHERE id = $1", id)
	if err != nil {
		return Bundle{}, b.db.mapError(ctx, "reading a bundle", err)
	}
	return found, nil
}

func (b bundles) Count(ctx context.Context, digest string, most int) (int, error) {
	n, err := one(ctx, b.db.read(), scanInteger,
		"SELECT COUNT(*) FROM (SELECT 1 FROM bundles WHERE digest = $1 LIMIT $2) AS kept", digest, most)
	if err != nil {
		return 0, b.db.mapError(ctx, "counting bundles", err)
	}
	return int(n), nil
}

func (b bundles) Relate(ctx context.Context, digest string, logged []string) error {
	logged = slices.Clone(logged)
	_, err := write(ctx, b.db, b.db.update, "relating a bundle", func(ctx context.Context, s session) (struct{}, error) {
		return struct{}{}, relate(ctx, s, digest, logged)
	})
	return err
}

func relate(ctx context.Context, s session, digest string, logged []string) error {
	rows := make([][]any, 0, len(logged))
	for _, l := range logged {
		rows = append(rows, []any{l, digest})
	}
	return s.insert(ctx, "INSERT INTO log_subjects (logged, digest)", "ON CONFLICT DO NOTHING", rows)
}

func (b bundles) Each(ctx context.Context, after string, limit int) ([]Bundle, error) {
	var w where
	w.add("id", ">", after)
	query, args := w.list(bundleColumns, "id", Page{Limit: limit}.size())
	found, err := collect(ctx, b.db.read(), scanBundle, query, args...)
	if err != nil {
		return nil, b.db.mapError(ctx, "reading bundles", err)
	}
	return found, nil
}

func (b bundles) BySubject(ctx context.Context, digest string, limit int) ([]Bundle, error) {
	columns := strings.Replace(bundleColumns, "body,", "CASE WHEN predicate_type = '' THEN body END,", 1)
	var w where
	w.add("digest", "=", digest)
	query, args := w.list(columns, "created_at DESC, id DESC", Page{Limit: limit}.size())
	found, err := collect(ctx, b.db.read(), scanBundle, query, args...)
	if err != nil {
		return nil, b.db.mapError(ctx, "finding bundles", err)
	}
	return found, nil
}
