package sequencer

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
)

// Reader reads the published tree of one shard from its directory, whoever
// writes it, and proves every byte that it answers under the signed checkpoint.
// It is safe for concurrent use.
type Reader struct {
	dir      string
	verifier note.Verifier
	disk     *disk

	mu   sync.Mutex
	note []byte
	cp   tlog.Checkpoint
	tree *tree
}

// NewReader reads the log in dir, which has that origin and key.
func NewReader(dir, origin string, public crypto.PublicKey) (*Reader, error) {
	verifier, err := tlog.NewCheckpointVerifier(origin, public)
	if err != nil {
		return nil, err
	}
	return &Reader{dir: dir, verifier: verifier, disk: newDisk(dir)}, nil
}

// Head takes over the checkpoint that is published now and returns it, with the
// signed note. A checkpoint that is smaller than the one before is ErrRollback,
// one that does not extend it, or that the tiles do not lead to, ErrCorrupt; when
// none is published yet, ErrNotFound. A tile that is missing is fs.ErrNotExist
// alone.
func (r *Reader) Head(ctx context.Context) (tlog.Checkpoint, []byte, error) {
	if err := ctx.Err(); err != nil {
		return tlog.Checkpoint{}, nil, err
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, layout.CheckpointPath))
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Checkpoint{}, nil, fmt.Errorf("%w: no checkpoint: %w", ErrNotFound, err)
	}
	if err != nil {
		return tlog.Checkpoint{}, nil, fmt.Errorf("reading checkpoint: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tree == nil || !bytes.Equal(raw, r.note) {
		if err := r.take(raw); err != nil {
			return tlog.Checkpoint{}, nil, err
		}
	}
	return r.cp, bytes.Clone(r.note), nil
}

// take replaces the checkpoint. The caller holds r.mu.
func (r *Reader) take(raw []byte) error {
	cp, err := tlog.OpenCheckpoint(raw, r.verifier)
	if err != nil {
		return err
	}
	if cp.Size < r.cp.Size {
		return fmt.Errorf("%w: checkpoint of %d entries after one of %d", ErrRollback, cp.Size, r.cp.Size)
	}
	t := newTree(cp.Size, r.disk.read)
	if err := t.extends(r.cp, cp.Root); err != nil {
		return err
	}
	r.note, r.cp, r.tree = raw, cp, t
	return nil
}

// head is the checkpoint that Head took over last and its tree.
func (r *Reader) head() (tlog.Checkpoint, *tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cp, r.tree
}

// Entries returns the bodies from first on, as far as they lie in one entry
// bundle under the checkpoint that Head returned last. Each was hashed and the
// hashes lead to the checkpoint's root; ErrCorrupt says that they do not.
func (r *Reader) Entries(ctx context.Context, first uint64) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cp, t := r.head()
	if first >= cp.Size || cp.Size > math.MaxInt64 {
		return nil, ErrNotFound
	}
	bundle := entryTile(first, cp.Size)
	raw, err := t.read(bundle)
	if err != nil {
		return nil, err
	}
	bodies := splitEntries(raw)
	if err := t.holds(bundle, bodies, cp); err != nil {
		return nil, err
	}
	return bodies[first%tlog.TileWidth:], nil
}

// holds proves a whole entry bundle: each body hashes to its place in the tile
// above, and the tile leads to the root. One proof shows the latter, because the
// hashes of all the tile's leaves go into it.
func (t *tree) holds(bundle tlog.Tile, bodies [][]byte, cp tlog.Checkpoint) error {
	first := bundle.Index * tlog.TileWidth
	hashes := make([][]byte, 0, len(bodies))
	for _, body := range bodies {
		hashes = append(hashes, tlog.LeafHash(body))
	}
	if err := matchTile(t, first, hashes); err != nil {
		return err
	}
	last := first + uint64(len(bodies)) - 1
	path, err := t.inclusion(last)
	if err != nil {
		return err
	}
	if err := tlog.VerifyLeaf(bodies[len(bodies)-1], int64(last), path, cp); err != nil { //nolint:gosec // the caller compared the size with MaxInt64
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, bundle.Path(), err)
	}
	return nil
}

// Root is the root of the first entries of the tree under the checkpoint that
// Head returned last, proven to be its beginning. ErrNotFound when the tree is
// smaller.
func (r *Reader) Root(ctx context.Context, size uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cp, t := r.head()
	return t.beginning(size, cp)
}

// Consistency is a proof that the tree of From entries is the beginning of the
// tree of To entries.
type Consistency struct {
	// LogID is the shard's.
	LogID            []byte
	From, To         uint64
	FromRoot, ToRoot []byte
	// Hashes is the proof, RFC 6962 §2.1.2.
	Hashes [][]byte
	// Checkpoint is the published one, a signed note; both trees are its
	// beginnings.
	Checkpoint []byte
}

// ErrRange says that a consistency proof was asked from a larger tree to a smaller one.
var ErrRange = errors.New("from is larger than to")

// Consistency proves that the tree of from entries is the beginning of the tree
// of to entries, and both of the published one; 0 for to means the published
// one. The proofs are verified before they are returned. ErrRange, or
// ErrNotFound for a tree larger than the published one.
func (s *Sequencer) Consistency(ctx context.Context, from, to uint64) (Consistency, error) {
	if err := ctx.Err(); err != nil {
		return Consistency{}, err
	}
	v := s.current()
	if to == 0 {
		to = v.cp.Size
	}
	switch {
	case from > to:
		return Consistency{}, ErrRange
	case to > v.cp.Size:
		return Consistency{}, ErrNotFound
	}
	out := Consistency{LogID: bytes.Clone(s.logID), From: from, To: to, Hashes: [][]byte{}, Checkpoint: bytes.Clone(v.raw)}
	err := out.prove(v)
	return out, s.noted(err)
}

// Consistency is the active shard's.
func (l *Log) Consistency(ctx context.Context, from, to uint64) (Consistency, error) {
	return l.active().Consistency(ctx, from, to)
}

func (c *Consistency) prove(v *view) (err error) {
	if c.FromRoot, err = v.tree.beginning(c.From, v.cp); err != nil {
		return err
	}
	if c.ToRoot, err = v.tree.beginning(c.To, v.cp); err != nil {
		return err
	}
	if c.From == 0 || c.From == c.To {
		return nil
	}
	nodes, err := proof.Consistency(c.From, c.To)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRange, err)
	}
	if c.Hashes, err = v.tree.part(c.To).hashes(nodes); err != nil {
		return err
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, c.From, c.To, c.Hashes, c.FromRoot, c.ToRoot); err != nil {
		return fmt.Errorf("%w: trees of %d and %d entries: %w", ErrCorrupt, c.From, c.To, err)
	}
	return nil
}

// beginning is the root of the first size leaves, proven to be the beginning of
// the tree of cp, which is this one.
func (t *tree) beginning(size uint64, cp tlog.Checkpoint) ([]byte, error) {
	if t == nil || size > t.size {
		return nil, ErrNotFound
	}
	root, err := t.part(size).root()
	if err != nil {
		return nil, err
	}
	return root, t.extends(tlog.Checkpoint{Size: size, Root: root}, cp.Root)
}

// part is the tree of the first leaves, over the tiles of the whole one: a
// narrower tile need not be on disk any more.
func (t *tree) part(size uint64) *tree {
	return newTree(size, func(asked tlog.Tile) ([]byte, error) {
		covered := asked
		covered.Width = asked.WidthAt(t.size)
		raw, err := t.read(covered)
		if err != nil {
			return nil, err
		}
		return cut(asked, raw)
	})
}

// LogID is the id of the log's key.
func (s *Sequencer) LogID() []byte { return bytes.Clone(s.logID) }
