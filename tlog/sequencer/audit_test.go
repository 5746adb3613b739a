package sequencer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// Each damage is found and named; the undamaged log is the control.
func TestAuditFindsDamage(t *testing.T) {
	const n = 300
	l := grown(t, n)
	if report := l.audit(t, nil); !report.Sound() || report.Size != n {
		t.Fatalf("control: %+v", report)
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, l *testLog)
		where  string
	}{
		{"flipped bit in a full tile", func(t *testing.T, l *testLog) { flip(t, l, "tile/0/000", 33) }, "tile/0/000"},
		{"flipped bit in a partial tile", func(t *testing.T, l *testLog) { flip(t, l, "tile/0/001.p/44", 0) }, "tile/0/001.p/44"},
		{"flipped bit in an upper tile", func(t *testing.T, l *testLog) { flip(t, l, "tile/1/000.p/1", 0) }, "tile/1/000.p/1"},
		{"flipped bit in an entry", func(t *testing.T, l *testLog) { flip(t, l, "tile/entries/000", 100) }, "tile/0/000"},
		{"truncated entry bundle", func(t *testing.T, l *testLog) {
			raw := l.file(t, "tile/entries/001.p/44")
			l.write(t, "tile/entries/001.p/44", raw[:len(raw)-7])
		}, "tile/entries/001.p/44"},
		{"bytes after the last entry", func(t *testing.T, l *testLog) {
			l.write(t, "tile/entries/000", append(l.file(t, "tile/entries/000"), 0))
		}, "tile/entries/000"},
		{"missing tile", func(t *testing.T, l *testLog) { remove(t, l, "tile/0/000") }, "tile/0/000"},
		{"missing entry bundle", func(t *testing.T, l *testLog) { remove(t, l, "tile/entries/000") }, "tile/entries/000"},
		{"checkpoint of another key", func(t *testing.T, l *testLog) { l.write(t, "checkpoint", resign(t, l, newTestLog(t), n)) }, "checkpoint"},
		{"checkpoint over another root", func(t *testing.T, l *testLog) { l.write(t, "checkpoint", resign(t, l, l, n)) }, "checkpoint"},
	} {
		t.Run(test.name, func(t *testing.T) {
			copied := &testLog{dir: filepath.Join(t.TempDir(), "log"), key: l.key}
			if err := os.CopyFS(copied.dir, os.DirFS(l.dir)); err != nil {
				t.Fatal(err)
			}
			test.damage(t, copied)
			report := copied.audit(t, nil)
			found := false
			for _, p := range report.Problems {
				found = found || p.Where == test.where
			}
			if !found {
				t.Errorf("no problem at %s: %+v", test.where, report.Problems)
			}
		})
	}
}

// resign is a checkpoint over a made-up root, signed with the key of by.
func resign(t *testing.T, _, by *testLog, size uint64) []byte {
	t.Helper()
	signer, err := tlog.NewCheckpointSigner(origin, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cp := tlog.Checkpoint{Origin: origin, Size: size, Root: make([]byte, 32)}
	raw, err := note.Sign(&note.Note{Text: string(cp.Marshal())}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The storage driver alone logs a body twice; the audit says so.
func TestAuditFindsDuplicates(t *testing.T) {
	l := newTestLog(t)
	signer, err := tlog.NewCheckpointSigner(origin, l.key)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := posix.New(t.Context(), posix.Config{Path: l.dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, _, err := tessera.NewAppender(t.Context(), driver,
		tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(100_000_000))
	if err != nil {
		t.Fatal(err)
	}
	f := forge{newKey(t)}
	twice := f.body(t, 1)
	for _, body := range [][]byte{f.body(t, 0), twice, f.body(t, 2), twice} {
		if _, err := appender.Add(t.Context(), tessera.NewEntry(body))(); err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := l.audit(t, nil)
	if len(report.Problems) != 0 || len(report.Duplicates) != 1 || report.Duplicates[0].First != 1 || report.Duplicates[0].Again != 3 {
		t.Errorf("audit: %+v", report)
	}
}

// The audit proves that a log extends an older checkpoint, and finds one that
// does not.
func TestAuditFromOlderCheckpoint(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	f := forge{newKey(t)}
	appendEach(t, s, f.bodies(t, 10))
	older := l.file(t, "checkpoint")
	for n := range uint64(10) {
		if _, err := s.Append(t.Context(), f.body(t, 100+n)); err != nil {
			t.Fatal(err)
		}
	}
	if report := l.audit(t, older); !report.Sound() {
		t.Errorf("control: %+v", report)
	}
	newer := l.file(t, "checkpoint")
	l.write(t, "checkpoint", older)
	if report := l.audit(t, newer); len(report.Problems) == 0 || report.Problems[0].Where != "from" {
		t.Errorf("shrunken log: %+v", report)
	}
	l.write(t, "checkpoint", newer)
	if report := l.audit(t, resign(t, l, l, 10)); len(report.Problems) == 0 || !strings.Contains(report.Problems[0].What, "older checkpoint") {
		t.Errorf("forked log: %+v", report)
	}
	_, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{Dir: l.dir, Origin: origin, Public: l.key.Public(), From: []byte("none")})
	if err == nil {
		t.Error("an older checkpoint that is none was accepted")
	}
}

// An older partial tile, which only readers with an older checkpoint ask for,
// is held against today's; one that was tidied away is no finding.
func TestAuditOlderTiles(t *testing.T) {
	l := grown(t, 300)
	for _, path := range []string{"tile/0/000.p/7", "tile/0/001.p/3"} {
		whole := "tile/0/000"
		if path == "tile/0/001.p/3" {
			whole = "tile/0/001.p/44"
		}
		width := map[string]int{"tile/0/000.p/7": 7, "tile/0/001.p/3": 3}[path]
		l.write(t, path, l.file(t, whole)[:width*32])
		if report := l.audit(t, nil); !report.Sound() {
			t.Fatalf("%s, control: %+v", path, report)
		}
		flip(t, l, path, 40)
		if report := l.audit(t, nil); len(report.Problems) != 1 || report.Problems[0].Where != path {
			t.Errorf("%s: %+v", path, report.Problems)
		}
		remove(t, l, path)
	}
	if report := l.audit(t, nil); !report.Sound() {
		t.Errorf("tidied away: %+v", report)
	}
}
