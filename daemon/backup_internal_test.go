package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/backup"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/trust/tuf"
)

// acked is a body and the position that its appender was told.
type acked struct {
	body  []byte
	index int64
}

// appendUntil appends in several goroutines until stop is set, and returns all
// that was acknowledged.
func (f *folder) appendUntil(stop *atomic.Bool) func() []acked {
	var mu sync.Mutex
	var all []acked
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				body := newBody(f.t, 0)
				entry, err := f.d.log.Append(f.t.Context(), body)
				if err != nil {
					f.t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, acked{body, entry.GetLogIndex()})
				mu.Unlock()
			}
		})
	}
	return func() []acked { wg.Wait(); return all }
}

func restoreTo(t *testing.T, archive []byte, master string) (string, backup.Description, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	d, err := Restore(t.Context(), RestoreConfig{DataDir: dir, Archive: bytes.NewReader(archive), MasterKey: master})
	return dir, d, err
}

// TestRestore: a backup that was made under load restores to a service that has
// every entry of before, goes on under another key, and is believed by those who
// believed the first one.
func TestRestore(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	var before []acked
	for i := range 300 { // more than one tile
		if i%10 != 0 {
			continue
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 10 {
			wg.Go(func() {
				body := newBody(t, i)
				entry, err := f.d.log.Append(t.Context(), body)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				before = append(before, acked{body, entry.GetLogIndex()})
			})
		}
		wg.Wait()
	}
	var stop atomic.Bool
	during := f.appendUntil(&stop)
	var archive bytes.Buffer
	err := f.d.Backup(t.Context(), &archive)
	stop.Store(true)
	after := during()
	if err != nil {
		t.Fatal(err)
	}
	oldRoot, oldTimestamp := f.d.log.Shards()[0], tufVersion(t, f.dir)
	master := filepath.Join(f.dir, masterFile)

	dir, description, err := restoreTo(t, archive.Bytes(), master)
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(description.Shards[0].Size)
	if kept < int64(len(before)) || len(after) == 0 {
		t.Fatalf("%d entries kept of %d before, %d during", kept, len(before), len(after))
	}
	g := &folder{t: t, dir: dir}
	g.open()
	shards := g.d.log.Shards()
	if len(shards) != 2 || shards[0].State != sequencer.Frozen || shards[1].State != sequencer.Active ||
		!bytes.Equal(shards[0].LogID, oldRoot.LogID) || bytes.Equal(shards[1].LogID, oldRoot.LogID) {
		t.Fatalf("shards %+v", shards)
	}
	// Exactly once: what was acknowledged keeps its place. What the backup does
	// not know gets one in the new shard, never one of the old shard's again.
	for _, a := range slices.Concat(before, after) {
		entry, err := g.d.log.Append(t.Context(), a.body)
		if err != nil {
			t.Fatal(err)
		}
		old := bytes.Equal(entry.GetLogId().GetKeyId(), oldRoot.LogID)
		if known := a.index < kept; old != known || known && entry.GetLogIndex() != a.index {
			t.Fatalf("entry %d of %d kept came back at %d, in the old shard: %v", a.index, kept, entry.GetLogIndex(), old)
		}
	}
	g.wantPublished(oldRoot, oldTimestamp)
	g.kill() // and it starts again like any other
	if _, err := os.Stat(filepath.Join(g.dir, restoredFile)); !errors.Is(err, os.ErrNotExist) || len(g.d.log.Shards()) != 2 {
		t.Errorf("after another start: %v, %d shards", err, len(g.d.log.Shards()))
	}
}

// wantPublished holds what outsiders see against what they saw.
func (f *folder) wantPublished(old sequencer.Shard, timestamp int64) {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, rootFile))
	if err != nil {
		f.t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(raw)
	if err != nil || len(root.Logs) != 2 || root.Logs[0].End == nil || root.Logs[1].End != nil {
		f.t.Fatalf("trusted root: %+v, %v", root.Logs, err)
	}
	if id, err := tlog.LogID(root.Logs[0].Public); err != nil || !bytes.Equal(id, old.LogID) {
		f.t.Errorf("the first log is not the old one: %v", err)
	}
	if now := tufVersion(f.t, f.dir); now < timestamp+1000 {
		f.t.Errorf("TUF timestamp %d after %d: clients may have seen a later one", now, timestamp)
	}
	links, err := f.d.main.Chain().ReadBack(f.t.Context(), 0, 5)
	if err != nil || !slices.ContainsFunc(links, func(l store.Link) bool { return strings.Contains(string(l.Body), `"log.restore"`) }) {
		f.t.Errorf("no record of the restore: %v", err)
	}
}

func tufVersion(t *testing.T, dir string) int64 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, tufFolder, tuf.File{Role: tuf.Timestamp}.Path()))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Signed.Version
}

// A start that dies while it ends a restore is repeated: the mark is still
// there, the new shard too.
func TestRestoreStartsTwice(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	if _, err := f.d.log.Append(t.Context(), newBody(t, 1)); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := f.d.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	dir, _, err := restoreTo(t, archive.Bytes(), filepath.Join(f.dir, masterFile))
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(dir, restoredFile))
	if err != nil {
		t.Fatal(err)
	}
	g := &folder{t: t, dir: dir}
	g.open()
	if err := os.WriteFile(filepath.Join(dir, restoredFile), mark, 0o600); err != nil {
		t.Fatal(err)
	}
	g.kill()
	if shards := g.d.log.Shards(); len(shards) != 2 || shards[1].State != sequencer.Active {
		t.Errorf("%+v", shards)
	}
}

// TestRestoreRefuses: nothing but the whole backup under its own master key
// makes a data folder.
func TestRestoreRefuses(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	for i := range 3 {
		if _, err := f.d.log.Append(t.Context(), newBody(t, i)); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := f.d.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	master := filepath.Join(f.dir, masterFile)
	other := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	other.open()
	whole := archive.Bytes()
	for name, tt := range map[string]struct {
		archive []byte
		master  string
	}{
		"cut to nothing":     {nil, master},
		"cut in the middle":  {whole[:len(whole)/2], master},
		"cut by a byte":      {whole[:len(whole)-1], master},
		"a byte flipped":     {flip(whole, len(whole)/3), master},
		"another master key": {whole, filepath.Join(other.dir, masterFile)},
		"no master key":      {whole, filepath.Join(f.dir, "nothing")},
	} {
		dir, _, err := restoreTo(t, tt.archive, tt.master)
		if _, stat := os.Stat(dir); err == nil || !errors.Is(stat, os.ErrNotExist) {
			t.Errorf("%s: %v, folder %v", name, err, stat)
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) != 0 {
			t.Errorf("%s leaves %v", name, left)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Restore(t.Context(), RestoreConfig{DataDir: full, Archive: bytes.NewReader(whole), MasterKey: master})
	if !errors.Is(err, ErrRestore) {
		t.Errorf("into a folder with something in it: %v", err)
	}
	if _, _, err := restoreTo(t, whole, master); err != nil { // the positive control
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(f.dir, backupFolder)); err != nil || len(left) != 0 {
		t.Errorf("the backup leaves %v", left)
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestInteropRestoreBesideDatabase: the folder is lost, its external database is
// not. It knows a longer log than the backup has; restored on purpose, the
// service starts, goes on under a new key, and finds what it has.
func TestInteropRestoreBesideDatabase(t *testing.T) {
	address := storetest.PostgresSchema(t, storetest.Postgres(t))
	open := func(dir string) *folder {
		t.Helper()
		d, err := Open(t.Context(), Config{DataDir: dir, PublicURL: "http://127.0.0.1:8181", Database: address})
		if err != nil {
			t.Fatal(err)
		}
		return &folder{t: t, dir: dir, d: d}
	}
	f := open(filepath.Join(t.TempDir(), "data"))
	f.append(newBody(t, 0))
	var archive bytes.Buffer
	if err := f.d.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	f.append(newBody(t, 1))
	if err := f.look(); err != nil {
		t.Fatal(err)
	}
	f.close()
	dir, d, err := restoreTo(t, archive.Bytes(), filepath.Join(f.dir, masterFile))
	if err != nil || !d.External {
		t.Fatalf("%+v, %v", d, err)
	}
	g := open(dir)
	g.append(newBody(t, 2))
	if err := g.look(); err != nil || len(g.d.log.Shards()) != 2 {
		t.Errorf("%d shards, %v", len(g.d.log.Shards()), err)
	}
	for _, row := range g.search() {
		if row.Shard == 1 && row.Position >= d.Shards[0].Size {
			t.Errorf("entry %d is not in the restored log", row.Position)
		}
	}
	g.close()
	open(dir).close() // and again, like any other
}
