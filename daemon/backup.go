package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/countersign/countersign/backup"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

// backupFolder is the pattern of the folders that copies of the database are
// made in.
const backupFolder = "backup-*"

// Backup writes the data folder as it is at one moment, without the master key,
// while the service goes on. Appends wait for as long as it takes to note the
// moment; copying is done beside them. Of an external database it holds nothing.
//
// Errors: sequencer.ErrFrozen in the middle of a log rotation, those of the
// writer and the disk; what was written so far is no backup.
func (d *Daemon) Backup(ctx context.Context, w io.Writer) (err error) {
	description := backup.Description{
		CreatedAt: d.cfg.Clock.Now().UTC(), Version: d.cfg.Version, Origin: d.origin, External: d.main != d.local,
	}
	var moment *store.Snapshot
	var monitored []byte
	err = d.log.Still(ctx, func(shards []sequencer.Shard) (err error) {
		if description.Shards, err = d.describeShards(ctx, shards); err != nil {
			return err
		}
		// While the log stands still the monitor has not verified more than this.
		if monitored, err = d.monitorState(); err != nil {
			return err
		}
		moment, err = d.local.Snapshot(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	folder, err := d.copyDatabase(ctx, moment)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	out, err := backup.NewWriter(w, description)
	if err != nil {
		return err
	}
	if err := out.AddFile(ctx, backup.Database, filepath.Join(folder, backup.Database)); err != nil {
		return err
	}
	for _, s := range description.Shards {
		if err := d.backUpShard(ctx, out, s); err != nil {
			return err
		}
	}
	if err := d.backUpTUF(ctx, out); err != nil {
		return err
	}
	if monitored != nil {
		if err := out.Add(backup.Monitor, monitored); err != nil {
			return err
		}
	}
	return out.Close()
}

// monitorState is what the monitor has verified, nil when it has not begun.
func (d *Daemon) monitorState() ([]byte, error) {
	raw, err := os.ReadFile(d.path(backup.Monitor))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the monitor's state: %w", err)
	}
	return raw, nil
}

func (d *Daemon) describeShards(ctx context.Context, shards []sequencer.Shard) ([]backup.Shard, error) {
	out := make([]backup.Shard, 0, len(shards))
	for _, s := range shards {
		if s.Fault != nil {
			return nil, fmt.Errorf("shard %d is damaged: %w", s.Number, s.Fault)
		}
		shard, err := d.log.Shard(s.Number)
		if err != nil {
			return nil, err
		}
		note, err := shard.Checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, backup.Shard{Folder: shardFolder(s.Number), Size: s.Size, Checkpoint: string(note), FrozenAt: s.FrozenAt})
	}
	return out, nil
}

// copyDatabase writes the snapshot into a folder of its own on the same disk,
// and lets the moment go.
func (d *Daemon) copyDatabase(ctx context.Context, moment *store.Snapshot) (folder string, err error) {
	folder, err = os.MkdirTemp(d.cfg.DataDir, backupFolder)
	if err != nil {
		return "", errors.Join(err, moment.Close(ctx))
	}
	err = errors.Join(moment.CopyTo(filepath.Join(folder, backup.Database)), moment.Close(ctx))
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	return folder, nil
}

// clearBackups removes what a process that was killed left over.
func (d *Daemon) clearBackups() error {
	left, err := filepath.Glob(d.path(backupFolder))
	for _, folder := range left {
		err = errors.Join(err, os.RemoveAll(folder))
	}
	if err != nil {
		return fmt.Errorf("removing an unfinished backup: %w", err)
	}
	return nil
}

func (d *Daemon) backUpShard(ctx context.Context, out *backup.Writer, s backup.Shard) error {
	if err := out.Add(s.Folder+"/checkpoint", []byte(s.Checkpoint)); err != nil {
		return err
	}
	shard, err := d.log.Shard(shardNumber(s.Folder))
	if err != nil {
		return err
	}
	for path := range sequencer.Files(s.Size) {
		// Through the log, which cuts a tile that has grown since to what it was.
		tile, err := shard.ReadTile(ctx, path)
		if err != nil {
			return fmt.Errorf("backing up %s/%s: %w", s.Folder, path, err)
		}
		if err := out.Add(s.Folder+"/"+path, tile); err != nil {
			return err
		}
	}
	return nil
}

// backUpTUF copies the timestamp before what it names: everything else keeps its
// content for good, so the copy proves itself whatever is published meanwhile.
func (d *Daemon) backUpTUF(ctx context.Context, out *backup.Writer) error {
	const first = "timestamp.json"
	root := d.path(tufFolder)
	if err := out.AddFile(ctx, tufFolder+"/"+first, filepath.Join(root, first)); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == first || filepath.Ext(name) != ".json" {
			return err
		}
		return out.AddFile(ctx, tufFolder+"/"+filepath.ToSlash(name), path)
	})
}
