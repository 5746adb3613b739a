package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/countersign/countersign/tlog"
)

// folder examines what lies in the directory beside what the checkpoint needs.
func (a *audit) folder(ctx context.Context) error {
	if err := a.mark(); err != nil {
		return err
	}
	root := filepath.Join(a.cfg.Dir, "tile")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			// What a running log tidied away since it was listed is not needed.
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name, err := filepath.Rel(a.cfg.Dir, path)
		if err != nil {
			return err
		}
		return a.older(ctx, filepath.ToSlash(name))
	})
	if err != nil {
		return fmt.Errorf("reading the log's folder: %w", err)
	}
	return nil
}

// older compares a partial tile with the tile of today, which was proven: it
// must be its beginning. Files with names of no tile and beyond the checkpoint
// are of no reader.
func (a *audit) older(ctx context.Context, path string) error {
	t, err := tlog.ParseTilePath(path)
	if err != nil {
		return nil //nolint:nilerr // not a tile: a leftover of a write that was cut short
	}
	now := t
	now.Width = t.WidthAt(a.cp.Size)
	if t.Width >= now.Width {
		return nil
	}
	raw, err := a.cfg.Fetch(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	whole, err := a.fetch(ctx, now)
	if err != nil {
		return a.damaged(ctx, err)
	}
	if want, err := cut(t, whole); err != nil || !bytes.Equal(raw, want) {
		return a.problem(path, "is not the beginning of "+now.Path())
	}
	return nil
}

// damaged passes over what the walk over the entries has told already.
func (a *audit) damaged(ctx context.Context, err error) error {
	if ctx.Err() == nil && damage(err) {
		return nil
	}
	return err
}

// mark holds the mark of a frozen shard against the published checkpoint, which
// must be the last one.
func (a *audit) mark() error {
	where := stateDir + "/" + markFile
	m, found, err := readMark(filepath.Join(a.cfg.Dir, stateDir, markFile))
	if errors.Is(err, ErrCorrupt) {
		return a.problem(where, "it does not say when the log was frozen")
	}
	if err != nil || !found {
		return err
	}
	a.report.FrozenAt = &m.FrozenAt
	last, err := tlog.ParseCheckpoint([]byte(m.Checkpoint), a.cfg.Origin, a.cfg.Public)
	if err != nil {
		return a.problem(where, err.Error())
	}
	if last.Size != a.cp.Size || !bytes.Equal(last.Root, a.cp.Root) {
		return a.problem(layout.CheckpointPath, "it is not the last one of a frozen shard")
	}
	return nil
}

// EntryBundle returns the entries of the bundle that holds entry index of the
// log in dir, whose checkpoint has that size, and the index of the first of
// them. It proves nothing; Audit does. A bundle that cannot be read is
// ErrCorrupt.
func EntryBundle(dir string, index, size uint64) (entries [][]byte, first uint64, err error) {
	if index >= size {
		return nil, 0, ErrNotFound
	}
	t := entryTile(index, size)
	raw, err := newDisk(dir).read(t)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, 0, err
	}
	return splitEntries(raw), t.Index * tlog.TileWidth, nil
}
