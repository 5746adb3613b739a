// Package revocation asks the places that certificates name whether they were
// revoked: OCSP responders (RFC 6960), and revocation lists (RFC 5280) where
// there is no responder or it does not know.
//
// Who asks is told where by the certificates of a chain, so a chain must be
// proven to be below a trusted root first: then the places are its authorities'
// and not a publisher's. Addresses are judged by package netguard, and private
// ones are for the hosts only that the operator names. No request carries a
// credential, and no redirect is followed.
package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"
	corerevocation "github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/netguard"
)

// Errors of Check.
var (
	// ErrRevoked: an authority says that a certificate of the chain is revoked.
	ErrRevoked = errors.New("a certificate is revoked")
	// ErrUnknown: nobody that a certificate names said whether it is revoked.
	ErrUnknown = errors.New("it is not known whether a certificate is revoked")
)

// Use is what the certificates of a chain are for.
type Use int

// The uses.
const (
	CodeSigning Use = iota
	Timestamping
)

// Config wires a Checker.
type Config struct {
	// PrivateHosts are names of hosts that may have private addresses: responders
	// of an authority within the operator's own network.
	PrivateHosts []string
	// Network is the machine's when its functions are nil.
	Network netguard.Network
}

// Checker answers from what it was told at most limits.RevocationAge ago, or
// asks. It is safe for concurrent use.
type Checker struct {
	private    []string
	network    netguard.Network
	validators map[Use]corerevocation.Validator
	// good are the chains of which none is revoked; nothing else is remembered.
	good *otter.Cache[question, struct{}]
}

// question is what an answer is good for.
type question struct {
	chain [sha256.Size]byte
	use   Use
	at    int64
}

// New makes a Checker.
func New(c Config) (*Checker, error) {
	k := &Checker{private: c.PrivateHosts, network: c.Network, validators: map[Use]corerevocation.Validator{}}
	if k.network.Lookup == nil {
		k.network = netguard.System()
	}
	client := &http.Client{Timeout: limits.RevocationTimeout, Transport: k.transport(), CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	fetcher, err := crl.NewHTTPFetcher(client)
	if err != nil {
		return nil, err
	}
	for use, is := range map[Use]purpose.Purpose{CodeSigning: purpose.CodeSigning, Timestamping: purpose.Timestamping} {
		k.validators[use], err = corerevocation.NewWithOptions(corerevocation.Options{OCSPHTTPClient: client, CRLFetcher: fetcher, CertChainPurpose: is})
		if err != nil {
			return nil, err
		}
	}
	k.good, err = otter.New(&otter.Options[question, struct{}]{
		MaximumSize: limits.RevocationChains, ExpiryCalculator: otter.ExpiryWriting[question, struct{}](limits.RevocationAge),
	})
	return k, err
}

func (k *Checker) transport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: limits.RevocationHeader,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return k.network.Dial(slices.Contains(k.private, host))(ctx, network, addr)
		},
	}
}

// Check is nil if none of the chain, leaf first and root last, is revoked, or
// names a place where that would be told. at is when the signature was made, if
// that is believed: a key that became invalid later was good then (the CRL entry
// extension invalidityDate, RFC 5280 section 5.3.2). The zero time is now.
//
// Errors: ErrRevoked, ErrUnknown.
func (k *Checker) Check(ctx context.Context, chain []*x509.Certificate, use Use, at time.Time) error {
	q := question{chain: sum(chain), use: use}
	if !at.IsZero() {
		q.at = at.Unix()
	}
	// Who comes first asks for all who come meanwhile, and its leaving must not
	// cost them the answer.
	_, err := k.good.Get(context.WithoutCancel(ctx), q, otter.LoaderFunc[question, struct{}](func(ctx context.Context, _ question) (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, limits.RevocationTimeout)
		defer cancel()
		return struct{}{}, k.ask(ctx, chain, use, at)
	}))
	return err
}

func (k *Checker) ask(ctx context.Context, chain []*x509.Certificate, use Use, at time.Time) error {
	told, err := k.validators[use].ValidateContext(ctx, corerevocation.ValidateContextOptions{CertChain: chain, AuthenticSigningTime: at})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	var unknown error
	for i, one := range told {
		switch one.Result {
		case result.ResultOK, result.ResultNonRevokable:
		case result.ResultRevoked:
			return fmt.Errorf("%w: %s", ErrRevoked, chain[i].Subject)
		default:
			unknown = fmt.Errorf("%w: %s: %w", ErrUnknown, chain[i].Subject, causes(one))
		}
	}
	return unknown
}

func causes(r *result.CertRevocationResult) error {
	var errs []error
	for _, s := range r.ServerResults {
		if s.Error != nil {
			errs = append(errs, s.Error)
		}
	}
	return errors.Join(errs...)
}

func sum(chain []*x509.Certificate) (out [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range chain {
		one := sha256.Sum256(c.Raw)
		h.Write(one[:])
	}
	h.Sum(out[:0])
	return out
}
