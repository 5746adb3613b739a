package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust/tuf"
)

// The log's key in the ring, its purpose and its folder. Those of later shards
// have the shard's number behind them: countersign-log-2, log-2.
const (
	logKey     = "countersign-log"
	logPurpose = "log"
	logFolder  = "log"
)

func (d *Daemon) logKeys() generations { return generations{d.ring, logKey + "-", logPurpose} }

// shardFolder is the folder of a shard; the first one's is older than shards.
func shardFolder(shard int) string {
	if shard == 1 {
		return logFolder
	}
	return logFolder + "-" + strconv.Itoa(shard)
}

// shardKey makes the key of a shard if there is none.
func (d *Daemon) shardKey(ctx context.Context, shard int) (keys.Key, error) {
	if shard > 1 {
		return d.logKeys().ensure(ctx, shard)
	}
	key, err := d.ring.Ensure(ctx, keys.Spec{Name: logKey, Algorithm: keys.ECDSAP256, Purposes: []string{logPurpose}})
	if err != nil {
		return keys.Key{}, fmt.Errorf("making key %s: %w", logKey, err)
	}
	return key, nil
}

// shardConfig is how a shard is opened; its key is made if there is none.
func (d *Daemon) shardConfig(ctx context.Context, shard int) (sequencer.Config, error) {
	key, err := d.shardKey(ctx, shard)
	if err != nil {
		return sequencer.Config{}, err
	}
	signer, err := d.ring.Signer(ctx, key.Name)
	if err != nil {
		return sequencer.Config{}, fmt.Errorf("opening key %s: %w", key.Name, err)
	}
	origin, err := d.shardOrigin(shard, signer.Public())
	if err != nil {
		return sequencer.Config{}, err
	}
	return sequencer.Config{
		Dir: d.path(shardFolder(shard)), Origin: origin, Signer: signer, Leaves: d.local.ShardLeaves(shard),
		// Promises of legacy signatures carry whole seconds: one of the log's
		// first second must not lie before its start.
		Start:              key.CreatedAt.Truncate(time.Second),
		Witnesses:          d.cfg.Witnesses,
		CheckpointInterval: d.cfg.CheckpointInterval, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	}, nil
}

// openLog opens a shard for each key of the log. A folder without a key is a
// shard whose key was lost with a newer database: the log must not go on in an
// older shard.
func (d *Daemon) openLog(ctx context.Context, s *services) error {
	shards, err := d.countShards(ctx)
	if err != nil {
		return err
	}
	if shards, err = d.afterRestore(ctx, shards); err != nil {
		return err
	}
	configs := make([]sequencer.Config, 0, shards)
	for n := 1; n <= shards; n++ {
		config, err := d.shardConfig(ctx, n)
		if err != nil {
			return err
		}
		configs = append(configs, config)
	}
	if _, err := os.Stat(d.path(shardFolder(shards + 1))); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%w: %s has no key in the database: restore all of the folder from one backup",
			sequencer.ErrRollback, d.path(shardFolder(shards+1))))
	}
	if err := d.checkKept(ctx, configs); err != nil {
		return err
	}
	if d.log, err = sequencer.OpenLog(ctx, configs...); err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	s.log = d.log
	return nil
}

// countShards is the number of the newest key of the log, at least 1.
func (d *Daemon) countShards(ctx context.Context) (int, error) {
	later, err := d.logKeys().numbers(ctx)
	if err != nil || len(later) == 0 {
		return 1, err
	}
	return later[len(later)-1], nil
}

// finishLog ends a rotation of the log that a crash interrupted. Until its key
// is published the log goes on in the shard before, so that is no reason not to
// start: people may have to sign.
func (d *Daemon) finishLog(ctx context.Context, _ *services) error {
	if d.log.Settled() {
		return nil
	}
	if err := d.authorities.rotateLog(ctx); err != nil {
		d.cfg.Logger.ErrorContext(ctx, "a rotation of the log is not finished; repeat it: countersign authorities rotate log", "cause", err)
	}
	return nil
}

// logStep is one step of the log's rotation. A process may die before or after
// each; repeating all of them then has the same end.
type logStep struct {
	name string
	do   func(ctx context.Context) error
}

// rotateLog goes on in a new shard. A rotation that did not come to its end is
// finished instead of another being begun.
func (r rotator) rotateLog(ctx context.Context) error {
	// Half of it is no good to anybody: it does not end with its caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.RequestTimeout)
	defer cancel()
	for _, step := range r.logSteps() {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("rotating the log: %s: %w", step.name, err)
		}
	}
	// The new key is in use: a failure from here on is not the caller's. The TUF
	// repository looks again by itself, and the next start writes the file.
	if err := r.publish(ctx); err != nil {
		r.daemon.cfg.Logger.WarnContext(ctx, "the end of the log's key is not published yet", "cause", err)
	}
	return nil
}

func (r rotator) logSteps() []logStep {
	d := r.daemon
	next := len(d.log.Shards()) + 1
	if !d.log.Settled() {
		next--
	}
	var config sequencer.Config
	return []logStep{
		{"making its key", func(ctx context.Context) (err error) {
			config, err = d.shardConfig(ctx, next)
			return err
		}},
		{"opening the shard", func(ctx context.Context) error {
			if next <= len(d.log.Shards()) {
				return nil
			}
			return d.log.Prepare(ctx, config)
		}},
		{"publishing its key", r.publish},
		{"waiting for the key to be public", r.published},
		{"waiting for its witnesses", r.cosigned},
		{"switching", func(context.Context) error { d.log.Switch(); return nil }},
		{"freezing the shard before", d.log.Settle},
	}
}

// published reports server.ErrUnpublished while the TUF repository does not give
// the trusted root in force, because people sign its targets: whoever follows it
// would not know the key of what they are shown.
func (r rotator) published(ctx context.Context) error {
	document, err := r.services.trustRoot().MarshalTrustedRoot()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(document)
	_, err = r.daemon.tuf.ReadFile(ctx, tuf.File{Hash: hex.EncodeToString(sum[:]), Name: trustedRootTarget}.Path())
	if errors.Is(err, tuf.ErrNotFound) {
		return server.ErrUnpublished
	}
	return err
}

// cosigned reports server.ErrUncosigned while the next shard has not its quorum of
// witnesses: nobody could write to it.
func (r rotator) cosigned(ctx context.Context) error {
	err := r.daemon.log.AwaitWitnessed(ctx)
	if errors.Is(err, sequencer.ErrUnwitnessed) {
		return fmt.Errorf("%w: %w", server.ErrUncosigned, err)
	}
	return err
}

// frozenFaults is what is wrong with shards that are only read: the log takes
// entries all the same.
func frozenFaults(log *sequencer.Log) error {
	var errs []error
	for _, shard := range log.Shards() {
		if shard.State != sequencer.Active && shard.Fault != nil {
			errs = append(errs, fmt.Errorf("%w: shard %d: %w", server.ErrDegraded, shard.Number, shard.Fault))
		}
	}
	return errors.Join(errs...)
}
