package sequencer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/countersign/countersign/tlog"
)

// Bounds of what is kept in memory for building proofs.
const (
	// cachedTiles full tiles of 8 KiB each.
	cachedTiles = 1024
	// cachedNodes inner nodes of one tree.
	cachedNodes = 1 << 16
)

// reader returns the bytes of exactly the named tile or bundle, no shorter and
// no longer, or an error that is fs.ErrNotExist when there is none.
type reader func(tlog.Tile) ([]byte, error)

// disk reads the log's directory. Full tiles are immutable once the tree
// covers them, and nobody asks for one before, so they are kept in memory.
type disk struct {
	dir string

	mu    sync.Mutex
	tiles map[tlog.Tile][]byte
}

func newDisk(dir string) *disk { return &disk{dir: dir, tiles: make(map[tlog.Tile][]byte)} }

// read is a reader. A partial tile that garbage collection removed is cut from
// the full one.
func (d *disk) read(t tlog.Tile) ([]byte, error) {
	if raw, ok := d.cached(t); ok {
		return raw, nil
	}
	raw, err := d.file(t)
	if err != nil {
		return nil, err
	}
	if !t.Entries && t.Width == tlog.TileWidth {
		d.keep(t, raw)
	}
	return raw, nil
}

func (d *disk) file(t tlog.Tile) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(d.dir, filepath.FromSlash(t.Path())))
	if errors.Is(err, fs.ErrNotExist) && t.Width < tlog.TileWidth {
		full := t
		full.Width = tlog.TileWidth
		raw, err = os.ReadFile(filepath.Join(d.dir, filepath.FromSlash(full.Path())))
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Path(), err)
	}
	return cut(t, raw)
}

func (d *disk) cached(t tlog.Tile) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	raw, ok := d.tiles[t]
	return raw, ok
}

func (d *disk) keep(t tlog.Tile, raw []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tiles) >= cachedTiles {
		clear(d.tiles)
	}
	d.tiles[t] = raw
}

// cut is the first t.Width hashes or entries of raw.
func cut(t tlog.Tile, raw []byte) ([]byte, error) {
	length := t.Width * sha256.Size
	if t.Entries {
		length = 0
		for range t.Width {
			if len(raw) < length+2 {
				return nil, fmt.Errorf("%w: %s is too short", ErrCorrupt, t.Path())
			}
			length += 2 + int(binary.BigEndian.Uint16(raw[length:]))
		}
	}
	if len(raw) < length {
		return nil, fmt.Errorf("%w: %s is too short", ErrCorrupt, t.Path())
	}
	return raw[:length:length], nil
}

// splitEntries is the entries of a bundle that cut accepted.
func splitEntries(raw []byte) [][]byte {
	entries := make([][]byte, 0, tlog.TileWidth)
	for len(raw) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(raw))
		entries = append(entries, raw[2:n:n])
		raw = raw[n:]
	}
	return entries
}

// entryTile is the bundle that holds an entry in a tree of that size.
func entryTile(index, size uint64) tlog.Tile {
	t := tlog.Tile{Entries: true, Index: index / tlog.TileWidth}
	t.Width = t.WidthAt(size)
	return t
}

// tree computes over the tiles of one tree size. It is safe for concurrent use;
// inner nodes are computed once and shared by all proofs.
type tree struct {
	size uint64
	read reader

	mu    sync.Mutex
	nodes map[compact.NodeID][]byte
}

func newTree(size uint64, read reader) *tree {
	return &tree{size: size, read: remember(read), nodes: make(map[compact.NodeID][]byte)}
}

// remember keeps the partial tiles of one tree, of which there is at most one
// a level, and its partial bundle.
func remember(read reader) reader {
	var mu sync.Mutex
	kept := make(map[tlog.Tile][]byte)
	return func(t tlog.Tile) ([]byte, error) {
		if t.Width == tlog.TileWidth {
			return read(t)
		}
		mu.Lock()
		defer mu.Unlock()
		if raw, ok := kept[t]; ok {
			return raw, nil
		}
		raw, err := read(t)
		if err == nil {
			kept[t] = raw
		}
		return raw, err
	}
}

// root is the root hash, from the tiles.
func (t *tree) root() ([]byte, error) {
	if t.size == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var hash []byte
	ids := compact.RangeNodes(0, t.size, nil)
	for i := len(ids) - 1; i >= 0; i-- {
		left, err := t.node(ids[i])
		if err != nil {
			return nil, err
		}
		if hash == nil {
			hash = left
		} else {
			hash = rfc6962.DefaultHasher.HashChildren(left, hash)
		}
	}
	return hash, nil
}

// inclusion is the proof of a leaf.
func (t *tree) inclusion(index uint64) ([][]byte, error) {
	nodes, err := proof.Inclusion(index, t.size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return t.hashes(nodes)
}

// extends proves that the tree has old as its beginning and root as its root.
func (t *tree) extends(old tlog.Checkpoint, root []byte) error {
	got, err := t.root()
	if err != nil {
		return err
	}
	if !bytes.Equal(got, root) {
		return fmt.Errorf("%w: root of the tiles is not the tree's", ErrCorrupt)
	}
	if old.Size == 0 {
		return nil
	}
	nodes, err := proof.Consistency(old.Size, t.size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRollback, err)
	}
	hashes, err := t.hashes(nodes)
	if err != nil {
		return err
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, old.Size, t.size, hashes, old.Root, root)
	if err != nil {
		return fmt.Errorf("%w: not an extension of the published checkpoint: %w", ErrCorrupt, err)
	}
	return nil
}

func (t *tree) hashes(nodes proof.Nodes) ([][]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.nodes) > cachedNodes {
		clear(t.nodes)
	}
	hashes := make([][]byte, 0, len(nodes.IDs))
	for _, id := range nodes.IDs {
		h, err := t.node(id)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h)
	}
	out, err := nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// node is the hash of a perfect subtree inside the tree. Every eighth level is
// stored in tiles, the others are computed. The caller holds t.mu.
func (t *tree) node(id compact.NodeID) ([]byte, error) {
	if id.Level%8 == 0 {
		return t.stored(uint64(id.Level/8), id.Index)
	}
	if h, ok := t.nodes[id]; ok {
		return h, nil
	}
	left, err := t.node(compact.NewNodeID(id.Level-1, 2*id.Index))
	if err != nil {
		return nil, err
	}
	right, err := t.node(compact.NewNodeID(id.Level-1, 2*id.Index+1))
	if err != nil {
		return nil, err
	}
	h := rfc6962.DefaultHasher.HashChildren(left, right)
	t.nodes[id] = h
	return h, nil
}

func (t *tree) stored(level, index uint64) ([]byte, error) {
	tile := tlog.Tile{Level: level, Index: index / tlog.TileWidth}
	tile.Width = tile.WidthAt(t.size)
	at := int(index % tlog.TileWidth)
	if at >= tile.Width {
		return nil, fmt.Errorf("%w: node outside the tree", ErrNotFound)
	}
	raw, err := t.read(tile)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(raw[at*sha256.Size : (at+1)*sha256.Size]), nil
}

// leafHashes hashes the stored entries from first up to end of a tree of that
// size, at most one bundle of them.
func leafHashes(read reader, first, end, size uint64) ([][]byte, error) {
	t := entryTile(first, size)
	raw, err := read(t)
	if err != nil {
		return nil, err
	}
	entries := splitEntries(raw)[first%tlog.TileWidth:]
	if want := end - first; uint64(len(entries)) > want {
		entries = entries[:want]
	}
	hashes := make([][]byte, 0, len(entries))
	for _, e := range entries {
		hashes = append(hashes, tlog.LeafHash(e))
	}
	return hashes, nil
}
