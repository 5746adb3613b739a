// Package anchor puts the audit journal's hashes in the transparency log, so
// that who can rewrite the whole database still cannot rewrite the journal
// unseen.
//
// An anchor of a record is a hashedrekord v0.0.2 entry. Its digest is the
// record's Hash, the SHA-256 of the record's canonical JSON, and its signature
// is the journal key's over that canonical JSON: whoever holds the record finds
// and checks the entry with stock tools. As each record names the hash of the
// one before, an anchor of one record covers all before it.
//
// Every trust change (audit.TrustChange) has an anchor of its own, made at
// once. Other records are covered by an anchor of the chain's head, made every
// limits.AnchorRecords records or limits.AnchorInterval, and at Close. A chain
// that is older than its first anchor is covered by that one.
//
// The body of an anchor is durable before it is appended, because a signature
// does not come out the same twice: a retry, also after a crash, appends the
// same bytes, and the log has them once. Anchors are begun in the order of the
// records; a crash at any point leaves rows that the next Run finishes.
//
// A log that takes nothing makes anchors wait and never a request. The package
// refuses to sign a chain that contradicts itself: a record that was changed
// between writing and anchoring stops it, and Ready says so.
package anchor

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// ErrBehind says that more trust changes wait for the log than should.
var ErrBehind = errors.New("trust changes wait for the transparency log")

// Log is the transparency log.
type Log interface {
	// Append puts a body in the log, once however often it is called, and
	// returns its entry when a published checkpoint covers it.
	Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error)
}

// Config is what a Keeper needs. All but Clock and Logger are required.
type Config struct {
	Chain   store.Chain
	Anchors store.Anchors
	Log     Log
	// Signer is the journal key, ECDSA P-256.
	Signer crypto.Signer
	// Clock is the machine's when nil; Logger discards when nil.
	Clock  clock.Clock
	Logger *slog.Logger
}

// Keeper anchors one chain. It is safe for concurrent use.
type Keeper struct {
	cfg  Config
	wake chan struct{}

	// mu is held for a round.
	mu     sync.Mutex
	signer crypto.Signer
	// scanned is the last record that was looked at, previous its hash.
	scanned  int64
	previous []byte
	// kept is the last record with an anchor, keptAt when it was made.
	kept   int64
	keptAt time.Time
	// before is the end of a chain that is older than its first anchor.
	before int64

	state sync.Mutex
	// Guarded by state: why the last round failed, and how many records were
	// appended since it began.
	fault    error
	appended int
}

// Open reads how far anchoring has come. Run does the work.
func Open(ctx context.Context, c Config) (*Keeper, error) {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{cfg: c, signer: c.Signer, wake: make(chan struct{}, 1), keptAt: c.Clock.Now()}
	progress, err := c.Anchors.Progress(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's anchors: %w", err)
	}
	head, _, err := c.Chain.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's anchors: %w", err)
	}
	k.kept, k.scanned = progress.Kept, progress.Kept
	if progress.Kept == 0 {
		k.before = head
	}
	if k.scanned > 0 {
		links, err := c.Chain.Read(ctx, k.scanned-1, 1)
		if err != nil {
			return nil, fmt.Errorf("opening the journal's anchors: %w", err)
		}
		if len(links) == 1 && links[0].Sequence == k.scanned {
			k.previous = links[0].Hash
		}
	}
	return k, nil
}

// Appended hears of a new record; it is audit.Config.Appended.
func (k *Keeper) Appended(r audit.Record) {
	k.state.Lock()
	k.appended++
	due := k.appended >= limits.AnchorRecords
	k.state.Unlock()
	if due || audit.TrustChange(r.Action) {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// Use anchors with another key from now on. Anchors that wait keep their bytes.
func (k *Keeper) Use(signer crypto.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signer = signer
}

// Run anchors until ctx ends. Failures are logged and tried again.
func (k *Keeper) Run(ctx context.Context) {
	delay := limits.AnchorPoll
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		err := k.Round(ctx, false)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			delay = min(2*delay, limits.AnchorRetry)
		default:
			delay = limits.AnchorPoll
		}
		timer.Reset(delay)
	}
}

// Close anchors the end of the chain. Call it when nothing appends any more
// and Run has ended.
func (k *Keeper) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limits.AnchorClose)
	defer cancel()
	return k.Round(ctx, true)
}

// Round anchors what is due now, and with end whatever is not covered yet. It
// is what Run does again and again.
func (k *Keeper) Round(ctx context.Context, end bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.scan(ctx, end)
	if flushed := k.flush(ctx); err == nil {
		err = flushed
	}
	k.note(ctx, err)
	return err
}

// note remembers why a round failed, and logs what is new.
func (k *Keeper) note(ctx context.Context, err error) {
	k.state.Lock()
	was := k.fault
	if ctx.Err() == nil {
		k.fault = err
	}
	k.state.Unlock()
	if err != nil && ctx.Err() == nil && (was == nil || was.Error() != err.Error()) {
		k.cfg.Logger.WarnContext(ctx, "anchoring the audit journal, trying again", "cause", err)
	}
}

// Covering returns, for the records from first to last, the logged anchors
// that cover them, in order: a record is covered by the first one whose
// Sequence is not below its own.
func (k *Keeper) Covering(ctx context.Context, first, last int64) ([]store.Anchor, error) {
	return k.cfg.Anchors.From(ctx, first, int(last-first)+2)
}
