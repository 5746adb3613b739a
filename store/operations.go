package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// operations implements Operations.
type operations struct{ db *DB }

const operationColumns = `SELECT id, kind, scope, idempotency_key, request_hash, state, repository, digest,
	signer, predicate_type, body, result, created_at, updated_at FROM operations`

// operationColumnsOf leaves out what a filter does not want.
func operationColumnsOf(filter OperationFilter) string {
	columns := operationColumns
	if filter.WithoutBody {
		columns = strings.Replace(columns, " body,", " NULL,", 1)
	}
	if filter.WithoutResult {
		columns = strings.Replace(columns, " result,", " NULL,", 1)
	}
	return columns
}

func scanOperation(row scanner) (Operation, error) {
	var o Operation
	var created, updated int64
	err := row.Scan(&o.ID, &o.Kind, &o.Scope, &o.IdempotencyKey, &o.RequestHash, &o.State, &o.Repository, &o.Digest,
		&o.Signer, &o.PredicateType, &o.Body, &o.Result, &created, &updated)
	o.RequestHash, o.Body, o.Result = given(o.RequestHash), given(o.Body), given(o.Result)
	o.CreatedAt, o.UpdatedAt = toTime(created), toTime(updated)
	return o, err
}

// begun is what Begin answers.
type begun struct {
	operation Operation
	existed   bool
}

func (o operations) Begin(ctx context.Context, op Operation) (Operation, bool, error) {
	op.RequestHash, op.Body, op.Result = kept(op.RequestHash), kept(op.Body), kept(op.Result)
	op.CreatedAt, op.UpdatedAt = orNow(op.CreatedAt), orNow(op.UpdatedAt)
	answer, err := write(ctx, o.db, o.db.update, "beginning an operation", func(ctx context.Context, s session) (begun, error) {
		n, err := s.exec(ctx, `INSERT INTO operations (id, kind, scope, idempotency_key, request_hash, state, repository,
			digest, signer, predicate_type, body, result, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`,
			op.ID, op.Kind, op.Scope, op.IdempotencyKey, op.RequestHash, op.State, op.Repository,
			op.Digest, op.Signer, op.PredicateType, op.Body, op.Result, toInteger(op.CreatedAt), toInteger(op.UpdatedAt))
		if err != nil {
			return begun{}, err
		}
		stored, err := findStored(ctx, s, op)
		return begun{operation: stored, existed: n == 0}, err
	})
	return answer.operation, answer.existed, err
}

// findStored reads the row that is op or stood in its way.
func findStored(ctx context.Context, s session, op Operation) (Operation, error) {
	if op.IdempotencyKey != "" {
		stored, err := findOperation(ctx, s, op.Scope, op.IdempotencyKey)
		if !errors.Is(err, sql.ErrNoRows) {
			return stored, err
		}
	}
	return one(ctx, s, scanOperation, operationColumns+" WHERE id = $1", op.ID)
}

func findOperation(ctx context.Context, s session, scope, key string) (Operation, error) {
	return one(ctx, s, scanOperation,
		operationColumns+" WHERE scope = $1 AND idempotency_key = $2 AND idempotency_key <> ''", scope, key)
}

func (o operations) Update(ctx context.Context, op Operation) error {
	op.Body, op.Result, op.UpdatedAt = kept(op.Body), kept(op.Result), orNow(op.UpdatedAt)
	_, err := write(ctx, o.db, o.db.update, "updating an operation", func(ctx context.Context, s session) (struct{}, error) {
		n, err := s.exec(ctx, `UPDATE operations SET state = $1, body = $2, result = $3, repository = $4, digest = $5,
			signer = $6, predicate_type = $7, updated_at = $8 WHERE id = $9`,
			op.State, op.Body, op.Result, op.Repository, op.Digest,
			op.Signer, op.PredicateType, toInteger(op.UpdatedAt), op.ID)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return struct{}{}, err
	})
	return err
}

func (o operations) Get(ctx context.Context, id string) (Operation, error) {
	found, err := one(ctx, o.db.read(), scanOperation, operationColumns+" WHERE id = $1", id)
	return found, o.db.mapError(ctx, "reading an operation", err)
}

func (o operations) Find(ctx context.Context, scope, key string) (Operation, error) {
	found, err := findOperation(ctx, o.db.read(), scope, key)
	return found, o.db.mapError(ctx, "finding an operation", err)
}

func (o operations) List(ctx context.Context, filter OperationFilter, page Page) ([]Operation, string, error) {
	const list = "p"
	before, err := page.after(list)
	if err != nil {
		return nil, "", err
	}
	var w where
	w.equal("kind", filter.Kind)
	w.equal("state", filter.State)
	w.equal("repository", filter.Repository)
	w.equal("digest", filter.Digest)
	w.equal("signer", filter.Signer)
	w.equal("predicate_type", filter.PredicateType)
	if before != "" {
		w.add("id", "<", before)
	}
	query, args := w.list(operationColumnsOf(filter), "id DESC", page.size()+1)
	rows, err := collect(ctx, o.db.read(), scanOperation, query, args...)
	if err != nil {
		return nil, "", o.db.mapError(ctx, "listing operations", err)
	}
	rows, next := paginate(page, list, rows, func(o Operation) string { return o.ID })
	return rows, next, nil
}
