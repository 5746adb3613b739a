package sequencer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// batchTiles is how many tiles of one level a batch can touch.
const batchTiles = limits.BatchMaxSize/tlog.TileWidth + 2

// sweep removes what a batch that never became a part of the tree has left
// beyond it. The tree grows over it, and then a partial tile of a width that was
// skipped would stay for good: of no reader of ours, but of whoever serves the
// directory's files by themselves. The caller holds d.tree.
func (d *driver) sweep(size uint64) error {
	kinds := []tlog.Tile{{Entries: true}}
	for level := uint64(0); (size+limits.BatchMaxSize)>>(8*level) > 0; level++ {
		kinds = append(kinds, tlog.Tile{Level: level})
	}
	for _, t := range kinds {
		nodes := size >> (8 * t.Level)
		width := int(nodes % tlog.TileWidth)
		for range batchTiles {
			t.Index, t.Width = nodes/tlog.TileWidth, tlog.TileWidth
			if err := d.removeBeyond(t, width); err != nil {
				return fmt.Errorf("%w: removing what a failed batch left: %w", ErrStorage, err)
			}
			nodes, width = nodes+tlog.TileWidth, 0
		}
	}
	return nil
}

// removeBeyond removes the full tile t and its partial forms wider than width.
func (d *driver) removeBeyond(t tlog.Tile, width int) error {
	full := filepath.Join(d.dir, filepath.FromSlash(t.Path()))
	partial := full + ".p"
	names, err := os.ReadDir(partial)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = errors.Join(discard(full), discard(full+unfinished))
	for _, name := range names {
		w, bad := strconv.Atoi(strings.TrimSuffix(name.Name(), unfinished))
		if bad == nil && w > width {
			err = errors.Join(err, discard(filepath.Join(partial, name.Name())))
		}
	}
	return err
}
