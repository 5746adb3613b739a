// Package mtls authenticates callers by the client certificates of configured
// authorities.
//
// The TLS layer only asks for a certificate and has the client prove that it
// holds the key; whom the certificate makes the caller is decided here, for
// every request anew. So a change of the configured authorities, the end of a
// certificate and the end of what certified it count at once, also on a
// connection or a resumed session that is older than the change (row D8).
//
// A certificate authenticates when all of this holds:
//
//   - it is an end certificate, for client authentication by name: neither the
//     absence of extended key usages nor "any" is enough (row D9);
//   - with the certificates that came with it, it leads to an authority of
//     exactly one configured issuer; all of the chain is valid now and keeps its
//     usages, path lengths and name constraints (RFC 5280 §6);
//   - it has one name: one URI, else one DNS name, else one e-mail address, else
//     its subject in the form of RFC 4514. Several of the first kind that it has
//     at all name nobody.
//
// The identity has the issuer `mtls:NAME` after the configured object, and that
// name as its subject. Two authorities are two issuers: a certificate of another
// one for the same subject is somebody else. There is no revocation list: give
// certificates a short life, or take their authority away.
//
// An identity from a certificate cannot have a signing certificate: no token
// says what it stands for.
package mtls

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// ErrInvalid is wrapped by every error that says the certificate authenticates
// nobody. What is not ErrInvalid means that it could not be decided.
var ErrInvalid = errors.New("invalid client certificate")

// Issuer is a configured authority of client certificates.
type Issuer struct {
	// URL is `mtls:NAME`, the issuer of its identities.
	URL string
	// Authorities are certificates of authorities only.
	Authorities []*x509.Certificate
	// Roles are what its identities may do.
	Roles []identity.Role
}

// Issuers gives the configured authorities.
type Issuers interface {
	// ClientIssuers is asked for every certificate, so a change counts for the
	// next one.
	ClientIssuers(ctx context.Context) ([]Issuer, error)
}

// Verifier authenticates callers by client certificates. It is safe for
// concurrent use and keeps nothing.
type Verifier struct {
	issuers Issuers
	clock   clock.Clock
}

// New makes a Verifier; both parts are required.
func New(issuers Issuers, c clock.Clock) (*Verifier, error) {
	if issuers == nil || c == nil {
		return nil, errors.New("mtls: issuers and clock are required")
	}
	return &Verifier{issuers: issuers, clock: c}, nil
}

// Authenticate returns the identity that a chain proves: the client's own
// certificate first, then what it sent along, in any order. The caller has seen
// proof that the client holds the first one's key. Errors wrap ErrInvalid with
// the reason, or are those of Issuers.
func (v *Verifier) Authenticate(ctx context.Context, chain []*x509.Certificate) (identity.Identity, error) {
	if n := len(chain); n == 0 || n > limits.ClientChain {
		return identity.Identity{}, fmt.Errorf("%w: want 1 to %d certificates", ErrInvalid, limits.ClientChain)
	}
	leaf := chain[0]
	if err := fit(leaf); err != nil {
		return identity.Identity{}, err
	}
	issuers, err := v.issuers.ClientIssuers(ctx)
	if err != nil {
		return identity.Identity{}, err
	}
	issuer, err := vouching(issuers, chain, v.clock.Now())
	if err != nil {
		return identity.Identity{}, err
	}
	return identify(issuer, leaf)
}

// fit wants the certificate of a client and nothing else: that an authority is
// trusted makes its own certificate, or one for servers, no credential.
func fit(c *x509.Certificate) error {
	switch {
	case c.Version != 3 || c.IsCA:
		return fmt.Errorf("%w: it is not an end certificate", ErrInvalid)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return fmt.Errorf("%w: it is not for client authentication by name", ErrInvalid)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%w: its key is not for signatures", ErrInvalid)
	}
	return nil
}

// vouching is the one issuer whose authorities vouch for the chain. Of two
// that do, neither is the right one to believe.
func vouching(issuers []Issuer, chain []*x509.Certificate, now time.Time) (Issuer, error) {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	var found []Issuer
	var why error
	for _, issuer := range issuers {
		roots := x509.NewCertPool()
		for _, c := range issuer.Authorities {
			roots.AddCert(c)
		}
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			why = errors.Join(why, fmt.Errorf("%s: %w", issuer.URL, err))
			continue
		}
		found = append(found, issuer)
	}
	switch len(found) {
	case 0:
		return Issuer{}, fmt.Errorf("%w: no configured authority vouches for it: %w", ErrInvalid, errOr(why))
	case 1:
		return found[0], nil
	}
	return Issuer{}, fmt.Errorf("%w: authorities of more than one issuer vouch for it", ErrInvalid)
}

func errOr(err error) error {
	if err == nil {
		return errors.New("there is none")
	}
	return err
}

func identify(issuer Issuer, c *x509.Certificate) (identity.Identity, error) {
	claims, err := readNames(c)
	if err != nil {
		return identity.Identity{}, err
	}
	return identity.Identity{
		Issuer: issuer.URL, Subject: claims.subject, Kind: identity.KindMTLS,
		Claims: claims.values, Roles: slices.Clone(issuer.Roles),
	}, nil
}
