package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/search"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// checkKept refuses a log that is older than the database knows it to have been.
func (d *Daemon) checkKept(ctx context.Context, configs []sequencer.Config) error {
	shards := make([]search.Shard, 0, len(configs))
	for i, c := range configs {
		shard, err := newShard(i+1, c)
		if err != nil {
			return err
		}
		shards = append(shards, shard)
	}
	return search.CheckKept(ctx, d.main.Checkpoints(), shards)
}

func newShard(number int, c sequencer.Config) (search.Shard, error) {
	id, err := tlog.LogID(c.Signer.Public())
	if err != nil {
		return search.Shard{}, fmt.Errorf("shard %d: %w", number, err)
	}
	reader, err := sequencer.NewReader(c.Dir, c.Origin, c.Signer.Public())
	if err != nil {
		return search.Shard{}, fmt.Errorf("shard %d: %w", number, err)
	}
	return search.Shard{Number: number, LogID: id, Reader: reader}, nil
}

// openSearch makes the follower of the log. It starts with the other background
// work, and nothing waits for it.
func (d *Daemon) openSearch(_ context.Context, s *services) error {
	d.search = search.New(search.Config{
		Shards: (&readShards{daemon: d}).all, Index: d.main.LogIndex(), Checkpoints: d.main.Checkpoints(),
		Relate: s.archive.Relate, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	})
	return nil
}

// readShards are readers of the log's shards, as many as it has now.
type readShards struct {
	daemon *Daemon

	mu     sync.Mutex
	shards []search.Shard
}

func (r *readShards) all() ([]search.Shard, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, known := range r.daemon.log.Shards()[len(r.shards):] {
		reader, err := sequencer.NewReader(r.daemon.path(shardFolder(known.Number)), known.Origin, known.Public)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", known.Number, err)
		}
		r.shards = append(r.shards, search.Shard{Number: known.Number, LogID: known.LogID, Reader: reader})
	}
	return r.shards[:len(r.shards):len(r.shards)], nil
}

// keepLast remembers the checkpoint that closing the log has published. Without
// it a restored copy from after the last look would not be told from this one.
func (d *Daemon) keepLast(ctx context.Context) {
	if d.search == nil {
		return
	}
	if err := d.search.Keep(ctx); err != nil {
		d.cfg.Logger.WarnContext(ctx, "the log's last checkpoint is not in the database", slog.Any("error", err))
	}
}

// searchFault is why a search does not find new entries; signing goes on.
func (d *Daemon) searchFault() error {
	if err := d.search.Fault(); err != nil {
		return fmt.Errorf("%w: %w", server.ErrDegraded, err)
	}
	return nil
}

// Reindex rebuilds the search index of the log in a data folder that nobody
// serves, from the tiles and the kept bundles. Which keys the log has is taken
// from the folder's trusted root. database is Config's. told hears how many
// entries of how many are done; it may be nil. It returns how far each shard is
// indexed.
func Reindex(ctx context.Context, dataDir, database string, told func(done, total uint64)) (progress []search.Progress, err error) {
	document, err := os.ReadFile(filepath.Join(dataDir, rootFile))
	if err != nil {
		return nil, fmt.Errorf("no data folder of a service: %w", err)
	}
	root, err := trust.ParseTrustedRoot(document)
	if err != nil {
		return nil, err
	}
	d := &Daemon{cfg: Config{DataDir: dataDir, Database: database, Clock: clock.System{}}}
	defer func() { err = errors.Join(err, d.release(ctx)) }()
	if err := d.lockFolder(); err != nil {
		return nil, err
	}
	if err := d.openStores(ctx); err != nil {
		return nil, err
	}
	shards := make([]search.Shard, 0, len(root.Logs))
	for i, log := range root.Logs {
		reader, err := sequencer.NewReader(d.path(shardFolder(i+1)), log.Origin, log.Public)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", i+1, err)
		}
		shards = append(shards, search.Shard{Number: i + 1, LogID: log.ID, Reader: reader})
	}
	kept := archive.New(archive.Config{Bundles: d.main.Bundles(), Decisions: d.main.Decisions()})
	return search.Rebuild(ctx, search.Config{
		Shards: func() ([]search.Shard, error) { return shards, nil },
		Index:  d.main.LogIndex(), Relate: kept.Relate, Clock: d.cfg.Clock,
	}, told)
}
