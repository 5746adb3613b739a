package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/trust"
)

// ErrTrustRoot says that a document is not a trusted root that may be kept.
var ErrTrustRoot = errors.New("invalid trusted root document")

// TrustRoot is a trusted root of somebody else: the public Sigstore instance,
// or a partner.
type TrustRoot struct {
	// Root is what the document says.
	Root trust.Root
	// Document is trusted_root.json as canonical JSON. It must not be changed.
	Document []byte
}

// TrustRootObjects are the trusted roots of others.
func (c *Catalog) TrustRootObjects() *Collection[TrustRoot] { return c.roots }

// TrustRoot returns one of them, or store.ErrNotFound. It makes Catalog a
// verifier.Roots.
func (c *Catalog) TrustRoot(ctx context.Context, name string) (trust.Root, error) {
	e, err := c.roots.Get(ctx, name)
	return e.Value.Root, err
}

// DraftTrustRoot checks a trusted_root.json of at most 1 MiB that is to be kept
// under name, which must not be policy.SelfRoot: that is ours, made from our
// own keys. A document that trusts nobody is refused.
func (c *Catalog) DraftTrustRoot(name string, document []byte) (Draft[TrustRoot], error) {
	if !validName(name) || name == policy.SelfRoot {
		return Draft[TrustRoot]{}, fmt.Errorf("%w: want 1 to %d letters, digits and inner . _ -, and not %s", ErrName, limits.Name, policy.SelfRoot)
	}
	canonical, err := strictjson.Canonical(document)
	if err != nil {
		return Draft[TrustRoot]{}, fmt.Errorf("%w: %w", ErrTrustRoot, err)
	}
	value, err := parseTrustRoot(canonical)
	if err != nil {
		return Draft[TrustRoot]{}, err
	}
	return Draft[TrustRoot]{name: name, value: value, body: canonical}, nil
}

func parseTrustRoot(document []byte) (TrustRoot, error) {
	root, err := trust.ParseTrustedRoot(document)
	if err != nil {
		return TrustRoot{}, fmt.Errorf("%w: %w", ErrTrustRoot, err)
	}
	if len(root.Logs)+len(root.TimestampAuthorities)+len(root.CertificateAuthorities) == 0 {
		return TrustRoot{}, fmt.Errorf("%w: it trusts nobody", ErrTrustRoot)
	}
	return TrustRoot{Root: root, Document: document}, nil
}
