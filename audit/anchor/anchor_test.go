package anchor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/audit/anchor"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

var errLog = errors.New("the log takes nothing")

// memory is a log that keeps its promise: a body has one index.
type memory struct {
	mu     sync.Mutex
	bodies [][]byte
	refuse bool
}

func (m *memory) Append(_ context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse {
		return nil, errLog
	}
	at := -1
	for i, b := range m.bodies {
		if bytes.Equal(b, body) {
			at = i
		}
	}
	if at < 0 {
		at = len(m.bodies)
		m.bodies = append(m.bodies, bytes.Clone(body))
	}
	return &rekorpb.TransparencyLogEntry{LogIndex: int64(at), LogId: &commonpb.LogId{KeyId: []byte("the log")}, CanonicalizedBody: body}, nil
}

// fixture is a journal over a real database with its keeper, and a second
// connection to its file.
type fixture struct {
	t       *testing.T
	db      *store.DB
	raw     *sql.DB
	log     *memory
	key     *ecdsa.PrivateKey
	now     time.Time
	keeper  *anchor.Keeper
	journal *audit.Journal
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "countersign.db")
	db, err := store.OpenSQLite(t.Context(), path)
	check(t, err)
	t.Cleanup(func() { _ = db.Close() })
	raw, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(5000)")
	check(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	f := &fixture{t: t, db: db, raw: raw, log: &memory{}, key: newKey(t), now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)}
	f.open()
	return f
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// open opens the keeper anew, as a start after a crash would.
func (f *fixture) open() {
	f.t.Helper()
	var err error
	at := clock.Func(func() time.Time { return f.now })
	f.keeper, err = anchor.Open(f.t.Context(), anchor.Config{
		Chain: f.db.Chain(), Anchors: f.db.Anchors(), Log: f.log, Signer: f.key, Clock: at,
	})
	check(f.t, err)
	f.journal = audit.New(audit.Config{Chain: f.db.Chain(), Clock: at, Appended: f.keeper.Appended})
}

func (f *fixture) append(action string) audit.Record {
	f.t.Helper()
	r, err := f.journal.Append(f.t.Context(), audit.Record{Actor: "alice", Action: action, Outcome: audit.Done})
	check(f.t, err)
	return r
}

func (f *fixture) rows() []store.Anchor {
	f.t.Helper()
	all, err := f.db.Anchors().Read(f.t.Context(), 0, store.MaxPage)
	check(f.t, err)
	return all
}

func (f *fixture) anchored() (sequences []int64) {
	for _, a := range f.rows() {
		sequences = append(sequences, a.Sequence)
	}
	return sequences
}

func (f *fixture) round() {
	f.t.Helper()
	check(f.t, f.keeper.Round(f.t.Context(), false))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestAnchors: a trust change has its own entry at once, whatever else there is
// is covered at the end, and an entry is what the record says.
func TestAnchors(t *testing.T) {
	f := newFixture(t)
	f.append("signature.create")
	changed := f.append("policy.put")
	f.append("signature.create")
	f.round()
	equal(t, "after a round", f.anchored(), []int64{2})
	status, err := f.keeper.Status(t.Context())
	check(t, err)
	equal(t, "status", status, anchor.Status{Records: 1})
	check(t, f.keeper.Close(t.Context()))
	check(t, f.keeper.Close(t.Context())) // nothing more to cover
	equal(t, "after the end", f.anchored(), []int64{2, 3})

	row := f.rows()[0]
	body, err := tlog.ParseBody(f.log.bodies[row.LogIndex])
	check(t, err)
	equal(t, "digest", hex.EncodeToString(body.Digest), changed.Hash)
	links, err := f.db.Chain().Read(t.Context(), 1, 1)
	check(t, err)
	sum := sha256.Sum256(links[0].Body)
	if !body.PublicKey.(*ecdsa.PublicKey).Equal(&f.key.PublicKey) || !ecdsa.VerifyASN1(&f.key.PublicKey, sum[:], body.Signature) {
		t.Error("the entry is not the journal key's over the record")
	}
	for sequence, want := range map[int64]int64{1: 2, 2: 2, 3: 3} {
		covering, err := f.keeper.Covering(t.Context(), sequence, sequence)
		check(t, err)
		equal(t, fmt.Sprint("covering ", sequence), covering[0].Sequence, want)
	}
}

// TestAnchorsOfTheHead: other records are covered when there are many or much
// time went by.
func TestAnchorsOfTheHead(t *testing.T) {
	f := newFixture(t)
	f.append("signature.create")
	f.round()
	equal(t, "at once", f.anchored(), []int64(nil))
	f.now = f.now.Add(limits.AnchorInterval)
	f.round()
	equal(t, "after a while", f.anchored(), []int64{1})
	f.now = f.now.Add(10 * limits.AnchorInterval)
	f.round()
	equal(t, "with nothing new", f.anchored(), []int64{1})
	for range limits.AnchorRecords + 1 {
		f.append("signature.create")
	}
	f.now = f.now.Add(-10 * limits.AnchorInterval) // a clock that was set back makes nothing due
	f.round()
	equal(t, "after many", f.anchored(), []int64{1, limits.AnchorRecords + 1})
}

// TestAnchorsSurviveCrashes: whatever step the process died after, the next one
// ends with one leaf of the same bytes.
func TestAnchorsSurviveCrashes(t *testing.T) {
	for name, crash := range map[string]func(*fixture){
		"before the bytes are kept":  func(*fixture) {},
		"before they are appended":   func(f *fixture) { f.log.refuse = true; _ = f.keeper.Round(f.t.Context(), false) },
		"before the index is noted":  func(f *fixture) { f.round(); f.forget() },
		"after the index was noted":  func(f *fixture) { f.round() },
		"twice before they are kept": func(f *fixture) { f.open(); f.open() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.append("policy.put")
			crash(f)
			before := f.rows()
			f.log.refuse = false
			f.open()
			f.append("policy.put")
			f.round()
			rows := f.rows()
			equal(t, "leaves", len(f.log.bodies), len(rows))
			for i, row := range rows {
				if !row.Logged || !bytes.Equal(f.log.bodies[row.LogIndex], row.Body) {
					t.Errorf("row %d: %+v", row.Sequence, row)
				}
				if i < len(before) && !bytes.Equal(before[i].Body, row.Body) {
					t.Errorf("row %d was signed again", row.Sequence)
				}
			}
			equal(t, "last", rows[len(rows)-1].Sequence, 2)
		})
	}
}

// forget undoes what the last step of a round wrote.
func (f *fixture) forget() {
	_, err := f.raw.ExecContext(f.t.Context(), "UPDATE anchors SET state = 'waiting', log_id = X'', log_index = -1")
	check(f.t, err)
}

// TestAnchorsWait: a log that takes nothing holds nobody up, is told of once
// too much waits, and gets everything later.
func TestAnchorsWait(t *testing.T) {
	f := newFixture(t)
	f.log.refuse = true
	for i := range limits.AnchorsWaiting + 1 {
		f.append("grant.put")
		if err := f.keeper.Round(t.Context(), false); !errors.Is(err, errLog) {
			t.Fatalf("round: %v, want the log's error", err)
		}
		if err := f.keeper.Ready(t.Context()); (i < limits.AnchorsWaiting) != (err == nil) {
			t.Fatalf("with %d waiting: %v", i+1, err)
		}
	}
	if err := f.keeper.Ready(t.Context()); !errors.Is(err, anchor.ErrBehind) || !errors.Is(err, errLog) {
		t.Errorf("%v, want ErrBehind and its cause", err)
	}
	f.log.refuse = false
	f.round()
	check(t, f.keeper.Ready(t.Context()))
	equal(t, "leaves", len(f.log.bodies), limits.AnchorsWaiting+1)
}

// TestAnchorsOfAnOlderChain: what is older than the first anchor has one entry
// and not thousands.
func TestAnchorsOfAnOlderChain(t *testing.T) {
	f := newFixture(t)
	for range 600 {
		f.append("policy.put")
	}
	f.open()
	f.append("policy.put")
	f.round()
	equal(t, "anchors", f.anchored(), []int64{600, 601})
}

// TestAnchorsRefuseAnEditedRecord: an edited audit record is not signed, nor
// anything after it (row J1: an older state is not vouched for anew).
func TestAnchorsRefuseAnEditedRecord(t *testing.T) {
	for name, harm := range map[string]string{
		"edited":       `UPDATE chain SET body = CAST(replace(CAST(body AS TEXT), 'alice', 'mallo') AS BLOB) WHERE sequence = 2`,
		"removed":      `DELETE FROM chain WHERE sequence = 2`,
		"another hash": `UPDATE chain SET hash = X'00' WHERE sequence = 2`,
		"moved":        `UPDATE chain SET sequence = 20 WHERE sequence = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.append("policy.put")
			f.round()
			f.append("policy.put")
			f.append("policy.put")
			_, err := f.raw.ExecContext(t.Context(), harm)
			check(t, err)
			if err := f.keeper.Round(t.Context(), false); !errors.Is(err, audit.ErrChain) {
				t.Fatalf("%v, want ErrChain", err)
			}
			if err := f.keeper.Ready(t.Context()); !errors.Is(err, audit.ErrChain) {
				t.Errorf("ready: %v, want ErrChain", err)
			}
			equal(t, "anchors", f.anchored(), []int64{1})
		})
	}
}

// TestUse: a new key signs what comes after it; what waits keeps its bytes.
func TestUse(t *testing.T) {
	f := newFixture(t)
	f.log.refuse = true
	f.append("policy.put")
	_ = f.keeper.Round(t.Context(), false)
	second := newKey(t)
	f.keeper.Use(second)
	f.append("policy.put")
	f.log.refuse = false
	f.round()
	for i, want := range []crypto.PublicKey{&f.key.PublicKey, &second.PublicKey} {
		body, err := tlog.ParseBody(f.rows()[i].Body)
		check(t, err)
		if !body.PublicKey.(*ecdsa.PublicKey).Equal(want) {
			t.Errorf("anchor %d is another key's", i+1)
		}
	}
}

// TestRun anchors a trust change without being asked, and soon.
func TestRun(t *testing.T) {
	f := newFixture(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.keeper.Run(ctx) }()
	f.append("token.create")
	for {
		progress, err := f.db.Anchors().Progress(t.Context())
		check(t, err)
		if progress.Logged == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
}
