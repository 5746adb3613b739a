package signer

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// attach writes every signature to the registry, but for a summary that was
// asked for without. Both ways of attaching read,
// change and write one document per subject (the fallback index, the .sig
// manifest), so writers of one subject take turns; subjects go in parallel.
func (s *Signer) attach(ctx context.Context, w *work) error {
	if !w.released() {
		return nil
	}
	bySubject := map[string][]*target{}
	for i := range w.doc.Targets {
		t := &w.doc.Targets[i]
		bySubject[t.Digest] = append(bySubject[t.Digest], t)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(perOperation)
	for _, targets := range bySubject {
		group.Go(func() error {
			return contain(func() error { return s.attachSubject(ctx, w, targets) })
		})
	}
	return group.Wait()
}

func (s *Signer) attachSubject(ctx context.Context, w *work, targets []*target) error {
	digest, err := attest.ParseDigest(targets[0].Digest)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	subject, err := s.manifest(ctx, w, digest)
	if err != nil {
		return err
	}
	unlock, err := s.subjects.lock(ctx, w.reference.Pinned(digest))
	if err != nil {
		return err
	}
	defer unlock()
	for _, t := range targets {
		referrer, err := s.attachOne(ctx, w, t, subject)
		if err != nil {
			return err
		}
		t.Referrer = referrer.String()
	}
	return nil
}

func (s *Signer) attachOne(ctx context.Context, w *work, t *target, subject registry.Manifest) (referrer attest.Digest, err error) {
	bundle, layer, err := w.content(t)
	if err != nil {
		return attest.Digest{}, err
	}
	ref := w.reference.WithDigest(subject.Digest)
	switch {
	case t.Format == FormatLegacy && w.attests():
		referrer, err = s.cfg.Registry.AttachLegacyAttestation(ctx, ref, layer, t.Annotations)
	case t.Format == FormatNotation:
		referrer, err = s.cfg.Registry.AttachNotation(ctx, subject, registry.NotationAttachment{
			Envelope: registry.Envelope{MediaType: notary.MediaTypeJWS, Content: layer}, Created: w.doc.CreatedAt,
		})
	case t.Format == FormatLegacy:
		referrer, err = s.cfg.Registry.AttachLegacy(ctx, ref, layer, t.Annotations)
	default:
		predicateType := attest.PredicateCosignSign
		if w.attests() {
			predicateType = w.op.PredicateType
		}
		referrer, err = s.cfg.Registry.AttachBundle(ctx, subject, registry.BundleAttachment{
			Bundle: bundle, PredicateType: predicateType, Created: w.doc.CreatedAt,
		})
	}
	if err != nil {
		return attest.Digest{}, fromRegistry(err)
	}
	return referrer, nil
}

// archive keeps what was released where the verifier looks first.
func (s *Signer) archive(ctx context.Context, w *work) error {
	return w.eachTarget(ctx, func(ctx context.Context, _ int, t *target) error {
		item, err := w.item(t)
		if err != nil {
			return err
		}
		if err := s.cfg.Archive.Keep(ctx, item); err != nil {
			return fmt.Errorf("%w: archiving: %w", ErrStore, err)
		}
		return nil
	})
}

func (w *work) item(t *target) (archive.Item, error) {
	digest, err := attest.ParseDigest(t.Digest)
	if err != nil {
		return archive.Item{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	entry, err := tlog.UnmarshalEntry(t.Entry)
	if err != nil {
		return archive.Item{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	who, err := w.doc.signatory()
	if err != nil {
		return archive.Item{}, err
	}
	index := entry.GetLogIndex()
	item := archive.Item{
		ID: t.ID, Digest: digest, Repository: w.reference.Name(), Format: t.Format, PredicateType: w.op.PredicateType,
		KeyID: w.doc.KeyID, Signer: who.name(), LogIndex: &index,
		Operation: w.op.ID, CreatedAt: w.doc.CreatedAt,
	}
	bundle, payload, err := w.content(t)
	if err != nil {
		return archive.Item{}, err
	}
	switch t.Format {
	case FormatLegacy:
		item.Legacy = &archive.Legacy{Payload: payload, Annotations: t.Annotations}
	case FormatNotation:
		item.Notation = t.notation(payload).kept()
	default:
		item.Bundle = bundle
	}
	if t.Format == FormatLegacy && w.attests() {
		item.Format = archive.FormatLegacyAttestation
	}
	return item, nil
}

// finish journals the end and keeps the answer, which every later call with the
// same idempotency key gets byte for byte. The record holds the hash of what is
// kept, so it comes first: after a crash in between the operation is finished,
// and journalled, again. When journal or store fails, w is left as it was: still
// pending, with all its bytes.
func (s *Signer) finish(ctx context.Context, w *work) (Result, error) {
	result, err := w.result()
	if err != nil {
		return Result{}, err
	}
	w.doc.end(StateDone, s.cfg.Clock.Now())
	done := *w
	done.doc.Targets = slices.Clone(w.doc.Targets)
	done.doc.strip()
	done.op.State, done.op.Result = StateDone, result.body
	if id := result.Signer.Identity; id != nil && len(id.Subject) <= store.MaxText {
		// Lists are asked for whom a certificate names.
		done.op.Signer = id.Subject
	}
	if err := s.end(ctx, &done, map[string]string{"digest": result.Digest, "keyId": w.doc.KeyID}); err != nil {
		return Result{}, err
	}
	s.retries.drop(w.op.ID)
	done.showEnd()
	return result, nil
}

// end journals and stores a finished operation.
func (s *Signer) end(ctx context.Context, done *work, detail map[string]string) (err error) {
	if done.op.Body, err = done.doc.marshal(); err != nil {
		return err
	}
	done.op.UpdatedAt = s.cfg.Clock.Now()
	if detail[SealDetail], err = Seal(done.op); err != nil {
		return err
	}
	if err := s.journal(ctx, done, audit.Done, detail); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	if err := s.cfg.Operations.Update(ctx, done.op); err != nil {
		return fromStore(err)
	}
	return nil
}

func (w *work) result() (Result, error) {
	who, err := w.doc.signatory()
	if err != nil {
		return Result{}, err
	}
	r := Result{
		ID: w.op.ID, Image: w.reference.String(), Digest: w.reference.Digest.String(),
		PredicateType: w.op.PredicateType, Signer: who, SLSA: w.doc.SLSA, CreatedAt: w.doc.CreatedAt,
	}
	if w.doc.SLSA != nil {
		if r.Statement, err = w.payload(&w.doc.Targets[0]); err != nil {
			return Result{}, err
		}
	}
	for i := range w.doc.Targets {
		signature, err := w.signature(&w.doc.Targets[i])
		if err != nil {
			return Result{}, err
		}
		r.Signatures = append(r.Signatures, signature)
	}
	body, err := r.marshal()
	if err != nil {
		return Result{}, err
	}
	return parseResult(body)
}

func (d *document) signatory() (Signatory, error) {
	if d.Certificate == nil {
		return Signatory{Key: d.Request.Key, KeyID: d.KeyID}, nil
	}
	holder, err := d.holder()
	if err != nil {
		return Signatory{}, err
	}
	return Signatory{Identity: &SignatoryIdentity{Issuer: holder.Issuer, Subject: holder.Subject}}, nil
}

// name is the signatory in the archive.
func (s Signatory) name() string {
	if s.Identity != nil {
		return s.Identity.Issuer + " " + s.Identity.Subject
	}
	return s.Key
}

func (w *work) signature(t *target) (Signature, error) {
	entry, err := tlog.UnmarshalEntry(t.Entry)
	if err != nil {
		return Signature{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	bundle, payload, err := w.content(t)
	if err != nil {
		return Signature{}, err
	}
	out := Signature{
		Digest: t.Digest, Platform: t.Platform, Format: t.Format, Referrer: t.Referrer, Bundle: bundle,
		LogEntry: LogEntry{
			LogID: hex.EncodeToString(entry.GetLogId().GetKeyId()), Index: entry.GetLogIndex(),
			Checkpoint: entry.GetInclusionProof().GetCheckpoint().GetEnvelope(),
		},
	}
	switch t.Format {
	case FormatLegacy:
		out.Legacy = &Legacy{Payload: payload, Annotations: t.Annotations}
	case FormatNotation:
		out.Notation = t.notation(payload)
	}
	return out, nil
}
