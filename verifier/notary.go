package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"slices"
	"time"

	notaryx509 "github.com/notaryproject/notation-core-go/x509"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/revocation"
	"github.com/countersign/countersign/tlog"
)

// formatNotary is an envelope of the Notary Project.
const formatNotary = registry.FormatNotation

// parseNotary reads an envelope, and the log entry that the archive keeps beside
// it, if there is one: the format has no place for it.
func parseNotary(envelope registry.Envelope, logEntry []byte) (*signed, *fault) {
	e, err := notary.Parse(envelope.MediaType, envelope.Content)
	if err != nil {
		return nil, faultf(policy.SignatureInvalid, "the signature is not a well-formed envelope of the Notary Project").because(err)
	}
	s := &signed{
		format: formatNotary, kind: policy.KindSignature, message: e.Message, signature: e.Signature, notary: e,
		subjects: []map[string]string{{"sha256": e.Target.Digest.Hex()}},
	}
	if id, err := keyID(e.Chain[0].PublicKey); err == nil {
		s.hint = id
	}
	if len(e.Timestamp) > 0 {
		response, err := responseOf(e.Timestamp)
		if err != nil {
			return nil, faultf(policy.TimestampInvalid, "the timestamp is malformed").because(err)
		}
		s.timestamps = [][]byte{response}
	}
	if len(logEntry) > 0 {
		entry, err := tlog.UnmarshalEntry(logEntry)
		if err != nil {
			return nil, faultf(policy.LogEntryMismatch, "the log entry is malformed").because(err)
		}
		s.entries = []*rekorpb.TransparencyLogEntry{entry}
	}
	return s, s.bounded()
}

// responseOf wraps a timestamp token as the response that it came in (RFC 3161
// section 2.4.2), the form in which every other format carries it.
func responseOf(token []byte) ([]byte, error) {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(token, &raw)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, asn1.SyntaxError{Msg: "trailing data"}
	}
	return asn1.Marshal(struct {
		Status struct{ Status int }
		Token  asn1.RawValue
	}{Token: raw})
}

// bindTarget wants the whole descriptor that was signed to be the artifact's:
// size and media type are signed beside the digest.
func bindTarget(a artifact, s *signed) *fault {
	if s.notary == nil || a.content == nil {
		return nil
	}
	target := s.notary.Target
	if target.Size != int64(len(a.content)) {
		return faultf(policy.SubjectMismatch, "the signature speaks of an artifact of another size")
	}
	var manifest struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(a.content, &manifest); err == nil && manifest.MediaType != "" && manifest.MediaType != target.MediaType {
		return faultf(policy.SubjectMismatch, "the signature speaks of an artifact of another media type")
	}
	return nil
}

// logged is the signature as log entries have it: an ECDSA signature of the
// Notary Project is two integers side by side, everywhere else ASN.1.
func (s *signed) logged(public crypto.PublicKey) []byte {
	if key, ok := public.(*ecdsa.PublicKey); ok && s.notary != nil {
		if der, err := notary.DER(key, s.signature); err == nil {
			return der
		}
	}
	return s.signature
}

// fresh refuses what its own signer declared out of date.
func (s *signed) fresh(now time.Time) *fault {
	if s.notary != nil && !s.notary.Expiry.IsZero() && !now.Before(s.notary.Expiry) {
		return faultf(policy.SignatureExpired, "the signature expired on %s: sign the image again", s.notary.Expiry.Format(time.RFC3339))
	}
	return nil
}

// expires is when time alone ends what is accepted now.
func (s *signed) expires(p *proof) time.Time {
	if s.notary == nil {
		return time.Time{}
	}
	end := s.notary.Expiry
	if len(p.times) > 0 || s.notary.Scheme == notary.SchemeSigningAuthority {
		return end
	}
	for _, c := range s.notary.Chain {
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// holders is an x509 authority with what its trusted root holds.
type holders struct {
	*policy.X509Authority
	anchors []anchor
	revoked revoked
	// managed: the service certified its own managed keys, whose identity is
	// their key's.
	managed bool
}

// anchor is a trusted certificate and when it is one.
type anchor struct {
	certificate *x509.Certificate
	start, end  *time.Time
}

func anchorsOf(certificates []*x509.Certificate) []anchor {
	out := make([]anchor, 0, len(certificates))
	for _, c := range certificates {
		out = append(out, anchor{certificate: c})
	}
	return out
}

// whoSigned wants an envelope whose signature is by the key of its first
// certificate, by the one algorithm of that key (row E7).
func (h *holders) whoSigned(b *bench, e *evidence, s signer) (*candidate, *fault) {
	if e.signed.notary == nil {
		return nil, faultf(policy.UntrustedKey, "the signature is not of the Notary Project, and %s is a certificate of it", s.name)
	}
	leaf := e.signed.notary.Chain[0]
	algorithm, err := notary.AlgorithmOf(leaf.PublicKey)
	if err != nil {
		return nil, faultf(policy.CertificateInvalid, "the certificate's key is of a kind or size that the Notary Project does not have")
	}
	id, err := keyID(leaf.PublicKey)
	if err != nil {
		return nil, faultf(policy.CertificateInvalid, "the certificate's key is of an unknown kind").because(err)
	}
	key := &candidate{id: id, public: leaf.PublicKey}
	if algorithm != e.signed.notary.Algorithm || !b.signed(e, key) {
		return nil, faultf(policy.SignatureInvalid, "the signature is not by the key of its certificate")
	}
	return key, nil
}

// admit holds the chain against the authority: who issued it, was all of it good
// when the signature was made, and who holds it.
func (h *holders) admit(key *candidate, e *evidence, p *proof, now time.Time, name string) *fault {
	n := e.signed.notary
	if n.Scheme != h.Scheme {
		return faultf(policy.SignatureInvalid, "the signature is of the signing scheme %s, and %s signs in %s", n.Scheme, name, h.Scheme)
	}
	at, f := h.times(n, p, now)
	if f != nil {
		return f
	}
	if f := h.chain(n.Chain, at, len(p.times) > 0); f != nil {
		return f
	}
	var signed time.Time
	if n.Scheme == notary.SchemeSigningAuthority {
		signed = n.SigningTime
	}
	if f := h.revoked.check(n.Chain, revocation.CodeSigning, signed); f != nil {
		return f
	}
	if !h.Matches(n.Chain[0]) {
		return faultf(policy.IdentityMismatch, "the certificate's subject is none of those that %s must have", name)
	}
	if !h.managed {
		// A name is one signer, whatever its keys: a threshold counts it once
		// (row C2).
		key.id = "x509 " + n.Chain[0].Subject.String()
	}
	return nil
}

// times are those at which the chain must be good: all that are proven, else
// now. The signing time is the signer's word: only an authority that the policy
// names as one is believed, and not beyond now.
func (h *holders) times(n *notary.Envelope, p *proof, now time.Time) ([]time.Time, *fault) {
	at := slices.Clone(p.times)
	if h.Scheme == notary.SchemeSigningAuthority {
		at = append(at, n.SigningTime)
		return at, notFuture(now, at)
	}
	if len(at) == 0 {
		at = append(at, now)
	}
	return at, nil
}

// chain wants a code signing chain by the rules of the Notary Project with one of
// the trusted certificates in it, good at every one of the times.
func (h *holders) chain(chain []*x509.Certificate, times []time.Time, proven bool) *fault {
	if err := notaryx509.ValidateCodeSigningCertChain(chain, nil); err != nil {
		return faultf(policy.CertificateInvalid, "the certificate chain breaks the rules of the Notary Project").because(err)
	}
	leaf := chain[0]
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && (!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)) {
		return faultf(policy.CertificateInvalid, "the certificate is not for code signing") // row D9
	}
	anchors := h.inChain(chain)
	if len(anchors) == 0 {
		return faultf(policy.CertificateInvalid, "the certificate is below none of the roots that the policy trusts")
	}
	for _, at := range times {
		for _, c := range chain { // row D1: all of it, and not the first alone
			if at.Before(c.NotBefore) || at.After(c.NotAfter) {
				return expired(proven)
			}
		}
	}
	for _, a := range anchors {
		if a.goodAt(times) && verifiesBelow(chain, a.certificate, times) {
			return nil
		}
	}
	return faultf(policy.CertificateInvalid, "the certificate is not good below the root that the policy trusts")
}

func expired(proven bool) *fault {
	if proven {
		return faultf(policy.CertificateExpired, "the certificate chain was not valid when the signature was made")
	}
	return faultf(policy.CertificateExpired, "the certificate chain is not valid now, and no trusted timestamp authority says that it was when the signature was made")
}

func (h *holders) inChain(chain []*x509.Certificate) []anchor {
	var out []anchor
	for _, a := range h.anchors {
		if slices.ContainsFunc(chain, a.certificate.Equal) {
			out = append(out, a)
		}
	}
	return out
}

func (a anchor) goodAt(times []time.Time) bool {
	return !slices.ContainsFunc(times, func(at time.Time) bool {
		return a.start != nil && at.Before(*a.start) || a.end != nil && at.After(*a.end)
	})
}

// verifiesBelow is the judgement of the standard library, which knows name
// constraints, critical extensions and path lengths, from the leaf to the
// trusted certificate at every time.
func verifiesBelow(chain []*x509.Certificate, root *x509.Certificate, times []time.Time) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, at := range times {
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		})
		if err != nil {
			return false
		}
	}
	return true
}
