package keys

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// The back ends other than BackendFile.
const (
	BackendHashivault = "hashivault"
	BackendAWS        = "awskms"
	BackendGCP        = "gcpkms"
	BackendAzure      = "azurekms"
	BackendPKCS11     = "pkcs11"
)

// BackendOf names the back end of a reference by its scheme. It refuses with
// ErrRef every character that could give a reference a second reading (spaces,
// quotes, `\`, `#`, `@`, `*` and all that is not ASCII), and dot segments.
// Which key a well-formed reference names is the back end's business.
func BackendOf(ref string) (string, error) {
	if len(ref) > limits.KeyRef {
		return "", fmt.Errorf("%w: longer than %d bytes", ErrRef, limits.KeyRef)
	}
	if strings.ContainsFunc(ref, func(r rune) bool { return !refRune(r) }) || strings.Contains(ref, "..") {
		return "", fmt.Errorf("%w: malformed", ErrRef)
	}
	if strings.Contains(strings.ToLower(ref), "pin-value") {
		return "", fmt.Errorf("%w: a PIN comes from a file (pin-source), never in a reference", ErrRef)
	}
	for _, s := range []struct{ scheme, backend string }{
		{"hashivault://", BackendHashivault},
		{"openbao://", BackendHashivault},
		{"awskms://", BackendAWS},
		{"gcpkms://", BackendGCP},
		{"azurekms://", BackendAzure},
		{"pkcs11:", BackendPKCS11},
	} {
		if strings.HasPrefix(ref, s.scheme) && len(ref) > len(s.scheme) {
			return s.backend, nil
		}
	}
	return "", fmt.Errorf("%w: its scheme is none of hashivault://, awskms://, gcpkms://, azurekms://, pkcs11: and openbao://", ErrRef)
}

// refRune reports whether a character may stand in a reference: what the five
// forms need and nothing else.
func refRune(r rune) bool { return starRune(r) || strings.ContainsRune("/:;=?&%+", r) }

// starRune reports whether `*` stands for a character. None of these ends a
// host, a path segment or an attribute.
func starRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.'
}

// Refs are the references that callers may adopt a key by. The zero value
// allows none.
type Refs struct{ patterns []string }

// ParseRefs reads references in which `*` stands for one or more letters,
// digits, `-`, `_` and `.`, so that it never reaches from one host, path segment
// or attribute into the next:
//
//	hashivault://*
//	awskms:///arn:aws:kms:eu-west-1:111122223333:key/*
//	azurekms://prod.vault.azure.net/*
//	pkcs11:token=prod;object=*?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin
//
// A host, and the query of a pkcs11 reference (which names the library to load
// and the file to read), must be spelled out: a caller who chose them would
// choose whom this service calls.
func ParseRefs(patterns []string) (Refs, error) {
	if len(patterns) > limits.KeyRefs {
		return Refs{}, fmt.Errorf("%w: more than %d", ErrRef, limits.KeyRefs)
	}
	for i, p := range patterns { // named by number: one could hold what must not be printed
		backend, err := BackendOf(strings.ReplaceAll(p, "*", "x"))
		if err != nil {
			return Refs{}, fmt.Errorf("reference %d: %w", i+1, err)
		}
		if strings.Contains(fixedPart(backend, p), "*") {
			return Refs{}, fmt.Errorf("reference %d: %w: * may not stand in a host or after ?", i+1, ErrRef)
		}
	}
	return Refs{patterns: slices.Clone(patterns)}, nil
}

// fixedPart is the part of a pattern that decides whom this service calls.
func fixedPart(backend, pattern string) string {
	switch backend {
	case BackendAWS, BackendAzure:
		_, rest, _ := strings.Cut(pattern, "://")
		host, _, _ := strings.Cut(rest, "/")
		return host
	case BackendPKCS11:
		_, query, _ := strings.Cut(pattern, "?")
		return query
	default:
		return ""
	}
}

// Allow returns nil when a caller may name the reference, else ErrRef.
func (r Refs) Allow(ref string) error {
	if !slices.ContainsFunc(r.patterns, func(p string) bool { return matchRef(p, ref) }) {
		return fmt.Errorf("%w: the operator lists allowed references in keys.refs", ErrRef)
	}
	return nil
}

// backend reports whether any reference of a back end is allowed.
func (r Refs) backend(name string) bool {
	return slices.ContainsFunc(r.patterns, func(p string) bool {
		of, err := BackendOf(strings.ReplaceAll(p, "*", "x"))
		return err == nil && of == name
	})
}

// checkRef refuses a reference that is malformed or another back end's.
func checkRef(backend, ref string) error {
	of, err := BackendOf(ref)
	if err == nil && of != backend {
		err = fmt.Errorf("%w: not one of back end %q", ErrRef, backend)
	}
	return err
}

// matchRef matches a whole reference. It keeps, after each byte of the
// pattern, the set of places it can have reached: linear in both lengths'
// product whatever the pattern.
func matchRef(pattern, ref string) bool {
	reached := make([]bool, len(ref)+1)
	reached[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(ref)+1)
		for j := range len(ref) {
			if pattern[i] == '*' {
				next[j+1] = (reached[j] || next[j]) && starRune(rune(ref[j]))
			} else {
				next[j+1] = reached[j] && pattern[i] == ref[j]
			}
		}
		reached = next
	}
	return reached[len(ref)]
}
