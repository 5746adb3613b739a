package verifier

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/revocation"
)

// revoked refuses a chain, proven to be below a trusted root, of which a
// certificate is revoked, or of which nobody says whether it is (row D6).
type revoked func(chain []*x509.Certificate, use revocation.Use, at time.Time) *fault

// check is the rule; without one nobody asks.
func (r revoked) check(chain []*x509.Certificate, use revocation.Use, at time.Time) *fault {
	if r != nil {
		return r(chain, use, at)
	}
	return unasked(chain)
}

// unasked refuses a chain whose revocation would be told somewhere.
func unasked(chain []*x509.Certificate) *fault {
	if !pointsSomewhere(chain) {
		return nil
	}
	return faultf(policy.CertificateInvalid, "the certificate names a place that tells whether it is revoked, and nobody asks there: set revocation: skip in the policy to accept it unchecked")
}

// revokedBy is the rule of a policy. What was asked bounds how long the verdict
// is remembered; what nobody answered makes it one that is asked for again.
func (r *round) revokedBy(ctx context.Context, rule policy.Revocation) revoked {
	return func(chain []*x509.Certificate, use revocation.Use, at time.Time) *fault {
		switch {
		case rule == policy.RevocationSkip || !pointsSomewhere(chain):
			return nil
		case r.revocations == nil:
			return unasked(chain)
		}
		r.asked = true
		err := r.revocations.Check(ctx, chain, use, at)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, revocation.ErrRevoked):
			return faultf(policy.CertificateRevoked, "the certificate, or one above it, is revoked").because(err)
		}
		r.unsure = true
		return faultf(policy.CertificateInvalid, "it could not be learnt whether the certificate is revoked: the places that it names must be reachable from here, or revocation: skip in the policy accepts it unchecked").because(err)
	}
}

// pointsSomewhere reports whether a certificate that is not a root names a place
// to ask.
func pointsSomewhere(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		self := bytes.Equal(c.RawSubject, c.RawIssuer)
		return !self && len(c.CRLDistributionPoints)+len(c.OCSPServer) > 0
	})
}
