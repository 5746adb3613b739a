package tuf_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/trust/tuf"
)

// TestClientsRefuseTampering has the stock client judge altered copies of what
// we publish: each altered file must be refused, and the same mirror without
// the alteration is accepted.
func TestClientsRefuseTampering(t *testing.T) {
	h := newHouse(t).open()
	h.must(h.folder().Request(t.Context(), tuf.Snapshot))
	h.refresh()
	anchor := h.file("1.root.json")
	altered := ""
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		content, err := h.repo.ReadFile(r.Context(), path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if path == altered {
			content = alter(content)
		}
		_, _ = w.Write(content)
	}))
	defer mirror.Close()
	names := []string{"trusted_root.json", "signing_config.v0.2.json"}
	if _, err := h.client(anchor).updateFrom(mirror.URL, names...); err != nil {
		t.Fatal(err)
	}
	paths := []string{"2.root.json", "timestamp.json"}
	for _, role := range []tuf.Role{tuf.Snapshot, tuf.Targets} {
		paths = append(paths, tuf.File{Role: role, Version: h.version(role)}.Path())
	}
	files, err := os.ReadDir(filepath.Join(h.dir, "targets"))
	h.must(err)
	for _, f := range files {
		paths = append(paths, "targets/"+f.Name())
	}
	for _, altered = range paths {
		if _, err := h.client(anchor).updateFrom(mirror.URL, names...); err == nil {
			t.Errorf("the client accepted an altered %s", altered)
		}
	}
}

// alter changes a digit of what is said, not of how it is written.
func alter(content []byte) []byte {
	var doc map[string]any
	if json.Unmarshal(content, &doc) != nil {
		return append(content, 'x')
	}
	signed, ok := doc["signed"].(map[string]any)
	if !ok {
		return []byte(strings.Replace(string(content), "1", "2", 1))
	}
	signed["expires"] = "2030-01-01T00:00:00Z"
	out, _ := json.Marshal(doc)
	return out
}

// J1: a client that saw a state refuses an older, validly signed one.
func TestClientsRefuseRollback(t *testing.T) {
	h := newHouse(t).open()
	c := h.client(h.file("1.root.json"))
	old := copyTree(t, h.dir)
	h.contents = replaced(h.contents, 2)
	h.refresh()
	c.mustSee(h.contents)
	past := httptest.NewServer(http.FileServer(http.Dir(old)))
	defer past.Close()
	if _, err := h.client(c.anchor).updateFrom(past.URL); err != nil { // positive control
		t.Fatalf("a new client has no way to know: %v", err)
	}
	if _, err := c.updateFrom(past.URL); err == nil {
		t.Error("the client went back")
	}
	// A mirror that mixes an old snapshot into the new state.
	mixed := copyTree(t, h.dir)
	content, err := os.ReadFile(filepath.Join(old, "1.snapshot.json"))
	h.must(err)
	h.must(os.WriteFile(filepath.Join(mixed, "2.snapshot.json"), content, 0o600))
	mix := httptest.NewServer(http.FileServer(http.Dir(mixed)))
	defer mix.Close()
	if _, err := h.client(c.anchor).updateFrom(mix.URL); err == nil {
		t.Error("the client accepted a mix of states")
	}
	// A mirror that stands still: noticed within a week.
	h.now = h.now.Add(8 * 24 * time.Hour)
	if _, err := c.update(); err == nil {
		t.Error("the client accepted a frozen state")
	}
}

// A root signed by keys that the root before does not name is refused by
// clients and by us.
func TestForeignRoot(t *testing.T) {
	ours, theirs := newHouse(t).open(), newHouse(t).open()
	takeOffline(t, theirs, 1, ecKey(t))
	h := ours
	c := h.client(h.file("1.root.json"))
	c.mustSee(h.contents)
	h.must(os.WriteFile(filepath.Join(h.dir, "2.root.json"), theirs.file("2.root.json"), 0o600))
	if _, err := c.update(); err == nil {
		t.Error("the client accepted a foreign root")
	}
	if err := h.repo.Refresh(t.Context()); !errors.Is(err, tuf.ErrDamaged) {
		t.Errorf("refresh: %v", err)
	}
}

// TestCrashPoints ends the process before each change to the folder, in every
// kind of publication. What a client sees then is whole, and the next start
// carries on. Clients are: a new one, and one that knows the state before.
func TestCrashPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs at once, and short runs look for races")
	}
	offline := ecKey(t)
	for name, story := range map[string]struct{ prepare, act func(h *house) }{
		"first start": {func(*house) {}, func(*house) {}},
		"contents": {func(h *house) { h.open() }, func(h *house) {
			h.contents = replaced(h.contents, 2)
		}},
		"renewal": {func(h *house) {
			h.open()
			h.now = h.now.Add(6 * 24 * time.Hour)
			h.refresh()
		}, func(h *house) { h.now = h.now.Add(2 * 24 * time.Hour) }},
		"all keys": {func(h *house) { h.open() }, func(h *house) {
			h.must(h.folder().Request(h.t.Context(), tuf.Roles()...))
		}},
		"root taken offline": {func(h *house) {
			h.open()
			_, err := h.folder().Propose(h.t.Context(), h.now, year, tuf.Change{Role: tuf.Root, Replace: true, Add: []crypto.PublicKey{offline.Public()}})
			h.must(err)
		}, func(h *house) { bring(h.t, h, tuf.Root, offline) }},
		"targets taken offline": {func(h *house) {
			h.open()
			_, err := h.folder().Propose(h.t.Context(), h.now, year, tuf.Change{Role: tuf.Targets, Replace: true, Add: []crypto.PublicKey{offline.Public()}})
			h.must(err)
			h.refresh()
		}, func(h *house) { bring(h.t, h, tuf.Targets, offline) }},
	} {
		t.Run(name, func(t *testing.T) {
			crashed := 0
			for point := 0; ; point++ {
				if !crashAt(t, point, story.prepare, story.act) {
					break
				}
				crashed++
			}
			if crashed < 2 {
				t.Errorf("only %d crash points", crashed)
			}
		})
	}
}

var errCrash = errors.New("the process ends here")

// crashAt reports whether there was such a point.
func crashAt(t *testing.T, point int, prepare, act func(h *house)) bool {
	t.Helper()
	h := newHouse(t)
	prepare(h)
	var known *client
	old := h.contents
	if h.repo != nil {
		known = h.client(h.file("1.root.json"))
		known.mustSee(h.contents)
	}
	act(h)
	n := 0
	crash := func(string) error {
		n++
		if n > point {
			return errCrash
		}
		return nil
	}
	err := h.crashing(crash)
	if err == nil {
		return false
	}
	if !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	for _, c := range []*client{known, h.newcomer()} {
		if c == nil {
			continue
		}
		got, err := c.update("trusted_root.json")
		if err != nil {
			t.Fatalf("point %d: client: %v", point, err)
		}
		if s := string(got["trusted_root.json"]); s != string(old["trusted_root.json"]) && s != string(h.contents["trusted_root.json"]) {
			t.Fatalf("point %d: client got %s", point, s)
		}
	}
	h.open().refresh()
	if known != nil {
		known.mustSee(h.contents)
	}
	h.newcomer().mustSee(h.contents)
	if status, err := h.folder().Status(h.now); err != nil || len(status.Drafts)+len(status.Requested) > 0 {
		t.Fatalf("point %d: unfinished: %+v %v", point, status, err)
	}
	return true
}

// crashing refreshes, or opens for the first time, with a hook.
func (h *house) crashing(before func(string) error) error {
	if h.repo != nil {
		h.repo.Before(before)
		return h.repo.Refresh(h.t.Context())
	}
	repo, err := tuf.OpenWith(h.t.Context(), h.config(), before)
	if err == nil {
		h.repo = repo
	}
	return err
}

// newcomer is a client that starts from what root.json is now, or nil.
func (h *house) newcomer() *client {
	raw, err := os.ReadFile(filepath.Join(h.dir, "root.json"))
	if err != nil || h.repo == nil {
		return nil
	}
	return h.client(raw)
}
