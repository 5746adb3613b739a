package sequencer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
)

// collectedFile says up to which size partial tiles were removed.
const collectedFile = "gcState"

// collectBundles bounds one round of removing.
const collectBundles = 100

type collected struct {
	FromSize uint64 `json:"fromSize"`
}

// collecting removes, now and then, the partial tiles and bundles whose full
// one is under the published checkpoint. A failure leaves files that are of no
// use and do no harm.
func (d *driver) collecting(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.note("collect", d.collect(ctx))
	}
}

func (d *driver) collect(ctx context.Context) error {
	size, _, err := d.published(ctx)
	if err != nil {
		return err
	}
	from, err := d.collected()
	if err != nil {
		return err
	}
	at := from / tlog.TileWidth
	end := min(size/tlog.TileWidth, at+collectBundles)
	if at >= end {
		return nil
	}
	for ; at < end; at++ {
		if err := d.removePartials(at); err != nil {
			return fmt.Errorf("removing partial tiles: %w", err)
		}
	}
	raw, err := strictjson.Marshal(collected{FromSize: at * tlog.TileWidth})
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(d.dir, stateDir, collectedFile), raw)
}

func (d *driver) collected() (uint64, error) {
	var c collected
	raw, err := os.ReadFile(filepath.Join(d.dir, stateDir, collectedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil {
		err = strictjson.Unmarshal(raw, &c)
	}
	if err != nil {
		return 0, fmt.Errorf("reading how far partial tiles are removed: %w", err)
	}
	return c.FromSize, nil
}

// removePartials removes what a full bundle makes useless: its own partial
// forms, those of the tile above it and, where it is the last below a tile,
// those of that one, and so on.
func (d *driver) removePartials(index uint64) error {
	full := []tlog.Tile{{Entries: true, Index: index, Width: tlog.TileWidth}, {Index: index, Width: tlog.TileWidth}}
	for level := uint64(1); index%tlog.TileWidth == tlog.TileWidth-1; level++ {
		index /= tlog.TileWidth
		full = append(full, tlog.Tile{Level: level, Index: index, Width: tlog.TileWidth})
	}
	for _, t := range full {
		if err := os.RemoveAll(filepath.Join(d.dir, filepath.FromSlash(t.Path()+".p"))); err != nil {
			return err
		}
	}
	return nil
}
