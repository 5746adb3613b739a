package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// view is one published checkpoint, verified, with what proofs under it need.
// Its fields do not change.
type view struct {
	raw  []byte
	cp   tlog.Checkpoint
	tree *tree
	// recent holds the leaf hashes, computed from stored bytes, of the last
	// entries, from recentFirst up to cp.Size.
	recent      [][]byte
	recentFirst uint64
}

// next is the view of a checkpoint that follows v, whose new leaves are
// fresh.
func (v *view) next(raw []byte, cp tlog.Checkpoint, t *tree, fresh [][]byte) *view {
	keep := min(len(v.recent), limits.LogPushback)
	recent := make([][]byte, 0, keep+len(fresh))
	recent = append(recent, v.recent[len(v.recent)-keep:]...)
	recent = append(recent, fresh...)
	return &view{raw: raw, cp: cp, tree: t, recent: recent, recentFirst: cp.Size - uint64(len(recent))}
}

// leaf is the hash of the bytes stored at index.
func (v *view) leaf(index uint64) ([]byte, error) {
	if index >= v.recentFirst {
		return v.recent[index-v.recentFirst], nil
	}
	hashes, err := leafHashes(v.tree.read, index, index+1, v.cp.Size)
	if err != nil {
		return nil, err
	}
	return hashes[0], nil
}

// prove builds the entry that says body stands at index, and checks it: the
// stored bytes hash to the body's leaf, and the proof leads from it to the
// signed root.
func (v *view) prove(index uint64, body []byte, kind tlog.Body, logID []byte) (*rekorpb.TransparencyLogEntry, error) {
	if index >= v.cp.Size || v.cp.Size > math.MaxInt64 {
		return nil, ErrNotFound
	}
	at := int64(index) //nolint:gosec // below cp.Size, which was compared with MaxInt64
	stored, err := v.leaf(index)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(stored, tlog.LeafHash(body)) {
		return nil, fmt.Errorf("%w: entry %d holds other bytes", ErrCorrupt, index)
	}
	hashes, err := v.tree.inclusion(index)
	if err != nil {
		return nil, err
	}
	if err := tlog.VerifyLeaf(body, at, hashes, v.cp); err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrCorrupt, index, err)
	}
	return &rekorpb.TransparencyLogEntry{
		LogIndex:    at,
		LogId:       &commonpb.LogId{KeyId: bytes.Clone(logID)},
		KindVersion: &rekorpb.KindVersion{Kind: kind.Kind, Version: kind.Version},
		InclusionProof: &rekorpb.InclusionProof{
			LogIndex:   at,
			RootHash:   bytes.Clone(v.cp.Root),
			TreeSize:   int64(v.cp.Size),
			Hashes:     hashes,
			Checkpoint: &rekorpb.Checkpoint{Envelope: string(v.raw)},
		},
		CanonicalizedBody: bytes.Clone(body),
	}, nil
}

// Checkpoint is the newest published checkpoint, a signed note.
func (s *Sequencer) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw := s.current().raw
	if raw == nil {
		return nil, errors.Join(ErrUnwitnessed, s.witness.why())
	}
	return bytes.Clone(raw), nil
}

// Size is the number of entries under the newest published checkpoint.
func (s *Sequencer) Size(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return s.current().cp.Size, nil
}

// Entry returns the entry at index with a fresh, verified proof, or
// ErrNotFound when no published checkpoint covers it.
func (s *Sequencer) Entry(ctx context.Context, index uint64) (*rekorpb.TransparencyLogEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v := s.current()
	if index >= v.cp.Size {
		return nil, ErrNotFound
	}
	entry, err := s.entry(v, index)
	return entry, s.noted(err)
}

func (s *Sequencer) entry(v *view, index uint64) (*rekorpb.TransparencyLogEntry, error) {
	raw, err := v.tree.read(entryTile(index, v.cp.Size))
	if err != nil {
		return nil, err
	}
	body := splitEntries(raw)[index%tlog.TileWidth]
	kind, err := tlog.ParseBody(body)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrCorrupt, index, err)
	}
	return v.prove(index, body, kind, s.logID)
}

// ReadTile returns a tile or entry bundle by its tlog-tiles path, without the
// checkpoint. What the published checkpoint does not cover is ErrNotFound,
// whatever lies on disk, so that an answer may be cached for ever; a path that
// is not exactly in the layout's one spelling is tlog.ErrPath.
func (s *Sequencer) ReadTile(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, err := tlog.ParseTilePath(path)
	if err != nil {
		return nil, err
	}
	v := s.current()
	covered := t
	covered.Width = t.WidthAt(v.cp.Size)
	if t.Width > covered.Width {
		return nil, ErrNotFound
	}
	// The file of the covered width is read and cut: a file of the asked
	// width may be left over from a batch that was never integrated.
	raw, err := v.tree.read(covered)
	if err != nil {
		return nil, s.noted(err)
	}
	raw, err = cut(t, raw)
	return bytes.Clone(raw), err
}
