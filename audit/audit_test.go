package audit_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

// fixed is the journal's clock in these tests.
func fixed() time.Time { return time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC) }

// newJournal returns a journal over a new database and a second connection to
// its file, as somebody who goes round the service would open it.
func newJournal(t testing.TB) (*audit.Journal, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "countersign.db")
	db, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	raw, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return audit.New(audit.Config{Chain: db.Chain(), Clock: clock.Func(fixed)}), raw
}

func record(n int) audit.Record {
	return audit.Record{
		Actor: "local alice", ActorIssuer: "local", ActorSubject: "alice", Action: "key.rotate",
		Resource: fmt.Sprint("keys/k", n), Outcome: audit.Done, Detail: map[string]string{"n": fmt.Sprint(n), "a": "<&>\u2028 ü"},
	}
}

func appendRecords(t testing.TB, j *audit.Journal, n int) []audit.Record {
	t.Helper()
	var records []audit.Record
	for i := range n {
		ctx := audit.WithRequestID(context.Background(), fmt.Sprint("request-", i))
		r, err := j.Append(ctx, record(i))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

func TestAppend(t *testing.T) {
	j, raw := newJournal(t)
	records := appendRecords(t, j, 3)
	previous := ""
	for i, r := range records {
		want := record(i)
		want.Sequence, want.ID, want.Time = int64(i+1), r.ID, fixed()
		want.RequestID, want.PreviousHash, want.Hash = fmt.Sprint("request-", i), previous, r.Hash
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("record %d (-want +got)\n%s", i, diff)
		}
		var body []byte
		if err := raw.QueryRow("SELECT body FROM chain WHERE sequence = ?", r.Sequence).Scan(&body); err != nil {
			t.Fatal(err)
		}
		canonical, err := jsoncanonicalizer.Transform(body)
		if err != nil || string(canonical) != string(body) {
			t.Errorf("record %d is not kept in canonical form: %s", i, body)
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != r.Hash {
			t.Errorf("record %d: the hash is not that of the bytes kept", i)
		}
		if strings.Contains(string(body), `"hash"`) {
			t.Errorf("record %d holds its own hash", i)
		}
		previous = r.Hash
	}
	if err := j.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestAppendRefuses(t *testing.T) {
	j, _ := newJournal(t)
	for name, change := range map[string]func(*audit.Record){
		"no action":       func(r *audit.Record) { r.Action = "" },
		"no outcome":      func(r *audit.Record) { r.Outcome = "" },
		"unknown outcome": func(r *audit.Record) { r.Outcome = "maybe" },
		"too long":        func(r *audit.Record) { r.Resource = strings.Repeat("x", 1<<16) },
	} {
		r := record(0)
		change(&r)
		if _, err := j.Append(context.Background(), r); !errors.Is(err, audit.ErrRecord) {
			t.Errorf("%s: %v, want ErrRecord", name, err)
		}
	}
	first := appendRecords(t, j, 1)[0] // the positive control, and nothing was written before
	if first.Sequence != 1 {
		t.Fatalf("sequence %d after refusals, want 1", first.Sequence)
	}
	// What the caller claims of the chain is not believed.
	forged := record(1)
	forged.Sequence, forged.PreviousHash, forged.Hash, forged.Time = 99, "00", "00", time.Unix(0, 0)
	second, err := j.Append(context.Background(), forged)
	if err != nil || second.Sequence != 2 || second.PreviousHash != first.Hash || !second.Time.Equal(fixed()) {
		t.Fatalf("%+v, %v", second, err)
	}
}

// TestAppendOddText: whatever bytes reach a field, the record is written and
// the chain verifies.
func TestAppendOddText(t *testing.T) {
	j, _ := newJournal(t)
	for _, text := range []string{"\x00", "\xff\xfe", "\ud7ff", "\U0010ffff", `"\`, "\r\n\t\b", strings.Repeat("é", 1000)} {
		r := record(0)
		r.Resource, r.Detail = text, map[string]string{text: text}
		if _, err := j.Append(context.Background(), r); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := j.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestAppendConcurrent(t *testing.T) {
	j, _ := newJournal(t)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for i := range 5 {
				if _, err := j.Append(context.Background(), record(i)); err != nil {
					t.Error(err)
				}
			}
			if err := j.Verify(context.Background()); err != nil { // beside appends
				t.Error(err)
			}
		})
	}
	wg.Wait()
	records, next, err := j.List(context.Background(), store.Page{Limit: 300})
	if err != nil || len(records) != 200 || next != "" {
		t.Fatalf("%d records, %q, %v; want 200", len(records), next, err)
	}
}

// TestAppendUnwritable: a journal that cannot write says so; the caller must
// not act (law 6).
func TestAppendUnwritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countersign.db")
	db, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	j := audit.New(audit.Config{Chain: db.Chain()})
	appendRecords(t, j, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(context.Background(), record(1)); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("error = %v, want ErrUnavailable", err)
	}
	if err := j.Verify(context.Background()); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, audit.ErrChain) {
		t.Fatalf("Verify = %v, want ErrUnavailable and not ErrChain", err)
	}
}

func TestList(t *testing.T) {
	j, _ := newJournal(t)
	ctx := context.Background()
	all := appendRecords(t, j, 7)
	var got []audit.Record
	page := store.Page{Limit: 3}
	for pages := 1; ; pages++ {
		records, next, err := j.List(ctx, page)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, records...)
		if next == "" {
			break
		}
		if pages == 1 {
			appendRecords(t, j, 4) // moves nothing of the pages that follow
		}
		page.Cursor = next
	}
	for i := range all {
		if diff := cmp.Diff(all[len(all)-1-i], got[i]); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	if len(got) != len(all) {
		t.Errorf("%d records, want %d", len(got), len(all))
	}
	for _, bad := range []string{"x", "!", "MQ", page.Cursor + "=", page.Cursor[1:]} {
		if _, _, err := j.List(ctx, store.Page{Cursor: bad}); !errors.Is(err, store.ErrCursor) {
			t.Errorf("cursor %q: %v, want ErrCursor", bad, err)
		}
	}
	if records, next, err := j.List(ctx, store.Page{}); err != nil || len(records) != 11 || next != "" {
		t.Errorf("the default page: %d, %q, %v", len(records), next, err)
	}
}
