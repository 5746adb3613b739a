package verifier

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// Fresh is a signature that was just made and is not published yet.
type Fresh struct {
	// Digest is the signed artifact.
	Digest attest.Digest
	// Format is bundle, legacy, legacy-attestation or notation.
	Format string
	// PredicateType is what an attestation must be of, and empty for a plain
	// signature.
	PredicateType string
	// Bundle is the bundle's JSON if Format is bundle.
	Bundle []byte
	// Legacy is the payload and annotations of the other two.
	Legacy *registry.Legacy
	// Envelope is that of the format notation, LogEntry the log's record of it.
	Envelope *registry.Envelope
	LogEntry []byte
	// Public is the key that must have signed.
	Public crypto.PublicKey
	// Certificate is the DER of the certificate that must carry Public, or nil
	// when a key without one signed.
	Certificate []byte
}

// CheckFresh verifies a signature as any later request will, before it is
// published: by this key, about this digest, in the trusted log, stamped by a
// trusted authority. Its error wraps ErrNotFresh and names the reason's code.
func (v *Verifier) CheckFresh(ctx context.Context, fresh Fresh) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := v.prepared()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFresh, err)
	}
	who, err := fresh.signer(root)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFresh, err)
	}
	found := attachment{format: fresh.Format, bundle: fresh.Bundle}
	if fresh.Legacy != nil {
		found.payload, found.annotations = fresh.Legacy.Payload, fresh.Legacy.Annotations
	}
	if fresh.Envelope != nil {
		found.envelope, found.entry = *fresh.Envelope, fresh.LogEntry
	}
	e := &evidence{}
	e.signed, e.fault = found.parse()
	b := bench{
		artifact: artifact{digest: fresh.Digest}, now: v.clock.Now(),
		signatures: make(map[signatureCheck]bool),
	}
	fact := b.judge(e, who)
	switch {
	case !fact.Accepted:
		return fmt.Errorf("%w: %s: %s", ErrNotFresh, fact.Reason.Code, fact.Reason.Message)
	case fresh.PredicateType == "" && fact.Kind != policy.KindSignature:
		return fmt.Errorf("%w: %s: it is an attestation and not a signature", ErrNotFresh, policy.PredicateTypeMismatch)
	case fresh.PredicateType != "" && (fact.Kind != policy.KindAttestation || fact.PredicateType != fresh.PredicateType):
		return fmt.Errorf("%w: %s: it is not an attestation of %s", ErrNotFresh, policy.PredicateTypeMismatch, fresh.PredicateType)
	}
	return nil
}

// signer is the authority that the signature must satisfy: the key, or the
// holder of exactly this certificate.
func (f Fresh) signer(root *trusted) (signer, error) {
	who := signer{name: "the signing key", trusted: root, logNeeded: true, timeNeeded: true}
	if f.Certificate == nil {
		id, err := keyID(f.Public)
		who.candidates = []candidate{{id: id, public: f.Public}}
		return who, err
	}
	cert, err := x509.ParseCertificate(f.Certificate)
	if err != nil {
		return signer{}, fmt.Errorf("parsing certificate: %w", err)
	}
	holder, err := identity.ParseHolder(cert)
	if err != nil {
		return signer{}, err
	}
	who.name = "the certificate's holder"
	who.certificate = cert
	who.identity = policy.ExactIdentity(holder.Issuer, holder.Subject, policy.SelfRoot)
	return who, nil
}
