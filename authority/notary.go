package authority

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

const notaryName = "notary"

// Times of certificates of the Notary Project, in years and days.
const (
	notaryYears = 1
	// notaryRenew is how long before its end a certificate is not handed out any
	// more: readers without a timestamp authority need one that is still valid.
	notaryRenew = 180 * 24 * time.Hour
)

// NotaryConfig is what a Notary needs. Key, Objects and Clock are required.
type NotaryConfig struct {
	// Key certifies; it does nothing else.
	Key     crypto.Signer
	Objects store.Objects
	// Organization names the service in certificates; "Countersign" when empty.
	Organization string
	Clock        clock.Clock
	// Rand is the operating system's when nil.
	Rand io.Reader
}

// Notary certifies the service's signing keys for signatures of the Notary
// Project, which know keys by certificates only. Its root is kept in the store
// under the name "notary"; certificates are made anew by every process, for a
// year, and name the key: CN is the key's name. The Notary Project demands a
// country and a state; the service has none and says ZZ (which ISO 3166 leaves
// to its users) and "none".
type Notary struct {
	cfg   NotaryConfig
	roots []*x509.Certificate

	mu sync.Mutex
	// issued is guarded by mu; there is one for each version of a managed key.
	issued map[string]*x509.Certificate
}

// OpenNotary opens the authority, after making its root when there is none of
// the key's that lasts.
func OpenNotary(ctx context.Context, cfg NotaryConfig) (*Notary, error) {
	if cfg.Key == nil || cfg.Objects == nil || cfg.Clock == nil {
		return nil, errors.New("the Notary authority needs a key, a store and a clock")
	}
	if cfg.Organization == "" {
		cfg.Organization = defaultOrganization
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	n := &Notary{cfg: cfg, issued: make(map[string]*x509.Certificate)}
	now := cfg.Clock.Now()
	kept, err := keeper{objects: cfg.Objects, name: notaryName}.keep(ctx, now, func(s state) (state, bool, error) {
		if newestRoot(s.chains, cfg.Key.Public(), now.AddDate(leafYears, 0, 0)) != nil {
			return s, false, nil
		}
		root, err := certify(cfg.Rand, n.rootTemplate(now), nil, cfg.Key.Public(), cfg.Key)
		if err != nil {
			return s, false, fmt.Errorf("issuing the Notary root: %w", err)
		}
		s.chains = append(cloneChains(s.chains), Chain{Certificates: []*x509.Certificate{root}, Start: opening(now)})
		return s, true, nil
	})
	if err != nil {
		return nil, err
	}
	for _, chain := range kept.chains {
		n.roots = append(n.roots, chain.Certificates...)
	}
	return n, nil
}

// Roots are the roots of all certificates so far.
func (n *Notary) Roots() []*x509.Certificate { return append([]*x509.Certificate(nil), n.roots...) }

// Certify returns a chain for a managed key: its certificate, then the root. It
// does not ask who holds the key; its caller has it from the key ring.
func (n *Notary) Certify(ctx context.Context, name string, public crypto.PublicKey) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPublicKey, err)
	}
	now := n.cfg.Clock.Now()
	root := newestRoot(n.chains(), n.cfg.Key.Public(), now.AddDate(notaryYears, 0, 0))
	if root == nil {
		return nil, ErrOutlived
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := name + "\x00" + string(der)
	if kept := n.issued[id]; kept != nil && now.Add(notaryRenew).Before(kept.NotAfter) && !now.Before(kept.NotBefore) {
		return []*x509.Certificate{kept, root}, nil
	}
	leaf, err := certify(n.cfg.Rand, n.leafTemplate(name, now), root, public, n.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("certifying key %s: %w", name, err)
	}
	n.issued[id] = leaf
	return []*x509.Certificate{leaf, root}, nil
}

func (n *Notary) chains() []Chain {
	out := make([]Chain, 0, len(n.roots))
	for _, root := range n.roots {
		out = append(out, Chain{Certificates: []*x509.Certificate{root}})
	}
	return out
}

func (n *Notary) subject(common string) pkix.Name {
	return pkix.Name{Country: []string{"ZZ"}, Province: []string{"none"}, Organization: []string{n.cfg.Organization}, CommonName: common}
}

func (n *Notary) rootTemplate(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: n.subject(n.cfg.Organization + " notary root"), NotBefore: now.Add(-backdate), NotAfter: now.AddDate(rootYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func (n *Notary) leafTemplate(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: n.subject(name), NotBefore: now.Add(-backdate), NotAfter: now.AddDate(notaryYears, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
}
