package sequencer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/countersign/countersign/tlog"
)

// edge is the right edge of a tree, where it grows: its partial bundle and, of
// each level of tiles, the partial tile. Everything to the left of it never
// changes, and nothing of it is needed to go on.
type edge struct {
	size   uint64
	bundle []byte
	// tiles holds the hashes of the partial tile of each level; empty where the
	// last tile is full.
	tiles [][]byte
	// full are the bundles and tiles that were completed since the edge was
	// read, and dirty says which partial tiles have changed.
	full  []file
	dirty []bool
}

// file is what is to be written under a path of the layout.
type file struct {
	tile    tlog.Tile
	content []byte
}

// readEdge reads the edge of a tree of that size.
func readEdge(size uint64, read reader) (*edge, error) {
	e := &edge{size: size}
	if size%tlog.TileWidth > 0 {
		raw, err := read(entryTile(size-1, size))
		if err != nil {
			return nil, err
		}
		e.bundle = bytes.Clone(raw)
	}
	for level := uint64(0); size>>(8*level) > 0; level++ {
		t := tlog.Tile{Level: level, Index: size >> (8 * (level + 1))}
		t.Width = t.WidthAt(size)
		var hashes []byte
		if t.Width > 0 {
			raw, err := read(t)
			if err != nil {
				return nil, err
			}
			hashes = bytes.Clone(raw)
		}
		e.tiles, e.dirty = append(e.tiles, hashes), append(e.dirty, false)
	}
	return e, nil
}

// add appends one entry.
func (e *edge) add(entry, leaf []byte) {
	e.bundle = append(binary.BigEndian.AppendUint16(e.bundle, uint16(len(entry))), entry...) //nolint:gosec // Append bounds it by limits.LogEntry
	e.size++
	if e.size%tlog.TileWidth == 0 {
		e.full = append(e.full, file{tlog.Tile{Entries: true, Index: e.size/tlog.TileWidth - 1, Width: tlog.TileWidth}, e.bundle})
		e.bundle = nil
	}
	for level, hash := 0, leaf; hash != nil; level++ {
		hash = e.push(level, hash)
	}
}

// push appends a hash to the tile of a level, and returns the hash over the
// tile when that completes it.
func (e *edge) push(level int, hash []byte) []byte {
	if level == len(e.tiles) {
		e.tiles, e.dirty = append(e.tiles, nil), append(e.dirty, false)
	}
	e.tiles[level], e.dirty[level] = append(e.tiles[level], hash...), true
	whole := e.tiles[level]
	if len(whole) < tlog.TileWidth*sha256.Size {
		return nil
	}
	index := e.size>>(8*(level+1)) - 1
	e.full = append(e.full, file{tlog.Tile{Level: uint64(level), Index: index, Width: tlog.TileWidth}, whole}) //nolint:gosec // below 8
	e.tiles[level], e.dirty[level] = nil, false
	return perfect(whole)
}

// files are what must be written before the tree may be said to have grown.
func (e *edge) files() []file {
	out := e.full
	if len(e.bundle) > 0 {
		out = append(out, file{entryTile(e.size-1, e.size), e.bundle})
	}
	for level, hashes := range e.tiles {
		if e.dirty[level] {
			t := tlog.Tile{Level: uint64(level), Index: e.size >> (8 * (level + 1)), Width: len(hashes) / sha256.Size}
			out = append(out, file{t, hashes})
		}
	}
	return out
}

// root is the root hash of the tree: RFC 9162's, over the perfect subtrees of
// the partial tiles from the right.
func (e *edge) root() []byte {
	var root []byte
	for _, hashes := range e.tiles {
		for width := len(hashes) / sha256.Size; width > 0; {
			least := width & -width
			peak := perfect(hashes[(width-least)*sha256.Size : width*sha256.Size])
			if root == nil {
				root = peak
			} else {
				root = rfc6962.DefaultHasher.HashChildren(peak, root)
			}
			width -= least
		}
	}
	if root == nil {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	return root
}

// perfect is the hash over the hashes of a perfect subtree, whose number is a
// power of two.
func perfect(hashes []byte) []byte {
	level := bytes.Clone(hashes)
	for len(level) > sha256.Size {
		half := level[:0]
		for at := 0; at < len(level); at += 2 * sha256.Size {
			half = append(half, rfc6962.DefaultHasher.HashChildren(level[at:at+sha256.Size], level[at+sha256.Size:at+2*sha256.Size])...)
		}
		level = half
	}
	return level
}
