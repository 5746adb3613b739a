package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/tlog"
)

// signTries bounds how often an operation signs anew because its key was
// rotated between two of its signatures.
const signTries = 3

// checkKey looks the key up before the registry is contacted: one that cannot
// sign what was asked for should cost nothing.
func (s *Signer) checkKey(ctx context.Context, w *work) error {
	if w.byIdentity() {
		return s.checkIdentity(w)
	}
	if w.summarizes() {
		_, err := s.summaryKey(ctx)
		return err
	}
	key, err := s.cfg.Keys.Get(ctx, w.doc.Request.Key)
	if err != nil {
		return fromKeys(err)
	}
	if key.Service() {
		return ErrKeyNotFound
	}
	if key.State != keys.Active {
		return ErrKeyNotActive
	}
	if err := s.checkNotationKey(w, key); err != nil {
		return err
	}
	for i, format := range w.doc.Request.Formats {
		if _, err := key.Algorithm.Hash(form(format)); err != nil {
			return fmt.Errorf("%w: %w", &RequestError{
				Field: fmt.Sprintf("/formats/%d", i), Detail: "the key's algorithm cannot sign this format",
			}, err)
		}
	}
	return nil
}

// seal signs every target with one version of the key, checks each signature
// with the recorded public half, and makes the log bodies. From here on the
// bytes of the operation are fixed.
func (s *Signer) seal(ctx context.Context, w *work) error {
	w.begin(StepSign)
	if w.byIdentity() {
		return s.sealIdentity(ctx, w)
	}
	for range signTries {
		keyID, err := s.signAll(ctx, w)
		if err != nil {
			return err
		}
		if keyID == "" {
			continue
		}
		if err := s.prove(ctx, w, keyID); err != nil {
			return err
		}
		w.doc.KeyID = keyID
		return nil
	}
	return ErrKeyRotated
}

// signAll signs every target and returns the version's key id, or "" when two
// versions were involved.
func (s *Signer) signAll(ctx context.Context, w *work) (keyID string, err error) {
	for i := range w.doc.Targets {
		t := &w.doc.Targets[i]
		sign := s.cfg.Keys.Sign
		switch {
		case w.summarizes():
			sign = s.cfg.Keys.SignSummary
		case t.Format == FormatLegacy:
			sign = s.cfg.Keys.SignLegacy
		}
		message, err := w.message(t)
		if err != nil {
			return "", err
		}
		signature, err := sign(ctx, w.doc.Request.Key, message)
		if err != nil {
			return "", fromKeys(err)
		}
		if keyID != "" && keyID != signature.KeyID {
			return "", nil
		}
		keyID, t.Signature, t.made = signature.KeyID, append([]byte(nil), signature.Bytes...), nil
	}
	return keyID, nil
}

// prove verifies the fresh signatures with the public half of the key's
// record, not with what came along with them.
func (s *Signer) prove(ctx context.Context, w *work, keyID string) error {
	version, err := s.version(ctx, w.doc.Request.Key, keyID)
	if err != nil {
		return err
	}
	for i := range w.doc.Targets {
		if err := w.record(&w.doc.Targets[i], version.Public, nil); err != nil {
			return err
		}
	}
	return s.certify(ctx, w, version.Public)
}

// record verifies a fresh signature and makes its log entry, which names the
// certificate if there is one, else the key.
func (w *work) record(t *target, public crypto.PublicKey, cert *x509.Certificate) error {
	message, err := w.message(t)
	if err != nil {
		return err
	}
	if err := keys.Verify(public, form(t.Format), message, t.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSign, err)
	}
	if t.LogBody, err = w.logBody(t, message, public, cert); err != nil {
		return fmt.Errorf("%w: making the log entry: %w", ErrSign, err)
	}
	return nil
}

func (s *Signer) version(ctx context.Context, name, keyID string) (keys.Version, error) {
	key, err := s.cfg.Keys.Get(ctx, name)
	if err != nil {
		return keys.Version{}, fromKeys(err)
	}
	for _, v := range key.Versions {
		if v.KeyID == keyID {
			return v, nil
		}
	}
	return keys.Version{}, fmt.Errorf("%w: the key has no version of that id", ErrSign)
}

// logBody is the entry in the kind that the readers of a format look for.
func (w *work) logBody(t *target, message []byte, public crypto.PublicKey, cert *x509.Certificate) ([]byte, error) {
	switch {
	case t.Format == FormatLegacy && w.attests():
		return w.envelopeBody(t, public, cert)
	case t.Format == FormatLegacy && cert != nil:
		return tlog.HashedRekordV001Certificate(cert, message, t.Signature)
	case t.Format == FormatLegacy:
		return tlog.HashedRekordV001(public, message, t.Signature)
	case cert != nil:
		return tlog.HashedRekordV002Certificate(cert, message, t.Signature)
	}
	return tlog.HashedRekordV002(public, message, t.Signature)
}

func form(format string) keys.Form {
	if format == FormatLegacy {
		return keys.FormLegacy
	}
	return keys.FormBundle
}
