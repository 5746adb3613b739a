package sequencer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/countersign/countersign/tlog"
)

// maxProblems bounds a report: a log with this many is not examined further.
const maxProblems = 1000

// AuditConfig says which log to examine.
type AuditConfig struct {
	// Dir is the log's directory. Ignored when Fetch is set.
	Dir string
	// Fetch returns the bytes under a path of the tlog-tiles layout,
	// "checkpoint" included, or an error that is fs.ErrNotExist.
	Fetch func(ctx context.Context, path string) ([]byte, error)
	// Origin and Public are the log's.
	Origin string
	Public crypto.PublicKey
	// From is an older checkpoint that the log must extend, or nil.
	From []byte
	// Leaf, if set, is called for each entry in order. body is nil where the
	// entry cannot be read and hash is that of the tile. Its error ends the
	// audit.
	Leaf func(ctx context.Context, index uint64, hash, body []byte) error
	// AnyDuplicates leaves out the search for duplicates, which is what takes
	// memory.
	AnyDuplicates bool
}

// Problem is one contradiction in the stored bytes.
type Problem struct {
	// Where is a path of the layout, or "entry N", or "from".
	Where string `json:"where"`
	// What is wrong there.
	What string `json:"what"`
}

// Duplicate is a leaf that stands in the log more than once.
type Duplicate struct {
	LeafHash string `json:"leafHash"`
	First    uint64 `json:"first"`
	Again    uint64 `json:"again"`
}

// Report is the outcome of an audit. The log is sound if Problems is empty;
// Duplicates break the promise of Append but no proof.
type Report struct {
	Size       uint64      `json:"size"`
	Root       string      `json:"root"`
	Duplicates []Duplicate `json:"duplicates"`
	Problems   []Problem   `json:"problems"`
	// FrozenAt is what the mark of a frozen shard says, in an audit of a Dir.
	FrozenAt *time.Time `json:"frozenAt,omitempty"`
}

// Sound reports whether nothing was found.
func (r Report) Sound() bool { return len(r.Problems) == 0 && len(r.Duplicates) == 0 }

// Audit proves a log again from its stored bytes alone: the checkpoint's
// signature, every entry against its tile, every tile against the entries
// below it, the root, and that the log extends cfg.From. The log may grow
// meanwhile; what the checkpoint read first covers is examined. It needs about
// 100 bytes of memory an entry, or with AnyDuplicates a few tiles.
//
// Of a Dir also the files that only readers with an older checkpoint ask for
// are compared, and the mark of a frozen shard is held against the checkpoint.
//
// An error means that the audit could not be done; what is wrong with the log
// is in the report.
func Audit(ctx context.Context, cfg AuditConfig) (Report, error) {
	whole := cfg.Fetch == nil
	if whole {
		cfg.Fetch = fetchDir(cfg.Dir)
	}
	a := &audit{cfg: cfg, seen: make(map[leafKey]uint64), tiles: make(map[uint64][]byte)}
	a.grow = (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	err := a.run(ctx)
	if err == nil && whole {
		err = a.folder(ctx)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return Report{}, fmt.Errorf("auditing log: %w", err)
	}
	return a.report, nil
}

func fetchDir(dir string) func(context.Context, string) ([]byte, error) {
	return func(_ context.Context, path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
	}
}

type audit struct {
	cfg    AuditConfig
	report Report
	cp     tlog.Checkpoint
	from   tlog.Checkpoint
	seen   map[leafKey]uint64
	// grow is the tree over the entries read so far.
	grow *compact.Range
	// tiles holds, by level, the tile that is being filled by grow.
	tiles map[uint64][]byte
}

// errEnough ends an audit that has found maxProblems.
var errEnough = errors.New("too many problems")

func (a *audit) run(ctx context.Context) error {
	raw, err := a.cfg.Fetch(ctx, layout.CheckpointPath)
	if err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	if a.cp, err = tlog.ParseCheckpoint(raw, a.cfg.Origin, a.cfg.Public); err != nil {
		return a.problem(layout.CheckpointPath, err.Error())
	}
	a.report.Size, a.report.Root = a.cp.Size, hex.EncodeToString(a.cp.Root)
	if err := a.openFrom(); err != nil {
		return err
	}
	return a.entries(ctx)
}

func (a *audit) problem(where, what string) error {
	a.report.Problems = append(a.report.Problems, Problem{Where: where, What: what})
	if len(a.report.Problems) >= maxProblems {
		return errEnough
	}
	return nil
}

func (a *audit) openFrom() (err error) {
	if a.cfg.From == nil {
		return nil
	}
	if a.from, err = tlog.ParseCheckpoint(a.cfg.From, a.cfg.Origin, a.cfg.Public); err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	if a.from.Size > a.cp.Size {
		return a.problem("from", fmt.Sprintf("the log had %d entries and has %d now", a.from.Size, a.cp.Size))
	}
	return a.compareFrom()
}

// compareFrom compares roots when the tree has the older checkpoint's size.
func (a *audit) compareFrom() error {
	if a.cfg.From == nil || a.grow.End() != a.from.Size {
		return nil
	}
	root, err := a.root()
	if err != nil {
		return err
	}
	if !bytes.Equal(root, a.from.Root) {
		return a.problem("from", fmt.Sprintf("the first %d entries are not those of the older checkpoint", a.from.Size))
	}
	return nil
}

func (a *audit) root() ([]byte, error) {
	if a.grow.End() == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	root, err := a.grow.GetRootHash(nil)
	if err != nil {
		return nil, fmt.Errorf("computing root: %w", err)
	}
	return root, nil
}

// entries walks the log bundle by bundle.
func (a *audit) entries(ctx context.Context) error {
	for a.grow.End() < a.cp.Size {
		hashes, bodies, err := a.bundle(ctx, entryTile(a.grow.End(), a.cp.Size))
		if err != nil {
			return err
		}
		if hashes == nil {
			// Neither entries nor hashes: nothing above can be computed.
			return nil
		}
		for i, h := range hashes {
			if err := a.show(ctx, i, h, bodies); err != nil {
				return err
			}
			if err := a.append(ctx, h); err != nil {
				return err
			}
		}
	}
	return a.finish(ctx)
}

// show hands an entry to whoever asked for it.
func (a *audit) show(ctx context.Context, i int, hash []byte, bodies [][]byte) error {
	if a.cfg.Leaf == nil {
		return nil
	}
	var body []byte
	if bodies != nil {
		body = bodies[i]
	}
	return a.cfg.Leaf(ctx, a.grow.End(), hash, body)
}

// bundle returns the leaf hashes of one bundle and its entries, or the hashes
// of the tile alone when the entries cannot be read, so that one damaged file
// does not hide the rest.
func (a *audit) bundle(ctx context.Context, t tlog.Tile) (hashes, bodies [][]byte, err error) {
	raw, err := a.fetch(ctx, t)
	if err == nil {
		bodies = splitEntries(raw)
		for _, e := range bodies {
			hashes = append(hashes, tlog.LeafHash(e))
		}
		return hashes, bodies, nil
	}
	if err := a.unreadable(ctx, t, err); err != nil {
		return nil, nil, err
	}
	t.Entries = false
	raw, err = a.fetch(ctx, t)
	if err != nil {
		return nil, nil, a.unreadable(ctx, t, err)
	}
	for at := 0; at < len(raw); at += sha256.Size {
		hashes = append(hashes, raw[at:at+sha256.Size])
	}
	return hashes, nil, nil
}

// unreadable records a missing or damaged file; other failures end the audit.
func (a *audit) unreadable(ctx context.Context, t tlog.Tile, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return a.problem(t.Path(), "missing")
	case errors.Is(err, ErrCorrupt):
		return a.problem(t.Path(), "has the wrong length")
	}
	return err
}

// fetch returns exactly the tile or bundle, cut from the full one when the
// partial one is gone. Bytes after the last entry or hash of a full bundle are
// damage, too.
func (a *audit) fetch(ctx context.Context, t tlog.Tile) ([]byte, error) {
	raw, err := a.cfg.Fetch(ctx, t.Path())
	if errors.Is(err, fs.ErrNotExist) && t.Width < tlog.TileWidth {
		full := t
		full.Width = tlog.TileWidth
		if raw, err = a.cfg.Fetch(ctx, full.Path()); err == nil {
			return cut(t, raw)
		}
	}
	if err != nil {
		return nil, err
	}
	out, err := cut(t, raw)
	if err == nil && len(out) != len(raw) {
		return nil, fmt.Errorf("%w: %s is too long", ErrCorrupt, t.Path())
	}
	return out, err
}

// append adds a leaf to the tree and compares each tile that this completes.
func (a *audit) append(ctx context.Context, leaf []byte) error {
	if a.cfg.AnyDuplicates {
		// The caller looks for them elsewhere.
	} else if first, again := a.seen[leafKey(leaf)]; again {
		a.report.Duplicates = append(a.report.Duplicates, Duplicate{
			LeafHash: hex.EncodeToString(leaf), First: first, Again: a.grow.End(),
		})
	} else {
		a.seen[leafKey(leaf)] = a.grow.End()
	}
	var full []tlog.Tile
	err := a.grow.Append(leaf, func(id compact.NodeID, hash []byte) {
		if id.Level%8 != 0 {
			return
		}
		level := uint64(id.Level / 8)
		a.tiles[level] = append(a.tiles[level], hash...)
		if id.Index%tlog.TileWidth == tlog.TileWidth-1 {
			full = append(full, tlog.Tile{Level: level, Index: id.Index / tlog.TileWidth, Width: tlog.TileWidth})
		}
	})
	if err != nil {
		return fmt.Errorf("computing tree: %w", err)
	}
	for _, t := range full {
		if err := a.compare(ctx, t); err != nil {
			return err
		}
		a.tiles[t.Level] = nil
	}
	return a.compareFrom()
}

// finish compares the partial tiles and the root.
func (a *audit) finish(ctx context.Context) error {
	for level := range uint64(len(a.tiles)) {
		t := tlog.Tile{Level: level, Index: a.cp.Size >> (8 * (level + 1)), Width: len(a.tiles[level]) / sha256.Size}
		if t.Width == 0 {
			continue
		}
		if err := a.compare(ctx, t); err != nil {
			return err
		}
	}
	root, err := a.root()
	if err != nil {
		return err
	}
	if !bytes.Equal(root, a.cp.Root) {
		return a.problem(layout.CheckpointPath, "its root is not the root of the stored entries")
	}
	return nil
}

// compare compares a stored tile with the one computed from the entries.
func (a *audit) compare(ctx context.Context, t tlog.Tile) error {
	raw, err := a.fetch(ctx, t)
	if err != nil {
		return a.unreadable(ctx, t, err)
	}
	want := a.tiles[t.Level]
	for at := 0; at < len(want); at += sha256.Size {
		if bytes.Equal(raw[at:at+sha256.Size], want[at:at+sha256.Size]) {
			continue
		}
		number := t.Index*tlog.TileWidth + uint64(at/sha256.Size)
		what := fmt.Sprintf("hash %d is not that of the tile below", at/sha256.Size)
		if t.Level == 0 {
			what = fmt.Sprintf("hash %d is not that of entry %d", at/sha256.Size, number)
		}
		if err := a.problem(t.Path(), what); err != nil {
			return err
		}
	}
	return nil
}
