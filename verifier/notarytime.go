package verifier

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	notaryx509 "github.com/notaryproject/notation-core-go/x509"
	"github.com/notaryproject/tspclient-go"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/revocation"
	"github.com/countersign/countersign/trust"
)

// stampRoots are the roots of timestamp authorities of which nothing else is
// known: their certificates come with the token.
type stampRoots struct {
	pool *x509.CertPool
	// none: nobody is believed.
	none bool
	// revoked refuses chains of theirs (row D6).
	revoked revoked
}

// prove is the time that an authority below one of the roots puts to a
// signature. known is false for a token below none of them.
func (s *stampRoots) prove(of stamp, signature []byte) (at time.Time, known bool, f *fault) {
	whole, err := of.whole()
	if err != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is malformed").because(err)
	}
	token, err := tspclient.ParseSignedToken(whole.RawToken)
	if err != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is malformed").because(err)
	}
	info, err := token.Info()
	if err != nil || len(token.SignerInfos) != 1 {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is malformed, or has several signers")
	}
	told, err := info.Validate(signature)
	if err != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is of another signature").because(err)
	}
	chain, err := token.Verify(context.Background(), x509.VerifyOptions{Roots: s.pool, CurrentTime: told.Value})
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp is not its authority's, or not within its validity").because(err)
	}
	if err := notaryx509.ValidateTimestampingCertChain(chain); err != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp authority's certificates break the rules of the Notary Project").because(err)
	}
	if f := s.revoked.check(chain, revocation.Timestamping, time.Time{}); f != nil {
		return time.Time{}, true, faultf(policy.TimestampInvalid, "the timestamp authority: %s", f.text).because(f.cause)
	}
	return told.Value.UTC(), true, nil
}

// x509Of reads the roots of an x509 authority. A trusted root that does not
// exist is a fault of the policy; a store that cannot be read is an error.
func (r *round) x509Of(ctx context.Context, s signer, who *policy.X509Authority) (signer, error) {
	s.x509 = &holders{X509Authority: who, anchors: anchorsOf(who.Roots), revoked: r.revokedBy(ctx, who.Revocation)}
	switch who.TrustRoot {
	case "":
	case policy.SelfRoot:
		s.x509.managed = true
		s.x509.anchors = anchorsOf(r.trust().NotaryRoots)
	default:
		var err error
		if s, err = r.otherRoot(ctx, s, who.TrustRoot); err != nil || s.fault != nil {
			return s, err
		}
		s.x509.anchors = s.trusted.issuers.anchors()
	}
	if len(s.x509.anchors) == 0 {
		s.fault = faultf(policy.PolicyError, "authority %s names a trusted root without certificates to sign under", s.name)
	}
	if len(who.TimestampRoots) > 0 || who.Timestamp == policy.TimestampIgnored {
		s.trusted = s.trusted.stampedBelow(who, s.x509.revoked)
	}
	return s, nil
}

// anchors are the roots of the certificate authorities, each for its window.
func (i *issuers) anchors() []anchor {
	out := make([]anchor, 0, len(i.authorities))
	for _, ca := range i.authorities {
		a := anchor{certificate: ca.Root, start: &ca.ValidityPeriodStart}
		if !ca.ValidityPeriodEnd.IsZero() {
			a.end = &ca.ValidityPeriodEnd
		}
		out = append(out, a)
	}
	return out
}

// stampedBelow is the same trusted root with other timestamp authorities.
func (t *trusted) stampedBelow(who *policy.X509Authority, revoked revoked) *trusted {
	pool := x509.NewCertPool()
	for _, c := range who.TimestampRoots {
		pool.AddCert(c)
	}
	return &trusted{
		logs: t.logs, issuers: t.issuers, fingerprint: t.fingerprint,
		roots: &stampRoots{pool: pool, none: who.Timestamp == policy.TimestampIgnored, revoked: revoked},
	}
}

// notaryFingerprint is what of a root only signatures of the Notary Project rest
// on.
func notaryFingerprint(r trust.Root) []byte {
	var out []byte
	for _, c := range r.NotaryRoots {
		out = append(out, c.Raw...)
	}
	return out
}
