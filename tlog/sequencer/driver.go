package sequencer

import (
	"bytes"
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

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
)

// versionFile names the form of the state directory, which is that of Tessera's
// POSIX driver: either one opens what the other wrote.
const (
	versionFile  = "version"
	stateVersion = "1"
)

// driver keeps a tree in a directory for Tessera's appender: it writes what
// Tessera's own POSIX driver writes, in the same order. It is our own because
// that one ends the process when a lock file cannot be opened, so a read-only
// directory or a shortage of descriptors would end the service; here every
// failure is an error, and the next batch begins from what is on the disk.
//
// It remembers nothing of the tree between two batches.
type driver struct {
	dir      string
	disk     *disk
	verifier note.Verifier
	client   *http.Client
	logger   *slog.Logger

	checkpoint func(ctx context.Context, size uint64, root []byte) ([]byte, error)
	// grown receives, without blocking, when there may be something to publish.
	grown chan struct{}
	// running are the goroutines that write; they end with the appender's
	// context.
	running sync.WaitGroup

	// tree is held while the tree grows or its state is made sure of. It guards
	// unsure: whether the state on disk is durable is not known; and swept:
	// nothing lies beyond the tree.
	tree   sync.Mutex
	unsure bool
	swept  bool

	// mu guards failing: why the last write of that kind failed.
	mu      sync.Mutex
	failing map[string]error
}

// treeState is the content of treeStateFile.
type treeState struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// Appender begins the appender's life; tessera.NewAppender calls it.
func (d *driver) Appender(ctx context.Context, opts *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error) {
	d.checkpoint = opts.CheckpointPublisher(d, d.client)
	if err := d.initialise(ctx); err != nil {
		return nil, nil, err
	}
	q := newQueue(int(opts.BatchMaxSize()), opts.BatchMaxAge(), d.append)
	d.running.Go(func() { q.run(ctx) })
	d.running.Go(func() { d.publishing(ctx, opts.CheckpointInterval()) })
	d.running.Go(func() { d.collecting(ctx, opts.GarbageCollectionInterval()) })
	return &tessera.Appender{Add: q.add}, d, nil
}

// initialise makes the state of an empty tree, and its checkpoint, where there
// is none.
func (d *driver) initialise(ctx context.Context) error {
	if err := d.checkVersion(); err != nil {
		return err
	}
	_, err := d.state()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.setState(treeState{Root: rfc6962.DefaultHasher.EmptyRoot()}); err != nil {
		return err
	}
	return d.publish(ctx)
}

func (d *driver) checkVersion() error {
	path := filepath.Join(d.dir, stateDir, versionFile)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(path, []byte(stateVersion))
	case err != nil:
		return err
	case string(raw) != stateVersion:
		return fmt.Errorf("%w: .state is of version %q, not %s", ErrCorrupt, raw, stateVersion)
	}
	return nil
}

func (d *driver) statePath() string { return filepath.Join(d.dir, stateDir, treeStateFile) }

// state is the tree as it is on disk.
func (d *driver) state() (treeState, error) {
	var state treeState
	raw, err := os.ReadFile(d.statePath())
	if err != nil {
		return state, fmt.Errorf("reading tree state: %w", err)
	}
	if err := strictjson.Unmarshal(raw, &state); err != nil {
		return state, fmt.Errorf("%w: tree state: %w", ErrCorrupt, err)
	}
	return state, nil
}

// setState makes the tree grow. The caller holds d.tree, or is alone.
func (d *driver) setState(state treeState) error {
	raw, err := strictjson.Marshal(state)
	if err != nil {
		return err
	}
	err = replaceFile(d.statePath(), raw)
	d.unsure = err != nil
	return err
}

// settled is the state once it is durable. A state whose write was reported as
// failed may be there all the same; nothing is built upon it, and above all no
// checkpoint is signed, before it was written again: a power failure could
// take it back. The caller holds d.tree.
func (d *driver) settled() (treeState, error) {
	state, err := d.state()
	if err == nil && d.unsure {
		err = d.setState(state)
	}
	return state, err
}

// append integrates a batch. Killed or failed before the state is replaced, the
// tree has its old size and the next batch overwrites the files.
func (d *driver) append(_ context.Context, entries []*tessera.Entry) error {
	d.tree.Lock()
	defer d.tree.Unlock()
	err := d.grow(entries)
	d.note("append", err)
	if err == nil {
		notify(d.grown)
	}
	return err
}

func (d *driver) grow(entries []*tessera.Entry) error {
	state, err := d.settled()
	if err != nil {
		return err
	}
	e, err := readEdge(state.Size, d.disk.read)
	if err != nil {
		return err
	}
	if !bytes.Equal(e.root(), state.Root) {
		return fmt.Errorf("%w: the tiles do not have the root of the tree state", ErrCorrupt)
	}
	if !d.swept {
		if err := d.sweep(state.Size); err != nil {
			return err
		}
	}
	d.swept = false
	for _, entry := range entries {
		// What marks the entry with its index; the bytes are the layout's.
		entry.MarshalBundleData(e.size)
		e.add(entry.Data(), entry.LeafHash())
	}
	files := make(map[string][]byte)
	for _, f := range e.files() {
		files[filepath.Join(d.dir, filepath.FromSlash(f.tile.Path()))] = f.content
	}
	if err := replaceFiles(files); err != nil {
		return err
	}
	err = d.setState(treeState{Size: e.size, Root: e.root()})
	d.swept = err == nil
	return err
}

// publishing publishes a checkpoint as soon as the tree has grown, but not more
// often than each interval, and repeats what failed: less and less often while
// there was no checkpoint yet, because a shard that is prepared may wait for days
// until its witnesses know it.
func (d *driver) publishing(ctx context.Context, interval time.Duration) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for delay := interval; ; {
		select {
		case <-ctx.Done():
			return
		case <-d.grown:
		}
		err := d.publish(ctx)
		if ctx.Err() != nil {
			return
		}
		d.note("publish", err)
		delay = d.pauseAfter(err, delay, interval)
		if err != nil {
			notify(d.grown)
		}
		pause.Reset(delay)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

func (d *driver) pauseAfter(err error, last, interval time.Duration) time.Duration {
	if err == nil {
		return interval
	}
	_, missing := os.Stat(filepath.Join(d.dir, layout.CheckpointPath))
	if state, err := d.state(); err != nil || state.Size > 0 || !errors.Is(missing, fs.ErrNotExist) {
		return interval
	}
	return min(2*last, askLater)
}

// publish signs and shows a checkpoint over the tree, unless the published one
// covers it.
func (d *driver) publish(ctx context.Context) error {
	d.tree.Lock()
	state, err := d.settled()
	d.tree.Unlock()
	if err != nil {
		return err
	}
	size, found, err := d.published(ctx)
	if err != nil || (found && size == state.Size) {
		return err
	}
	raw, err := d.checkpoint(ctx, state.Size, state.Root)
	if err != nil {
		return fmt.Errorf("making a checkpoint: %w", err)
	}
	return replaceFile(filepath.Join(d.dir, layout.CheckpointPath), raw)
}

// published is the size of the published checkpoint.
func (d *driver) published(ctx context.Context) (size uint64, found bool, err error) {
	raw, err := d.ReadCheckpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	cp, err := tlog.OpenCheckpoint(raw, d.verifier)
	return cp.Size, err == nil, err
}

// note remembers whether the last write of a kind failed, and tells the
// operator when that changes.
func (d *driver) note(kind string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.failing[kind]
	d.failing[kind] = err
	switch {
	case err != nil && before == nil:
		d.logger.Error("the log cannot be written, trying again", "step", kind, "error", err)
	case err == nil && before != nil:
		d.logger.Info("the log can be written again", "step", kind)
	}
}

// trouble is why the log cannot be written just now, or nil.
func (d *driver) trouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.failing["append"], d.failing["publish"])
}

// ReadCheckpoint is the published checkpoint, or fs.ErrNotExist.
func (d *driver) ReadCheckpoint(context.Context) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.dir, layout.CheckpointPath))
}

// ReadTile is a tile of the tree; a width of 0 is a full one's.
func (d *driver) ReadTile(_ context.Context, level, index uint64, width uint8) ([]byte, error) {
	return d.disk.read(tlog.Tile{Level: level, Index: index, Width: tileWidth(width)})
}

// ReadEntryBundle is a bundle of the tree.
func (d *driver) ReadEntryBundle(_ context.Context, index uint64, width uint8) ([]byte, error) {
	return d.disk.read(tlog.Tile{Entries: true, Index: index, Width: tileWidth(width)})
}

func tileWidth(width uint8) int {
	if width == 0 {
		return tlog.TileWidth
	}
	return int(width)
}

// IntegratedSize is the size of the tree.
func (d *driver) IntegratedSize(context.Context) (uint64, error) {
	state, err := d.state()
	return state.Size, err
}

// NextIndex is where the next entry goes.
func (d *driver) NextIndex(ctx context.Context) (uint64, error) { return d.IntegratedSize(ctx) }
