package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"
)

const (
	rootYears = 20
	leafYears = 10
	// renewBefore is how long before its end a leaf is replaced at start.
	renewBefore = 365 * 24 * time.Hour
	// backdate makes a new certificate valid for clocks a little behind.
	backdate = time.Minute
)

// stampMaker makes the timestamp certificates of one pair of keys.
type stampMaker struct {
	root, leaf   crypto.Signer
	organization string
	rand         io.Reader
}

// open returns every kept chain, current last, after issuing one when none is
// current. Two processes that start together end with the same chain.
func (i stampMaker) open(ctx context.Context, k keeper, now time.Time) ([]Chain, error) {
	kept, err := k.keep(ctx, now, func(s state) (state, bool, error) {
		if revokedKey(s.chains, i.leaf.Public()) {
			return s, false, fmt.Errorf("%w: timestamp key", ErrRevoked)
		}
		if n := len(s.chains); n > 0 && i.current(s.chains[n-1].Certificates, now) {
			return s, false, nil
		}
		if replaced(s.chains, i.leaf.Public()) {
			return s, false, fmt.Errorf("%w: timestamp key", ErrRetired)
		}
		chain, err := i.issue(s.chains, now)
		if err != nil {
			return s, false, err
		}
		s.chains = succeed(s.chains, chain, now)
		return s, true, nil
	})
	return kept.chains, err
}

// current reports whether a kept chain belongs to our keys and lasts.
func (i stampMaker) current(chain []*x509.Certificate, now time.Time) bool {
	leaf, root := chain[0], chain[len(chain)-1]
	return samePublic(leaf.PublicKey, i.leaf.Public()) &&
		samePublic(root.PublicKey, i.root.Public()) &&
		checkChain(chain, now) == nil &&
		now.Add(renewBefore).Before(leaf.NotAfter)
}

// issue makes a leaf under the newest root of our key that outlives it, or
// under a new root: clients that trust a root go on trusting its new leaf.
func (i stampMaker) issue(kept []Chain, now time.Time) ([]*x509.Certificate, error) {
	root := newestRoot(kept, i.root.Public(), now.AddDate(leafYears, 0, 0))
	if root == nil {
		made, err := certify(i.rand, i.rootTemplate(now), nil, i.root.Public(), i.root)
		if err != nil {
			return nil, fmt.Errorf("issuing the timestamp root: %w", err)
		}
		root = made
	}
	template, err := i.leafTemplate(now)
	if err != nil {
		return nil, err
	}
	leaf, err := certify(i.rand, template, root, i.leaf.Public(), i.root)
	if err != nil {
		return nil, fmt.Errorf("issuing the timestamp certificate: %w", err)
	}
	chain := []*x509.Certificate{leaf, root}
	return chain, checkChain(chain, now)
}

func (i stampMaker) rootTemplate(now time.Time) *x509.Certificate {
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

func (i stampMaker) leafTemplate(now time.Time) (*x509.Certificate, error) {
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

// replaced reports whether another key took the place of this one: verifiers
// know the end of its window.
func replaced(kept []Chain, key crypto.PublicKey) bool {
	used := func(c Chain) bool { return samePublic(c.Certificates[0].PublicKey, key) }
	return len(kept) > 0 && !used(kept[len(kept)-1]) && slices.ContainsFunc(kept, used)
}

// newestRoot is the newest kept root of a key that lasts until a time, or nil.
// One that certified a revoked key is not used again: who holds that key may
// have chained more below it than anybody knows.
func newestRoot(kept []Chain, key crypto.PublicKey, until time.Time) *x509.Certificate {
	for _, chain := range slices.Backward(kept) {
		root := chain.Certificates[len(chain.Certificates)-1]
		if chain.Revoked == nil && samePublic(root.PublicKey, key) && until.Before(root.NotAfter) {
			return root
		}
	}
	return nil
}

// certify gives a template a serial number and signs it with the parent's key;
// a nil parent signs itself.
func certify(random io.Reader, template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(random, template, parent, pub, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial is positive and 20 bytes long (RFC 5280 §4.1.2.2).
func newSerial(random io.Reader) (*big.Int, error) {
	serial := make([]byte, 20)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40
	return new(big.Int).SetBytes(serial), nil
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

func encodePEM(chain []*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
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
