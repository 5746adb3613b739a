package sequencer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// memory is a leaf index in memory that fails the test when its caller breaks
// the interface's law: positions are consecutive and never change.
type memory struct {
	t testing.TB
	// gate, when not nil, holds Find back until it is closed.
	gate chan struct{}

	mu     sync.Mutex
	hashes [][]byte
}

func (m *memory) Find(ctx context.Context, leaf []byte) (uint64, bool, error) {
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return 0, false, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, h := range m.hashes {
		if bytes.Equal(h, leaf) {
			return uint64(i), true, nil
		}
	}
	return 0, false, nil
}

func (m *memory) Record(_ context.Context, first uint64, hashes [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if first > uint64(len(m.hashes)) {
		m.t.Errorf("leaves recorded from %d on, %d are known", first, len(m.hashes))
	}
	for i, h := range hashes {
		at := first + uint64(i)
		if at < uint64(len(m.hashes)) {
			if !bytes.Equal(m.hashes[at], h) {
				m.t.Errorf("leaf %d changed", at)
			}
			continue
		}
		m.hashes = append(m.hashes, bytes.Clone(h))
	}
	return nil
}

func (m *memory) Size(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.hashes)), nil
}

func openInternal(t *testing.T, leaves *memory) *Sequencer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{
		Dir: t.TempDir(), Origin: "log.example.com", Signer: key, Leaves: leaves,
		CheckpointInterval: minInterval, Clock: clock.System{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// After a write whose outcome is unknown, the tree is asked: an entry that got
// in is found although no checkpoint covers it, another one is not.
func TestLocate(t *testing.T) {
	s := openInternal(t, &memory{t: t})
	s.guard.setOpen(false)
	for i := range 300 {
		body := binary.BigEndian.AppendUint32(nil, uint32(i))
		future := s.appender.Add(s.ctx, tessera.NewEntry(body))
		if i < 299 {
			continue
		}
		if _, err := future(); err != nil {
			t.Fatal(err)
		}
	}
	last := leafKey(tlog.LeafHash(binary.BigEndian.AppendUint32(nil, 299)))
	at, found, err := s.locate(last, 0)
	if err != nil || !found || at != 299 {
		t.Errorf("entry in the tree: %d, %v, %v", at, found, err)
	}
	if at, found, err := s.locate(leafKey{}, 0); err != nil || found {
		t.Errorf("entry not in the tree: %d, %v, %v", at, found, err)
	}
	if size, _ := s.Size(t.Context()); size != 0 {
		t.Errorf("a closed guard let a checkpoint of %d entries out", size)
	}
	s.guard.setOpen(true)
}

// The entry after limits.LogPushback waiting ones is refused; one that waits
// already is joined.
func TestPushback(t *testing.T) {
	leaves := &memory{t: t, gate: make(chan struct{})}
	s := openInternal(t, leaves)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range limits.LogPushback {
		if _, err := s.join(t.Context(), binary.BigEndian.AppendUint32(nil, uint32(i)), tlog.Body{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.join(t.Context(), []byte("one more"), tlog.Body{}); !errors.Is(err, ErrPushback) {
		t.Errorf("one more: %v", err)
	}
	c, err := s.join(t.Context(), binary.BigEndian.AppendUint32(nil, 0), tlog.Body{})
	if err != nil {
		t.Fatal(err)
	}
	close(leaves.gate)
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	if c.err != nil {
		t.Error(c.err)
	}
}

// The guard signs each extension and nothing else.
func TestGuard(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tlog.NewCheckpointSigner("log.example.com", key)
	if err != nil {
		t.Fatal(err)
	}
	disk := newDisk(t.TempDir())
	text := func(origin string, size uint64, root []byte) []byte {
		return tlog.Checkpoint{Origin: origin, Size: size, Root: root}.Marshal()
	}
	empty := rfc6962.DefaultHasher.EmptyRoot()
	g := newGuard(signer, disk, tlog.Checkpoint{})
	if _, err := g.Sign(text("log.example.com", 0, empty)); err != nil {
		t.Fatalf("control: empty tree: %v", err)
	}
	for name, bad := range map[string]struct {
		text []byte
		want error
	}{
		"not open yet":    {text("log.example.com", 1, empty), ErrClosed},
		"other root":      {text("log.example.com", 0, make([]byte, sha256.Size)), ErrCorrupt},
		"other origin":    {text("other.example.com", 0, empty), ErrCorrupt},
		"no checkpoint":   {[]byte("anything"), tlog.ErrCheckpoint},
		"extension lines": {append(text("log.example.com", 0, empty), "more\n"...), tlog.ErrCheckpoint},
	} {
		if _, err := g.Sign(bad.text); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := newGuard(signer, disk, tlog.Checkpoint{Origin: "log.example.com", Size: 9, Root: empty})
	later.setOpen(true)
	if _, err := later.Sign(text("log.example.com", 8, empty)); !errors.Is(err, ErrRollback) {
		t.Errorf("smaller tree: %v", err)
	}
}

// For trees of any size, every proof the tree gives verifies, and every size
// extends every smaller one.
func TestTreeProofs(t *testing.T) {
	const most = 1 << 17
	leaves := make([][]byte, most)
	for i := range leaves {
		leaves[i] = tlog.LeafHash(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	levels := [][][]byte{leaves}
	for len(levels) <= 16 {
		below := levels[len(levels)-1]
		above := make([][]byte, len(below)/2)
		for i := range above {
			above[i] = rfc6962.DefaultHasher.HashChildren(below[2*i], below[2*i+1])
		}
		levels = append(levels, above)
	}
	read := func(tile tlog.Tile) ([]byte, error) {
		from := tile.Index * tlog.TileWidth
		return bytes.Join(levels[8*tile.Level][from:from+uint64(tile.Width)], nil), nil
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, most).Draw(t, "size")
		index := rapid.Uint64Range(0, size-1).Draw(t, "index")
		old := rapid.Uint64Range(0, size).Draw(t, "old")
		tree := newTree(size, read)
		root, err := tree.root()
		if err != nil {
			t.Fatal(err)
		}
		hashes, err := tree.inclusion(index)
		if err != nil {
			t.Fatal(err)
		}
		cp := tlog.Checkpoint{Size: size, Root: root}
		if err := tlog.VerifyLeaf(binary.BigEndian.AppendUint32(nil, uint32(index)), int64(index), hashes, cp); err != nil {
			t.Fatal(err)
		}
		oldRoot, err := newTree(old, read).root()
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.extends(tlog.Checkpoint{Size: old, Root: oldRoot}, root); err != nil {
			t.Fatal(err)
		}
		if old > 0 {
			if err := tree.extends(tlog.Checkpoint{Size: old, Root: make([]byte, sha256.Size)}, root); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("a fork passes: %v", err)
			}
		}
	})
}
