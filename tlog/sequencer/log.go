package sequencer

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// Log is a transparency log in shards, each with a key, a directory and an
// index of its own, and an origin: witnesses take each for a log. The last one is
// written, those before it are frozen or about to be.
//
// A body has one entry in all shards: Append answers with the older shard's
// when it is there. All methods are safe for concurrent use.
//
// To go on under a new key: Prepare, then publish the keys of what Shards names,
// then AwaitWitnessed, then Switch, then Settle, then publish again. Each may be repeated. A process
// that died in between opens the log with the new shard as its last one and does
// the same again.
type Log struct {
	mu sync.RWMutex
	// shards is replaced, not changed: a slice that was taken stays as it is.
	shards []*Sequencer
	// next is prepared and not yet written.
	next *Sequencer

	// readOnly is SetReadOnly's.
	readOnly atomic.Bool

	// changing admits one Prepare, Switch or Settle at a time.
	changing sync.Mutex
}

// State of a shard.
type State string

// The states of a shard, in their order.
const (
	// Prepared: opened, so that its key can be published; not yet written.
	Prepared State = "prepared"
	// Active: the one that is written.
	Active State = "active"
	// Sealed: takes nothing new and is finishing.
	Sealed State = "sealed"
	// Frozen: never changes again.
	Frozen State = "frozen"
)

// Shard describes one shard.
type Shard struct {
	// Number counts from 1.
	Number int
	State  State
	LogID  []byte
	Origin string
	Public crypto.PublicKey
	// Start is the Config's.
	Start time.Time
	// FrozenAt is nil until the shard is frozen.
	FrozenAt *time.Time
	Size     uint64
	// Fault is what is known to be wrong with it.
	Fault error
}

// OpenLog opens the shards of a log, oldest first. The last one is prepared and
// not yet written if it is empty and the one before is not frozen: whether its
// key was published before the process died is not known here. All before the
// one that is written are frozen, which ends a switch that a crash interrupted.
//
// Errors are those of Open and Freeze, and ErrFrozen when the last shard is
// frozen: its successor is missing.
func OpenLog(ctx context.Context, shards ...Config) (*Log, error) {
	l := &Log{}
	err := l.open(ctx, shards)
	if err == nil {
		err = l.Settle(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(ctx))
	}
	return l, nil
}

func (l *Log) open(ctx context.Context, shards []Config) error {
	if len(shards) == 0 {
		return fmt.Errorf("%w: no shard", ErrConfig)
	}
	for i, cfg := range shards {
		s, err := Open(ctx, cfg)
		if err != nil {
			return fmt.Errorf("shard %d: %w", i+1, err)
		}
		l.shards = append(l.shards, s)
		if slices.ContainsFunc(l.shards[:i], func(older *Sequencer) bool { return bytes.Equal(older.logID, s.logID) }) {
			return fmt.Errorf("%w: two shards with one key", ErrConfig)
		}
	}
	l.setBack()
	if _, frozen := l.active().FrozenAt(); frozen {
		return fmt.Errorf("%w: shard %d was followed by another, which is missing: restore all of the folder from one backup", ErrFrozen, len(shards))
	}
	return nil
}

// setBack makes the last shard the prepared one if nobody wrote to it.
func (l *Log) setBack() {
	n := len(l.shards)
	if n < 2 || l.shards[n-1].current().cp.Size > 0 {
		return
	}
	for _, s := range l.shards[n-2:] {
		if _, frozen := s.FrozenAt(); frozen {
			return
		}
	}
	l.shards, l.next = l.shards[:n-1:n-1], l.shards[n-1]
}

// all are the shards that were or are written.
func (l *Log) all() []*Sequencer {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.shards
}

func (l *Log) active() *Sequencer {
	shards := l.all()
	return shards[len(shards)-1]
}

// Append is Sequencer.Append over all shards: a body that an older shard holds,
// or is just taking, is answered from there. A switch in the meantime is not
// noticed.
func (l *Log) Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	if l.readOnly.Load() {
		return l.find(ctx, body)
	}
	shards := l.all()
	for {
		for _, older := range shards[:len(shards)-1] {
			entry, found, err := older.Find(ctx, body)
			if found || err != nil {
				return entry, err
			}
		}
		entry, err := shards[len(shards)-1].Append(ctx, body)
		if !errors.Is(err, ErrFrozen) {
			return entry, err
		}
		// Sealed between the two lines: Switch shows the next shard in the same
		// moment.
		now := l.all()
		if len(now) == len(shards) {
			return nil, err
		}
		shards = now
	}
}

// Promise is the promise of the shard that the entry names.
func (l *Log) Promise(ctx context.Context, entry *rekorpb.TransparencyLogEntry) (time.Time, []byte, error) {
	s, err := l.ShardOf(entry.GetLogId().GetKeyId())
	if err != nil {
		return time.Time{}, nil, err
	}
	return s.Promise(ctx, entry)
}

// Entry is an entry of the active shard.
func (l *Log) Entry(ctx context.Context, index uint64) (*rekorpb.TransparencyLogEntry, error) {
	return l.active().Entry(ctx, index)
}

// Checkpoint is the active shard's.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) { return l.active().Checkpoint(ctx) }

// ReadTile reads a tile of the active shard.
func (l *Log) ReadTile(ctx context.Context, path string) ([]byte, error) {
	return l.active().ReadTile(ctx, path)
}

// Shard is the shard of that number, from 1, for reading, or ErrNotFound. A
// prepared one is there too. What is written goes through Append, which knows
// all shards.
func (l *Log) Shard(number int) (*Sequencer, error) {
	l.mu.RLock()
	shards := l.shards
	if l.next != nil {
		shards = append(slices.Clone(shards), l.next)
	}
	l.mu.RUnlock()
	if number < 1 || number > len(shards) {
		return nil, ErrNotFound
	}
	return shards[number-1], nil
}

// ShardOf is the shard with that log id, or ErrNotFound.
func (l *Log) ShardOf(logID []byte) (*Sequencer, error) {
	for _, s := range l.all() {
		if bytes.Equal(s.logID, logID) {
			return s, nil
		}
	}
	return nil, ErrNotFound
}

// Shards describes all shards, oldest first, a prepared one last.
func (l *Log) Shards() []Shard {
	l.mu.RLock()
	shards, next := l.shards, l.next
	l.mu.RUnlock()
	out := make([]Shard, 0, len(shards)+1)
	for i, s := range shards {
		out = append(out, s.describe(i+1, i == len(shards)-1))
	}
	if next != nil {
		d := next.describe(len(shards)+1, true)
		d.State = Prepared
		out = append(out, d)
	}
	return out
}

func (s *Sequencer) describe(number int, last bool) Shard {
	d := Shard{
		Number: number, State: Sealed, LogID: bytes.Clone(s.logID), Origin: s.cfg.Origin,
		Public: s.cfg.Signer.Public(), Start: s.cfg.Start, Size: s.current().cp.Size, Fault: s.Fault(),
	}
	if last {
		d.State = Active
	}
	if at, frozen := s.FrozenAt(); frozen {
		d.State, d.FrozenAt = Frozen, &at
	}
	return d
}

// Prepare opens the next shard and publishes its empty checkpoint, as soon as its
// witnesses cosign it: see AwaitWitnessed. Nothing is written to it before Switch.
// When one is prepared already that one stays.
func (l *Log) Prepare(ctx context.Context, cfg Config) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.RLock()
	prepared := l.next != nil
	l.mu.RUnlock()
	if prepared {
		return nil
	}
	next, err := Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("opening the next shard: %w", err)
	}
	if _, err := l.ShardOf(next.logID); err == nil {
		return errors.Join(fmt.Errorf("%w: the next shard needs a key of its own", ErrConfig), next.Close(ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = next
	return nil
}

// Switch makes the prepared shard the one that is written, in one moment for
// all callers; without one it does nothing. Call it when the new key is
// published.
func (l *Log) Switch() {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		return
	}
	l.shards[len(l.shards)-1].seal()
	l.shards, l.next = append(slices.Clone(l.shards), l.next), nil
}

// Settled reports whether all shards but the last one are frozen and none is
// prepared.
func (l *Log) Settled() bool {
	for _, s := range l.Shards() {
		if s.State != Active && s.State != Frozen {
			return false
		}
	}
	return true
}

// Settle freezes every shard but the last one.
func (l *Log) Settle(ctx context.Context) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	shards := l.all()
	for i, s := range shards[:len(shards)-1] {
		if err := s.Freeze(ctx); err != nil {
			return fmt.Errorf("shard %d: %w", i+1, err)
		}
	}
	return nil
}

// Ready is nil while appends are served.
func (l *Log) Ready(ctx context.Context) error { return l.active().Ready(ctx) }

// Close closes all shards.
func (l *Log) Close(ctx context.Context) error {
	l.mu.RLock()
	shards := slices.Clone(l.shards)
	if l.next != nil {
		shards = append(shards, l.next)
	}
	l.mu.RUnlock()
	var errs []error
	for _, s := range shards {
		errs = append(errs, s.Close(ctx))
	}
	return errors.Join(errs...)
}
