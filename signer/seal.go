package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/countersign/countersign/attest"
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
		if t.Format == FormatLegacy {
			sign = s.cfg.Keys.SignLegacy
		}
		signature, err := sign(ctx, w.doc.Request.Key, t.message())
		if err != nil {
			return "", fromKeys(err)
		}
		if keyID != "" && keyID != signature.KeyID {
			return "", nil
		}
		keyID, t.Signature = signature.KeyID, append([]byte(nil), signature.Bytes...)
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
		t := &w.doc.Targets[i]
		if err := keys.Verify(version.Public, form(t.Format), t.message(), t.Signature); err != nil {
			return fmt.Errorf("%w: %w", ErrSign, err)
		}
		if t.LogBody, err = t.logBody(version.Public); err != nil {
			return fmt.Errorf("%w: making the log entry: %w", ErrSign, err)
		}
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

// message is the bytes that are signed.
func (t *target) message() []byte {
	if t.Format == FormatLegacy {
		return t.Payload
	}
	return attest.PAE(attest.PayloadTypeInToto, t.Payload)
}

func (t *target) logBody(pub crypto.PublicKey) ([]byte, error) {
	switch t.Format {
	case FormatBundle:
		return tlog.HashedRekordV002(pub, t.message(), t.Signature)
	case FormatLegacy:
		return tlog.HashedRekordV001(pub, t.message(), t.Signature)
	}
	return nil, errors.New("unknown format")
}

func form(format string) keys.Form {
	if format == FormatLegacy {
		return keys.FormLegacy
	}
	return keys.FormBundle
}
