package daemon

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/store"
)

// An issuing certificate of somebody else's authority: its key is made here
// and stays here, they certify it, and the chain they give is kept as an object.
const (
	importedPrefix = "countersign-ca-imported-"
	importedKind   = "certificate"
	importedName   = "imported-ca"
)

func (d *Daemon) importedKeys() generations { return generations{d.ring, importedPrefix, "ca"} }

// issuerKeys are the keys that the certificate authority opens with: an
// imported chain's when there is one, else those of our own root.
func (d *Daemon) issuerKeys(ctx context.Context) (authority.IssuerKeys, error) {
	ct, err := d.transparency().newest(ctx)
	if err != nil {
		return authority.IssuerKeys{}, err
	}
	chain, _, err := d.importedChain(ctx)
	if err != nil {
		return authority.IssuerKeys{}, err
	}
	if chain != nil {
		issuing, err := d.importedKey(ctx, chain)
		return authority.IssuerKeys{Issuing: issuing, CT: ct, Imported: chain}, err
	}
	root, err := d.issuingRoots().newest(ctx)
	if err != nil {
		return authority.IssuerKeys{}, err
	}
	issuing, err := d.issuingKeys().newest(ctx)
	return authority.IssuerKeys{Root: root, Issuing: issuing, CT: ct}, err
}

// importedChain is the kept chain and the revision it is kept under, or nil.
func (d *Daemon) importedChain(ctx context.Context) ([]*x509.Certificate, int64, error) {
	object, err := d.local.Objects().Get(ctx, importedKind, importedName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the imported chain: %w", err)
	}
	chain, err := parseChain(object.Body)
	return chain, object.Revision, err
}

// importedKey finds the key that a chain certifies. A chain about another key
// is server.ErrChain: it was made for another request, or for somebody else.
func (d *Daemon) importedKey(ctx context.Context, chain []*x509.Certificate) (crypto.Signer, error) {
	signers, err := d.importedKeys().signers(ctx)
	if err != nil {
		return nil, err
	}
	for _, signer := range signers {
		public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		if ok && public.Equal(chain[0].PublicKey) {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("%w: its first certificate is about no key that was requested here", server.ErrChain)
}

func parseChain(document []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(document) > 0 {
		block, rest := pem.Decode(document)
		if block == nil || block.Type != "CERTIFICATE" {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", server.ErrChain, len(chain)+1, err)
		}
		chain, document = append(chain, certificate), rest
	}
	if len(chain) < 2 {
		return nil, fmt.Errorf("%w: want the issuing certificate first and its root last, as PEM", server.ErrChain)
	}
	return chain, nil
}

// Request makes a key for an issuing certificate and returns the PKCS #10
// request (PEM) that somebody else's authority certifies. Nothing changes until
// Import.
func (r rotator) Request(ctx context.Context) ([]byte, error) {
	key, err := r.daemon.importedKeys().add(ctx)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{r.daemon.cfg.Organization}, CommonName: r.daemon.cfg.Organization + " certificate authority"},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// Import puts a chain (PEM, the certificate of a requested key first, the root
// last) in the place of our own root. What was issued before stays trusted with
// its end.
func (r rotator) Import(ctx context.Context, document []byte) error {
	r.daemon.rotating.Lock()
	defer r.daemon.rotating.Unlock()
	chain, err := parseChain(document)
	if err != nil {
		return err
	}
	key, err := r.daemon.importedKey(ctx, chain)
	if err != nil {
		return err
	}
	if err := authority.CheckImported(chain, key.Public(), r.daemon.cfg.Clock.Now()); err != nil {
		return fmt.Errorf("%w: %w", server.ErrChain, err)
	}
	_, revision, err := r.daemon.importedChain(ctx)
	if err != nil {
		return err
	}
	// The chain is kept first: a start that finds it adopts it, so a crash here
	// is finished by the next start.
	_, err = r.daemon.local.Objects().Put(ctx, store.Object{Kind: importedKind, Name: importedName, Body: document, Revision: revision})
	if err != nil {
		return fmt.Errorf("keeping the imported chain: %w", err)
	}
	if err := r.services.issuer.Rotate(ctx, authority.IssuerKeys{Issuing: key, Imported: chain}); err != nil {
		return fmt.Errorf("adopting the imported chain: %w", err)
	}
	return r.publish(ctx)
}
