package anchor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// scan reads what was appended since and keeps an anchor for each record that
// is due, and with end for the chain's head. mu is held.
func (k *Keeper) scan(ctx context.Context, end bool) error {
	k.state.Lock()
	k.appended = 0
	k.state.Unlock()
	for {
		links, err := k.cfg.Chain.Read(ctx, k.scanned, limits.AnchorBatch)
		if err != nil {
			return err
		}
		if err := k.take(ctx, links); err != nil {
			return err
		}
		if len(links) < limits.AnchorBatch {
			return k.head(ctx, end)
		}
	}
}

// take keeps the anchors of some links and moves on behind them.
func (k *Keeper) take(ctx context.Context, links []store.Link) error {
	var due []store.Anchor
	scanned, previous, kept := k.scanned, k.previous, k.kept
	for _, l := range links {
		r, err := follows(l, scanned, previous)
		if err != nil {
			return err
		}
		scanned, previous = l.Sequence, l.Hash
		if !k.wants(r, kept) {
			continue
		}
		one, err := k.sign(l)
		if err != nil {
			return err
		}
		due, kept = append(due, one), l.Sequence
	}
	if err := k.keep(ctx, due...); err != nil {
		return err
	}
	k.scanned, k.previous = scanned, previous
	return nil
}

// wants reports whether a record needs an anchor. kept is the last one that has
// one.
func (k *Keeper) wants(r audit.Record, kept int64) bool {
	if r.Sequence <= k.before {
		return r.Sequence == k.before
	}
	return audit.TrustChange(r.Action) || r.Sequence-kept >= limits.AnchorRecords
}

// head keeps an anchor of the last record that was looked at when none covers
// it and it is time, or with end at any time.
func (k *Keeper) head(ctx context.Context, end bool) error {
	late := k.cfg.Clock.Now().Sub(k.keptAt) >= limits.AnchorInterval
	if k.scanned == k.kept || !end && !late {
		return nil
	}
	links, err := k.cfg.Chain.Read(ctx, k.scanned-1, 1)
	if err != nil {
		return err
	}
	if len(links) == 0 || links[0].Sequence != k.scanned || !bytes.Equal(links[0].Hash, k.previous) {
		return fmt.Errorf("%w: record %d is not what it was", audit.ErrChain, k.scanned)
	}
	one, err := k.sign(links[0])
	if err != nil {
		return err
	}
	return k.keep(ctx, one)
}

// keep makes the bytes of anchors durable. A crash before it leaves nothing, a
// crash after it rows that flush finds.
func (k *Keeper) keep(ctx context.Context, due ...store.Anchor) error {
	if len(due) == 0 {
		return nil
	}
	if err := k.cfg.Anchors.Keep(ctx, due...); err != nil {
		return err
	}
	k.kept, k.keptAt = due[len(due)-1].Sequence, k.cfg.Clock.Now()
	return nil
}

// follows reads a link that must follow the one before. What does not was
// changed since it was written, and is not signed.
func follows(l store.Link, before int64, previous []byte) (audit.Record, error) {
	sum := sha256.Sum256(l.Body)
	r, err := audit.ParseLink(l)
	switch {
	case err != nil:
		return r, fmt.Errorf("%w: record %d: %w", audit.ErrChain, l.Sequence, err)
	case l.Sequence != before+1 || r.Sequence != l.Sequence:
		return r, fmt.Errorf("%w: record %d after %d", audit.ErrChain, l.Sequence, before)
	case !bytes.Equal(sum[:], l.Hash):
		return r, fmt.Errorf("%w: record %d has another hash", audit.ErrChain, l.Sequence)
	case before > 0 && r.PreviousHash != hex.EncodeToString(previous):
		return r, fmt.Errorf("%w: record %d does not name the one before", audit.ErrChain, l.Sequence)
	}
	return r, nil
}

// sign makes the anchor of a link.
func (k *Keeper) sign(l store.Link) (store.Anchor, error) {
	signature, err := k.signer.Sign(rand.Reader, l.Hash, crypto.SHA256)
	if err != nil {
		return store.Anchor{}, fmt.Errorf("signing audit record %d: %w", l.Sequence, err)
	}
	body, err := tlog.HashedRekordV002(k.signer.Public(), l.Body, signature)
	if err != nil {
		return store.Anchor{}, fmt.Errorf("making the log entry of audit record %d: %w", l.Sequence, err)
	}
	return store.Anchor{Sequence: l.Sequence, Hash: l.Hash, Body: body}, nil
}

// flush appends what waits. What the log takes is noted even when it refuses
// the rest.
func (k *Keeper) flush(ctx context.Context) error {
	for {
		waiting, err := k.cfg.Anchors.Waiting(ctx, limits.AnchorBatch)
		if err != nil || len(waiting) == 0 {
			return err
		}
		refused := k.append(ctx, waiting)
		logged := slices.DeleteFunc(waiting, func(a store.Anchor) bool { return !a.Logged })
		if err := k.cfg.Anchors.Logged(ctx, logged...); err != nil {
			return err
		}
		if refused != nil {
			return refused
		}
	}
}

// append fills in where each anchor stands. A crash after it and before that is
// noted is repaired by appending again: the log answers with the same entry.
func (k *Keeper) append(ctx context.Context, waiting []store.Anchor) error {
	var group errgroup.Group
	group.SetLimit(limits.AnchorParallel)
	for i := range waiting {
		group.Go(func() error {
			a := &waiting[i]
			entry, err := k.cfg.Log.Append(ctx, a.Body)
			if err != nil {
				return fmt.Errorf("anchoring audit record %d: %w", a.Sequence, err)
			}
			a.Logged, a.LogID, a.LogIndex = true, entry.GetLogId().GetKeyId(), entry.GetLogIndex()
			return nil
		})
	}
	return group.Wait()
}
