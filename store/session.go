package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"unicode/utf8"
)

// dialect is what differs between the databases.
type dialect interface {
	// rebind rewrites $1, $2… to what the database understands.
	rebind(query string) string
	// unavailable reports whether trying again later may help.
	unavailable(err error) bool
	// exhausted reports whether the database's storage is what failed.
	exhausted(err error) bool
	// duplicate reports whether a unique index refused a row.
	duplicate(err error) bool
	// lockChain keeps other processes from appending until the transaction
	// ends.
	lockChain(ctx context.Context, s session) error
}

// querier is what a pool and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// session speaks one SQL text to either database.
type session struct {
	q       querier
	dialect dialect
}

// storable reports whether every text among args is one that either database
// can hold and index.
func storable(args []any) bool {
	for _, a := range args {
		if text, ok := a.(string); ok && (len(text) > MaxText || !utf8.ValidString(text) || strings.ContainsRune(text, 0)) {
			return false
		}
	}
	return true
}

// exec runs a statement and returns how many rows it changed. Text that cannot
// be kept is ErrText.
func (s session) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if !storable(args) {
		return 0, ErrText
	}
	res, err := s.q.ExecContext(ctx, s.dialect.rebind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// scanner is a row under the cursor.
type scanner interface{ Scan(dest ...any) error }

// one reads one row; sql.ErrNoRows when there is none, as for text that no row
// can hold.
func one[T any](ctx context.Context, s session, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	var v T
	if !storable(args) {
		return v, sql.ErrNoRows
	}
	v, err := scan(s.q.QueryRowContext(ctx, s.dialect.rebind(query), args...))
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// collect reads all rows of a query; none for text that no row can hold.
func collect[T any](ctx context.Context, s session, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if !storable(args) {
		return nil, nil
	}
	rows, err := s.q.QueryContext(ctx, s.dialect.rebind(query), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// insertParameters is how many parameters one INSERT may have; SQLite's bound
// is 32766, PostgreSQL's 65535.
const insertParameters = 8192

// insert adds rows with as few statements as the parameter bound allows.
// prefix ends before VALUES, suffix follows the rows; all rows have the same
// length.
func (s session) insert(ctx context.Context, prefix, suffix string, rows [][]any) error {
	for len(rows) > 0 {
		n := min(len(rows), insertParameters/len(rows[0]))
		var text strings.Builder
		text.WriteString(prefix)
		args := make([]any, 0, n*len(rows[0]))
		for i, row := range rows[:n] {
			text.WriteString(separator(i, " VALUES (", "), ("))
			for j, v := range row {
				args = append(args, v)
				text.WriteString(separator(j, "$", ", $"))
				text.WriteString(strconv.Itoa(len(args)))
			}
		}
		text.WriteString(") " + suffix)
		if _, err := s.exec(ctx, text.String(), args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func separator(i int, first, later string) string {
	if i == 0 {
		return first
	}
	return later
}

// where collects conditions. Columns are constants of this package; values are
// always parameters.
type where struct {
	text []string
	args []any
}

// add appends a condition `column operator $n`.
func (w *where) add(column, operator string, value any) {
	w.args = append(w.args, value)
	w.text = append(w.text, column+" "+operator+" $"+strconv.Itoa(len(w.args)))
}

// equal adds a condition unless value is empty.
func (w *where) equal(column, value string) {
	if value != "" {
		w.add(column, "=", value)
	}
}

// list completes a SELECT that ends before WHERE.
func (w *where) list(query, order string, limit int) (string, []any) {
	if len(w.text) > 0 {
		query += " WHERE " + strings.Join(w.text, " AND ")
	}
	args := append(w.args[:len(w.args):len(w.args)], limit)
	return query + " ORDER BY " + order + " LIMIT $" + strconv.Itoa(len(args)), args
}
