package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// Fetch returns the bytes under a path of the tlog-tiles layout, `checkpoint`
// included, or an error that is fs.ErrNotExist when there are none.
type Fetch func(ctx context.Context, path string) ([]byte, error)

// ErrTile says that a file is damaged. A Fetch that knows so returns it.
var ErrTile = errors.New("damaged file of a log")

// errLength is what can be said of a file alone.
var errLength = fmt.Errorf("%w: it has the wrong length", ErrTile)

// tiles reads the tree of one size. It is used by one goroutine.
type tiles struct {
	fetch Fetch
	size  uint64
	kept  map[tlog.Tile][]byte
}

func newTiles(fetch Fetch, size uint64) *tiles {
	return &tiles{fetch: fetch, size: size, kept: map[tlog.Tile][]byte{}}
}

// read returns a tile or bundle in the width that the tree has. Logs may drop a
// partial one once there is the full one, which begins with the same bytes.
func (t *tiles) read(ctx context.Context, tile tlog.Tile) ([]byte, error) {
	tile.Width = tile.WidthAt(t.size)
	if raw, ok := t.kept[tile]; ok {
		return raw, nil
	}
	raw, err := t.fetch(ctx, tile.Path())
	exact := true
	if errors.Is(err, fs.ErrNotExist) && tile.Width < tlog.TileWidth {
		full := tile
		full.Width, exact = tlog.TileWidth, false
		raw, err = t.fetch(ctx, full.Path())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tile.Path(), err)
	}
	if raw, err = cut(tile, raw, exact); err != nil {
		return nil, fmt.Errorf("%s: %w", tile.Path(), err)
	}
	if !tile.Entries {
		if len(t.kept) >= limits.MonitorTiles {
			clear(t.kept)
		}
		t.kept[tile] = raw
	}
	return raw, nil
}

// cut checks the length of a tile and returns its first tile.Width hashes or
// entries.
func cut(tile tlog.Tile, raw []byte, exact bool) ([]byte, error) {
	length := tile.Width * sha256.Size
	if tile.Entries {
		length = 0
		for range tile.Width {
			if len(raw) < length+2 {
				return nil, errLength
			}
			length += 2 + int(binary.BigEndian.Uint16(raw[length:]))
		}
	}
	if len(raw) < length || exact && len(raw) != length {
		return nil, errLength
	}
	return raw[:length:length], nil
}

// entries is the bundle of that index, entry by entry.
func (t *tiles) entries(ctx context.Context, index uint64) ([][]byte, error) {
	raw, err := t.read(ctx, tlog.Tile{Entries: true, Index: index})
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(raw) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(raw))
		entries = append(entries, raw[2:n:n])
		raw = raw[n:]
	}
	return entries, nil
}

// node is the hash of a perfect subtree, from the tile that holds its leaves.
func (t *tiles) node(ctx context.Context, id compact.NodeID) ([]byte, error) {
	span := uint64(1) << (id.Level % 8)
	first := id.Index * span
	raw, err := t.read(ctx, tlog.Tile{Level: uint64(id.Level / 8), Index: first / tlog.TileWidth})
	if err != nil {
		return nil, err
	}
	at := first % tlog.TileWidth * sha256.Size
	if uint64(len(raw)) < at+span*sha256.Size {
		return nil, errLength
	}
	return fold(raw[at : at+span*sha256.Size]), nil
}

// fold is the root of a power of two of hashes.
func fold(raw []byte) []byte {
	if len(raw) == sha256.Size {
		return raw
	}
	return rfc6962.DefaultHasher.HashChildren(fold(raw[:len(raw)/2]), fold(raw[len(raw)/2:]))
}

// consistent proves from the tiles that a tree of the size, with that root, has
// old as its beginning. false means that they prove something else.
func (t *tiles) consistent(ctx context.Context, old tlog.Checkpoint, root []byte) (bool, error) {
	if old.Size == 0 {
		return true, nil
	}
	nodes, err := proof.Consistency(old.Size, t.size)
	if err != nil {
		return false, err
	}
	hashes := make([][]byte, 0, len(nodes.IDs))
	for _, id := range nodes.IDs {
		hash, err := t.node(ctx, id)
		if err != nil {
			return false, err
		}
		hashes = append(hashes, hash)
	}
	if hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return false, err
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, old.Size, t.size, hashes, old.Root, root) == nil, nil
}

// grown is the verified tree that entries are put on. A range changes the slice
// that it is given.
func grown(size uint64, hashes [][]byte) (*compact.Range, error) {
	factory := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	return factory.NewRange(0, size, slices.Clone(hashes))
}

// rangeOf is the right edge of the tiles' tree: what the next entries are put on.
func (t *tiles) rangeOf(ctx context.Context) (*compact.Range, error) {
	var hashes [][]byte
	for _, id := range compact.RangeNodes(0, t.size, nil) {
		hash, err := t.node(ctx, id)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return grown(t.size, hashes)
}

func rootOf(r *compact.Range) ([]byte, error) {
	if r.End() == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	return r.GetRootHash(nil)
}
