package store

import (
	"context"
	"time"
)

// uses implements Uses.
type uses struct{ db *DB }

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

func (u uses) Use(ctx context.Context, id, purpose string, now, until time.Time) (bool, error) {
	return write(ctx, u.db, u.db.update, "recording a use", func(ctx context.Context, s session) (bool, error) {
		if _, err := s.exec(ctx, "DELETE FROM uses WHERE expires <= $1", now.Unix()); err != nil {
			return false, err
		}
		_, err := s.exec(ctx, "INSERT INTO uses (id, purpose, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
			id, purpose, until.Unix())
		if err != nil {
			return false, err
		}
		stored, err := one(ctx, s, scanText, "SELECT purpose FROM uses WHERE id = $1", id)
		return err == nil && stored == purpose, err
	})
}
