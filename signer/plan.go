package signer

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// perOperation bounds what one operation does at the same time: reading and
// writing subjects in the registry, and waiting for the log.
const perOperation = 8

// planned is a manifest to sign.
type planned struct {
	manifest registry.Manifest
	platform string
}

// plan resolves the reference once and lists what to sign: the image, then,
// when asked, what an index holds. It sets the targets without signatures.
func (s *Signer) plan(ctx context.Context, w *work) error {
	w.begin(StepResolve)
	root, err := s.cfg.Registry.Resolve(ctx, w.reference)
	if err != nil {
		return fromRegistry(err)
	}
	w.reference = w.reference.WithDigest(root.Digest)
	w.doc.Image = w.reference.String()
	w.op.Digest = root.Digest.String()
	all := []planned{{manifest: root}}
	if w.doc.Request.Recursive && root.IsIndex {
		if all, err = s.descend(ctx, w.reference, all); err != nil {
			return err
		}
	}
	return s.setTargets(w, all)
}

// descend adds the children of an index, level by level, each digest once. The
// bound is on all manifests of all levels together.
func (s *Signer) descend(ctx context.Context, ref registry.Reference, all []planned) ([]planned, error) {
	seen := map[attest.Digest]bool{all[0].manifest.Digest: true}
	for next := 0; next < len(all); next++ {
		var children []registry.Child
		for _, c := range all[next].manifest.Children {
			if !seen[c.Digest] {
				seen[c.Digest] = true
				children = append(children, c)
			}
		}
		if len(all)-1+len(children) > limits.IndexChildren {
			return nil, fmt.Errorf("%w: an index with more than %d children", ErrLimit, limits.IndexChildren)
		}
		found, err := s.children(ctx, ref.WithDigest(all[next].manifest.Digest), children)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (s *Signer) children(ctx context.Context, parent registry.Reference, children []registry.Child) ([]planned, error) {
	out := make([]planned, len(children))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(perOperation)
	for i, c := range children {
		group.Go(func() error {
			return contain(func() error {
				m, err := s.cfg.Registry.Child(ctx, parent, c)
				if err != nil {
					return fromRegistry(err)
				}
				out[i] = planned{manifest: m, platform: c.Platform}
				return nil
			})
		})
	}
	return out, group.Wait()
}

func (s *Signer) setTargets(w *work, all []planned) error {
	w.doc.Targets, w.doc.KeyID = nil, ""
	for _, p := range all {
		w.manifests[p.manifest.Digest] = p.manifest
		for _, format := range w.doc.Request.Formats {
			t := target{ID: s.cfg.NewID(), Digest: p.manifest.Digest.String(), Platform: p.platform, Format: format}
			if err := w.setPayload(&t); err != nil {
				return err
			}
			w.doc.Targets = append(w.doc.Targets, t)
		}
	}
	if n := len(w.doc.Targets) * len(w.doc.Request.Predicate); n > limits.AttestedBytes {
		return fmt.Errorf("%w: predicates of %d bytes together", ErrLimit, n)
	}
	return nil
}

// manifest returns a manifest to attach to, reading it again in an attempt
// that did not plan.
func (s *Signer) manifest(ctx context.Context, w *work, digest attest.Digest) (registry.Manifest, error) {
	if m, ok := w.manifests[digest]; ok {
		return m, nil
	}
	m, err := s.cfg.Registry.Resolve(ctx, w.reference.WithDigest(digest))
	if err != nil {
		return registry.Manifest{}, fromRegistry(err)
	}
	return m, nil
}
