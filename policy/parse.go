package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Parse reads a TrustPolicy of at most limits.PolicyDocument bytes in YAML or
// JSON. It refuses whatever it does not understand: unknown fields, duplicate
// keys, empty lists, thresholds no signatures could meet, and authorities that
// are named and not defined, or defined twice with one key or identity. Errors
// wrap ErrPolicy; those with a place are a *FieldError.
func Parse(b []byte) (*Policy, error) {
	p, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return p, nil
}

func parse(b []byte) (*Policy, error) {
	raw, err := documentJSON(b)
	if err != nil {
		return nil, locate(err)
	}
	var d document
	if err := strictjson.Unmarshal(raw, &d); err != nil {
		return nil, locate(err)
	}
	p := &Policy{Name: d.Metadata.Name}
	steps := []func(*document) error{p.readHead, p.readMatch, p.readAuthorities, p.readRequire, p.readIndex, p.keepDocument}
	for _, step := range steps {
		if err := step(&d); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Policy) readHead(d *document) error {
	if d.APIVersion != apiVersion {
		return fault("/apiVersion", "is not %s", apiVersion)
	}
	if d.Kind != kind {
		return fault("/kind", "is not %s", kind)
	}
	if d.Spec.Mode == nil {
		d.Spec.Mode = new(Enforce)
	}
	p.Mode = *d.Spec.Mode
	if !slices.Contains([]Mode{Enforce, Warn, Audit}, p.Mode) {
		return fault("/spec/mode", "is none of %s, %s and %s", Enforce, Warn, Audit)
	}
	return checkName("/metadata/name", p.Name)
}

func (p *Policy) readMatch(d *document) (err error) {
	m := d.Spec.Match
	if m.Images != nil || m.Blobs == nil {
		if p.match.images, err = compileAll("/spec/match/images", m.Images, glob.CompileImage); err != nil {
			return err
		}
	}
	if m.Blobs != nil {
		if p.match.blobs, err = compileAll("/spec/match/blobs", m.Blobs, glob.Compile); err != nil {
			return err
		}
	}
	if m.Context == nil {
		return nil
	}
	if n := len(m.Context); n == 0 || n > limits.Patterns {
		return fault("/spec/match/context", "has %d keys, want 1 to %d, or leave it out", n, limits.Patterns)
	}
	p.match.context = make(map[string][]glob.Pattern, len(m.Context))
	for _, key := range slices.Sorted(maps.Keys(m.Context)) {
		at := "/spec/match/context/" + escapePointer(key)
		if err := checkName(at, key); err != nil {
			return err
		}
		if p.match.context[key], err = compileAll(at, m.Context[key], glob.Compile); err != nil {
			return err
		}
	}
	return nil
}

// compileAll compiles a list that must not be empty: an empty list reads as
// "no restriction" to one person and "nothing" to the next.
func compileAll[P any](pointer string, patterns []string, compile func(string) (P, error)) ([]P, error) {
	if n := len(patterns); n == 0 || n > limits.Patterns {
		return nil, fault(pointer, "has %d patterns, want 1 to %d", n, limits.Patterns)
	}
	compiled := make([]P, 0, len(patterns))
	for i, text := range patterns {
		c, err := compile(text)
		if err != nil {
			return nil, fault(fmt.Sprintf("%s/%d", pointer, i), "%s", err.Error())
		}
		compiled = append(compiled, c)
	}
	return compiled, nil
}

func (p *Policy) readAuthorities(d *document) error {
	specs := d.Spec.Authorities
	if n := len(specs); n == 0 && !d.Spec.Require.hasLayout() || n > limits.Requirements {
		return fault("/spec/authorities", "has %d authorities, want 1 to %d", n, limits.Requirements)
	}
	p.Authorities = make(map[string]Authority, len(specs))
	holders := make(map[string]string, len(specs))
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		at := "/spec/authorities/" + escapePointer(name)
		if err := checkName(at, name); err != nil {
			return err
		}
		s := specs[name]
		a, err := s.authority(name, at)
		if err != nil {
			return err
		}
		// One signer under two names would look like two to a reader of the
		// policy and count as one.
		who, field := a.sameAs()
		if other, twice := holders[who]; twice {
			return fault(at+field, "is the %s of authority %s", field[1:], other)
		}
		holders[who] = name
		specs[name], p.Authorities[name] = s, a
	}
	return nil
}

// sameAs is equal for authorities that are the same signer, and the field that
// says who it is.
func (a Authority) sameAs() (who, field string) {
	if a.Key != nil {
		return "key " + a.Key.Name + " " + a.Key.PEM + " " + a.Key.Ref, "/key"
	}
	if a.X509 != nil {
		return a.X509.same(), "/x509"
	}
	i := a.Identity
	claims := make([]string, 0, len(i.Claims))
	for _, name := range slices.Sorted(maps.Keys(i.Claims)) {
		claims = append(claims, name, i.Claims[name])
	}
	return fmt.Sprintf("identity %q %q %q %q %q", i.Issuer, i.Subject, i.SubjectPattern, i.TrustRoot, claims), "/identity"
}

func (p *Policy) keepDocument(d *document) error {
	b, err := strictjson.Marshal(d)
	if err != nil {
		return err
	}
	p.document, err = strictjson.Canonical(b)
	return err
}
