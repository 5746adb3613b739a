package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

const (
	kind = "certificate"
	name = "timestamp"

	rootYears = 20
	leafYears = 10
	// renewBefore is how long before its end a leaf is replaced at start.
	renewBefore = 365 * 24 * time.Hour
	// backdate makes a new certificate valid for clocks a little behind.
	backdate = time.Minute
)

// record is what the store keeps: chains as PEM, leaf first, newest chain last.
type record struct {
	Chains []string `json:"chains"`
}

// issuer makes the certificates of one pair of keys.
type issuer struct {
	root, leaf   crypto.Signer
	organization string
	rand         io.Reader
}

// open returns every kept chain, current last, after issuing one when none is
// current. Two processes that start together end with the same chain.
func (i issuer) open(ctx context.Context, objects store.Objects, now time.Time) ([][]*x509.Certificate, error) {
	for {
		o, err := objects.Get(ctx, kind, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("reading timestamp certificates: %w", err)
		}
		chains, err := decodeChains(o)
		if err != nil {
			return nil, err
		}
		if len(chains) > 0 && i.current(chains[len(chains)-1], now) {
			return chains, nil
		}
		chain, err := i.issue(chains, now)
		if err != nil {
			return nil, err
		}
		chains = append(chains, chain)
		body, err := encodeChains(chains)
		if err != nil {
			return nil, err
		}
		_, err = objects.Put(ctx, store.Object{
			Kind: kind, Name: name, Revision: o.Revision, Body: body, CreatedAt: now, UpdatedAt: now,
		})
		switch {
		case err == nil:
			return chains, nil
		case !errors.Is(err, store.ErrStale) && !errors.Is(err, store.ErrExists):
			return nil, fmt.Errorf("writing timestamp certificates: %w", err)
		}
	}
}

// current reports whether a kept chain belongs to our keys and lasts.
func (i issuer) current(chain []*x509.Certificate, now time.Time) bool {
	leaf, root := chain[0], chain[len(chain)-1]
	return samePublic(leaf.PublicKey, i.leaf.Public()) &&
		samePublic(root.PublicKey, i.root.Public()) &&
		checkChain(chain, now) == nil &&
		now.Add(renewBefore).Before(leaf.NotAfter)
}

// issue makes a leaf under the newest root of our key that outlives it, or
// under a new root: clients that trust a root go on trusting its new leaf.
func (i issuer) issue(kept [][]*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	var root *x509.Certificate
	for _, chain := range slices.Backward(kept) {
		r := chain[len(chain)-1]
		if samePublic(r.PublicKey, i.root.Public()) && now.AddDate(leafYears, 0, 0).Before(r.NotAfter) {
			root = r
			break
		}
	}
	if root == nil {
		made, err := i.certify(i.rootTemplate(now), nil, i.root.Public())
		if err != nil {
			return nil, fmt.Errorf("issuing the timestamp root: %w", err)
		}
		root = made
	}
	template, err := i.leafTemplate(now)
	if err != nil {
		return nil, err
	}
	leaf, err := i.certify(template, root, i.leaf.Public())
	if err != nil {
		return nil, fmt.Errorf("issuing the timestamp certificate: %w", err)
	}
	chain := []*x509.Certificate{leaf, root}
	return chain, checkChain(chain, now)
}

func (i issuer) rootTemplate(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{i.organization}, CommonName: i.organization + " timestamp root"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(rootYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func (i issuer) leafTemplate(now time.Time) (*x509.Certificate, error) {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping()})
	if err != nil {
		return nil, fmt.Errorf("encoding key usage: %w", err)
	}
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{i.organization}, CommonName: i.organization + " timestamp authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(leafYears, 0, 0),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		// RFC 3161 §2.3 wants the extension critical, which ExtKeyUsage is not.
		ExtraExtensions: []pkix.Extension{{Id: oidExtKeyUsage(), Critical: true, Value: usage}},
	}, nil
}

// certify signs a template with the root key; a nil parent signs itself.
func (i issuer) certify(template, parent *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	serial := make([]byte, 20)
	if _, err := io.ReadFull(i.rand, serial); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive and 20 bytes long (RFC 5280 §4.1.2.2)
	template.SerialNumber = new(big.Int).SetBytes(serial)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(i.rand, template, parent, pub, i.root)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// checkChain holds what clients will ask of the chain (RFC 3161 §2.3).
func checkChain(chain []*x509.Certificate, now time.Time) error {
	if len(chain) != 2 {
		return fmt.Errorf("%w: want a leaf and a root", ErrCertificate)
	}
	leaf, root := chain[0], chain[1]
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	case !root.IsCA || leaf.IsCA:
		return fmt.Errorf("%w: the root alone must be an authority", ErrCertificate)
	case len(leaf.ExtKeyUsage) != 1 || len(leaf.UnknownExtKeyUsage) != 0 || !criticalUsage(leaf):
		return fmt.Errorf("%w: the key usage must be timeStamping alone and critical", ErrCertificate)
	}
	return nil
}

func criticalUsage(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage()) {
			return e.Critical
		}
	}
	return false
}

// signatureHash is the digest a leaf key signs: the one of its own strength.
func signatureHash(pub crypto.PublicKey) (crypto.Hash, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			return crypto.SHA384, nil
		}
		return crypto.SHA256, nil
	case *rsa.PublicKey:
		return crypto.SHA256, nil
	default:
		return 0, fmt.Errorf("%w: the leaf key must be ECDSA or RSA", ErrCertificate)
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func oidExtKeyUsage() asn1.ObjectIdentifier  { return asn1.ObjectIdentifier{2, 5, 29, 37} }
func oidTimeStamping() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8} }

func encodeChains(chains [][]*x509.Certificate) ([]byte, error) {
	r := record{}
	for _, chain := range chains {
		r.Chains = append(r.Chains, string(encodePEM(chain)))
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding timestamp certificates: %w", err)
	}
	return body, nil
}

func encodePEM(chain []*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// decodeChains reads a stored object; the zero object, which was never stored,
// holds none.
func decodeChains(o store.Object) ([][]*x509.Certificate, error) {
	if o.Revision == 0 {
		return nil, nil
	}
	var r record
	if err := strictjson.Unmarshal(o.Body, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	var chains [][]*x509.Certificate
	for _, text := range r.Chains {
		chain, err := decodePEM([]byte(text))
		if err != nil {
			return nil, err
		}
		chains = append(chains, chain)
	}
	return chains, nil
}

func decodePEM(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: not a PEM certificate", ErrCertificate)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		chain, text = append(chain, c), rest
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: an empty chain", ErrCertificate)
	}
	return chain, nil
}
