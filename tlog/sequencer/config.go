package sequencer

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// Errors of this package. Open also returns tlog.ErrCheckpoint, tlog.ErrLogKey
// and tlog.ErrOrigin.
var (
	// ErrConfig: a field of Config is missing or out of range.
	ErrConfig = errors.New("invalid log configuration")
	// ErrLocked: another process, or another Sequencer, writes this log.
	ErrLocked = errors.New("log is in use by another process")
	// ErrRollback: the tree is smaller than what was already promised.
	ErrRollback = errors.New("log is older than its own record")
	// ErrCorrupt: stored bytes contradict each other.
	ErrCorrupt = errors.New("log is corrupt")
	// ErrPushback: limits.LogPushback entries wait already; try again.
	ErrPushback = errors.New("too many entries wait to be logged")
	// ErrTooLarge: the body exceeds limits.LogEntry bytes.
	ErrTooLarge = errors.New("log entry too large")
	// ErrNotFound: no such entry, or no such tile under the published
	// checkpoint.
	ErrNotFound = errors.New("not in the log")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("log is closed")
	// ErrFrozen: the shard takes no entries any more.
	ErrFrozen = errors.New("log shard is frozen")
	// ErrStorage: a file of the log cannot be written. It may pass: the disk is
	// full or read-only, or descriptors ran out. Nothing was answered, and the
	// same body may be appended again.
	ErrStorage = errors.New("log storage cannot be written")
	// ErrBehind: the entry is on its way, but the log has not been able to
	// publish for a while; the cause is wrapped. Append it again later.
	ErrBehind = errors.New("log cannot publish just now")
	// ErrStopped: the log found itself corrupt while running and accepts
	// nothing more; the cause is wrapped.
	ErrStopped = errors.New("log has stopped")
)

// The bounds of Config.CheckpointInterval: the storage driver's least, and the
// most a caller should wait.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = 500 * time.Millisecond
)

// Config is what a log needs.
type Config struct {
	// Dir is the log's directory, made if absent. Everything in it but .state
	// is public and may be served by any file server.
	Dir string
	// Origin is the first line of each checkpoint, a host name. It cannot change
	// once the log exists.
	Origin string
	// Signer holds the log's ECDSA P-256 key. It cannot change once the log
	// exists.
	Signer crypto.Signer
	// Leaves is the index from leaf hash to position.
	Leaves store.Leaves
	// CheckpointInterval is the least time between two checkpoints, 100 to
	// 500 ms; 0 means limits.CheckpointInterval. An append on an idle log does
	// not wait for it.
	CheckpointInterval time.Duration
	// Witnesses cosign each checkpoint before it is published; nil asks nobody.
	Witnesses *Witnesses
	// Start is when the key came into use; Shards tells it.
	Start time.Time
	// Clock tells how long appends have waited, for Ready, and when entries were
	// promised.
	Clock clock.Clock
	// Logger takes what an operator must know. Nil discards it.
	Logger *slog.Logger
}

// validated returns c with defaults filled in.
func (c Config) validated() (Config, error) {
	if c.CheckpointInterval == 0 {
		c.CheckpointInterval = limits.CheckpointInterval
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Dir == "":
		return c, fmt.Errorf("%w: no directory", ErrConfig)
	case c.Signer == nil:
		return c, fmt.Errorf("%w: no signer", ErrConfig)
	case c.Leaves == nil:
		return c, fmt.Errorf("%w: no leaf index", ErrConfig)
	case c.Clock == nil:
		return c, fmt.Errorf("%w: no clock", ErrConfig)
	case c.CheckpointInterval < minInterval || c.CheckpointInterval > maxInterval:
		return c, fmt.Errorf("%w: checkpoint interval must be %v to %v", ErrConfig, minInterval, maxInterval)
	}
	if err := tlog.CheckOrigin(c.Origin); err != nil {
		return c, err
	}
	return c, nil
}
