package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/store/storetest"
	"github.com/countersign/countersign/tlog/sequencer"
)

func (f *folder) close() {
	f.t.Helper()
	if err := f.d.Close(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

// search are the rows of what the test logged: not those of the journal.
func (f *folder) search() []store.LogEntry {
	f.t.Helper()
	found, _, err := f.d.search.Search(f.t.Context(), store.LogFilter{}, store.Page{Limit: 200})
	if err != nil {
		f.t.Fatal(err)
	}
	journal, err := f.d.ring.Get(f.t.Context(), f.d.journalKeys().name(1))
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(e store.LogEntry) bool { return e.KeyID == journal.CurrentVersion().KeyID })
}

func (f *folder) look() error { return f.d.search.Look(f.t.Context()) }

// copyLog replaces or makes a copy of the log's folders alone.
func copyLog(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"log", "log-2"} {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(from, name)); err != nil {
			continue
		}
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSearchFollows: rows go on where they ended, after a stop, a crash and into
// the next shard, and none is lost or doubled.
func TestSearchFollows(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	for n := range 3 {
		f.append(newBody(t, n))
	}
	if err := f.look(); err != nil || len(f.search()) != 3 {
		t.Fatalf("%d rows, %v", len(f.search()), err)
	}
	f.append(newBody(t, 3))
	f.kill()
	f.append(newBody(t, 4))
	if err := f.d.authorities.rotateLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.append(newBody(t, 5))
	f.close()
	f.open()
	if err := f.look(); err != nil {
		t.Fatal(err)
	}
	rows := f.search()
	if len(rows) != 6 || rows[0].Shard != 2 || rows[1].Shard != 1 {
		t.Fatalf("%+v", rows)
	}
	if p := f.d.search.Progress(); len(p) != 2 || p[0].Indexed < 5 || p[0].Indexed != p[0].Published || p[1].Indexed < 1 {
		t.Errorf("%+v", p)
	}
}

// Row B5: an entry or a tile that does not lead to the signed root stops the
// index and nothing else; a rebuild finds it too.
func TestSearchStopsAtDamage(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	f.append(newBody(t, 0))
	if err := f.look(); err != nil {
		t.Fatal(err)
	}
	f.close()
	f.open()
	f.append(newBody(t, 1))
	f.close() // kept, but perhaps not indexed
	alter := func(path string, at int) {
		path = filepath.Join(f.dir, "log", path)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[at] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Reindex(t.Context(), f.dir, "", nil); err != nil {
		t.Fatalf("positive control: %v", err)
	}
	alter(newestBundle(t, f.dir), 20)
	if _, err := Reindex(t.Context(), f.dir, "", nil); !errors.Is(err, sequencer.ErrCorrupt) {
		t.Errorf("rebuild over an altered entry: %v", err)
	}
	f.open()
	if err := f.look(); !errors.Is(err, sequencer.ErrCorrupt) {
		t.Fatalf("an altered entry: %v", err)
	}
	if got := f.get("/readyz"); got.code != http.StatusOK || !strings.Contains(got.body, `"search":"damaged"`) {
		t.Errorf("readyz: %d %s", got.code, got.body)
	}
	f.append(newBody(t, 2)) // signing goes on
}

type got struct {
	code int
	body string
}

func (f *folder) get(path string) got {
	f.t.Helper()
	web := httptest.NewServer(f.d.Handler())
	defer web.Close()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, web.URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return got{resp.StatusCode, string(body)}
}

// newestBundle is the path of the bundle that covers the whole of a small log.
func newestBundle(t *testing.T, dir string) string {
	t.Helper()
	widths, err := os.ReadDir(filepath.Join(dir, "log", "tile", "entries", "000.p"))
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, w := range widths {
		if n, err := strconv.Atoi(w.Name()); err == nil {
			most = max(most, n)
		}
	}
	return "tile/entries/000.p/" + strconv.Itoa(most)
}

func TestReindex(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	for n := range 5 {
		f.append(newBody(t, n))
	}
	if err := f.look(); err != nil {
		t.Fatal(err)
	}
	before := f.search()
	if _, err := Reindex(t.Context(), f.dir, "", nil); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is served: %v", err)
	}
	f.close()
	last := uint64(0)
	all := uint64(0)
	progress, err := Reindex(t.Context(), f.dir, "", func(done, total uint64) { last, all = done, total })
	if err != nil || last < 5 || last != all || len(progress) != 1 || progress[0].Indexed != all {
		t.Fatalf("%+v, %d, %v", progress, last, err)
	}
	f.open()
	after := f.search()
	if len(after) != len(before) {
		t.Fatalf("%d rows, want %d", len(after), len(before))
	}
	for i := range after {
		if after[i].Digest != before[i].Digest || !after[i].Time.Equal(before[i].Time) {
			t.Errorf("row %d: %+v, was %+v", i, after[i], before[i])
		}
	}
	if _, err := Reindex(t.Context(), t.TempDir(), "", nil); err == nil {
		t.Error("a folder of nobody was indexed")
	}
}

// TestOlderLogIsRefused: the database remembers how far the log had come, and a
// copy of the log from before is not signed over.
func TestOlderLogIsRefused(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	f.append(newBody(t, 0))
	f.close()
	older, newer := t.TempDir(), t.TempDir()
	copyLog(t, f.dir, older)
	f.open()
	f.append(newBody(t, 1))
	f.close()
	copyLog(t, f.dir, newer)

	copyLog(t, older, f.dir)
	_, err := Open(t.Context(), Config{DataDir: f.dir, PublicURL: "http://127.0.0.1:8181"})
	if !errors.Is(err, sequencer.ErrRollback) || !strings.Contains(err.Error(), "entries of shard 1, the data folder has ") {
		t.Errorf("an older log: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(f.dir, "log")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: f.dir, PublicURL: "http://127.0.0.1:8181"}); !errors.Is(err, sequencer.ErrRollback) {
		t.Errorf("no log: %v", err)
	}
	copyLog(t, newer, f.dir)
	f.open() // the positive control
	f.append(newBody(t, 2))
}

// TestInteropOlderFolderIsRefused: an external database that outlived the data
// folder refuses an older copy of the whole folder, another folder, and a
// folder whose log went another way; with the embedded database nobody would
// know (its own record is as old as the log).
func TestInteropOlderFolderIsRefused(t *testing.T) {
	address := storetest.PostgresSchema(t, storetest.Postgres(t))
	config := func(dir string) Config {
		return Config{DataDir: dir, PublicURL: "http://127.0.0.1:8181", Database: address}
	}
	open := func(dir string) *folder {
		t.Helper()
		d, err := Open(t.Context(), config(dir))
		if err != nil {
			t.Fatal(err)
		}
		return &folder{t: t, dir: dir, d: d}
	}
	copied := func(dir string) string {
		t.Helper()
		to := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(to, masterFile), 0o600); err != nil {
			t.Fatal(err)
		}
		return to
	}
	f := open(filepath.Join(t.TempDir(), "data"))
	f.append(newBody(t, 0))
	f.close()
	older := copied(f.dir)
	f = open(f.dir)
	f.append(newBody(t, 1))
	f.close()

	forked := copied(older)
	for dir, want := range map[string]error{older: sequencer.ErrRollback, filepath.Join(t.TempDir(), "data"): ErrClaimed} {
		d, err := Open(t.Context(), config(dir))
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if err == nil {
			_ = d.Close(context.Background())
		}
	}
	// A copy that went on under another database has as many entries, but others.
	d, err := Open(t.Context(), Config{DataDir: forked, PublicURL: "http://127.0.0.1:8181"})
	if err != nil {
		t.Fatal(err)
	}
	fork := &folder{t: t, dir: forked, d: d}
	fork.append(newBody(t, 7))
	fork.close()
	if _, err := Open(t.Context(), config(forked)); !errors.Is(err, sequencer.ErrRollback) || !strings.Contains(err.Error(), "are not those that the database knows") {
		t.Errorf("forked: %v", err)
	}
	f = open(f.dir) // the positive control
	f.append(newBody(t, 2))
	if err := f.look(); err != nil || len(f.search()) != 3 {
		t.Errorf("%d rows, %v", len(f.search()), err)
	}
	f.close()
	if progress, err := Reindex(t.Context(), f.dir, address, nil); err != nil || progress[0].Indexed < 3 {
		t.Errorf("reindex: %+v, %v", progress, err)
	}
}
