package keys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/keys"
)

func TestMasterIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	var wg sync.WaitGroup
	ids := make([]string, 16)
	for i := range ids {
		wg.Go(func() {
			m, err := keys.OpenMaster(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = m.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("two master keys: %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestMasterFilePermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := keys.OpenMaster(path); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode fs.FileMode
		want error
	}{
		{0o600, nil},
		{0o400, nil},
		{0o640, keys.ErrMaster},
		{0o604, keys.ErrMaster},
		{0o660, keys.ErrMaster},
		{0o602, keys.ErrMaster},
		{0o700, keys.ErrMaster},
		{0o610, keys.ErrMaster},
		{0o644, keys.ErrMaster},
		{0o777, keys.ErrMaster},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.OpenMaster(path); !errors.Is(err, c.want) {
			t.Errorf("mode %04o: %v", c.mode, err)
		}
	}
	if _, err := keys.OpenMaster(t.TempDir()); !errors.Is(err, keys.ErrMaster) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := keys.OpenMaster(filepath.Join(t.TempDir(), "missing", "master.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestMasterFileForm(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	if _, err := keys.OpenMaster(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	for name, content := range map[string]string{
		"empty":        "",
		"no prefix":    strings.TrimPrefix(good, "COUNTERSIGN-MASTER-KEY-1 "),
		"next version": strings.Replace(good, "-1 ", "-2 ", 1),
		"cut":          good[:len(good)-6] + "\n",
		"no line end":  strings.TrimSuffix(good, "\n"),
		"two keys":     good + good,
		"line break":   strings.Replace(good, "-1 ", "-1 \n", 1),
		"endless":      good + strings.Repeat("A", 4096),
	} {
		other := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.OpenMaster(other); !errors.Is(err, keys.ErrMaster) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadFile(other); err != nil || string(left) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

// TestAnotherMaster: a lost master key file is noticed at the start, before a
// new one is used beside keys sealed under the old.
func TestAnotherMaster(t *testing.T) {
	b := open(t)
	other, err := keys.OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	c := keys.Config{Objects: b.objects, Master: other, Clock: b.clock}
	if _, err := keys.Open(t.Context(), c); err != nil {
		t.Fatalf("control: an empty store opens under any master key: %v", err)
	}
	b.create(t, "release", "")
	if _, err := keys.Open(t.Context(), c); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("%v", err)
	}
	if _, err := keys.Open(t.Context(), keys.Config{}); err == nil {
		t.Error("opens with nothing")
	}
}
