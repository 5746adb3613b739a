package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

const (
	servingName = "serving"
	// servingRootYears is how long an authority of the service's own TLS
	// certificates lasts; a successor is published in its last year.
	servingRootYears = 10
	servingOverlap   = 365 * 24 * time.Hour
	// servingPublished is how long a successor is in the bundle before it
	// certifies: whoever holds the bundle has to fetch the new one.
	servingPublished = 90 * 24 * time.Hour
	// servingLeaf is how long one TLS certificate lasts, servingRenewal how long
	// before its end the next one is made.
	servingLeaf    = 30 * 24 * time.Hour
	servingRenewal = 10 * 24 * time.Hour
)

// ServingKeys hold the keys of the authority of the service's TLS
// certificates.
type ServingKeys interface {
	// Signers are all of them, oldest first.
	Signers(ctx context.Context) ([]crypto.Signer, error)
	// Add makes the next one, durably.
	Add(ctx context.Context) (crypto.Signer, error)
}

// ServingConfig is what a Serving needs; all but Rand and Publish is required.
type ServingConfig struct {
	Keys ServingKeys
	// Objects keeps the authorities' certificates.
	Objects store.Objects
	// Names are the host names and addresses that the certificate is for.
	Names        []string
	Organization string
	Clock        clock.Clock
	// Publish is told the bundle when it opens and whenever it changes.
	Publish func(bundle []byte) error
	// Rand is crypto/rand when nil.
	Rand io.Reader
}

// Serving certifies the service's own TLS certificate, for callers that are
// told whom to believe: the API server of a cluster, above all. The authority's
// key lasts; that of the TLS certificate lives in memory only and is replaced
// with it, before its end and at each start. It is safe for concurrent use.
type Serving struct {
	config ServingConfig

	// mu guards what follows; issuing holds it.
	mu          sync.Mutex
	signers     []crypto.Signer
	authorities []*x509.Certificate
	leaf        *tls.Certificate
}

// OpenServing reads the authorities' certificates, issues those that are
// missing, and makes the first TLS certificate.
func OpenServing(ctx context.Context, c ServingConfig) (*Serving, error) {
	if c.Keys == nil || c.Objects == nil || c.Clock == nil || len(c.Names) == 0 {
		return nil, errors.New("a serving authority needs keys, a store, a clock and names")
	}
	if c.Organization == "" {
		c.Organization = defaultOrganization
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	s := &Serving{config: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.renew(ctx, c.Clock.Now()); err != nil {
		return nil, err
	}
	return s, s.publish()
}

// Certificate is what tls.Config.GetCertificate wants: Current for the caller of a
// handshake.
func (s *Serving) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Current(hello.Context())
}

// Current is the TLS certificate in use. When the next one is due and cannot be
// made, the one in use is answered as long as it lasts.
func (s *Serving) Current(ctx context.Context) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Clock.Now()
	if now.Before(s.leaf.Leaf.NotAfter.Add(-servingRenewal)) {
		return s.leaf, nil
	}
	known := len(s.authorities)
	err := s.renew(ctx, now)
	if err == nil && len(s.authorities) != known {
		err = s.publish()
	}
	if err != nil && now.After(s.leaf.Leaf.NotAfter) {
		return nil, fmt.Errorf("renewing the TLS certificate: %w", err)
	}
	return s.leaf, nil
}

// Bundle is what callers must believe, in PEM: the authority in use and, around
// a change, the next one.
func (s *Serving) Bundle() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle()
}

func (s *Serving) bundle() []byte {
	now := s.config.Clock.Now()
	var alive []*x509.Certificate
	for _, c := range s.authorities {
		if now.Before(c.NotAfter) {
			alive = append(alive, c)
		}
	}
	return encodePEM(alive)
}

func (s *Serving) publish() error {
	if s.config.Publish == nil {
		return nil
	}
	return s.config.Publish(s.bundle())
}

// renew makes the next TLS certificate, and before it the next authority when
// the newest is in its last year.
func (s *Serving) renew(ctx context.Context, now time.Time) error {
	signers, err := s.config.Keys.Signers(ctx)
	if err != nil {
		return fmt.Errorf("reading the keys of the serving authority: %w", err)
	}
	authorities, err := s.certified(ctx, signers, now)
	if err != nil {
		return err
	}
	if n := len(authorities); n == 0 || now.After(authorities[n-1].NotAfter.Add(-servingOverlap)) {
		next, err := s.config.Keys.Add(ctx)
		if err != nil {
			return fmt.Errorf("making a key of the serving authority: %w", err)
		}
		signers = append(signers, next)
		if authorities, err = s.certified(ctx, signers, now); err != nil {
			return err
		}
	}
	use := inUse(authorities, now)
	leaf, err := s.issue(authorities[use], signers[use], now)
	if err != nil {
		return err
	}
	s.signers, s.authorities, s.leaf = signers, authorities, leaf
	return nil
}

// inUse is the newest authority that was published for long enough, or else
// the oldest that lasts.
func inUse(authorities []*x509.Certificate, now time.Time) int {
	for i, c := range slices.Backward(authorities) {
		if now.Sub(c.NotBefore) >= servingPublished && now.Before(c.NotAfter) {
			return i
		}
	}
	for i, c := range authorities {
		if now.Before(c.NotAfter) {
			return i
		}
	}
	return len(authorities) - 1
}

// certified are the authorities' certificates, one for each key in order.
func (s *Serving) certified(ctx context.Context, signers []crypto.Signer, now time.Time) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	_, err := keeper{objects: s.config.Objects, name: servingName}.keep(ctx, now, func(kept state) (state, bool, error) {
		found = found[:0]
		after, changed := state{chains: cloneChains(kept.chains)}, false
		for i, signer := range signers {
			known := slices.IndexFunc(after.chains, func(c Chain) bool { return samePublic(c.Certificates[0].PublicKey, signer.Public()) })
			if known >= 0 {
				found = append(found, after.chains[known].Certificates[0])
				continue
			}
			made, err := s.root(i, signer, now)
			if err != nil {
				return state{}, false, err
			}
			found, changed = append(found, made), true
			after.chains = append(after.chains, Chain{Certificates: []*x509.Certificate{made}, Start: opening(now)})
		}
		return after, changed, nil
	})
	return found, err
}

func (s *Serving) root(generation int, signer crypto.Signer, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{s.config.Organization},
			CommonName:   fmt.Sprintf("%s TLS authority %d", s.config.Organization, generation+1),
		},
		NotBefore: opening(now), NotAfter: now.AddDate(servingRootYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	made, err := certify(s.config.Rand, template, nil, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("certifying the serving authority: %w", err)
	}
	return made, nil
}

// issue makes a TLS certificate for servers, for the configured names.
func (s *Serving) issue(parent *x509.Certificate, signer crypto.Signer, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.config.Rand)
	if err != nil {
		return nil, fmt.Errorf("making a TLS key: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{s.config.Organization}, CommonName: "countersign"},
		NotBefore: opening(now), NotAfter: now.Add(servingLeaf), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range s.config.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	leaf, err := certify(s.config.Rand, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("certifying a TLS key: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
