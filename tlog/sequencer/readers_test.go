package sequencer_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/rekor-tiles/v2/pkg/client/read"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	rekorverify "github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// serve answers Rekor v2's read side from a log.
func serve(t *testing.T, s *sequencer.Sequencer) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, b []byte, err error) {
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(b)
	}
	mux.HandleFunc("GET /api/v2/checkpoint", func(w http.ResponseWriter, r *http.Request) {
		b, err := s.Checkpoint(r.Context())
		answer(w, b, err)
	})
	mux.HandleFunc("GET /api/v2/tile/", func(w http.ResponseWriter, r *http.Request) {
		b, err := s.ReadTile(r.Context(), strings.TrimPrefix(r.URL.Path, "/api/v2/"))
		answer(w, b, err)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return server.URL + "/api/v2/"
}

// The stock Rekor v2 client and verifier, and Tessera's own fsck, read our log.
func TestStockReaders(t *testing.T) {
	const n = 300
	l := newTestLog(t)
	s := l.open(t)
	bodies := (forge{newKey(t)}).bodies(t, n)
	appendEach(t, s, bodies)
	verifier, err := signature.LoadVerifier(l.key.Public(), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := read.NewReader(serve(t, s), origin, verifier)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := reader.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != n {
		t.Errorf("stock client reads a checkpoint of %d entries", cp.Size)
	}
	stockNote, err := rekornote.NewNoteVerifier(origin, verifier)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies[:50] {
		entry, err := s.Append(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		if err := rekorverify.VerifyLogEntry(entry, stockNote); err != nil {
			t.Error(err)
		}
	}
	if err := fsck.New(origin, stockNote, client.FileFetcher{Root: l.dir}, bundleLeaves, fsck.Opts{N: 2}).Check(t.Context()); err != nil {
		t.Errorf("stock fsck: %v", err)
	}
	for _, tile := range []tlog.Tile{{Width: 256}, {Index: 1, Width: 44}, {Level: 1, Width: 1}} {
		raw, err := reader.ReadTile(t.Context(), tile.Level, tile.Index, uint8(tile.Width%256))
		if err != nil || !bytes.Equal(raw, l.file(t, tile.Path())) {
			t.Errorf("%s: %d bytes, %v", tile.Path(), len(raw), err)
		}
	}
	if _, err := reader.ReadEntryBundle(t.Context(), 0, 0); err != nil {
		t.Error(err)
	}
}

func bundleLeaves(raw []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(raw); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range bundle.Entries {
		out = append(out, tlog.LeafHash(e))
	}
	return out, nil
}

// ReadTile serves exactly what the published checkpoint covers.
func TestReadTile(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	bodies := (forge{newKey(t)}).bodies(t, 10)
	appendEach(t, s, bodies)
	// Left over from a batch that never became part of the tree.
	l.write(t, "tile/0/000", bytes.Repeat([]byte{1}, 256*32))
	l.write(t, "tile/0/000.p/4", bytes.Repeat([]byte{1}, 4*32))
	whole := l.file(t, "tile/0/000.p/10")
	for width := 1; width <= 10; width++ {
		raw, err := s.ReadTile(t.Context(), fmt.Sprintf("tile/0/000.p/%d", width))
		if err != nil || !bytes.Equal(raw, whole[:32*width]) {
			t.Errorf("width %d: %v", width, err)
		}
	}
	raw, err := s.ReadTile(t.Context(), "tile/entries/000.p/2")
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := bundleLeaves(raw)
	if err != nil || len(hashes) != 2 || !bytes.Equal(hashes[1], whole[32:64]) {
		t.Errorf("cut bundle: %v", err)
	}
	for _, path := range []string{"tile/0/000", "tile/0/000.p/11", "tile/entries/000", "tile/1/000.p/1", "tile/0/x001/000"} {
		if _, err := s.ReadTile(t.Context(), path); !errors.Is(err, sequencer.ErrNotFound) {
			t.Errorf("%s is not covered: %v", path, err)
		}
	}
	for _, path := range []string{"checkpoint", "../leaves.db", "tile/entries/../../.state/treeState"} {
		if _, err := s.ReadTile(t.Context(), path); !errors.Is(err, tlog.ErrPath) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// B5: a tile altered under an unchanged checkpoint proves nothing.
func TestAlteredTileProvesNothing(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	bodies := (forge{newKey(t)}).bodies(t, 300)
	index := appendEach(t, s, bodies)
	closeLog(t, s)
	s = l.open(t)
	entry, err := s.Entry(t.Context(), 299)
	if err != nil {
		t.Fatalf("control: %v", err)
	}
	if err := tlog.VerifyInclusion(entry, origin, l.key.Public()); err != nil {
		t.Fatalf("control: %v", err)
	}
	entries := l.file(t, "tile/entries/000")
	flip(t, l, "tile/entries/000", 100)
	if entry, err := s.Entry(t.Context(), 0); !errors.Is(err, sequencer.ErrCorrupt) {
		t.Errorf("altered entry: %v, %v", entry, err)
	}
	first := slices.Index(index, 0)
	if _, err := s.Append(t.Context(), bodies[first]); !errors.Is(err, sequencer.ErrCorrupt) {
		t.Errorf("append of an entry whose stored bytes changed: %v", err)
	}
	if err := os.WriteFile(l.dir+"/tile/entries/000", entries, 0o600); err != nil {
		t.Fatal(err)
	}
	closeLog(t, s)
	flip(t, l, "tile/0/000", 32*7)
	s = l.open(t)
	if entry, err := s.Entry(t.Context(), 6); !errors.Is(err, sequencer.ErrCorrupt) {
		t.Errorf("proof over an altered tile: %v, %v", entry, err)
	}
	if _, err := s.Entry(t.Context(), 299); err != nil {
		t.Errorf("control: a proof that does not touch the tile: %v", err)
	}
}
