package verifier

import (
	"context"
	"crypto"
	"fmt"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/registry"
)

// Fresh is a signature that was just made and is not published yet.
type Fresh struct {
	// Digest is the signed artifact.
	Digest attest.Digest
	// Format is bundle or legacy.
	Format string
	// Bundle is the bundle's JSON if Format is bundle.
	Bundle []byte
	// Legacy is the payload and annotations if Format is legacy.
	Legacy *registry.Legacy
	// Public is the key that must have signed.
	Public crypto.PublicKey
}

// CheckFresh verifies a signature as any later request will, before it is
// published: by this key, about this digest, in the trusted log, stamped by a
// trusted authority. Its error wraps ErrNotFresh and names the reason's code.
func (v *Verifier) CheckFresh(ctx context.Context, fresh Fresh) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := prepare(v.trust())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFresh, err)
	}
	id, err := keyID(fresh.Public)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFresh, err)
	}
	found := attachment{format: fresh.Format, bundle: fresh.Bundle}
	if fresh.Legacy != nil {
		found.payload, found.annotations = fresh.Legacy.Payload, fresh.Legacy.Annotations
	}
	e := &evidence{}
	e.signed, e.fault = found.parse()
	b := bench{
		artifact: artifact{digest: fresh.Digest}, trusted: root, now: v.clock.Now(),
		signatures: make(map[signatureCheck]bool),
	}
	fact := b.judge(e, signer{
		name: "the signing key", candidates: []candidate{{id: id, public: fresh.Public}},
		logNeeded: true, timeNeeded: true,
	})
	if !fact.Accepted {
		return fmt.Errorf("%w: %s: %s", ErrNotFresh, fact.Reason.Code, fact.Reason.Message)
	}
	return nil
}
