package monitor_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
)

const origin = "log.example.com"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a log as files in the tlog-tiles layout, which a test may harm.
type served struct {
	t       testing.TB
	origin  string
	key     *ecdsa.PrivateKey
	entries [][]byte

	mu    sync.Mutex
	files map[string][]byte
	down  bool
}

func newServed(t testing.TB) *served {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &served{t: t, origin: origin, key: key, files: map[string][]byte{}}
}

func (s *served) verifier() note.Verifier {
	v, err := tlog.NewCheckpointVerifier(s.origin, s.key.Public())
	must(s.t, err)
	return v
}

// fork is another log of the same key, with the first n entries in common.
func (s *served) fork(n int) *served {
	return &served{t: s.t, origin: s.origin, key: s.key, entries: append([][]byte(nil), s.entries[:n]...), files: map[string][]byte{}}
}

// add logs entries and serves the tree over all of them.
func (s *served) add(entries ...[]byte) *served {
	s.t.Helper()
	s.entries = append(s.entries, entries...)
	size := uint64(len(s.entries))
	hashes := make([][]byte, 0, size)
	for _, e := range s.entries {
		hashes = append(hashes, tlog.LeafHash(e))
	}
	for level := uint64(0); len(hashes) > 0; level++ {
		var above [][]byte
		for at := 0; at < len(hashes); at += tlog.TileWidth {
			group := hashes[at:min(at+tlog.TileWidth, len(hashes))]
			tile := tlog.Tile{Level: level, Index: uint64(at / tlog.TileWidth), Width: len(group)}
			s.put(tile.Path(), bytes.Join(group, nil))
			if level == 0 {
				tile.Entries = true
				s.put(tile.Path(), bundle(s.entries[at:at+len(group)]))
			}
			if len(group) == tlog.TileWidth {
				above = append(above, rootOf(s.t, group))
			}
		}
		hashes = above
	}
	s.put("checkpoint", s.sign(size, s.root()))
	return s
}

func (s *served) root() []byte {
	hashes := make([][]byte, 0, len(s.entries))
	for _, e := range s.entries {
		hashes = append(hashes, tlog.LeafHash(e))
	}
	return rootOf(s.t, hashes)
}

func rootOf(t testing.TB, hashes [][]byte) []byte {
	t.Helper()
	if len(hashes) == 0 {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, h := range hashes {
		must(t, r.Append(h, nil))
	}
	root, err := r.GetRootHash(nil)
	must(t, err)
	return root
}

func bundle(entries [][]byte) []byte {
	var out []byte
	for _, e := range entries {
		out = binary.BigEndian.AppendUint16(out, uint16(len(e)))
		out = append(out, e...)
	}
	return out
}

func (s *served) sign(size uint64, root []byte) []byte { return s.extended(size, root, "") }

// extended signs a checkpoint with extension lines.
func (s *served) extended(size uint64, root []byte, lines string) []byte {
	signer, err := tlog.NewCheckpointSigner(s.origin, s.key)
	must(s.t, err)
	signed, err := note.Sign(&note.Note{Text: string(tlog.Checkpoint{Origin: s.origin, Size: size, Root: root}.Marshal()) + lines}, signer)
	must(s.t, err)
	return signed
}

func (s *served) put(path string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *served) get(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path]
}

// ServeHTTP serves it as a plain tlog-tiles log.
func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
	switch {
	case s.down:
		w.WriteHeader(http.StatusBadGateway)
	case !ok:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(content)
	}
}

func (s *served) source() monitor.Source {
	server := httptest.NewServer(s)
	s.t.Cleanup(server.Close)
	return monitor.Source{URL: server.URL, Fetch: monitor.FetchURL(server.Client(), server.URL)}
}

// watched is a monitor over a served log, restarted for each pass, as --once is.
type watched struct {
	t     testing.TB
	cfg   monitor.Config
	told  []monitor.Alarm
	fails error
}

func newWatched(t testing.TB, s *served, watch string, also ...monitor.Source) *watched {
	t.Helper()
	w := &watched{t: t}
	w.cfg = monitor.Config{
		Logs:  []monitor.Log{{Verifier: s.verifier(), Source: s.source(), Also: also}},
		State: filepath.Join(t.TempDir(), "state.json"), Clock: clock.System{},
		Raise: func(_ context.Context, a monitor.Alarm) error {
			if w.fails == nil {
				w.told = append(w.told, a)
			}
			return w.fails
		},
	}
	if watch != "" {
		var err error
		w.cfg.Watch, err = monitor.ParseWatch([]byte(watch))
		must(t, err)
	}
	return w
}

// pass returns the kinds of alarms of one pass.
func (w *watched) pass() []monitor.Kind {
	w.t.Helper()
	w.told = nil
	m, err := monitor.New(w.cfg)
	must(w.t, err)
	n, err := m.Pass(w.t.Context())
	must(w.t, err)
	if n != len(w.told) {
		w.t.Errorf("%d alarms, %d were raised", n, len(w.told))
	}
	kinds := []monitor.Kind{}
	for _, a := range w.told {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

func (w *watched) expect(what string, want ...monitor.Kind) {
	w.t.Helper()
	if got := w.pass(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: %v, want %v; %+v", what, got, want, w.told)
	}
}

func entries(from, n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, fmt.Appendf(nil, "entry %d", from+i))
	}
	return out
}

// TestFollows: growth over bundles, tiles and levels, from the first entry and
// from now, with a mirror that lags less than one pass.
func TestFollows(t *testing.T) {
	for _, fromNow := range []bool{false, true} {
		s := newServed(t).add()
		mirror := s.fork(0).add()
		w := newWatched(t, s, "", mirror.source())
		w.cfg.FromNow = fromNow
		at := 0
		for _, n := range []int{0, 1, 5, 250, 0, 256, 300} {
			s.add(entries(at, n)...)
			w.expect(fmt.Sprint("grown by ", n))
			mirror.add(entries(at, n)...)
			at += n
			w.expect("mirror has it too")
		}
		ahead := entries(at, 7)
		mirror.add(ahead...)
		w.expect("mirror ahead")
		s.add(ahead...)
		w.expect("both there")
	}
}

// TestContradictions is row B8: two checkpoints of one size, an older one, and
// trees that do not fit are alarms each, again in every process, and nothing is
// kept past them; the log as it was is the control.
func TestContradictions(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(s *served)
		want monitor.Kind
	}{
		{"another root for one size", func(s *served) { s.put("checkpoint", s.sign(300, make([]byte, 32))) }, monitor.SplitView},
		{"an older checkpoint", func(s *served) { s.put("checkpoint", s.fork(200).add().get("checkpoint")) }, monitor.OlderCheckpoint},
		{"another history", func(s *served) {
			other := s.fork(299).add(entries(1000, 50)...)
			s.files = other.files
		}, monitor.SplitView},
		{"another history of the first entry", func(s *served) {
			other := s.fork(0).add(entries(1000, 400)...)
			s.files = other.files
		}, monitor.SplitView},
		{"new root that nothing makes", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("checkpoint", s.sign(310, make([]byte, 32)))
		}, monitor.SplitView},
		{"another key", func(s *served) {
			other := newServed(s.t).add(s.entries...)
			s.put("checkpoint", other.get("checkpoint"))
		}, monitor.BadCheckpoint},
		{"not a note", func(s *served) { s.put("checkpoint", []byte("hello\n")) }, monitor.BadCheckpoint},
		// Row B5: tiles and entries that are not those of the signed root.
		{"a new entry changed", func(s *served) {
			s.add(entries(300, 10)...)
			s.flip("tile/entries/001.p/54", 500)
		}, monitor.EntryChanged},
		{"a new hash changed", func(s *served) {
			s.add(entries(300, 10)...)
			s.flip("tile/0/001.p/54", 53*32)
		}, monitor.TileChanged},
		{"a tile above changed", func(s *served) {
			s.add(entries(300, 300)...)
			s.flip("tile/1/000.p/2", 40)
		}, monitor.TileChanged},
		{"a tile cut short", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("tile/0/001.p/54", s.get("tile/0/001.p/54")[:32])
		}, monitor.TileChanged},
		{"a bundle cut short", func(s *served) {
			s.add(entries(300, 10)...)
			s.put("tile/entries/001.p/54", s.get("tile/entries/001.p/54")[:32])
		}, monitor.TileChanged},
		{"a bundle missing", func(s *served) {
			s.add(entries(300, 10)...)
			delete(s.files, "tile/entries/001.p/54")
		}, monitor.Missing},
	} {
		s := newServed(t).add(entries(0, 300)...)
		w := newWatched(t, s, "")
		w.expect("control")
		kept := file(t, w.cfg.State)
		good := s.get("checkpoint")
		test.harm(s)
		w.expect(test.name, test.want)
		w.expect(test.name+", again", test.want)
		if now := file(t, w.cfg.State); !bytes.Equal(now, kept) {
			t.Errorf("%s: the state moved past it", test.name)
		}
		for _, raw := range w.told[0].Checkpoints {
			if raw == "" {
				t.Errorf("%s: empty evidence", test.name)
			}
		}
		s.files = s.fork(300).add().files
		s.put("checkpoint", good)
		w.expect(test.name + ", repaired")
	}
}

func (s *served) flip(path string, at int) {
	b := bytes.Clone(s.get(path))
	if at >= len(b) {
		s.t.Fatalf("%s has %d bytes", path, len(b))
	}
	b[at] ^= 1
	s.put(path, b)
}

func file(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// TestElsewhere is row B8 from outside: what another place serves must be the
// same log.
func TestElsewhere(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(s, mirror *served)
		want []monitor.Kind
	}{
		{"the same", func(*served, *served) {}, nil},
		{"another root for one size", func(s, mirror *served) { mirror.files = s.fork(99).add(entries(900, 1)...).files }, []monitor.Kind{monitor.SplitView}},
		{"larger, another history", func(s, mirror *served) { mirror.files = s.fork(99).add(entries(900, 9)...).files }, []monitor.Kind{monitor.SplitView}},
		{"older than it was", func(s, mirror *served) { mirror.files = s.fork(50).add().files }, []monitor.Kind{monitor.OlderCheckpoint}},
		{"smaller, another history", func(s, mirror *served) {
			s.add(entries(100, 20)...)
			mirror.files = s.fork(99).add(entries(900, 6)...).files
		}, []monitor.Kind{monitor.SplitView}},
		{"not signed by the log", func(_, mirror *served) { mirror.put("checkpoint", []byte("x\n")) }, []monitor.Kind{monitor.BadCheckpoint}},
	} {
		s := newServed(t).add(entries(0, 100)...)
		mirror := s.fork(100).add()
		w := newWatched(t, s, "", mirror.source())
		w.expect("control")
		test.harm(s, mirror)
		w.expect(test.name, test.want...)
		if len(test.want) > 0 && w.told[0].Source != w.cfg.Logs[0].Also[0].URL {
			t.Errorf("%s: blamed %s", test.name, w.told[0].Source)
		}
	}
}

// TestElsewhereAheadWithoutTiles: a checkpoint that only one place shows is
// remembered, and the log must have it by the next pass.
func TestElsewhereAheadWithoutTiles(t *testing.T) {
	s := newServed(t).add(entries(0, 100)...)
	w := newWatched(t, s, "")
	mirror := s.fork(100)
	mirror.put("checkpoint", s.get("checkpoint"))
	w.cfg.Logs[0].Also = []monitor.Source{mirror.source()}
	w.expect("control")
	mirror.put("checkpoint", s.fork(99).add(entries(900, 9)...).get("checkpoint"))
	w.expect("ahead, unproven")
	w.expect("the log does not get there", monitor.OlderCheckpoint)
	s.add(entries(100, 50)...)
	w.expect("the log gets elsewhere", monitor.SplitView)
}

// TestUnreachableIsNoAlarm: nor is it a clean pass.
func TestUnreachableIsNoAlarm(t *testing.T) {
	s := newServed(t).add(entries(0, 10)...)
	w := newWatched(t, s, "")
	w.expect("control")
	s.down = true
	m, err := monitor.New(w.cfg)
	must(t, err)
	if n, err := m.Pass(t.Context()); err == nil || n != 0 {
		t.Errorf("%d alarms, %v", n, err)
	}
	s.down = false
	w.expect("back")
}
