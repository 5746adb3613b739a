package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/mail"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/internal/limits"
)

// names are what a certificate calls its holder, under the names that grants
// match: subjectType (uri, dns, email or dn), subjectDN, issuerDN, serial and
// fingerprint (SHA-256) in hexadecimal, cn, o, ou and the alternative names uri,
// dns, email. What there are several of has numbers: ou.0, ou.1.
type names struct {
	subject string
	values  map[string]string
	err     error
}

// add keeps one value. Control characters would forge lines of journals, and
// what is too long is nobody's name.
func (n *names) add(claim, value string) {
	if !utf8.ValidString(value) || len(value) > limits.Pattern || strings.IndexFunc(value, unicode.IsControl) >= 0 {
		n.err = fmt.Errorf("%w: its %s is not plain text of at most %d bytes", ErrInvalid, claim, limits.Pattern)
		return
	}
	n.values[claim] = value
}

// addAll is add for what a certificate may have several of.
func (n *names) addAll(claim string, values []string) {
	if len(values) > limits.Claims/8 {
		n.err = fmt.Errorf("%w: it has too many names", ErrInvalid)
		return
	}
	for i, v := range values {
		if len(values) > 1 {
			n.add(claim+"."+strconv.Itoa(i), v)
			continue
		}
		n.add(claim, v)
	}
}

func readNames(c *x509.Certificate) (*names, error) {
	n := &names{values: map[string]string{}}
	uris := make([]string, 0, len(c.URIs))
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	subject, err := distinguished(c.RawSubject)
	if err != nil {
		return nil, err
	}
	issuer, err := distinguished(c.RawIssuer)
	if err != nil {
		return nil, err
	}
	if subject != "" {
		n.add("subjectDN", subject)
	}
	n.add("issuerDN", issuer)
	if c.Subject.CommonName != "" {
		n.add("cn", c.Subject.CommonName)
	}
	fingerprint := sha256.Sum256(c.Raw)
	n.add("serial", c.SerialNumber.Text(16))
	n.add("fingerprint", hex.EncodeToString(fingerprint[:]))
	n.addAll("o", c.Subject.Organization)
	n.addAll("ou", c.Subject.OrganizationalUnit)
	n.addAll("uri", uris)
	n.addAll("dns", c.DNSNames)
	n.addAll("email", c.EmailAddresses)
	n.choose(subject, uris, c.DNSNames, c.EmailAddresses)
	return n, n.err
}

// choose makes the first kind of name that the certificate has its subject. A
// name must have the form of its kind, or it could pass for one of another.
func (n *names) choose(dn string, uris, dns, emails []string) {
	kind, of, well := "dn", []string{dn}, func(s string) bool { return s != "" }
	switch {
	case len(uris) > 0:
		kind, of, well = "uri", uris, func(s string) bool { return strings.Contains(s, "://") }
	case len(dns) > 0:
		kind, of, well = "dns", dns, hostname
	case len(emails) > 0:
		kind, of, well = "email", emails, address
	}
	if len(of) != 1 || !well(of[0]) {
		n.err = fmt.Errorf("%w: it must have one name: one URI, else one DNS name, else one e-mail address, else a subject", ErrInvalid)
		return
	}
	n.subject = of[0]
	n.add("subjectType", kind)
}

// hostname refuses wildcards: they name many.
func hostname(s string) bool {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	return s != "" && strings.IndexFunc(s, other) < 0
}

func address(s string) bool {
	parsed, err := mail.ParseAddress(s)
	return err == nil && parsed.Address == s
}

// distinguished is a name in the form of RFC 4514, every attribute in it and in
// the certificate's order; empty for an empty name.
func distinguished(raw []byte) (string, error) {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &sequence); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("%w: a name in it is malformed", ErrInvalid)
	}
	return sequence.String(), nil
}
