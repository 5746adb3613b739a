// Package trust describes whom a verifier believes: transparency logs,
// timestamp authorities, certificate authorities and certificate transparency
// logs, each with its public half and the window in which it was active. It
// reads and writes the two documents that stock Sigstore clients take:
// trusted_root.json (media type version 0.1, the only one they accept) and
// signing_config.json (version 0.2).
//
// It holds no private key, fetches nothing, and judges no signature. An
// instance that is retired keeps its place with an End: what it vouched for
// before must still verify.
//
// Rules of the format that clients enforce and that Marshal therefore refuses
// to break (sigstore-go pkg/root, pkg/verify):
//   - a log's BaseURL has a scheme, and its host name is the log's origin;
//   - a log has a Start;
//   - a timestamp authority's chain begins with its leaf, because clients do
//     not ask for certificates inside the timestamp, and ends with the root;
//   - no two timestamp authorities share a URI, else their stamps count once.
package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sigstore/rekor-tiles/v2/pkg/note"
)

// ErrRoot is wrapped by every error of this package.
var ErrRoot = errors.New("invalid trusted root")

// Log is a transparency log: Rekor in Root.Logs, certificate transparency in
// Root.CTLogs.
type Log struct {
	// BaseURL is where its interface is served, with scheme.
	BaseURL string
	// WriteURL is where entries are posted, when that is not BaseURL. The trusted
	// root does not tell it, the signing configuration does.
	WriteURL string
	// Origin is the first line of its checkpoints, the host name of BaseURL.
	// Empty for a certificate transparency log.
	Origin string
	// ID is the log id, 32 bytes. When nil it is derived: SHA-256 of the key's
	// SubjectPublicKeyInfo for ECDSA and for every certificate transparency
	// log, the note's key hash for other types.
	ID []byte
	// Public is the log's key.
	Public crypto.PublicKey
	// Start and End are the window in which it signed; End is nil while it
	// still does.
	Start time.Time
	End   *time.Time
}

// TimestampAuthority is an RFC 3161 authority.
type TimestampAuthority struct {
	// URI is the full address that requests are posted to.
	URI string
	// Chain is the leaf first, the root last.
	Chain []*x509.Certificate
	Start time.Time
	End   *time.Time
}

// CertificateAuthority issues short-lived certificates to identities.
type CertificateAuthority struct {
	URI string
	// Chain is the issuer of leaf certificates first, the root last.
	Chain []*x509.Certificate
	Start time.Time
	End   *time.Time
}

// Root is a set of authorities. The zero value trusts nobody. A Root is a
// value: nothing here changes one.
type Root struct {
	Logs                   []Log
	CTLogs                 []Log
	TimestampAuthorities   []TimestampAuthority
	CertificateAuthorities []CertificateAuthority
	// NotaryRoots are the roots below which the service certifies its keys for
	// signatures of the Notary Project. No trusted_root.json has them: they
	// certify no identity.
	NotaryRoots []*x509.Certificate
}

// Log finds the transparency log with that id.
func (r Root) Log(id []byte) (Log, bool) {
	for _, l := range r.Logs {
		if got, err := l.id(false); err == nil && bytes.Equal(got, id) {
			return l, true
		}
	}
	return Log{}, false
}

// ActiveAt reports whether t lies in the log's window, both ends included.
func (l Log) ActiveAt(t time.Time) bool { return within(t, l.Start, l.End) }

// ActiveAt reports whether t lies in the authority's window, both ends
// included.
func (a TimestampAuthority) ActiveAt(t time.Time) bool { return within(t, a.Start, a.End) }

// Fingerprint is the hexadecimal SHA-256 of the trusted root document: equal
// for equal trust, so that verdicts can be cached under it.
func (r Root) Fingerprint() (string, error) {
	doc, err := r.MarshalTrustedRoot()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:]), nil
}

func within(t, start time.Time, end *time.Time) bool {
	return !t.Before(start) && (end == nil || !t.After(*end))
}

// id is the log id; certificate transparency logs have RFC 6962's for every
// key type.
func (l Log) id(ct bool) ([]byte, error) {
	if l.ID != nil {
		return l.ID, nil
	}
	if ct {
		spki, err := x509.MarshalPKIXPublicKey(l.Public)
		if err != nil {
			return nil, fmt.Errorf("%w: key of log %s: %w", ErrRoot, l.BaseURL, err)
		}
		sum := sha256.Sum256(spki)
		return sum[:], nil
	}
	_, id, err := note.KeyHash(l.Origin, l.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: key of log %s: %w", ErrRoot, l.BaseURL, err)
	}
	return id, nil
}

// check refuses what would make stock clients reject the whole document.
func (r Root) check() error {
	for _, l := range r.Logs {
		host, err := hostname(l.BaseURL)
		if err != nil {
			return err
		}
		if l.Origin != host {
			return fmt.Errorf("%w: origin of log %s is not its host name", ErrRoot, l.BaseURL)
		}
	}
	for _, l := range append(append([]Log(nil), r.Logs...), r.CTLogs...) {
		if l.Start.IsZero() || (l.End != nil && l.End.Before(l.Start)) {
			return fmt.Errorf("%w: window of log %s", ErrRoot, l.BaseURL)
		}
	}
	return errors.Join(r.checkTimestampAuthorities(), r.checkCertificateAuthorities())
}

func (r Root) checkTimestampAuthorities() error {
	seen := make(map[string]bool)
	for _, a := range r.TimestampAuthorities {
		if seen[a.URI] || a.URI == "" {
			return fmt.Errorf("%w: timestamp authorities need distinct URIs, %q", ErrRoot, a.URI)
		}
		seen[a.URI] = true
		if len(a.Chain) == 0 || a.Chain[0].IsCA {
			return fmt.Errorf("%w: chain of timestamp authority %s does not begin with its leaf", ErrRoot, a.URI)
		}
		if err := checkChain(a.Chain); err != nil {
			return fmt.Errorf("%w: timestamp authority %s: %w", ErrRoot, a.URI, err)
		}
	}
	return nil
}

func (r Root) checkCertificateAuthorities() error {
	for _, a := range r.CertificateAuthorities {
		if len(a.Chain) == 0 {
			return fmt.Errorf("%w: certificate authority %s has no chain", ErrRoot, a.URI)
		}
		if err := checkChain(a.Chain); err != nil {
			return fmt.Errorf("%w: certificate authority %s: %w", ErrRoot, a.URI, err)
		}
	}
	return nil
}

// checkChain finds a chain in the wrong order, the mistake that clients report
// only as an unknown authority.
func checkChain(chain []*x509.Certificate) error {
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return fmt.Errorf("certificate %d is not signed by the next: %w", i-1, err)
		}
	}
	return nil
}

func hostname(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return "", fmt.Errorf("%w: log URL needs http(s):// and a host", ErrRoot)
	}
	return u.Hostname(), nil
}
