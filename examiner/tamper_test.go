package examiner_test

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

var (
	tamperings = flag.Int("tamperings", 100, "how many random tamperings are tried")
	seed       = flag.Uint64("seed", 0, "seed of the tamperings; 0 draws one")
)

// TestTampering changes one thing at random and wants it found, by the
// examination or by a start that is refused: files of the log, rows of every
// table that is protected, whole and by column. What is not protected is listed
// in docs/log-audit.md and nowhere else.
func TestTampering(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs at once, and short runs look for races")
	}
	w := sharedWorld(t)
	if report := examine(t, w.dir); !report.Sound() {
		t.Fatalf("control: %+v", report.Problems)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	r := &tamperer{t: t, rng: rand.New(rand.NewPCG(*seed, 0)), world: w}
	kinds := map[string]int{}
	for n := range *tamperings {
		dir := filepath.Join(t.TempDir(), "data")
		copyFolder(t, w.dir, dir)
		kind, what := r.harm(dir)
		kinds[kind]++
		if found := r.found(dir); found == "" {
			t.Errorf("tampering %d of seed %d was not found: %s", n, *seed, what)
		} else if testing.Verbose() {
			t.Logf("%s: %s", what, found)
		}
		check(t, os.RemoveAll(dir))
	}
	t.Log(kinds)
}

type tamperer struct {
	t     testing.TB
	rng   *rand.Rand
	world world
}

// found is how a tampering was found, "" when it was not.
func (r *tamperer) found(dir string) string {
	report, err := tryExamine(dir)
	if err != nil {
		// Whoever audits wants to hear what is wrong, and not that it is.
		r.t.Errorf("not examined: %v", err)
		return ""
	}
	if !report.Sound() {
		if len(report.Problems) == 0 {
			return "a duplicate"
		}
		p := report.Problems[0]
		if p.Where == "" || p.What == "" {
			r.t.Errorf("a problem without where or what: %+v", p)
		}
		return p.Where + ": " + p.What
	}
	if err := starts(dir); err != nil {
		return "no start: " + err.Error()
	}
	return ""
}

// harm does one thing and says what. What turns out to change nothing is drawn
// again.
func (r *tamperer) harm(dir string) (kind, what string) {
	for {
		if r.rng.IntN(5) < 2 {
			kind, what = "file", r.file(dir)
		} else {
			kind, what = r.row(dir)
		}
		if what != "" {
			return kind, what
		}
	}
}

// files are the log's files that somebody reads: what is served, and the marks.
// Partial tiles that a newer one replaced may be tidied away, so only their
// content counts.
func (r *tamperer) files(dir string) (all []string) {
	for _, log := range []string{"log", "log-2"} {
		check(r.t, filepath.WalkDir(filepath.Join(dir, log), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			if !strings.Contains(path, ".state") || d.Name() == "frozen" {
				all = append(all, name)
			}
			return nil
		}))
	}
	return all
}

// newest reports whether a partial tile is the one of today.
func (r *tamperer) newest(dir, name string) bool {
	folder, width := filepath.Split(name)
	if !strings.HasSuffix(filepath.Clean(folder), ".p") {
		return true
	}
	if _, err := os.Stat(filepath.Join(dir, strings.TrimSuffix(filepath.Clean(folder), ".p"))); err == nil {
		return false
	}
	others, err := os.ReadDir(filepath.Join(dir, folder))
	check(r.t, err)
	for _, o := range others {
		if len(o.Name()) > len(width) || len(o.Name()) == len(width) && o.Name() > width {
			return false
		}
	}
	return true
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }

func (r *tamperer) file(dir string) string {
	all := r.files(dir)
	name := pick(r.rng, all)
	// Most files are partial tiles of older sizes: every other time none of them.
	for today := r.rng.IntN(2) == 0; today && !r.newest(dir, name); {
		name = pick(r.rng, all)
	}
	path := filepath.Join(dir, name)
	before, err := os.ReadFile(path)
	check(r.t, err)
	after, how := bytes.Clone(before), ""
	switch r.rng.IntN(6) {
	case 0, 1:
		at := r.rng.IntN(len(after) * 8)
		after[at/8] ^= 1 << (at % 8)
		how = fmt.Sprintf("bit %d flipped", at)
	case 2:
		after = after[:r.rng.IntN(len(after))]
		how = fmt.Sprintf("cut to %d bytes", len(after))
	case 3:
		if !r.newest(dir, name) {
			return ""
		}
		check(r.t, os.Remove(path))
		return name + " deleted"
	case 4:
		other := pick(r.rng, all)
		after, err = os.ReadFile(filepath.Join(dir, other))
		check(r.t, err)
		check(r.t, os.WriteFile(filepath.Join(dir, other), before, 0o600))
		how = "swapped with " + other
	case 5:
		after, err = os.ReadFile(filepath.Join(r.world.older, name))
		if err != nil {
			return ""
		}
		how = "replaced with an older copy"
	}
	if bytes.Equal(after, before) || strings.HasSuffix(name, "frozen") && r.sameMoment(before, after) {
		check(r.t, os.WriteFile(path, before, 0o600))
		return ""
	}
	check(r.t, os.WriteFile(path, after, 0o600))
	return name + " " + how
}

// sameMoment reports whether only the fraction of a second of a mark changed:
// nothing that is promised or published has one.
func (r *tamperer) sameMoment(before, after []byte) bool {
	strip := func(b []byte) string {
		head, rest, ok := bytes.Cut(b, []byte("."))
		digits := bytes.TrimLeft(rest, "0123456789")
		if !ok || len(rest) == len(digits) {
			return string(b)
		}
		return string(head) + string(digits)
	}
	return strip(before) == strip(after)
}

// table is a protected table, which of its rows and which columns.
type table struct {
	name, where string
	columns     []string
}

// tables are what is protected. Left out are the columns that docs/log-audit.md
// lists.
func tables() []table {
	managed := "kind IN ('policy', 'grant', 'registry', 'issuer', 'trust-root')"
	return []table{
		{"leaves", "1=1", []string{"position", "hash", "shard"}},
		{"counters", "name LIKE 'leaves%'", []string{"value", "name"}},
		{"operations", "state = 'done'", []string{
			"id", "kind", "scope", "idempotency_key", "request_hash", "state", "repository", "digest", "signer",
			"predicate_type", "body", "result", "created_at", "updated_at",
		}},
		{"bundles", "operation <> ''", []string{
			"id", "digest", "repository", "format", "predicate_type", "key_id", "signer", "log_index", "operation", "body", "body_hash", "created_at",
		}},
		{"chain", "1=1", []string{"sequence", "body", "hash"}},
		{"chain_head", "1=1", []string{"sequence", "hash"}},
		{"anchors", "1=1", []string{"sequence", "hash", "body", "state", "log_id", "log_index"}},
		{"objects", managed, []string{"kind", "name", "revision", "body"}},
		{"objects", "kind = 'key' AND name IN ('release', 'spare')", []string{"kind", "name", "revision", "body"}},
	}
}

func (r *tamperer) open(dir string) *sql.DB {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "countersign.db")+"?_pragma=busy_timeout(5000)&_pragma=ignore_check_constraints(off)")
	check(r.t, err)
	return db
}

// row changes, deletes, swaps or sets back one row.
func (r *tamperer) row(dir string) (kind, what string) {
	db := r.open(dir)
	defer func() { check(r.t, db.Close()) }()
	tb := pick(r.rng, tables())
	keys := r.keys(db, tb)
	if len(keys) == 0 {
		return "", ""
	}
	key := pick(r.rng, keys)
	switch r.rng.IntN(6) {
	case 0:
		if r.exec(db, "DELETE FROM "+tb.name+" WHERE "+tb.is(), key) {
			what = fmt.Sprintf("%s: row %v deleted", tb.name, key)
		}
	case 1:
		what = r.swap(db, tb, key, pick(r.rng, keys))
	case 2:
		what = r.setBack(db, tb, key)
	default:
		what = r.flip(db, tb, key)
	}
	return tb.name, what
}

func (r *tamperer) keys(db *sql.DB, tb table) (keys []any) {
	rows, err := db.QueryContext(context.Background(), "SELECT "+identity(tb.name)+" FROM "+tb.name+" WHERE "+tb.where+" ORDER BY 1")
	check(r.t, err)
	defer func() { check(r.t, rows.Close()) }()
	for rows.Next() {
		var key any
		check(r.t, rows.Scan(&key))
		keys = append(keys, key)
	}
	check(r.t, rows.Err())
	return keys
}

// identity is an expression that names a row.
func identity(table string) string {
	switch table {
	case "leaves":
		return "shard || '/' || position"
	case "counters":
		return "name"
	case "operations", "bundles":
		return "id"
	case "objects":
		return "kind || '/' || name"
	}
	return "rowid"
}

func (tb table) is() string { return identity(tb.name) + " = ?" }

// exec reports whether a statement changed a row; a constraint that refuses it
// is an answer, too.
func (r *tamperer) exec(db *sql.DB, query string, args ...any) bool {
	result, err := db.ExecContext(context.Background(), query, args...)
	if err != nil {
		return false
	}
	n, err := result.RowsAffected()
	check(r.t, err)
	return n > 0
}

// flip changes one bit of one column.
func (r *tamperer) flip(db *sql.DB, tb table, key any) string {
	column := pick(r.rng, tb.columns)
	var value any
	check(r.t, db.QueryRowContext(context.Background(), "SELECT "+column+" FROM "+tb.name+" WHERE "+tb.is(), key).Scan(&value))
	var changed any
	switch v := value.(type) {
	case int64:
		changed = v ^ 1<<r.rng.IntN(40)
	case string:
		if v == "" {
			return ""
		}
		changed = string(flipped(r.rng, []byte(v)))
	case []byte:
		if len(v) == 0 {
			return ""
		}
		changed = flipped(r.rng, v)
	default:
		return ""
	}
	if !r.exec(db, "UPDATE "+tb.name+" SET "+column+" = ? WHERE "+tb.is(), changed, key) {
		return ""
	}
	return fmt.Sprintf("%s: row %v, %s: a bit flipped", tb.name, key, column)
}

func flipped(rng *rand.Rand, b []byte) []byte {
	out := bytes.Clone(b)
	at := rng.IntN(len(out) * 8)
	out[at/8] ^= 1 << (at % 8)
	return out
}

// swap exchanges one column of two rows.
func (r *tamperer) swap(db *sql.DB, tb table, a, b any) string {
	column := pick(r.rng, tb.columns)
	read := func(key any) (v any) {
		check(r.t, db.QueryRowContext(context.Background(), "SELECT "+column+" FROM "+tb.name+" WHERE "+tb.is(), key).Scan(&v))
		return v
	}
	va, vb := read(a), read(b)
	if fmt.Sprint(va) == fmt.Sprint(vb) {
		return ""
	}
	if !r.exec(db, "UPDATE "+tb.name+" SET "+column+" = ? WHERE "+tb.is(), vb, a) {
		return ""
	}
	if !r.exec(db, "UPDATE "+tb.name+" SET "+column+" = ? WHERE "+tb.is(), va, b) {
		// Half a swap is damage all the same.
		return fmt.Sprintf("%s: %s of row %v put in row %v", tb.name, column, b, a)
	}
	return fmt.Sprintf("%s: %s of rows %v and %v swapped", tb.name, column, a, b)
}

// setBack puts the row of the older copy in the place of today's (row J1: an
// older version that was valid once).
func (r *tamperer) setBack(db *sql.DB, tb table, key any) string {
	older := r.open(r.world.older)
	defer func() { check(r.t, older.Close()) }()
	values := make([]any, len(tb.columns))
	into := make([]any, len(tb.columns))
	for i := range values {
		into[i] = &values[i]
	}
	query := "SELECT " + strings.Join(tb.columns, ", ") + " FROM " + tb.name + " WHERE " + tb.is()
	if err := older.QueryRowContext(context.Background(), query, key).Scan(into...); err != nil {
		return ""
	}
	today := make([]any, len(tb.columns))
	for i := range today {
		into[i] = &today[i]
	}
	check(r.t, db.QueryRowContext(context.Background(), query, key).Scan(into...))
	if fmt.Sprint(today) == fmt.Sprint(values) {
		return ""
	}
	if !r.exec(db, "UPDATE "+tb.name+" SET "+strings.Join(tb.columns, " = ?, ")+" = ? WHERE "+tb.is(), append(values, key)...) {
		return ""
	}
	return fmt.Sprintf("%s: row %v set back", tb.name, key)
}
