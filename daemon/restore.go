package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/backup"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// ErrRestore says that a backup cannot be restored as it was asked.
var ErrRestore = errors.New("the backup cannot be restored")

// RestoreConfig says what to restore. All but Clock are required.
type RestoreConfig struct {
	// DataDir must not exist, or be empty.
	DataDir string
	// Archive is what Daemon.Backup wrote.
	Archive io.Reader
	// MasterKey is the file with the key that the backup's secrets are sealed
	// under; it is copied.
	MasterKey string
	Clock     clock.Clock
}

// Restore makes a data folder of a backup. The service's next start on it goes
// on with a new log key in a new shard: whatever the old key signed after the
// backup was made, nothing else is ever signed by it for the same place in the
// log, and every log entry that outsiders hold keeps its proof.
//
// The log's bytes, the leaf index and the master key are proved first. An error
// leaves no data folder. It may be one of backup.ErrArchive and ErrRestore.
func Restore(ctx context.Context, cfg RestoreConfig) (backup.Description, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if err := vacant(cfg.DataDir); err != nil {
		return backup.Description{}, err
	}
	fresh := filepath.Clean(cfg.DataDir) + ".restoring"
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return backup.Description{}, fmt.Errorf("restoring: %w", err)
	}
	d, err := restoreInto(ctx, cfg, fresh)
	if err == nil {
		err = errors.Join(syncTree(fresh), settleIn(fresh, cfg.DataDir))
	}
	if err != nil {
		return d, errors.Join(err, os.RemoveAll(fresh))
	}
	return d, nil
}

func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("restoring: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%w: %s is not empty; name a folder that does not exist", ErrRestore, dir)
	}
	return nil
}

func restoreInto(ctx context.Context, cfg RestoreConfig, dir string) (backup.Description, error) {
	d, err := backup.Read(ctx, cfg.Archive, dir)
	if err != nil {
		return d, err
	}
	master, err := os.ReadFile(cfg.MasterKey)
	if err != nil {
		return d, fmt.Errorf("reading the master key: %w", err)
	}
	if err := writeFile(filepath.Join(dir, masterFile), master, 0o600); err != nil {
		return d, fmt.Errorf("writing the master key: %w", err)
	}
	now := cfg.Clock.Now().UTC()
	if err := proveRestored(ctx, dir, d, now); err != nil {
		return d, err
	}
	mark := restored{BackupOf: d.CreatedAt, At: now, Shards: len(d.Shards)}
	for _, s := range d.Shards {
		mark.Entries += s.Size
	}
	text, err := strictjson.Marshal(mark)
	if err != nil {
		return d, err
	}
	return d, writeFile(filepath.Join(dir, restoredFile), text, 0o600)
}

// proveRestored opens the database under the master key, and holds each shard
// against its key and its index. Then it ends the shards.
func proveRestored(ctx context.Context, dir string, d backup.Description, now time.Time) (err error) {
	db, err := store.OpenSQLite(ctx, filepath.Join(dir, backup.Database))
	if err != nil {
		return fmt.Errorf("opening the restored database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	master, err := keys.OpenMaster(filepath.Join(dir, masterFile))
	if err != nil {
		return fmt.Errorf("opening the master key: %w", err)
	}
	ring, err := keys.Open(ctx, keys.Config{Objects: db.Objects(), Master: master, Clock: clock.System{}})
	if err != nil {
		return fmt.Errorf("opening the keys of the backup; is it the master key of that service?: %w", err)
	}
	if len(d.Shards) == 0 {
		return fmt.Errorf("%w: it has no log", ErrRestore)
	}
	for i, s := range d.Shards {
		if s.Folder != shardFolder(i+1) {
			return fmt.Errorf("%w: its shard %d lies in %s", ErrRestore, i+1, s.Folder)
		}
		if err := proveShard(ctx, filepath.Join(dir, s.Folder), s, d.Origin, ring, db.ShardLeaves(i+1)); err != nil {
			return fmt.Errorf("shard %d: %w", i+1, err)
		}
		end := now
		if s.FrozenAt != nil {
			end = *s.FrozenAt
		}
		if err := sequencer.EndCopy(filepath.Join(dir, s.Folder), []byte(s.Checkpoint), end); err != nil {
			return err
		}
	}
	return nil
}

func proveShard(ctx context.Context, dir string, s backup.Shard, host string, ring *keys.Ring, leaves store.Leaves) error {
	name := logKey
	if n := shardNumber(s.Folder); n > 1 {
		name += "-" + strconv.Itoa(n)
	}
	key, err := ring.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("reading its key: %w", err)
	}
	if key.Backend == keys.BackendFile {
		if _, err := ring.Signer(ctx, name); err != nil {
			return fmt.Errorf("%w: its keys do not open under this master key: %w", ErrRestore, err)
		}
	}
	public := key.CurrentVersion().Public
	origin, err := originOf(host, shardNumber(s.Folder), public, tlog.OriginLine([]byte(s.Checkpoint)))
	if err != nil {
		return err
	}
	report, err := sequencer.Audit(ctx, sequencer.AuditConfig{Dir: dir, Origin: origin, Public: public, From: []byte(s.Checkpoint)})
	if err != nil {
		return err
	}
	if !report.Sound() || report.Size != s.Size {
		return fmt.Errorf("%w: its log is not sound: %d entries, want %d; %v", ErrRestore, report.Size, s.Size, report.Problems)
	}
	indexed, err := leaves.Size(ctx)
	if err != nil {
		return err
	}
	if indexed != s.Size {
		return fmt.Errorf("%w: the index knows %d entries, the log has %d", ErrRestore, indexed, s.Size)
	}
	return nil
}

// shardNumber is the inverse of shardFolder, for folders that it made.
func shardNumber(folder string) int {
	text, later := strings.CutPrefix(folder, logFolder+"-")
	n, err := strconv.Atoi(text)
	if !later || err != nil {
		return 1
	}
	return n
}

// syncTree makes what was written durable before the folder gets its name.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path) //nolint:gosec // a folder that was just made, under a name that nobody knows
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

func settleIn(fresh, dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restoring: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// restoredFile is in a data folder from its restore to the end of the first
// start after it.
const restoredFile = "restored.json"

type restored struct {
	BackupOf time.Time `json:"backupOf"`
	At       time.Time `json:"at"`
	Shards   int       `json:"shards"`
	Entries  uint64    `json:"entries"`
}

// floor is a version that no TUF document of before the restore can have had:
// they count publications, this counts minutes.
func (r *restored) floor() int64 {
	if r == nil {
		return 0
	}
	return r.At.Unix() / 60
}

// afterRestore reads the mark of a restore, if there is one, and returns the
// number of shards to open: one more than were restored, whose key is made. The
// restored ones are frozen.
func (d *Daemon) afterRestore(ctx context.Context, shards int) (int, error) {
	raw, err := os.ReadFile(d.path(restoredFile))
	if errors.Is(err, fs.ErrNotExist) {
		return shards, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", restoredFile, err)
	}
	var r restored
	if err := strictjson.Unmarshal(raw, &r); err != nil || r.Shards < 1 {
		return 0, fmt.Errorf("%w: %s cannot be read; restore the backup again", ErrRestore, d.path(restoredFile))
	}
	d.restored = &r
	return max(shards, r.Shards+1), d.forgetLater(ctx, r.Shards)
}

// forgetLater lets an external database, which survived what the folder did
// not, forget how far the log had come; what it indexed is read again.
func (d *Daemon) forgetLater(ctx context.Context, shards int) error {
	if d.main == d.local {
		return nil
	}
	err := d.main.Checkpoints().Forget(ctx)
	for n := 1; n <= shards+1; n++ {
		err = errors.Join(err, d.main.LogIndex().Reset(ctx, n))
	}
	if err != nil {
		return fmt.Errorf("forgetting what the log was after the backup: %w", err)
	}
	return nil
}

// finishRestore journals that the data is that of a backup. From then on the
// folder is one like any other.
func (d *Daemon) finishRestore(ctx context.Context, s *services) error {
	if d.restored == nil {
		return nil
	}
	active := d.log.Shards()[len(d.log.Shards())-1]
	d.cfg.Logger.WarnContext(ctx, "restored from a backup: what was signed after it is not known here, and the log goes on under a new key",
		"backup", d.restored.BackupOf, "entries", d.restored.Entries, "logId", hex.EncodeToString(active.LogID))
	_, err := s.journal.Append(ctx, audit.Record{
		Actor: "first start after a restore", Action: "log.restore", Resource: "log", Outcome: audit.Done,
		Detail: map[string]string{
			"backupOf": d.restored.BackupOf.Format(time.RFC3339), "restoredAt": d.restored.At.Format(time.RFC3339),
			"entries": strconv.FormatUint(d.restored.Entries, 10), "logId": hex.EncodeToString(active.LogID),
		},
	})
	if err != nil {
		return fmt.Errorf("journalling the restore: %w", err)
	}
	if err := os.Remove(d.path(restoredFile)); err != nil {
		return fmt.Errorf("ending the restore: %w", err)
	}
	return nil
}
