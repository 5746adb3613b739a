package verifier

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/trust"
)

// issuers are the certificate authorities and certificate transparency logs of
// a trusted root.
type issuers struct {
	root.BaseTrustedMaterial
	authorities []*root.FulcioCertificateAuthority
	logs        map[string]*root.TransparencyLog
	// sctNeeded: a certificate without a timestamp of one of the logs is not
	// believed.
	sctNeeded bool
}

// CTLogs is how sigstore-go asks for the certificate transparency logs.
func (i *issuers) CTLogs() map[string]*root.TransparencyLog { return i.logs }

// prepareIssuers reads the authorities of a root. Ours always adds a
// certificate timestamp; another's is wanted when it says by which logs.
func prepareIssuers(name string, r trust.Root, h hash.Hash) (*issuers, error) {
	out := &issuers{logs: make(map[string]*root.TransparencyLog), sctNeeded: name == policy.SelfRoot || len(r.CTLogs) > 0}
	for _, authority := range r.CertificateAuthorities {
		n := len(authority.Chain)
		if n == 0 {
			return nil, fmt.Errorf("trusted root: certificate authority %s has no chain", authority.URI)
		}
		ca := &root.FulcioCertificateAuthority{
			URI: authority.URI, Root: authority.Chain[n-1], Intermediates: authority.Chain[:n-1],
			ValidityPeriodStart: authority.Start,
		}
		if authority.End != nil {
			ca.ValidityPeriodEnd = *authority.End
		}
		out.authorities = append(out.authorities, ca)
		for _, certificate := range authority.Chain {
			fmt.Fprintf(h, "ca %x ", certificate.Raw)
		}
		writeWindow(h, authority.Start, authority.End)
	}
	for _, log := range r.CTLogs {
		id, err := keyID(log.Public)
		if err != nil {
			return nil, fmt.Errorf("trusted root: certificate transparency log %s: %w", log.BaseURL, err)
		}
		raw, err := hex.DecodeString(id)
		if err != nil {
			return nil, err
		}
		instance := &root.TransparencyLog{BaseURL: log.BaseURL, ID: raw, PublicKey: log.Public, ValidityPeriodStart: log.Start}
		if log.End != nil {
			instance.ValidityPeriodEnd = *log.End
		}
		out.logs[id] = instance
		fmt.Fprintf(h, "ct %s ", id)
		writeWindow(h, log.Start, log.End)
	}
	return out, nil
}

// certify says whom a certificate was issued to, if a trusted authority issued
// it and all of its chain was valid at every proven time of the signature (rows
// B6, D1). Whether it is valid now does not matter: that is what the times are
// for.
func (i *issuers) certify(cert *x509.Certificate, times []time.Time) (identity.Holder, *fault) {
	if f := fitToSign(cert); f != nil {
		return identity.Holder{}, f
	}
	for _, at := range times {
		if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
			return identity.Holder{}, faultf(policy.CertificateExpired, "the certificate was not valid when the signature was made")
		}
	}
	chains, f := i.chains(cert, times)
	if f != nil {
		return identity.Holder{}, f
	}
	if i.sctNeeded {
		if err := verify.VerifySignedCertificateTimestamp(chains, 1, i); err != nil {
			return identity.Holder{}, faultf(policy.CertificateInvalid, "the certificate has no timestamp of a trusted certificate transparency log").because(err)
		}
	}
	holder, err := identity.ParseHolder(cert)
	if err != nil {
		return identity.Holder{}, faultf(policy.CertificateInvalid, "the certificate does not name one identity and its issuer").because(err)
	}
	return holder, nil
}

// fitToSign wants an end certificate for code signing that says so: x509 takes
// one without any extended key usage for all of them (row D9).
func fitToSign(cert *x509.Certificate) *fault {
	switch {
	case cert.IsCA:
		return faultf(policy.CertificateInvalid, "the certificate is an authority's and not a signer's")
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(cert.UnknownExtKeyUsage) > 0:
		return faultf(policy.CertificateInvalid, "the certificate is not for code signing alone")
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return faultf(policy.CertificateInvalid, "the certificate's key is not for signatures")
	}
	return nil
}

// chains are those of the one authority under which the certificate is good at
// every proven time; windows of several authorities are not combined (row D5).
func (i *issuers) chains(cert *x509.Certificate, times []time.Time) ([][]*x509.Certificate, *fault) {
	// Only a copy may be changed, and only in what this package reads itself.
	known := *cert
	known.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(cert.UnhandledCriticalExtensions), cryptoutils.SANOID.Equal)
	expired := false
	for _, authority := range i.authorities {
		var chains [][]*x509.Certificate
		var err error
		for _, at := range times {
			if chains, err = authority.Verify(&known, at); err != nil {
				break
			}
		}
		if err == nil && len(chains) > 0 {
			return chains, nil
		}
		expired = expired || issued(authority, &known)
	}
	if expired {
		return nil, faultf(policy.CertificateExpired, "the certificate's authority was not valid when the signature was made")
	}
	return nil, faultf(policy.CertificateInvalid, "the certificate is by no certificate authority of the trusted root")
}

// issued reports whether an authority issued the certificate, whatever the
// windows: it chooses words and admits nothing.
func issued(authority *root.FulcioCertificateAuthority, cert *x509.Certificate) bool {
	for _, parent := range append([]*x509.Certificate{authority.Root}, authority.Intermediates...) {
		if cert.CheckSignatureFrom(parent) == nil {
			return true
		}
	}
	return false
}
