package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/countersign/countersign/backup"
)

func description() backup.Description {
	return backup.Description{
		CreatedAt: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Version: "1", Origin: "sign.example.com",
		Shards: []backup.Shard{{Folder: "log", Size: 1, Checkpoint: "c"}, {Folder: "log-2"}},
	}
}

func write(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, description())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := w.Add(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	files := map[string]string{
		"countersign.db": "database", "log/checkpoint": "c", "log/tile/0/000.p/1": "t", "log/tile/entries/000.p/1": "e",
		"log-2/checkpoint": "", "tuf/1.root.json": "{}", "tuf/targets/ab.trusted_root.json": "{}",
	}
	dir := t.TempDir()
	d, err := backup.Read(context.Background(), bytes.NewReader(write(t, files)), dir)
	if err != nil || d.Origin != "sign.example.com" || len(d.Shards) != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	for name, content := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != content {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "countersign.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A member that Write would not write is refused, and nothing outside the folder
// is touched.
func TestReadRefusesNames(t *testing.T) {
	for _, name := range []string{
		"../countersign.db", "/etc/passwd", "log/../../x", "log/tile/../../../x", "log/./checkpoint", "log//checkpoint",
		"log-3/checkpoint", "log/.state/treeState", "log/tile/0/000.p/256", "master.key", "admin.token", "tuf", "tuf/../x",
		`tuf\..\x`, "tuf/..", "restored.json", "log/.state/frozen", "",
	} {
		dir := filepath.Join(t.TempDir(), "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := backup.Read(context.Background(), bytes.NewReader(write(t, map[string]string{name: "x"})), dir)
		if !errors.Is(err, backup.ErrArchive) {
			t.Errorf("%q: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); len(left) != 1 {
			t.Errorf("%q wrote %v", name, left)
		}
	}
}

// Only files: no link, folder or device; the same file twice is not written over.
func TestReadRefusesKinds(t *testing.T) {
	text := []byte(`{"format":1,"createdAt":"2026-11-25T10:00:00Z","version":"1","origin":"o","shards":[],"external":false}`)
	for _, kind := range []byte{tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir, tar.TypeFifo, tar.TypeChar} {
		var out bytes.Buffer
		zip, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(zip)
		for _, h := range []*tar.Header{{Name: "countersign-backup.json", Size: int64(len(text)), Mode: 0o600}, {Name: "tuf/x", Linkname: "/etc/passwd", Typeflag: kind}} {
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = w.Write(text)
			}
		}
		if err := errors.Join(w.Close(), zip.Close()); err != nil {
			t.Fatal(err)
		}
		want := "is not a file"
		if kind == tar.TypeReg { // the positive control comes to the end
			want = "without its seal"
		}
		if _, err := backup.Read(context.Background(), &out, t.TempDir()); !errors.Is(err, backup.ErrArchive) || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %c: %v", kind, err)
		}
	}
}

// FuzzRead: whatever comes in, nothing is written outside, and only what Write
// wrote is read.
func FuzzRead(f *testing.F) {
	f.Add(write(f, map[string]string{"countersign.db": "database", "log/checkpoint": "c"}))
	f.Add(write(f, nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, archive []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := backup.Read(context.Background(), bytes.NewReader(archive), dir)
		if err != nil && !errors.Is(err, backup.ErrArchive) {
			// The disk may refuse a name that is fine in an archive.
			if _, ok := errors.AsType[*os.PathError](err); !ok {
				t.Fatal(err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(parent, "*")); len(left) != 1 {
			t.Fatalf("wrote %v", left)
		}
	})
}
