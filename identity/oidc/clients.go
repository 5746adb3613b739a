package oidc

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/countersign/countersign/internal/limits"
)

// ClientAuthorities are the certificates of CABundle, for an issuer of the kind
// MTLS.
func (i Issuer) ClientAuthorities() ([]*x509.Certificate, error) {
	rest := []byte(i.CABundle)
	var out []*x509.Certificate
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, fault("/caBundle", "must be certificates in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault("/caBundle", fmt.Sprintf("certificate %d is malformed", len(out)+1))
		}
		// A leaf among the anchors would be trusted whoever issued it (row D8).
		if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fault("/caBundle", fmt.Sprintf("certificate %d is not an authority's", len(out)+1))
		}
		if out = append(out, c); len(out) > limits.ClientAuthorities {
			return nil, fault("/caBundle", fmt.Sprintf("must have at most %d certificates", limits.ClientAuthorities))
		}
	}
	if len(out) == 0 {
		return nil, fault("/caBundle", "must have the authorities of the client certificates")
	}
	return out, nil
}

// validateMTLS refuses what means something for tokens only: who set it
// expects what will not happen.
func (i Issuer) validateMTLS(name string) error {
	for _, of := range []struct {
		pointer string
		set     bool
	}{
		{"/audience", i.Audience != ""},
		{"/jwksUrl", i.JWKSURL != ""},
		{"/claimsMapping", len(i.ClaimsMapping) > 0},
		{"/oneTime", i.OneTime},
		{"/insecureHttp", i.InsecureHTTP},
		{"/allowPrivateAddress", i.AllowPrivateAddress},
	} {
		if of.set {
			return fault(of.pointer, "is for issuers of tokens; this one has client certificates")
		}
	}
	if i.URL != mtlsScheme+name {
		return fault("/url", "must be mtls:NAME with the name of the issuer, or be left out")
	}
	if _, err := i.ClientAuthorities(); err != nil {
		return err
	}
	return i.checkRoles()
}
