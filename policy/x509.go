package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Revocation says what becomes of a certificate that names a place where its
// revocation would be told.
type Revocation string

// The rules.
const (
	// RevocationCheck, the default, asks there, and refuses a certificate of
	// which nothing is said.
	RevocationCheck Revocation = "check"
	// RevocationSkip accepts it unchecked.
	RevocationSkip Revocation = "skip"
)

// TimestampRule says what timestamps are to an x509 authority.
type TimestampRule string

// The rules.
const (
	// TimestampOptional, the default, judges the certificate at the time that is
	// proven, else now.
	TimestampOptional TimestampRule = "optional"
	// TimestampRequired refuses a signature without a timestamp that is
	// believed, even while its certificate is good.
	TimestampRequired TimestampRule = "required"
	// TimestampIgnored believes none: the certificate must be good now.
	TimestampIgnored TimestampRule = "ignored"
)

// X509Authority is whoever holds a code signing certificate below a root, with a
// subject of a name: a trusted identity of the Notary Project. Only Parse makes
// one that matches anybody. It must not be changed and is safe for concurrent
// use.
type X509Authority struct {
	// Roots are certificates of which one must be in the chain; empty when
	// TrustRoot is set.
	Roots []*x509.Certificate
	// TrustRoot is SelfRoot, the name of another trusted root, or empty.
	TrustRoot string
	// Subjects are names of which one must be within the certificate's subject.
	Subjects []notary.Name
	// TimestampRoots are the roots of the timestamp authorities that are
	// believed; without any, those of the trusted root are.
	TimestampRoots []*x509.Certificate
	// Scheme is the signing scheme of the signatures.
	Scheme notary.Scheme
	// Revocation is never empty.
	Revocation Revocation
	// Timestamp is never empty.
	Timestamp TimestampRule
}

// Matches reports whether the certificate's subject is one that the authority
// names.
func (a *X509Authority) Matches(certificate *x509.Certificate) bool {
	for _, name := range a.Subjects {
		if name.Within(certificate.RawSubject) {
			return true
		}
	}
	return false
}

// Names are the subjects in RFC 4514's form.
func (a *X509Authority) Names() []string {
	out := make([]string, 0, len(a.Subjects))
	for _, name := range a.Subjects {
		out = append(out, name.String())
	}
	return out
}

type x509Spec struct {
	// Roots is the name of a trusted root, PEM, or a list of PEM.
	Roots          json.RawMessage `json:"roots"`
	Subjects       []string        `json:"subjects"`
	TimestampRoots json.RawMessage `json:"timestampRoots,omitzero"`
	Scheme         *notary.Scheme  `json:"scheme,omitzero"`
	Revocation     *Revocation     `json:"revocation,omitzero"`
	Timestamp      TimestampRule   `json:"timestamp,omitzero"`
}

// authority reads an x509 authority and writes its defaults and its
// certificates, one PEM block each, into the spec.
func (s *x509Spec) authority(pointer string) (*X509Authority, error) {
	a := &X509Authority{}
	var err error
	if a.TrustRoot, a.Roots, err = readRoots(&s.Roots, pointer+"/roots"); err != nil {
		return nil, err
	}
	if s.TimestampRoots != nil {
		var name string
		name, a.TimestampRoots, err = readRoots(&s.TimestampRoots, pointer+"/timestampRoots")
		if err == nil && name != "" {
			err = fault(pointer+"/timestampRoots", "must be PEM; without it the timestamp authorities of the trusted root count")
		}
		if err != nil {
			return nil, err
		}
	}
	if err := a.readSubjects(s.Subjects, pointer+"/subjects"); err != nil {
		return nil, err
	}
	return a, a.readRules(s, pointer)
}

func (a *X509Authority) readSubjects(subjects []string, pointer string) error {
	if n := len(subjects); n == 0 || n > limits.Patterns {
		return fault(pointer, "has %d names, want 1 to %d", n, limits.Patterns)
	}
	for i, text := range subjects {
		name, err := notary.ParseName(text)
		if err != nil {
			return fault(fmt.Sprintf("%s/%d", pointer, i), "%s", err.Error())
		}
		a.Subjects = append(a.Subjects, name)
	}
	return nil
}

func (a *X509Authority) readRules(s *x509Spec, pointer string) error {
	if s.Scheme == nil {
		s.Scheme = new(notary.SchemeX509)
	}
	if s.Revocation == nil {
		s.Revocation = new(RevocationCheck)
	}
	a.Scheme, a.Revocation = *s.Scheme, *s.Revocation
	switch {
	case a.Scheme != notary.SchemeX509 && a.Scheme != notary.SchemeSigningAuthority:
		return fault(pointer+"/scheme", "is neither %s nor %s", notary.SchemeX509, notary.SchemeSigningAuthority)
	case a.Scheme == notary.SchemeSigningAuthority && a.TimestampRoots != nil:
		return fault(pointer+"/timestampRoots", "is for the scheme %s: in this one the signer tells the time", notary.SchemeX509)
	case a.Revocation != RevocationCheck && a.Revocation != RevocationSkip:
		return fault(pointer+"/revocation", "is neither %s nor %s", RevocationCheck, RevocationSkip)
	case s.Timestamp == "":
		a.Timestamp = TimestampOptional
		return nil
	case s.Timestamp != TimestampOptional && s.Timestamp != TimestampRequired && s.Timestamp != TimestampIgnored:
		return fault(pointer+"/timestamp", "is none of %s, %s, %s", TimestampOptional, TimestampRequired, TimestampIgnored)
	case a.Scheme == notary.SchemeSigningAuthority && s.Timestamp != TimestampOptional:
		return fault(pointer+"/timestamp", "is for the scheme %s: in this one the signer tells the time", notary.SchemeX509)
	case a.TimestampRoots != nil && s.Timestamp == TimestampIgnored:
		return fault(pointer+"/timestampRoots", "says whom to believe, and timestamp that nobody is")
	}
	a.Timestamp = s.Timestamp
	return nil
}

// readRoots reads the name of a trusted root, or certificates, and writes them
// back in one form.
func readRoots(raw *json.RawMessage, pointer string) (name string, roots []*x509.Certificate, err error) {
	var texts []string
	if len(*raw) == 0 {
		return "", nil, fault(pointer, "is missing: want the name of a trusted root, or certificates in PEM")
	}
	if (*raw)[0] == '"' {
		if err := strictjson.Unmarshal(*raw, &name); err != nil {
			return "", nil, fault(pointer, "is malformed")
		}
		if !strings.Contains(name, "-----BEGIN") {
			return name, nil, checkName(pointer, name)
		}
		texts = []string{name}
	} else if err := strictjson.Unmarshal(*raw, &texts); err != nil {
		return "", nil, fault(pointer, "is neither a text nor a list of texts")
	}
	for i, text := range texts {
		some, err := parseCertificates(text)
		if err != nil {
			return "", nil, fault(pointer, "entry %d %s", i, err.Error())
		}
		roots = append(roots, some...)
	}
	if n := len(roots); n == 0 || n > limits.X509Roots {
		return "", nil, fault(pointer, "has %d certificates, want 1 to %d", n, limits.X509Roots)
	}
	canonical := make([]string, 0, len(roots))
	for _, c := range roots {
		canonical = append(canonical, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	*raw, err = strictjson.Marshal(canonical)
	return "", roots, err
}

// parseCertificates reads PEM blocks of certificates and nothing beside them. A
// root is an authority, or a signer's own self-signed certificate.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := bytes.TrimSpace([]byte(text))
	for len(rest) > 0 {
		var block *pem.Block
		if !bytes.HasPrefix(rest, []byte("-----BEGIN")) {
			return nil, errors.New("has something beside PEM")
		}
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, errors.New(`has a PEM block that is no "CERTIFICATE"`)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, errors.New("has a malformed certificate")
		case !c.IsCA && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil:
			return nil, errors.New("has a certificate that is neither an authority's nor self-signed")
		}
		out = append(out, c)
		if len(out) > limits.X509Roots {
			return nil, fmt.Errorf("has more than %d certificates", limits.X509Roots)
		}
		rest = bytes.TrimSpace(rest)
	}
	return out, nil
}

// same is equal for authorities that are the same signers.
func (a *X509Authority) same() string {
	h := sha256.New()
	for _, c := range a.Roots {
		h.Write(c.Raw)
	}
	return fmt.Sprintf("x509 %q %x %q %q", a.TrustRoot, h.Sum(nil), a.Names(), a.Scheme)
}
