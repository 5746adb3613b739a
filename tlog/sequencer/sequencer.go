package sequencer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// Names of the driver's private files.
const (
	stateDir      = ".state"
	treeStateFile = "treeState"
	lockFile      = "writer.lock"
)

// stuckAfter is how long an append may wait before Ready says so.
const stuckAfter = 10 * time.Second

// Sequencer is an open log. All methods are safe for concurrent use.
type Sequencer struct {
	cfg      Config
	logID    []byte
	verifier note.Verifier
	disk     *disk
	guard    *guard
	lock     *flock.Flock
	// witness is nil without witnesses; asking is who waits for them.
	witness *witnessing
	asking  sync.WaitGroup

	// driver writes; appender, reader and shutdown are Tessera's around it.
	driver   *driver
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error

	// ctx ends with Close; calls and the driver's goroutines run under it.
	ctx      context.Context //nolint:containedctx // the life of the goroutines, not of a request
	cancel   context.CancelFunc
	calls    sync.WaitGroup
	followed chan struct{}

	// halting is held while the writing side is ended, by Freeze or Close; it
	// owns halted.
	halting sync.Mutex
	halted  bool

	mu       sync.Mutex
	inflight map[leafKey]*call
	// gate, while it is not nil, holds back what is not under way yet; it is
	// closed when that may go on.
	gate chan struct{}
	view *view
	// changed is closed and replaced when view or fault changes.
	changed chan struct{}
	fault   error
	closed  bool
	// sealed: nothing new is taken; what is under way is finished. endedAt is
	// the last moment that a promise may name, and frozen says that the mark of
	// it is on disk.
	sealed  bool
	endedAt time.Time
	frozen  bool
	// doubts counts the batches that failed and whose outcome could not be read
	// from the tree either. While doubt is not 0, a body that is in no index is
	// looked for in the tree before it is added.
	doubts, doubt uint64
	// behind is why the follower could not take over the published checkpoint.
	behind error
}

// Open opens the log in cfg.Dir, or makes it, and returns when everything that
// a crash left in the tree is published and in the leaf index.
//
// It refuses with ErrLocked, ErrRollback, ErrCorrupt or tlog.ErrCheckpoint
// rather than touch a log that is in use, older than its record, damaged, or
// of another key or origin. A frozen one is opened for reading; damage that is
// found in it does not keep it from being read where it is whole, see Fault.
func Open(ctx context.Context, cfg Config) (*Sequencer, error) {
	cfg, err := cfg.validated()
	if err != nil {
		return nil, err
	}
	s := &Sequencer{
		cfg: cfg, disk: newDisk(cfg.Dir), followed: make(chan struct{}),
		inflight: make(map[leafKey]*call), changed: make(chan struct{}),
	}
	if err := s.setKey(); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

func (s *Sequencer) begin(ctx context.Context) error {
	m, frozen, err := s.readMark()
	switch {
	case err != nil:
		return err
	case frozen:
		return s.openFrozen(ctx, m)
	}
	return s.start(ctx)
}

func (s *Sequencer) setKey() (err error) {
	if s.logID, err = tlog.LogID(s.cfg.Signer.Public()); err != nil {
		return err
	}
	s.verifier, err = tlog.NewCheckpointVerifier(s.cfg.Origin, s.cfg.Signer.Public())
	return err
}

// acquire takes the writer's lock, which the system drops with the process.
func (s *Sequencer) acquire() error {
	private := filepath.Join(s.cfg.Dir, stateDir)
	if err := os.MkdirAll(private, 0o755); err != nil { //nolint:gosec // the tree is public; the driver makes the rest with the same mode
		return fmt.Errorf("making log directory: %w", err)
	}
	s.lock = flock.New(filepath.Join(private, lockFile))
	held, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking log directory: %w", err)
	}
	if !held {
		return fmt.Errorf("%w: %s", ErrLocked, s.cfg.Dir)
	}
	return nil
}

// start brings the log from what lies on disk to service.
func (s *Sequencer) start(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := s.startDriver()
	if err == nil {
		err = s.recover(ctx)
	}
	if err == nil {
		err = s.consult(ctx)
	}
	if err != nil {
		s.guard.setOpen(false)
		s.cancel()
		s.driver.running.Wait()
		s.asking.Wait()
		return err
	}
	s.guard.setOpen(true)
	notify(s.driver.grown)
	go s.follow(s.ctx) //nolint:contextcheck // it lives until Close, longer than ctx
	err = s.awaitPublished(ctx)
	if errors.Is(err, ErrUnwitnessed) {
		s.cfg.Logger.WarnContext(ctx, "the log takes no entries until its witnesses cosign", slog.Any("cause", err))
		return nil
	}
	if err != nil {
		return errors.Join(err, s.end(ctx))
	}
	return nil
}

// load reads the published checkpoint before the driver is started, because
// the driver signs what its state file says without looking back.
func (s *Sequencer) load(ctx context.Context) error {
	raw, err := os.ReadFile(filepath.Join(s.cfg.Dir, layout.CheckpointPath))
	published := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	_, err = os.Stat(filepath.Join(s.cfg.Dir, stateDir, treeStateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading tree state: %w", err)
	}
	if grown := err == nil; published && !grown {
		return fmt.Errorf("%w: a checkpoint is published but .state/treeState is missing; restore it from the same backup", ErrRollback)
	}
	s.view = &view{tree: newTree(0, s.disk.read)}
	if published {
		if err := s.loadPublished(raw); err != nil {
			return err
		}
	}
	signer, err := tlog.NewCheckpointSigner(s.cfg.Origin, s.cfg.Signer)
	if err != nil {
		return err
	}
	s.guard = newGuard(signer, s.disk, s.view.cp)
	s.guard.witness = newWitnessing(s.cfg.Witnesses, s.cfg.Origin, s.guard.notify)
	s.witness = s.guard.witness
	if published {
		s.witness.shown(raw)
	}
	indexed, err := s.cfg.Leaves.Size(ctx)
	if err != nil {
		return fmt.Errorf("asking the leaf index: %w", err)
	}
	if !published && indexed > 0 {
		return fmt.Errorf("%w: the leaf index knows %d entries, the directory holds no checkpoint", ErrRollback, indexed)
	}
	return nil
}

func (s *Sequencer) loadPublished(raw []byte) error {
	cp, err := tlog.OpenCheckpoint(raw, s.verifier)
	if err != nil {
		return fmt.Errorf("published checkpoint: %w", err)
	}
	t := newTree(cp.Size, s.disk.read)
	if err := t.extends(tlog.Checkpoint{}, cp.Root); err != nil {
		return fmt.Errorf("published checkpoint: %w", err)
	}
	s.view = s.view.next(raw, cp, t, nil)
	return nil
}

func (s *Sequencer) startDriver() error {
	err := s.newAppender()
	if err == nil || !s.witness.unmet() {
		return err
	}
	// The driver insists on the first checkpoint of a new log when it makes the
	// tree's state. The second time it finds the state, starts, and goes on
	// trying.
	if conflict := s.witness.contradiction(); conflict != nil {
		return conflict
	}
	return s.newAppender()
}

func (s *Sequencer) newAppender() error {
	client := s.witness.httpClient()
	if client == nil {
		client = http.DefaultClient
	}
	s.driver = &driver{
		dir: s.cfg.Dir, disk: s.disk, verifier: s.verifier, client: client, logger: s.cfg.Logger,
		grown: make(chan struct{}, 1), failing: make(map[string]error),
	}
	var err error
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(s.guard).
		WithCheckpointInterval(s.cfg.CheckpointInterval).
		// An unchanged tree needs no second signature; and after Close nothing
		// may be written by a goroutine that has not ended yet.
		WithCheckpointRepublishInterval(0).
		WithBatching(limits.BatchMaxSize, limits.BatchMaxAge)
	if w := s.witness; w != nil {
		opts = opts.WithWitnesses(w.group(w.seen), &tessera.WitnessOptions{Timeout: w.cfg.Timeout, FailOpen: w.cfg.FailOpen})
	}
	s.appender, s.shutdown, s.reader, err = tessera.NewAppender(s.ctx, s.driver, opts)
	if err != nil {
		return fmt.Errorf("starting log storage: %w", err)
	}
	return nil
}

// recover compares the tree with the leaf index and completes the index from
// the tree: entries of a batch that was integrated just before a crash must be
// found before anybody appends them again.
func (s *Sequencer) recover(ctx context.Context) error {
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("reading tree state: %w", err)
	}
	indexed, err := s.cfg.Leaves.Size(ctx)
	if err != nil {
		return fmt.Errorf("asking the leaf index: %w", err)
	}
	if size < s.view.cp.Size || size < indexed {
		return fmt.Errorf("%w: the tree has %d entries, the checkpoint %d, the leaf index %d",
			ErrRollback, size, s.view.cp.Size, indexed)
	}
	t := newTree(size, s.disk.read)
	root, err := t.root()
	if err != nil {
		return fmt.Errorf("tree of %d entries: %w", size, err)
	}
	if err := t.extends(s.view.cp, root); err != nil {
		return fmt.Errorf("tree of %d entries: %w", size, err)
	}
	if err := s.sameLog(ctx, t, indexed); err != nil {
		return err
	}
	return s.index(ctx, t, indexed, func([][]byte) {})
}

// sameLog finds a leaf index that belongs to another log: its last leaf must
// be this tree's.
func (s *Sequencer) sameLog(ctx context.Context, t *tree, indexed uint64) error {
	if indexed == 0 {
		return nil
	}
	last, err := t.stored(0, indexed-1)
	if err != nil {
		return err
	}
	at, found, err := s.cfg.Leaves.Find(ctx, last)
	if err != nil {
		return fmt.Errorf("asking the leaf index: %w", err)
	}
	if !found || at >= indexed {
		return fmt.Errorf("%w: the leaf index is of another log", ErrRollback)
	}
	return nil
}

// awaitPublished returns when a checkpoint covers the whole tree.
func (s *Sequencer) awaitPublished(ctx context.Context) error {
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("reading tree state: %w", err)
	}
	for {
		s.mu.Lock()
		v, changed, fault := s.view, s.changed, s.fault
		s.mu.Unlock()
		if fault != nil {
			return fault
		}
		if v.raw != nil && v.cp.Size >= size {
			return nil
		}
		select {
		case <-changed:
		case <-s.witness.failed():
			if err := s.witness.why(); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for the first checkpoint: %w", ctx.Err())
		}
	}
}

// Ready is nil while appends are served: the log has not stopped, the last
// write to its storage did not fail, and no append has waited longer than ten
// seconds.
func (s *Sequencer) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.usable(), s.trouble()); err != nil {
		return err
	}
	now := s.cfg.Clock.Now()
	for _, c := range s.inflight {
		if waited := now.Sub(c.since); waited > stuckAfter {
			return fmt.Errorf("an entry has waited %v to be logged", waited.Round(time.Second))
		}
	}
	return nil
}

// Close refuses new appends, waits until those under way are published, and
// releases the directory. When ctx ends first, what is still waiting is
// abandoned as by a crash. Calling it again does nothing.
func (s *Sequencer) Close(ctx context.Context) error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	return s.end(ctx)
}

func (s *Sequencer) end(ctx context.Context) error {
	s.halting.Lock()
	defer s.halting.Unlock()
	if s.halted {
		return s.lock.Close()
	}
	err := s.drain(ctx)
	// The driver's own shutdown waits for a checkpoint over all it appended;
	// a stopped log publishes none, and one without its witnesses none in time.
	if err == nil && s.running() && s.witness.why() == nil {
		err = s.shutdown(ctx)
	}
	s.halt()
	if err != nil {
		err = fmt.Errorf("closing the log: %w", err)
	}
	return errors.Join(err, s.lock.Close())
}

// halt ends signing and the goroutines: when it returns nothing is written to
// the directory any more. The caller holds s.halting.
func (s *Sequencer) halt() {
	s.guard.setOpen(false)
	s.cancel()
	<-s.followed
	s.driver.running.Wait()
	s.asking.Wait()
	s.witness.gone()
	s.halted = true
}

func (s *Sequencer) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault == nil
}

// drain waits for the calls under way, but not for witnesses that do not cosign.
func (s *Sequencer) drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-s.witness.failed():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
