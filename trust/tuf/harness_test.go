package tuf_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/trust/tuf"
)

// ring is a key holder that keeps keys for the length of a test.
type ring struct {
	mu   sync.Mutex
	keys map[tuf.Role][]crypto.Signer
}

func newRing() *ring { return &ring{keys: map[tuf.Role][]crypto.Signer{}} }

func (r *ring) Signers(_ context.Context, role tuf.Role) ([]crypto.Signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys[role]), nil
}

func (r *ring) Add(_ context.Context, role tuf.Role) (crypto.Signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	r.keys[role] = append(r.keys[role], key)
	return key, nil
}

// house is a repository with its clock, keys and contents, served by HTTP.
type house struct {
	t        testing.TB
	dir      string
	now      time.Time
	ring     *ring
	contents map[string][]byte
	log      *bytes.Buffer
	repo     *tuf.Repository
	web      *httptest.Server
}

var start = time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC)

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{
		t: t, dir: filepath.Join(t.TempDir(), "tuf"), now: start, ring: newRing(), log: &bytes.Buffer{},
		contents: map[string][]byte{"trusted_root.json": []byte(`{"root":1}`), "signing_config.v0.2.json": []byte(`{"config":1}`)},
	}
	h.web = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.web.Close)
	return h
}

func (h *house) serve(w http.ResponseWriter, r *http.Request) {
	content, err := h.repo.ReadFile(r.Context(), strings.TrimPrefix(r.URL.Path, "/"))
	switch {
	case errors.Is(err, tuf.ErrNotFound), errors.Is(err, tuf.ErrPath):
		http.NotFound(w, r)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_, _ = w.Write(content)
	}
}

func (h *house) config() tuf.Config {
	return tuf.Config{
		Dir: h.dir, Keys: h.ring, Clock: clock.Func(func() time.Time { return h.now }),
		Targets: func() (map[string][]byte, error) { return h.contents, nil },
		Logger:  slog.New(slog.NewTextHandler(h.log, nil)),
	}
}

// open starts the service's part anew, as after a restart.
func (h *house) open() *house {
	h.t.Helper()
	if h.repo != nil {
		h.must(h.repo.Close())
	}
	repo, err := tuf.Open(h.t.Context(), h.config())
	h.must(err)
	h.repo = repo
	return h
}

func (h *house) refresh() {
	h.t.Helper()
	h.must(h.repo.Refresh(h.t.Context()))
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// file reads a published file.
func (h *house) file(path string) []byte {
	h.t.Helper()
	content, err := h.repo.ReadFile(h.t.Context(), path)
	h.must(err)
	return content
}

func (h *house) folder() *tuf.Folder { return h.repo.Folder() }

func (h *house) version(role tuf.Role) int64 {
	h.t.Helper()
	status, err := h.folder().Status(h.now)
	h.must(err)
	for _, r := range status.Roles {
		if r.Role == role {
			return r.Version
		}
	}
	return 0
}

// client is a stock TUF client with a cache of its own.
type client struct {
	h      *house
	dir    string
	anchor []byte
}

func (h *house) client(anchor []byte) *client {
	return &client{h: h, dir: h.t.TempDir(), anchor: anchor}
}

// update does what a client does each time, at the house's time, and returns
// the targets it got.
func (c *client) update(names ...string) (map[string][]byte, error) {
	return c.updateFrom(c.h.web.URL, names...)
}

func (c *client) updateFrom(url string, names ...string) (map[string][]byte, error) {
	anchor := c.anchor
	if cached, err := os.ReadFile(filepath.Join(c.dir, "root.json")); err == nil {
		anchor = cached // stock clients carry on from the newest root they proved
	}
	cfg, err := config.New(url, anchor)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = c.dir, filepath.Join(c.dir, "targets")
	up, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	up.UnsafeSetRefTime(c.h.now)
	if err := up.Refresh(); err != nil {
		return nil, err
	}
	got := map[string][]byte{}
	for _, name := range names {
		info, err := up.GetTargetInfo(name)
		if err != nil {
			return nil, err
		}
		if _, got[name], err = up.DownloadTarget(info, "", ""); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// mustSee is an update that must succeed and show the contents.
func (c *client) mustSee(contents map[string][]byte) {
	c.h.t.Helper()
	names := []string{}
	for name := range contents {
		names = append(names, name)
	}
	got, err := c.update(names...)
	if err != nil {
		c.h.t.Fatalf("client: %v", err)
	}
	for name, want := range contents {
		if !bytes.Equal(got[name], want) {
			c.h.t.Fatalf("client: %s is %q, want %q", name, got[name], want)
		}
	}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyID(t testing.TB, key crypto.Signer) string {
	t.Helper()
	id, err := tuf.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func roleKeys(t testing.TB, raw []byte, role tuf.Role) []string {
	t.Helper()
	root, err := metadata.Root().FromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root.Signed.Roles[string(role)].KeyIDs
}

func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func replaced(contents map[string][]byte, n int) map[string][]byte {
	next := map[string][]byte{}
	for name := range contents {
		next[name] = fmt.Appendf(nil, `{"%s":%d}`, name, n)
	}
	return next
}
