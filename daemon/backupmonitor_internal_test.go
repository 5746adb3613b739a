package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/backup"
)

// TestRestoreMonitor: what the monitor has verified is in a backup, with the log as
// it was, so a restored service goes on from it and finds nothing wrong.
func TestRestoreMonitor(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	f.append(newBody(t, 0))
	state := func(g *folder, has string) (raw []byte) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			raw, _ = os.ReadFile(filepath.Join(g.dir, backup.Monitor))
			if strings.Contains(string(raw), has) {
				return raw
			}
			if time.Now().After(deadline) {
				t.Fatalf("the monitor has not verified %q: %s", has, raw)
			}
		}
	}
	state(f, "127.0.0.1")
	var archive bytes.Buffer
	if err := f.d.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	dir, _, err := restoreTo(t, archive.Bytes(), filepath.Join(f.dir, masterFile))
	if err != nil {
		t.Fatal(err)
	}
	g := &folder{t: t, dir: dir}
	if raw := state(g, "127.0.0.1"); strings.Contains(string(raw), "shard-2-") {
		t.Fatalf("restored: %s", raw)
	}
	if info, err := os.Stat(filepath.Join(dir, backup.Monitor)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	g.open()
	state(g, "shard-2-")
	if err := g.d.monitor.ready(); err != nil {
		t.Error(err)
	}
}
