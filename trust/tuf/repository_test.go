package tuf_test

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/trust/tuf"
)

func TestFirstStart(t *testing.T) {
	h := newHouse(t).open()
	h.client(h.file("root.json")).mustSee(h.contents)
	for path, want := range map[string]bool{
		"1.root.json": true, "1.targets.json": true, "1.snapshot.json": true, "timestamp.json": true,
		"2.root.json": false, "snapshot.json": false, "work/online.json": false, "work/lock": false,
	} {
		_, err := h.repo.ReadFile(t.Context(), path)
		if (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	status, err := h.folder().Status(h.now)
	h.must(err)
	for _, role := range status.Roles {
		if role.Version != 1 || role.Threshold != 1 || len(role.Keys) != 1 || !role.Keys[0].Online || role.Attention {
			t.Errorf("status: %+v", role)
		}
	}
	if n := testutil.CollectAndCount(h.repo); n != 4 {
		t.Errorf("%d metrics, want one for each role", n)
	}
}

// TestRestartChangesNothing: what is current is not signed again.
func TestRestartChangesNothing(t *testing.T) {
	h := newHouse(t).open()
	before := h.file("timestamp.json")
	h.now = h.now.Add(time.Hour)
	h.open().refresh()
	if string(h.file("timestamp.json")) != string(before) {
		t.Error("the timestamp was signed anew")
	}
}

func TestContentsChange(t *testing.T) {
	h := newHouse(t).open()
	c := h.client(h.file("root.json"))
	old := h.contents
	for n := 2; n < 6; n++ {
		c.mustSee(h.contents)
		h.contents = replaced(h.contents, n)
		h.refresh()
	}
	c.mustSee(h.contents)
	if v := h.version(tuf.Targets); v != 5 {
		t.Errorf("targets version %d, want 5", v)
	}
	// Files of older versions stay for clients that are half-way through.
	for _, path := range []string{"1.targets.json", "1.snapshot.json"} {
		h.file(path)
	}
	delete(h.contents, "signing_config.v0.2.json")
	h.refresh()
	if _, err := c.update("signing_config.v0.2.json"); err == nil {
		t.Error("a removed target is still named")
	}
	c.mustSee(h.contents)
	_ = old
}

func TestContentsAreChecked(t *testing.T) {
	h := newHouse(t).open()
	for _, name := range []string{"../escape", "a/b", "", ".hidden", "trailing.", strings.Repeat("a", 65), "ä"} {
		h.contents = map[string][]byte{name: []byte("x")}
		if err := h.repo.Refresh(t.Context()); !errors.Is(err, tuf.ErrDocument) {
			t.Errorf("target %q: %v", name, err)
		}
	}
	h.contents = map[string][]byte{"big": make([]byte, 1<<20)}
	if err := h.repo.Refresh(t.Context()); !errors.Is(err, tuf.ErrDocument) {
		t.Errorf("big target: %v", err)
	}
	h.contents = map[string][]byte{"Plain-name_1.json": []byte("x")}
	h.refresh()
}

// TestNothingRunsOut lives five hundred days, twelve hours at a time, with a service
// that looks once a day and is away for two days now and then. A client that
// started with the first root never finds anything expired.
func TestNothingRunsOut(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs at once, and short runs look for races")
	}
	h := newHouse(t).open()
	anchor := h.file("1.root.json")
	steady := h.client(anchor)
	for step := range 1000 {
		h.now = h.now.Add(12 * time.Hour)
		steady.mustSee(nil)
		if step%2 == 0 && step%50 > 3 {
			h.refresh()
		}
		if step%100 == 0 {
			h.client(anchor).mustSee(h.contents)
		}
	}
	if h.version(tuf.Root) < 3 || h.version(tuf.Timestamp) < 350 {
		t.Errorf("renewed to root %d, timestamp %d", h.version(tuf.Root), h.version(tuf.Timestamp))
	}
	if strings.Contains(h.log.String(), "runs out") {
		t.Error("a warning in a healthy life")
	}
}

// TestLongAway: expired metadata is renewed at the next start, and the client's
// clock, not ours, said that it had expired (positive control).
func TestLongAway(t *testing.T) {
	h := newHouse(t).open()
	anchor := h.file("root.json")
	h.now = h.now.Add(500 * 24 * time.Hour)
	if _, err := h.client(anchor).update(); err == nil {
		t.Fatal("the client accepts expired metadata: the test proves nothing")
	}
	h.open()
	h.client(anchor).mustSee(h.contents)
}

// TestRotateOnlineKeys: each role's key is replaced, alone and together. Old
// and new clients follow, and so does one that had read the old root and asks
// for the rest after the change.
func TestRotateOnlineKeys(t *testing.T) {
	h := newHouse(t).open()
	anchor := h.file("1.root.json")
	cached := h.client(anchor)
	for _, roles := range [][]tuf.Role{{tuf.Timestamp}, {tuf.Snapshot}, {tuf.Targets}, {tuf.Root}, tuf.Roles()} {
		cached.mustSee(h.contents)
		between := h.file("root.json")
		h.must(h.folder().Request(t.Context(), roles...))
		h.refresh()
		after := h.file("root.json")
		for _, role := range tuf.Roles() {
			changed := roleKeys(t, between, role)[0] != roleKeys(t, after, role)[0]
			want := false
			for _, r := range roles {
				want = want || r == role
			}
			if changed != want {
				t.Errorf("rotating %v: key of %s changed: %v", roles, role, changed)
			}
		}
		readOn(t, h, between)
		h.contents = replaced(h.contents, len(roles)*100+int(h.version(tuf.Targets)))
		h.refresh()
		readOn(t, h, between) // also right after a further change
		h.client(anchor).mustSee(h.contents)
		h.client(between).mustSee(h.contents)
	}
	cached.mustSee(h.contents)
	if v := h.version(tuf.Root); v != 6 {
		t.Errorf("root version %d, want 6: a request is answered once", v)
	}
}

// readOn is the rest of an update by a client whose newest root is the given
// one.
func readOn(t *testing.T, h *house, root []byte) {
	t.Helper()
	trusted, err := trustedmetadata.New(root)
	h.must(err)
	trusted.RefTime = h.now
	timestamp, err := trusted.UpdateTimestamp(h.file("timestamp.json"))
	h.must(err)
	version := timestamp.Signed.Meta["snapshot.json"].Version
	snapshot, err := trusted.UpdateSnapshot(h.file(tuf.File{Role: tuf.Snapshot, Version: version}.Path()), false)
	h.must(err)
	version = snapshot.Signed.Meta["targets.json"].Version
	_, err = trusted.UpdateTargets(h.file(tuf.File{Role: tuf.Targets, Version: version}.Path()))
	h.must(err)
}

// TestRun: the loop alone notices changes, survives failures and ends.
func TestRun(t *testing.T) {
	h := newHouse(t)
	cfg := h.config()
	moved := make(chan struct{})
	calls := 0
	cfg.Poll = time.Millisecond
	cfg.Clock = clock.Func(func() time.Time { return start })
	cfg.Targets = func() (map[string][]byte, error) {
		calls++
		if calls == 4 {
			close(moved)
		}
		return map[string][]byte{"trusted_root.json": {byte(calls)}}, nil
	}
	repo, err := tuf.Open(t.Context(), cfg)
	h.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- repo.Run(ctx) }()
	<-moved
	cancel()
	h.must(<-ended)
	h.must(repo.Close())
}

// TestWarning: what cannot be renewed is reported long before it runs out.
func TestWarning(t *testing.T) {
	h := newHouse(t).open()
	takeOffline(t, h, 1, ecKey(t))
	h.now = h.now.Add(280 * 24 * time.Hour)
	h.refresh()
	h.now = h.now.Add(time.Hour)
	h.refresh()
	if n := strings.Count(h.log.String(), "runs out"); n != 1 {
		t.Errorf("%d warnings, want one a day\n%s", n, h.log)
	}
	status, err := h.folder().Status(h.now)
	h.must(err)
	if !status.Roles[0].Attention || status.Roles[1].Attention {
		t.Errorf("status: %+v", status.Roles)
	}
}

// TestDamagedFolder: files that do not prove each other stop the start, and
// nothing is written over them.
func TestDamagedFolder(t *testing.T) {
	h := newHouse(t).open()
	h.must(h.folder().Request(t.Context(), tuf.Roles()...))
	h.refresh()
	h.must(h.repo.Close())
	intact := h.dir
	entries, err := filepath.Glob(filepath.Join(intact, "*.json"))
	h.must(err)
	targets, err := filepath.Glob(filepath.Join(intact, "targets", "*"))
	h.must(err)
	current := 0
	for _, path := range append(entries, targets...) {
		name, err := filepath.Rel(intact, path)
		h.must(err)
		for kind, damage := range map[string]func(string) error{
			"removed": os.Remove,
			"flipped": func(p string) error { return flip(p) },
			"emptied": func(p string) error { return os.Truncate(p, 0) },
			"linked": func(p string) error {
				if err := os.Rename(p, p+".real"); err != nil {
					return err
				}
				return os.Symlink(filepath.Base(p)+".real", p)
			},
		} {
			h.dir = copyTree(t, intact)
			h.must(damage(filepath.Join(h.dir, name)))
			repo, err := tuf.Open(t.Context(), h.config())
			// Nobody reads what was overtaken, and root.json is only a copy.
			spare := name == "1.targets.json" || name == "1.snapshot.json" || name == "root.json"
			if spare {
				if err != nil && kind != "linked" {
					t.Errorf("%s %s: %v", name, kind, err)
				}
			} else {
				current++
				if !errors.Is(err, tuf.ErrDamaged) {
					t.Errorf("%s %s: %v", name, kind, err)
				}
			}
			if err == nil {
				h.must(repo.Close())
			}
		}
	}
	if current < 20 {
		t.Errorf("only %d damages tried", current)
	}
	h.dir = copyTree(t, intact)
	repo, err := tuf.Open(t.Context(), h.config())
	h.must(err)
	h.must(repo.Close())
	h.repo = nil
}

// flip changes what a file says.
func flip(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, alter(raw), 0o600)
}

// TestFailuresChangeNothing: while contents or keys are out of reach, what was
// published stays, and afterwards work goes on.
func TestFailuresChangeNothing(t *testing.T) {
	h := newHouse(t).open()
	c := h.client(h.file("1.root.json"))
	kept := h.contents
	h.must(h.repo.Close())
	failing, cfg := errors.New("out of reach"), h.config()
	var contentsFail, keysFail error
	cfg.Targets = func() (map[string][]byte, error) { return h.contents, contentsFail }
	cfg.Keys = failingKeys{h.ring, &keysFail}
	repo, err := tuf.Open(t.Context(), cfg)
	h.must(err)
	h.repo = repo
	h.contents = replaced(h.contents, 2)
	for _, fail := range []*error{&contentsFail, &keysFail} {
		*fail = failing
		if err := h.repo.Refresh(t.Context()); !errors.Is(err, failing) {
			t.Errorf("refresh: %v", err)
		}
		c.mustSee(kept)
		*fail = nil
	}
	h.refresh()
	c.mustSee(h.contents)

	lost := h.ring.keys
	h.ring.keys = map[tuf.Role][]crypto.Signer{}
	h.now = h.now.Add(2 * 24 * time.Hour)
	if err := h.repo.Refresh(t.Context()); !errors.Is(err, tuf.ErrNotHeld) {
		t.Errorf("without keys: %v", err)
	}
	c.mustSee(h.contents)
	h.ring.keys = lost
	h.refresh()
}

type failingKeys struct {
	*ring
	err *error
}

func (f failingKeys) Signers(ctx context.Context, role tuf.Role) ([]crypto.Signer, error) {
	if *f.err != nil {
		return nil, *f.err
	}
	return f.ring.Signers(ctx, role)
}

// TestClientsDuringPublication: clients that update all the time, while
// contents and keys change, never find anything inconsistent.
func TestClientsDuringPublication(t *testing.T) {
	h := newHouse(t).open()
	anchor := h.file("1.root.json")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	updates := make([]int, 4)
	for i := range updates {
		c := h.client(anchor)
		wg.Go(func() {
			for ctx.Err() == nil {
				if i%2 == 1 {
					c = &client{h: h, dir: filepath.Join(c.dir, "again"), anchor: anchor}
				}
				if _, err := c.update("trusted_root.json"); err != nil {
					t.Errorf("client %d, update %d: %v", i, updates[i], err)
					return
				}
				updates[i]++
			}
		})
	}
	contents := h.contents
	for n := range 25 {
		content := replaced(contents, n)
		h.repo.Swap(func() (map[string][]byte, error) { return content, nil })
		if n%5 == 4 {
			h.must(h.folder().Request(t.Context(), tuf.Roles()[n%4]))
		}
		h.refresh()
	}
	cancel()
	wg.Wait()
	for i, n := range updates {
		if n == 0 {
			t.Errorf("client %d never updated", i)
		}
	}
}
