package sequencer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

const origin = "log.example.com"

// testLog is a real log over real SQLite in a temporary directory.
type testLog struct {
	dir    string
	key    *ecdsa.PrivateKey
	leaves store.Leaves
}

func newTestLog(t testing.TB) *testLog {
	t.Helper()
	dir := t.TempDir()
	return &testLog{dir: filepath.Join(dir, "log"), key: newKey(t), leaves: openLeaves(t, filepath.Join(dir, "leaves.db"))}
}

func openLeaves(t testing.TB, path string) store.Leaves {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db.Leaves()
}

func (l *testLog) config() sequencer.Config {
	return sequencer.Config{
		Dir: l.dir, Origin: origin, Signer: l.key, Leaves: l.leaves,
		CheckpointInterval: 100 * time.Millisecond, Clock: clock.System{},
	}
}

// open opens the log and closes it with the test.
func (l *testLog) open(t testing.TB) *sequencer.Sequencer {
	t.Helper()
	s, err := sequencer.Open(t.Context(), l.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, s) })
	return s
}

func closeLog(t testing.TB, s *sequencer.Sequencer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// refuse opens the log and expects an error that is want.
func (l *testLog) refuse(t *testing.T, cfg sequencer.Config) error {
	t.Helper()
	s, err := sequencer.Open(t.Context(), cfg)
	if err == nil {
		closeLog(t, s)
		t.Fatal("log opened")
	}
	return err
}

func (l *testLog) audit(t testing.TB, from []byte) sequencer.Report {
	t.Helper()
	report, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{Dir: l.dir, Origin: origin, Public: l.key.Public(), From: from})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (l *testLog) file(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (l *testLog) write(t testing.TB, path string, b []byte) {
	t.Helper()
	path = filepath.Join(l.dir, path)
	// A log that grew past a whole tile in one step never had the partial ones.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// forge makes valid bodies of distinct content.
type forge struct {
	key *ecdsa.PrivateKey
}

func (f forge) body(t testing.TB, n uint64) []byte {
	t.Helper()
	message := binary.BigEndian.AppendUint64([]byte("artifact"), n)
	digest := sha256.Sum256(message)
	sig, err := f.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	body, err := tlog.HashedRekordV002(f.key.Public(), message, sig)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (f forge) bodies(t testing.TB, n int) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		out[i] = f.body(t, uint64(i))
	}
	return out
}

// verify is what a stranger does with an answer.
func verify(entry *rekorpb.TransparencyLogEntry, body []byte, pub crypto.PublicKey) error {
	if string(entry.GetCanonicalizedBody()) != string(body) {
		return fmt.Errorf("entry %d has another body", entry.GetLogIndex())
	}
	return tlog.VerifyInclusion(entry, origin, pub)
}
