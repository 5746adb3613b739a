package tuf_test

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/trust/tuf"
)

const aHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func goodPaths() []string {
	return []string{
		"root.json", "timestamp.json", "1.root.json", "12.snapshot.json", "999999999.targets.json",
		"targets/" + aHash + ".trusted_root.json", "targets/" + aHash + ".a",
	}
}

// badPaths are I7 and the spellings next to the good ones.
func badPaths() []string {
	return []string{
		"", "/", ".", "..", "../root.json", "/root.json", "root.json/", "./root.json", "a/../root.json", "//root.json",
		"root", "root.json.json", "Root.json", "root.JSON", " root.json", "root.json\x00", "root.json\n",
		"0.root.json", "01.root.json", "-1.root.json", "+1.root.json", "1e3.root.json", "1000000000.root.json", "१.root.json",
		"snapshot.json", "targets.json", "1.timestamp.json", "1.mirrors.json", ".root.json", "1..root.json", "1.root.json.new",
		"targets", "targets/", "targets/trusted_root.json", "targets/" + aHash, "targets/" + aHash + ".",
		"targets/" + strings.ToUpper(aHash) + ".a", "targets/" + aHash[1:] + ".a", "targets/0" + aHash + ".a",
		"targets/" + aHash + "./a", "targets/" + aHash + ".a/b", "targets/" + aHash + "..", "targets/" + aHash + ".../root.json",
		"targets/" + aHash + `.a\b`, "targets/" + aHash + ".a%2e", "targets/" + aHash + "." + strings.Repeat("a", 300),
		"targets/../work/root.json", "work/root.json", "work/lock", "targets//" + aHash + ".a", "targets/" + aHash + ".ä",
	}
}

func TestParsePath(t *testing.T) {
	for _, good := range goodPaths() {
		file, err := tuf.ParsePath(good)
		if err != nil || file.Path() != good {
			t.Errorf("%q: %+v %v", good, file, err)
		}
	}
	for _, bad := range badPaths() {
		if file, err := tuf.ParsePath(bad); !errors.Is(err, tuf.ErrPath) || file != (tuf.File{}) {
			t.Errorf("%q: %+v %v", bad, file, err)
		}
	}
}

// I7: neither a path nor a link leads out of what is published, or to a file
// inside that is not.
func TestReadFileRefuses(t *testing.T) {
	h := newHouse(t).open()
	for _, bad := range badPaths() {
		if content, err := h.repo.ReadFile(t.Context(), bad); err == nil || content != nil {
			t.Errorf("%q: %d bytes, %v", bad, len(content), err)
		}
	}
	secret := filepath.Join(filepath.Dir(h.dir), "secret")
	h.must(os.WriteFile(secret, []byte("secret"), 0o600))
	link := "targets/" + aHash + ".link"
	for name, make := range map[string]func() error{
		"out, absolute": func() error { return os.Symlink(secret, filepath.Join(h.dir, link)) },
		"out, relative": func() error { return os.Symlink("../../secret", filepath.Join(h.dir, link)) },
		"inside":        func() error { return os.Symlink("../work/online.json", filepath.Join(h.dir, link)) },
		"folder":        func() error { return os.Mkdir(filepath.Join(h.dir, link), 0o700) },
	} {
		h.must(make())
		if content, err := h.repo.ReadFile(t.Context(), link); !errors.Is(err, tuf.ErrNotFound) {
			t.Errorf("%s: %q %v", name, content, err)
		}
		h.must(os.Remove(filepath.Join(h.dir, link)))
	}
	h.must(os.WriteFile(filepath.Join(h.dir, link), []byte("plain"), 0o600)) // positive control
	if content, err := h.repo.ReadFile(t.Context(), link); err != nil || string(content) != "plain" {
		t.Errorf("plain file: %q %v", content, err)
	}
}

// FuzzParsePath: what parses is the one spelling of a file below the folder.
func FuzzParsePath(f *testing.F) {
	for _, seed := range append(goodPaths(), badPaths()...) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		file, err := tuf.ParsePath(s)
		if err != nil {
			if file != (tuf.File{}) || !errors.Is(err, tuf.ErrPath) {
				t.Fatalf("a failed parse returned %+v, %v", file, err)
			}
			return
		}
		if file.Path() != s {
			t.Fatalf("%q is spelled %q", s, file.Path())
		}
		if !filepath.IsLocal(s) || path.Clean(s) != s || strings.ContainsAny(s, "\\\x00%") || strings.HasPrefix(s, "work") {
			t.Fatalf("%q is not a plain local path", s)
		}
		if dir := path.Dir(s); dir != "." && dir != "targets" {
			t.Fatalf("%q is in %q", s, dir)
		}
	})
}

// FuzzDocument: what is signed elsewhere stays what it was, and nothing panics.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{"root", "targets", "timestamp"} {
		document, err := os.ReadFile(filepath.Join("testdata", seed+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(document)
	}
	f.Add([]byte(`{"signed":{"_type":"root","roles":{"root":null}}}`))
	key := edKey(f)
	f.Fuzz(func(t *testing.T, document []byte) {
		signed, err := tuf.Sign(document, key)
		if err != nil {
			return
		}
		again, err := tuf.Sign(signed, key)
		if err != nil || string(again) != string(signed) {
			t.Fatalf("a signed document changes when signed again: %v", err)
		}
	})
}
