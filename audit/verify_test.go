package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/countersign/countersign/audit"
)

const records = 6

func execute(t *testing.T, raw *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := raw.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// rewrite changes a record's content and gives it the hash it then has.
func rewrite(t *testing.T, raw *sql.DB, sequence int, old, replacement string) {
	t.Helper()
	var body []byte
	if err := raw.QueryRow("SELECT body FROM chain WHERE sequence = ?", sequence).Scan(&body); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(body, []byte(old), []byte(replacement), 1)
	if bytes.Equal(changed, body) {
		t.Fatalf("record %d has no %s", sequence, old)
	}
	sum := sha256.Sum256(changed)
	if _, err := raw.Exec("UPDATE chain SET body = ?, hash = ? WHERE sequence = ?", changed, sum[:], sequence); err != nil {
		t.Fatal(err)
	}
}

func swap(a, b int) []string {
	return []string{
		fmt.Sprintf("UPDATE chain SET sequence = -1 WHERE sequence = %d", a),
		fmt.Sprintf("UPDATE chain SET sequence = %d WHERE sequence = %d", a, b),
		fmt.Sprintf("UPDATE chain SET sequence = %d WHERE sequence = -1", b),
	}
}

// TestVerifyFinds: whoever can write to the database but not through the
// journal cannot edit, remove, insert or move a record unseen; Verify names the
// first record that is wrong.
func TestVerifyFinds(t *testing.T) {
	edit := func(sequence int, old, replacement string) func(*testing.T, *sql.DB) {
		return func(t *testing.T, raw *sql.DB) { rewrite(t, raw, sequence, old, replacement) }
	}
	run := func(statements ...string) func(*testing.T, *sql.DB) {
		return func(t *testing.T, raw *sql.DB) { execute(t, raw, statements...) }
	}
	for name, c := range map[string]struct {
		tamper func(*testing.T, *sql.DB)
		want   int64
	}{
		"content edited":                     {run("UPDATE chain SET body = CAST(replace(CAST(body AS TEXT), 'alice', 'bob') AS BLOB) WHERE sequence = 3"), 3},
		"content emptied":                    {run("UPDATE chain SET body = X'' WHERE sequence = 3"), 3},
		"hash edited":                        {run("UPDATE chain SET hash = zeroblob(32) WHERE sequence = 4"), 4},
		"hash shortened":                     {run("UPDATE chain SET hash = X'' WHERE sequence = 4"), 4},
		"first edited with its hash":         {edit(1, "done", "failed"), 2},
		"edited with its hash":               {edit(3, "done", "failed"), 4},
		"last edited with its hash":          {edit(records, "done", "failed"), records},
		"time edited with its hash":          {edit(2, "2026", "2025"), 3},
		"spaces added with its hash":         {edit(3, `{"action"`, `{ "action"`), 3},
		"field added with its hash":          {edit(3, `{"action"`, `{"a":1,"action"`), 3},
		"content replaced by another's":      {run("UPDATE chain SET (body, hash) = (SELECT body, hash FROM chain WHERE sequence = 2) WHERE sequence = 3"), 3},
		"not JSON with its hash":             {edit(3, `{"action"`, `"action"`), 3},
		"first removed":                      {run("DELETE FROM chain WHERE sequence = 1"), 1},
		"one removed":                        {run("DELETE FROM chain WHERE sequence = 3"), 3},
		"last removed":                       {run("DELETE FROM chain WHERE sequence = 6"), 6},
		"end removed":                        {run("DELETE FROM chain WHERE sequence > 2"), 3},
		"all removed":                        {run("DELETE FROM chain"), 1},
		"one removed, the others moved up":   {run("DELETE FROM chain WHERE sequence = 3", "UPDATE chain SET sequence = sequence - 1 WHERE sequence > 3"), 3},
		"first removed, the others moved up": {run("DELETE FROM chain WHERE sequence = 1", "UPDATE chain SET sequence = sequence - 1"), 1},
		"neighbours swapped":                 {run(swap(3, 4)...), 3},
		"ends swapped":                       {run(swap(1, records)...), 1},
		"one doubled at the end":             {run("INSERT INTO chain SELECT 7, body, hash FROM chain WHERE sequence = 6"), 7},
		"moved away":                         {run("UPDATE chain SET sequence = 1000 WHERE sequence = 2"), 2},
		"head moved back":                    {run("UPDATE chain_head SET (sequence, hash) = (SELECT sequence, hash FROM chain WHERE sequence = 4)"), 5},
		"head's hash edited":                 {run("UPDATE chain_head SET hash = zeroblob(32)"), records},
		"head moved on":                      {run("UPDATE chain_head SET sequence = 9"), 7},
		"end removed and head's hash edited": {run("DELETE FROM chain WHERE sequence = 6", "UPDATE chain_head SET sequence = 5"), 5},
	} {
		t.Run(name, func(t *testing.T) {
			j, raw := newJournal(t)
			appendRecords(t, j, records)
			if err := j.Verify(context.Background()); err != nil { // the positive control
				t.Fatal(err)
			}
			c.tamper(t, raw)
			err := j.Verify(context.Background())
			var broken *audit.ChainError
			if !errors.As(err, &broken) || !errors.Is(err, audit.ErrChain) {
				t.Fatalf("Verify = %v, want a ChainError", err)
			}
			if broken.Sequence != c.want {
				t.Fatalf("Verify = %v, want record %d", err, c.want)
			}
		})
	}
}

// TestVerifyFindsInserted: a forged record that follows correctly is found all
// the same, since the journal did not append it; so are removed ones after the
// journal went on.
func TestVerifyFindsInserted(t *testing.T) {
	j, raw := newJournal(t)
	all := appendRecords(t, j, records)
	body := fmt.Sprintf(`{"action":"token.create","actor":"local eve","id":"x","outcome":"done","previousHash":%q,"sequence":7,"time":"2026-11-20T10:00:00Z"}`, all[5].Hash)
	sum := sha256.Sum256([]byte(body))
	if _, err := raw.Exec("INSERT INTO chain VALUES (7, ?, ?)", []byte(body), sum[:]); err != nil {
		t.Fatal(err)
	}
	wantBroken(t, j, 7)
	if _, err := j.Append(context.Background(), record(7)); err == nil {
		t.Fatal("the journal went on over a forged record")
	}
	execute(t, raw, "DELETE FROM chain WHERE sequence > 5")
	appendRecords(t, j, 3)
	wantBroken(t, j, 6)
}

func wantBroken(t *testing.T, j *audit.Journal, sequence int64) {
	t.Helper()
	err := j.Verify(context.Background())
	var broken *audit.ChainError
	if !errors.As(err, &broken) || broken.Sequence != sequence {
		t.Fatalf("Verify = %v, want a ChainError at %d", err, sequence)
	}
}

// TestVerifyEveryByte changes each byte that is kept, one at a time.
func TestVerifyEveryByte(t *testing.T) {
	j, raw := newJournal(t)
	appendRecords(t, j, 3)
	for sequence := 1; sequence <= 3; sequence++ {
		for _, column := range []string{"body", "hash"} {
			var original []byte
			if err := raw.QueryRow("SELECT "+column+" FROM chain WHERE sequence = ?", sequence).Scan(&original); err != nil {
				t.Fatal(err)
			}
			update := "UPDATE chain SET " + column + " = ? WHERE sequence = ?"
			for i := range original {
				changed := bytes.Clone(original)
				changed[i] ^= 1
				if _, err := raw.Exec(update, changed, sequence); err != nil {
					t.Fatal(err)
				}
				wantBroken(t, j, int64(sequence))
			}
			if _, err := raw.Exec(update, original, sequence); err != nil {
				t.Fatal(err)
			}
			if err := j.Verify(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestVerifyLong crosses the bounds of what is read at a time.
func TestVerifyLong(t *testing.T) {
	j, raw := newJournal(t)
	done := make(chan struct{})
	for range 50 {
		go func() { appendRecords(t, j, 26); done <- struct{}{} }()
	}
	for range 50 {
		<-done
	}
	if err := j.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	rewrite(t, raw, 1299, "done", "failed")
	wantBroken(t, j, 1300)
}
