package catalog

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/identity/mtls"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/limits"
)

// IssuerObjects are the issuers whose tokens are believed.
func (c *Catalog) IssuerObjects() *Collection[oidc.Issuer] { return c.issuers }

// ByURL returns the issuer of exactly that URL, or oidc.ErrUnknownIssuer. It
// makes Catalog an oidc.Issuers.
func (c *Catalog) ByURL(ctx context.Context, url string) (oidc.Issuer, error) {
	entries, err := c.issuers.All(ctx)
	if err != nil {
		return oidc.Issuer{}, err
	}
	for _, e := range entries {
		if e.Value.URL == url {
			return e.Value, nil
		}
	}
	return oidc.Issuer{}, oidc.ErrUnknownIssuer
}

// ProvenanceRules returns what the issuer of exactly that URL is configured
// with for provenance, or oidc.ErrUnknownIssuer. The zero value is no rules.
func (c *Catalog) ProvenanceRules(ctx context.Context, issuerURL string) (provenance.Rules, error) {
	issuer, err := c.ByURL(ctx, issuerURL)
	if err != nil || issuer.Provenance == nil {
		return provenance.Rules{}, err
	}
	return *issuer.Provenance, nil
}

// ClientIssuers are the issuers of client certificates. It makes Catalog an
// mtls.Issuers.
func (c *Catalog) ClientIssuers(ctx context.Context) ([]mtls.Issuer, error) {
	entries, err := c.issuers.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []mtls.Issuer
	for _, e := range entries {
		if e.Value.Kind != oidc.MTLS {
			continue
		}
		authorities, err := e.Value.ClientAuthorities()
		if err != nil {
			return nil, fmt.Errorf("%w: issuer %s: %w", ErrStored, e.Name, err)
		}
		out = append(out, mtls.Issuer{URL: e.Value.URL, Authorities: authorities, Roles: e.Value.Roles})
	}
	return out, nil
}

// DraftIssuer checks an issuer (the JSON of oidc.Issuer) that is to be kept
// under name. Writing it is store.ErrExists when another has its URL.
func (c *Catalog) DraftIssuer(name string, document []byte) (Draft[oidc.Issuer], error) {
	if !validName(name) {
		return Draft[oidc.Issuer]{}, fmt.Errorf("%w: want 1 to %d letters, digits and inner . _ -", ErrName, limits.Name)
	}
	issuer, err := oidc.ParseIssuer(name, document)
	if err != nil {
		return Draft[oidc.Issuer]{}, err
	}
	body, err := issuer.Document()
	if err != nil {
		return Draft[oidc.Issuer]{}, fmt.Errorf("encoding an issuer: %w", err)
	}
	return Draft[oidc.Issuer]{name: name, alias: issuer.URL, value: issuer, body: body}, nil
}
