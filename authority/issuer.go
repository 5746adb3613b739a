package authority

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

// Lifetime is how long an issued certificate is valid.
const Lifetime = 10 * time.Minute

// Appender is the transparency log as the certificate authority writes it.
type Appender interface {
	// Append logs a body and returns its entry once a published checkpoint
	// covers it.
	Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error)
}

// IssuerKeys are the private halves of a certificate authority, each a key of
// its own.
type IssuerKeys struct {
	// Root certifies Issuing and is not used afterwards. It is nil when
	// Imported is given.
	Root crypto.Signer
	// Issuing signs certificates; it is ECDSA or RSA.
	Issuing crypto.Signer
	// CT signs certificate timestamps; it is ECDSA P-256.
	CT crypto.Signer
	// Imported is the chain of somebody else's authority: the certificate of
	// Issuing first, the root last. The first must carry the code signing usage
	// by name.
	Imported []*x509.Certificate
}

// IssuerConfig is what an Issuer needs. Keys, Objects, Log and Clock are
// required.
type IssuerConfig struct {
	Keys IssuerKeys
	// Objects keeps the certificates.
	Objects store.Objects
	// Log receives every certificate timestamp before its certificate is
	// released.
	Log Appender
	// Organization names the authority in its certificates; "Countersign" when
	// empty.
	Organization string
	Clock        clock.Clock
	// Rand is crypto/rand when nil.
	Rand io.Reader
}

// CertificateRequest asks for a certificate that binds a key to an identity.
type CertificateRequest struct {
	// Identity is an authenticated caller; an API token's is refused.
	Identity identity.Identity
	// Public is the key: ECDSA P-256, P-384 or P-521, RSA of 2048 to 8192 bits,
	// or Ed25519. The caller of Issue has seen proof that its private half is
	// the identity's.
	Public crypto.PublicKey
}

// Certificate is an issued certificate.
type Certificate struct {
	// Leaf is DER.
	Leaf []byte
	// Chain is DER, the issuer of Leaf first, the root last.
	Chain [][]byte
}

// Issuer is the certificate authority. It is safe for concurrent use.
type Issuer struct {
	config IssuerConfig
	// rotating admits one rotation at a time.
	rotating sync.Mutex
	use      atomic.Pointer[issuing]
}

// issuing is what one certificate is made with; it never changes.
type issuing struct {
	keys  IssuerKeys
	state state
	ct    transparency
}

func (u *issuing) chain() []*x509.Certificate {
	return u.state.chains[len(u.state.chains)-1].Certificates
}

// OpenIssuer reads the authority's certificates, or issues them at the first
// start, when a key is another one, and within a year of the issuing
// certificate's end. Errors: ErrCertificate when the keys or the imported chain
// cannot issue code signing certificates, ErrRetired when a key was replaced
// before.
func OpenIssuer(ctx context.Context, c IssuerConfig) (*Issuer, error) {
	if c.Objects == nil || c.Log == nil || c.Clock == nil {
		return nil, errors.New("certificate authority needs a store, a log and a clock")
	}
	if c.Organization == "" {
		c.Organization = defaultOrganization
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	i := &Issuer{config: c}
	return i, i.adopt(ctx, c.Keys)
}

// Rotate replaces keys; those that are nil stay as they are, and an imported
// chain takes the place of a root and a root that of an imported chain. What is
// replaced stays trusted for [Overlap]. Certificates that are being issued
// meanwhile finish with the keys they began with. Before the change is in the
// store nothing has changed; after, opening with the new keys finds it.
func (i *Issuer) Rotate(ctx context.Context, next IssuerKeys) error {
	i.rotating.Lock()
	defer i.rotating.Unlock()
	merged := i.use.Load().keys
	if next.Root != nil {
		merged.Root, merged.Imported = next.Root, nil
	}
	if next.Imported != nil {
		merged.Root, merged.Imported = nil, next.Imported
	}
	if next.Issuing != nil {
		merged.Issuing = next.Issuing
	}
	if next.CT != nil {
		merged.CT = next.CT
	}
	return i.adopt(ctx, merged)
}

// adopt begins to issue with a set of keys.
func (i *Issuer) adopt(ctx context.Context, keys IssuerKeys) error {
	keys.Imported = slices.Clone(keys.Imported)
	if err := keys.check(); err != nil {
		return err
	}
	c, now := i.config, i.config.Clock.Now()
	m := chainMaker{keys: keys, organization: c.Organization, rand: c.Rand}
	kept, err := keeper{objects: c.Objects, name: issuerName}.keep(ctx, now, func(s state) (state, bool, error) {
		return m.update(s, now)
	})
	if err != nil {
		return err
	}
	chain := kept.chains[len(kept.chains)-1].Certificates
	ct, err := newTransparency(keys.CT, chain[0], c.Rand)
	if err != nil {
		return err
	}
	i.use.Store(&issuing{keys: keys, state: kept, ct: ct})
	return nil
}

// Issue answers a request with a certificate valid for [Lifetime] that carries
// a certificate timestamp of our own log. When it returns, the timestamp is in
// the log; when it fails, no certificate was released.
//
// Errors: ErrIdentity when the identity has no name for a certificate,
// ErrPublicKey for a key that is not accepted, ErrOutlived when the
// authority's own certificates do not outlive the new one, ErrCertificate when
// they do not allow it, ErrRevoked and ErrRevokedCT while a revoked key has no
// successor, and the log's.
func (i *Issuer) Issue(ctx context.Context, r CertificateRequest) (Certificate, error) {
	if err := ctx.Err(); err != nil {
		return Certificate{}, err
	}
	p, err := profileOf(r.Identity)
	if err != nil {
		return Certificate{}, err
	}
	u, now := i.use.Load(), i.config.Clock.Now()
	if err := u.usable(); err != nil {
		return Certificate{}, err
	}
	template, err := p.template(i.config.Rand, r.Public, now)
	if err != nil {
		return Certificate{}, err
	}
	if err := outlived(u.chain(), template); err != nil {
		return Certificate{}, err
	}
	leaf, err := i.release(ctx, u, template, r.Public, now)
	if err != nil {
		return Certificate{}, err
	}
	certificate := Certificate{Leaf: leaf}
	for _, c := range u.chain() {
		certificate.Chain = append(certificate.Chain, slices.Clone(c.Raw))
	}
	return certificate, nil
}

// release signs, logs and only then completes the certificate.
func (i *Issuer) release(ctx context.Context, u *issuing, template *x509.Certificate, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	authority, signer := u.chain()[0], u.keys.Issuing
	precertificate, err := u.ct.precertificate(template, authority, pub, signer)
	if err != nil {
		return nil, err
	}
	if err := checkLeaf(precertificate, u.chain(), now); err != nil {
		return nil, err
	}
	stamp, body, err := u.ct.stamp(precertificate, now)
	if err != nil {
		return nil, err
	}
	if _, err := i.config.Log.Append(ctx, body); err != nil {
		return nil, fmt.Errorf("logging a certificate timestamp: %w", err)
	}
	return u.ct.complete(template, authority, pub, signer, stamp)
}

// Chains are all chains that ever issued, the issuer of leaves first, oldest
// first, the current one last.
func (i *Issuer) Chains() []Chain { return cloneChains(i.use.Load().state.chains) }

// CTLogs are all keys that ever signed certificate timestamps, oldest first,
// the current one last.
func (i *Issuer) CTLogs() []CTLog {
	out := slices.Clone(i.use.Load().state.ctLogs)
	for n := range out {
		out[n].End, out[n].Revoked = cloneTime(out[n].End), out[n].Revoked.clone()
	}
	return out
}
