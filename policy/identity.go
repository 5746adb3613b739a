package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
)

// SelfRoot names the service's own trusted root.
const SelfRoot = "self"

// IdentityAuthority is whoever holds a short-lived certificate that a trusted
// certificate authority issued to a verified identity. Only Parse makes one
// that matches anybody. It must not be changed and is safe for concurrent use.
type IdentityAuthority struct {
	// Issuer is the OIDC issuer, compared exactly.
	Issuer string
	// Subject is the certificate's subject alternative name, compared exactly,
	// or empty.
	Subject string
	// SubjectPattern is a pattern over the whole of it, or empty.
	SubjectPattern string
	// Claims are patterns over certificate extensions by their names in
	// identity.Extensions, all of which must match.
	Claims map[string]string
	// TrustRoot is SelfRoot or the name of another trusted root.
	TrustRoot string

	pattern *text
	claims  map[string]text
}

// Mismatch compares a verified certificate's holder with the authority. It
// returns "" when all of it matches, else the name of the first field that does
// not: issuer, subject, or claims.NAME. An extension that the certificate does
// not have matches no pattern.
func (a *IdentityAuthority) Mismatch(holder identity.Holder) string {
	switch {
	case a.pattern == nil && a.Subject == "" && len(a.claims) == 0, holder.Issuer != a.Issuer, a.Issuer == "":
		return "issuer"
	case a.Subject != "" && holder.Subject != a.Subject:
		return "subject"
	case a.pattern != nil && !a.pattern.match(holder.Subject):
		return "subject"
	}
	for _, name := range slices.Sorted(maps.Keys(a.claims)) {
		value, has := holder.Claims[name]
		if !has || !a.claims[name].match(value) {
			return "claims." + name
		}
	}
	return ""
}

// ExactIdentity is the authority of one holder under one trusted root, for
// judging a certificate that was just issued.
func ExactIdentity(issuer, subject, trustRoot string) *IdentityAuthority {
	return &IdentityAuthority{Issuer: issuer, Subject: subject, TrustRoot: trustRoot}
}

type identitySpec struct {
	Issuer         string            `json:"issuer"`
	Subject        *string           `json:"subject,omitzero"`
	SubjectPattern *string           `json:"subjectPattern,omitzero"`
	Claims         map[string]string `json:"claims,omitzero"`
	TrustRoot      *string           `json:"trustRoot,omitzero"`
}

// authority reads an identity and writes its defaults into the spec. A
// constraint that is there and empty is refused: it reads as "anybody" to one
// person and "nobody" to the next (row E5).
func (s *identitySpec) authority(pointer string) (*IdentityAuthority, error) {
	a := &IdentityAuthority{Issuer: s.Issuer}
	switch {
	case s.Issuer == "" || len(s.Issuer) > limits.Pattern || strings.Contains(s.Issuer, "*"):
		return nil, fault(pointer+"/issuer", "must be the issuer's URL itself, of 1 to %d bytes and without wildcard", limits.Pattern)
	case s.Subject != nil && s.SubjectPattern != nil:
		return nil, fault(pointer, "has both subject and subjectPattern: want one of them")
	case s.Subject == nil && s.SubjectPattern == nil && s.Claims == nil:
		return nil, fault(pointer, "names everybody at the issuer: want subject, subjectPattern or claims")
	}
	if err := a.readSubject(s, pointer); err != nil {
		return nil, err
	}
	if err := a.readClaims(s.Claims, pointer+"/claims"); err != nil {
		return nil, err
	}
	if s.TrustRoot == nil {
		s.TrustRoot = new(SelfRoot)
	}
	a.TrustRoot = *s.TrustRoot
	return a, checkName(pointer+"/trustRoot", a.TrustRoot)
}

func (a *IdentityAuthority) readSubject(s *identitySpec, pointer string) error {
	switch {
	case s.Subject != nil:
		if *s.Subject == "" || len(*s.Subject) > limits.Pattern || strings.Contains(*s.Subject, "*") {
			return fault(pointer+"/subject", "must be the whole subject, of 1 to %d bytes; for a wildcard use subjectPattern", limits.Pattern)
		}
		a.Subject = *s.Subject
	case s.SubjectPattern != nil:
		if matchesEverything(*s.SubjectPattern) {
			return fault(pointer+"/subjectPattern", "matches every subject: leave it out and say who by claims")
		}
		compiled, err := compileText(*s.SubjectPattern)
		if err != nil {
			return fault(pointer+"/subjectPattern", "%s", err.Error())
		}
		a.SubjectPattern, a.pattern = *s.SubjectPattern, &compiled
	}
	return nil
}

func (a *IdentityAuthority) readClaims(claims map[string]string, pointer string) error {
	if claims == nil {
		return nil
	}
	if n := len(claims); n == 0 || n > limits.Patterns {
		return fault(pointer, "has %d claims, want 1 to %d, or leave it out", n, limits.Patterns)
	}
	a.Claims, a.claims = maps.Clone(claims), make(map[string]text, len(claims))
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		at := pointer + "/" + escapePointer(name)
		if !identity.IsExtension(name) {
			return fault(at, "is no certificate extension: want one of %s", strings.Join(identity.ExtensionNames(), ", "))
		}
		if matchesEverything(claims[name]) {
			return fault(at, "matches every value: leave it out")
		}
		compiled, err := compileText(claims[name])
		if err != nil {
			return fault(at, "%s", err.Error())
		}
		a.claims[name] = compiled
	}
	return nil
}

// matchesEverything reports whether a pattern holds nothing but wildcards.
func matchesEverything(pattern string) bool {
	return pattern != "" && strings.Trim(pattern, "*/") == ""
}
