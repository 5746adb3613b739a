package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
)

// identityAge is how long after a caller proved who it is a certificate may be
// asked for in its name: an operation that is taken up later, after a crash
// for instance, must not speak for somebody whose token has long expired.
const identityAge = 10 * time.Minute

func (w *work) byIdentity() bool { return w.doc.Request.Key == IdentityKey }

// prepared is the request that the operation was made of, for joining an
// earlier operation.
func (w *work) prepared() prepared {
	return prepared{Request: w.doc.Request, caller: w.doc.identity(), hash: w.op.RequestHash, summary: w.doc.Summary}
}

// checkIdentity refuses before the registry is contacted what no certificate
// will be issued for.
func (s *Signer) checkIdentity(w *work) error {
	switch {
	case s.cfg.Certificates == nil:
		return ErrNoCertificates
	case s.cfg.Clock.Now().Sub(w.doc.ProvenAt) > identityAge:
		return ErrIdentityExpired
	}
	return nil
}

// sealIdentity signs every target with a key that is made for this and
// forgotten at the end of the function, and that a fresh certificate binds to
// the caller. From here on the bytes of the operation are fixed.
func (s *Signer) sealIdentity(ctx context.Context, w *work) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("%w: making a key: %w", ErrSign, err)
	}
	caller := w.doc.identity()
	issued, err := s.cfg.Certificates.Issue(ctx, authority.CertificateRequest{Identity: caller, Public: key.Public()})
	if err != nil {
		return fromCertificates(err)
	}
	cert, err := s.checkIssued(issued.Leaf, caller, key.Public())
	if err != nil {
		return err
	}
	for i := range w.doc.Targets {
		if err := w.signWith(&w.doc.Targets[i], key, cert); err != nil {
			return err
		}
	}
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	w.doc.Certificate, w.doc.Chain = bytes.Clone(issued.Leaf), issued.Chain
	w.doc.KeyID = hex.EncodeToString(spki[:])
	return nil
}

// checkIssued wants the certificate to be of this key and of this caller's
// issuer, and to be good now. Whether the authority may be believed is the
// verifier's to say before anything is released.
func (s *Signer) checkIssued(leaf []byte, caller identity.Identity, public crypto.PublicKey) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the certificate: %w", ErrSign, err)
	}
	holder, err := identity.ParseHolder(cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSign, err)
	}
	same, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !same.Equal(cert.PublicKey) || holder.Issuer != caller.Issuer {
		return nil, fmt.Errorf("%w: the certificate is of another key or another issuer's identity", ErrSign)
	}
	return cert, nil
}

// signWith signs one target and makes its log entry, which names the
// certificate.
func (w *work) signWith(t *target, key *ecdsa.PrivateKey, cert *x509.Certificate) error {
	message, err := w.message(t)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(message)
	if t.Signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		return fmt.Errorf("%w: %w", ErrSign, err)
	}
	return w.record(t, cert.PublicKey, cert)
}

// checkCertificate wants the certificate to be good at a time: when it is not
// any more, a stamp would come too late for every verifier, and the signatures
// are made anew.
func (s *Signer) checkCertificate(w *work, at time.Time) error {
	if w.doc.Certificate == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(w.doc.Certificate)
	if err != nil {
		return fmt.Errorf("%w: reading a stored certificate: %w", ErrInternal, err)
	}
	if at.After(cert.NotAfter) {
		return errSuperseded
	}
	return nil
}

// holder is whom the certificate names, as verifiers will see it.
func (d *document) holder() (identity.Holder, error) {
	cert, err := x509.ParseCertificate(d.Certificate)
	if err != nil {
		return identity.Holder{}, fmt.Errorf("%w: reading a stored certificate: %w", ErrInternal, err)
	}
	holder, err := identity.ParseHolder(cert)
	if err != nil {
		return identity.Holder{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return holder, nil
}

// fromCertificates gives the authority's error this package's meaning.
func fromCertificates(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, authority.ErrIdentity) {
		return fmt.Errorf("%w: %w", ErrIdentityRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrCertificate, err)
}

func certificatesPEM(ders ...[]byte) string {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(out)
}
