package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// Layer annotations of the legacy format (cosign specs/SIGNATURE_SPEC.md).
const (
	annotationSignature = "dev.cosignproject.cosign/signature"
	annotationBundle    = "dev.sigstore.cosign/bundle"
	annotationTimestamp = "dev.sigstore.cosign/rfc3161timestamp"

	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
)

// errSuperseded: the key version was deactivated or suspended, or the
// certificate ended, between signing and stamping, so that no verifier would take the signature as made in time.
var errSuperseded = errors.New("key version or certificate was closed before the timestamp")

// run takes an operation from where its document stands to its end: the one
// function for a fresh request, a repeated one and a start after a crash.
func (s *Signer) run(ctx context.Context, w *work) outcome {
	for range signTries {
		if !w.doc.signed() {
			earlier, err := s.fix(ctx, w)
			if err != nil {
				return s.settle(ctx, w, err)
			}
			if earlier != nil {
				return s.again(ctx, w.flight, w.prepared(), *earlier)
			}
		}
		result, err := s.complete(ctx, w)
		switch {
		case errors.Is(err, errSuperseded):
			w.doc.unseal()
		case err != nil:
			return s.settle(ctx, w, err)
		default:
			return outcome{result: result}
		}
	}
	return s.settle(ctx, w, ErrKeyRotated)
}

// fix is steps 1 to 4: it ends with the operation's bytes fixed and durable.
func (s *Signer) fix(ctx context.Context, w *work) (earlier *store.Operation, err error) {
	if !w.permitted {
		if err := s.permit(ctx, w); err != nil {
			return nil, err
		}
	}
	if err := s.checkKey(ctx, w); err != nil {
		return nil, err
	}
	if err := s.plan(ctx, w); err != nil {
		return nil, err
	}
	if err := s.seal(ctx, w); err != nil {
		return nil, err
	}
	if w.stored {
		return nil, s.save(ctx, w)
	}
	return s.keep(ctx, w)
}

// complete is steps 5 to 7 over an operation whose signatures are kept.
// Everything in it may be repeated.
func (s *Signer) complete(ctx context.Context, w *work) (Result, error) {
	if !w.doc.assembled() {
		if err := s.checkCertificate(w, s.cfg.Clock.Now()); err != nil {
			return Result{}, err
		}
		if err := s.commit(ctx, w); err != nil {
			return Result{}, err
		}
	}
	if err := s.check(ctx, w); err != nil {
		return Result{}, err
	}
	w.begin(StepAttach)
	if err := s.attach(ctx, w); err != nil {
		return Result{}, err
	}
	if err := s.archive(ctx, w); err != nil {
		return Result{}, err
	}
	return s.finish(ctx, w)
}

// commit logs and stamps the signatures, assembles what is attached and keeps
// that, since neither a proof nor a timestamp comes out the same twice.
func (s *Signer) commit(ctx context.Context, w *work) error {
	entries := make([]*rekorpb.TransparencyLogEntry, len(w.doc.Targets))
	w.begin(StepLog)
	if err := w.eachTarget(ctx, func(ctx context.Context, i int, t *target) (err error) {
		if entries[i], err = s.cfg.Log.Append(ctx, t.LogBody); err != nil {
			return fmt.Errorf("%w: %w", ErrLog, err)
		}
		return nil
	}); err != nil {
		return err
	}
	w.begin(StepTimestamp)
	if err := w.eachTarget(ctx, func(ctx context.Context, _ int, t *target) error {
		stamped, err := w.stamped(t)
		if err != nil {
			return err
		}
		if t.Timestamp, err = s.stamp(ctx, t, stamped); err != nil {
			return fmt.Errorf("%w: %w", ErrTimestamp, err)
		}
		return nil
	}); err != nil {
		return err
	}
	w.begin(StepBundle)
	for i := range w.doc.Targets {
		err := s.assemble(ctx, w, &w.doc.Targets[i], entries[i])
		switch {
		case errors.Is(err, ErrLog):
			return err
		case err != nil:
			return fmt.Errorf("%w: assembling: %w", ErrInternal, err)
		}
	}
	w.doc.StampedAt = s.cfg.Clock.Now()
	return s.save(ctx, w)
}

// eachTarget calls do for all targets at the same time; entries then share a
// checkpoint. Their number is bounded by limits.IndexChildren and the formats.
func (w *work) eachTarget(ctx context.Context, do func(context.Context, int, *target) error) error {
	if len(w.doc.Targets) == 1 {
		return do(ctx, 0, &w.doc.Targets[0])
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range w.doc.Targets {
		group.Go(func() error {
			return contain(func() error { return do(ctx, i, &w.doc.Targets[i]) })
		})
	}
	return group.Wait()
}

func (s *Signer) assemble(ctx context.Context, w *work, t *target, entry *rekorpb.TransparencyLogEntry) (err error) {
	if t.Entry, err = tlog.MarshalEntry(entry); err != nil {
		return err
	}
	t.LogID, t.LogIndex = hex.EncodeToString(entry.GetLogId().GetKeyId()), entry.GetLogIndex()
	switch {
	case t.Format == FormatLegacy:
		t.Annotations, err = s.legacyAnnotations(ctx, &w.doc, t, entry)
		if err == nil && w.attests() {
			w.forAttestation(t.Annotations)
		}
	case t.Format == FormatNotation:
		t.Envelope, err = w.assembleNotation(t)
	case w.attests():
		t.Assembled = true
		_, err = w.bundle(t)
	default:
		t.Bundle, err = w.assembleBundle(t, entry)
	}
	return err
}

// promise is the value of the annotation dev.sigstore.cosign/bundle.
type promise struct {
	SignedEntryTimestamp []byte
	Payload              promisePayload
}

type promisePayload struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogIndex       int64  `json:"logIndex"`
	LogID          string `json:"logID"`
}

// legacyAnnotations carries the log's promise over an entry whose inclusion was
// proven a moment ago.
func (s *Signer) legacyAnnotations(ctx context.Context, d *document, t *target, entry *rekorpb.TransparencyLogEntry) (map[string]string, error) {
	at, set, err := s.cfg.Log.Promise(ctx, entry)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLog, err)
	}
	bundle, err := json.Marshal(promise{SignedEntryTimestamp: set, Payload: promisePayload{
		Body: t.LogBody, IntegratedTime: at.Unix(),
		LogIndex: entry.GetLogIndex(), LogID: hex.EncodeToString(entry.GetLogId().GetKeyId()),
	}})
	if err != nil {
		return nil, err
	}
	timestamp, err := json.Marshal(struct{ SignedRFC3161Timestamp []byte }{t.Timestamp})
	if err != nil {
		return nil, err
	}
	out := map[string]string{
		annotationSignature: base64.StdEncoding.EncodeToString(t.Signature),
		annotationBundle:    string(bundle),
		annotationTimestamp: string(timestamp),
	}
	if d.Certificate != nil {
		out[annotationCertificate] = certificatesPEM(d.Certificate)
		out[annotationChain] = certificatesPEM(d.Chain...)
	}
	return out, nil
}

// check is step 6. It runs before every attach, also of what an earlier
// attempt had assembled: what was true then may not be now.
func (s *Signer) check(ctx context.Context, w *work) error {
	w.begin(StepVerify)
	public, err := s.stillGood(ctx, w)
	if err != nil {
		return err
	}
	return w.eachTarget(ctx, func(ctx context.Context, _ int, t *target) error {
		digest, err := attest.ParseDigest(t.Digest)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInternal, err)
		}
		fresh := Fresh{
			Digest: digest, Format: t.Format, PredicateType: w.op.PredicateType,
			Annotations: t.Annotations, Public: public, Certificate: w.doc.Certificate,
		}
		if fresh.Bundle, fresh.Payload, err = w.content(t); err != nil {
			return err
		}
		if t.Format == FormatNotation {
			fresh.LogEntry = t.Entry
		}
		err = s.cfg.Checker.CheckFresh(ctx, fresh)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
		return nil
	})
}

// stillGood returns the public half that signed, if its signatures may be
// released.
func (s *Signer) stillGood(ctx context.Context, w *work) (crypto.PublicKey, error) {
	if w.doc.Certificate != nil {
		cert, err := x509.ParseCertificate(w.doc.Certificate)
		if err != nil {
			return nil, fmt.Errorf("%w: reading a stored certificate: %w", ErrInternal, err)
		}
		return cert.PublicKey, s.checkCertificate(w, w.doc.StampedAt)
	}
	version, err := s.version(ctx, w.doc.Request.Key, w.doc.KeyID)
	if err != nil {
		return nil, err
	}
	return version.Public, checkVersion(version, w)
}

// checkVersion refuses to release for a revoked version, and wants a version
// that was still open when the signature was stamped: its deactivation, if
// any, is recorded by now.
func checkVersion(v keys.Version, w *work) error {
	if v.RevokedAt != nil || v.State == keys.Compromised || v.State == keys.Destroyed {
		return ErrKeyRevoked
	}
	if v.DeactivatedAt != nil && !v.DeactivatedAt.After(w.doc.StampedAt) {
		return errSuperseded
	}
	if v.State == keys.Suspended && v.SuspendedAt != nil && !v.SuspendedAt.After(w.doc.StampedAt) {
		return errSuperseded
	}
	return nil
}
