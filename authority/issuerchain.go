package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// maxChain bounds an imported chain.
const maxChain = 8

// check refuses keys that could not issue, before anything is written.
func (k IssuerKeys) check() error {
	if k.Issuing == nil || k.CT == nil || (k.Root == nil) == (len(k.Imported) == 0) {
		return errors.New("certificate authority needs an issuing key, a certificate transparency key, and either a root key or an imported chain")
	}
	publics := []crypto.PublicKey{k.Issuing.Public(), k.CT.Public()}
	if k.Root != nil {
		publics = append(publics, k.Root.Public())
	}
	for i, a := range publics {
		if slices.ContainsFunc(publics[i+1:], func(b crypto.PublicKey) bool { return samePublic(a, b) }) {
			return fmt.Errorf("%w: its keys must be different ones", ErrCertificate)
		}
	}
	if _, err := signatureHash(k.Issuing.Public()); err != nil {
		return err
	}
	ct, ok := k.CT.Public().(*ecdsa.PublicKey)
	if !ok || ct.Curve != elliptic.P256() {
		// RFC 6962 §2.1.4 knows P-256 and RSA only.
		return fmt.Errorf("%w: the certificate transparency key must be ECDSA P-256", ErrCertificate)
	}
	return nil
}

// chainMaker makes the authority's own certificates.
type chainMaker struct {
	keys         IssuerKeys
	organization string
	rand         io.Reader
}

// update gives a state the keys' chain and transparency key as the current
// ones, and reports whether it changed.
func (m chainMaker) update(s state, now time.Time) (state, bool, error) {
	if err := m.checkRetired(s); err != nil {
		return s, false, err
	}
	changed := false
	if n := len(s.chains); n == 0 || !m.current(s.chains[n-1].Certificates, now) {
		chain, err := m.issue(s.chains, now)
		if err != nil {
			return s, false, err
		}
		s.chains, changed = succeed(s.chains, chain, now), true
	}
	if n := len(s.ctLogs); n == 0 || !samePublic(s.ctLogs[n-1].Public, m.keys.CT.Public()) {
		s.ctLogs, changed = succeedCT(s.ctLogs, m.keys.CT.Public(), now), true
	}
	return s, changed, nil
}

// checkRetired refuses a key that another one replaced: verifiers know the end
// of its window.
func (m chainMaker) checkRetired(s state) error {
	if revokedKey(s.chains, m.keys.Issuing.Public()) {
		return fmt.Errorf("%w: issuing key", ErrRevoked)
	}
	if slices.ContainsFunc(s.ctLogs, func(l CTLog) bool { return l.Revoked != nil && samePublic(l.Public, m.keys.CT.Public()) }) {
		return ErrRevokedCT
	}
	for i, l := range s.ctLogs {
		if i < len(s.ctLogs)-1 && samePublic(l.Public, m.keys.CT.Public()) {
			return fmt.Errorf("%w: certificate transparency key", ErrRetired)
		}
	}
	if replaced(s.chains, m.keys.Issuing.Public()) {
		return fmt.Errorf("%w: issuing key", ErrRetired)
	}
	return nil
}

func succeedCT(logs []CTLog, public crypto.PublicKey, now time.Time) []CTLog {
	logs = slices.Clone(logs)
	if n := len(logs); n > 0 && logs[n-1].End == nil {
		logs[n-1].End = closing(now, now.Add(Overlap))
	}
	return append(logs, CTLog{Public: public, Start: opening(now)})
}

// current reports whether a kept chain is that of our keys and lasts.
func (m chainMaker) current(chain []*x509.Certificate, now time.Time) bool {
	if m.keys.Imported != nil {
		return slices.EqualFunc(chain, m.keys.Imported, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) })
	}
	return CheckImported(chain, m.keys.Issuing.Public(), now) == nil &&
		samePublic(chain[len(chain)-1].PublicKey, m.keys.Root.Public()) &&
		now.Add(renewBefore).Before(chain[0].NotAfter)
}

// issue makes an issuing certificate under the newest root of our key that
// outlives it, or under a new root: clients that trust a root go on trusting
// what is new below it. An imported chain is taken as it is.
func (m chainMaker) issue(kept []Chain, now time.Time) ([]*x509.Certificate, error) {
	if m.keys.Imported != nil {
		return m.keys.Imported, CheckImported(m.keys.Imported, m.keys.Issuing.Public(), now)
	}
	root := newestRoot(kept, m.keys.Root.Public(), now.AddDate(leafYears, 0, 0))
	if root == nil {
		made, err := certify(m.rand, m.template("certificate root", 1, now.AddDate(rootYears, 0, 0), now), nil, m.keys.Root.Public(), m.keys.Root)
		if err != nil {
			return nil, fmt.Errorf("issuing the root: %w", err)
		}
		root = made
	}
	template := m.template("certificate authority", 0, now.AddDate(leafYears, 0, 0), now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	first, err := certify(m.rand, template, root, m.keys.Issuing.Public(), m.keys.Root)
	if err != nil {
		return nil, fmt.Errorf("issuing the authority's certificate: %w", err)
	}
	chain := []*x509.Certificate{first, root}
	return chain, CheckImported(chain, m.keys.Issuing.Public(), now)
}

func (m chainMaker) template(role string, below int, until, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{m.organization}, CommonName: m.organization + " " + role},
		NotBefore:             now.Add(-backdate),
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            below,
		MaxPathLenZero:        below == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// CheckImported reports whether a chain of somebody else's authority (the
// certificate of issuing first, the root last) can issue code signing
// certificates: what verifiers will ask of the chain above a leaf. Errors wrap
// ErrCertificate.
func CheckImported(chain []*x509.Certificate, issuing crypto.PublicKey, now time.Time) error {
	if len(chain) < 2 || len(chain) > maxChain {
		return fmt.Errorf("%w: want an issuing certificate, then what certifies it up to the root", ErrCertificate)
	}
	for i, c := range chain {
		signedBy := chain[min(i+1, len(chain)-1)]
		switch {
		case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("%w: certificate %d of the chain is not an authority's", ErrCertificate, i)
		case (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < i:
			return fmt.Errorf("%w: certificate %d of the chain allows no authority so far below", ErrCertificate, i)
		case now.Before(c.NotBefore) || now.After(c.NotAfter):
			return fmt.Errorf("%w: certificate %d of the chain is not valid now", ErrCertificate, i)
		case c.CheckSignatureFrom(signedBy) != nil:
			return fmt.Errorf("%w: certificate %d of the chain is not signed by the next", ErrCertificate, i)
		}
	}
	first := chain[0]
	switch {
	case !samePublic(first.PublicKey, issuing):
		return fmt.Errorf("%w: the first certificate is not the issuing key's", ErrCertificate)
	case !slices.Contains(first.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) || slices.Contains(first.ExtKeyUsage, x509.ExtKeyUsageAny):
		return fmt.Errorf("%w: the first certificate must be for code signing by name", ErrCertificate)
	}
	return verifyUp(first, chain[1:], now)
}

// verifyUp is what a client does: path lengths, name constraints and usages of
// the whole chain.
func verifyUp(c *x509.Certificate, above []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(above[len(above)-1])
	for _, m := range above[:len(above)-1] {
		between.AddCert(m)
	}
	_, err := c.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return nil
}

// outlived refuses a leaf whose window is not inside that of every certificate
// above it: verifiers reject it at some moment of its life.
func outlived(chain []*x509.Certificate, leaf *x509.Certificate) error {
	for _, c := range chain {
		if leaf.NotBefore.Before(c.NotBefore) || leaf.NotAfter.After(c.NotAfter) {
			return ErrOutlived
		}
	}
	return nil
}

// checkLeaf is the client's judgement of a certificate before its timestamp is
// signed and logged. What the library does not know is left to its reader: the
// poison, which goes, and names in a form of their own.
func checkLeaf(c *x509.Certificate, chain []*x509.Certificate, now time.Time) error {
	c.UnhandledCriticalExtensions = nil
	return verifyUp(c, chain, now)
}
