package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Action is what a grant allows.
type Action string

// The actions.
const (
	// ActionSign signs an image.
	ActionSign Action = "sign"
	// ActionAttest signs an attestation with a predicate of the caller's.
	ActionAttest Action = "attest"
	// ActionProvenance signs provenance made from the caller's token.
	ActionProvenance Action = "provenance"
)

// Grant says who may sign what with which key. Only ParseGrant makes one that
// allows anything. It must not be changed and is safe for concurrent use.
type Grant struct {
	// Name is the managed object's name; it is not part of the document, so
	// whoever loads a grant sets it.
	Name string
	// Issuer is compared exactly: identity.Local or an issuer URL.
	Issuer string
	// Subject is a pattern over the identity's subject, or empty when Claims
	// say who.
	Subject string
	// Claims are patterns over verified claims, all of which must match; nil
	// when Subject says who.
	Claims map[string]string
	// Repositories are image patterns over host/repository.
	Repositories []string
	// Keys are patterns over key names.
	Keys []string
	// Actions are without repetition.
	Actions []Action
	// PredicateTypes are patterns over predicate type URIs. With nil, attest
	// allows every type but those in which a builder or a verifier speaks, SLSA
	// provenance and verification summaries: these must be named.
	PredicateTypes []string

	compiled *compiledGrant
	document []byte
}

type compiledGrant struct {
	subject        *text
	claims         map[string]text
	repositories   []glob.Pattern
	keys           []glob.Pattern
	predicateTypes []text
}

type grantSpec struct {
	Issuer         string            `json:"issuer"`
	Subject        *string           `json:"subject,omitzero"`
	Claims         map[string]string `json:"claims,omitzero"`
	Repositories   []string          `json:"repositories"`
	Keys           []string          `json:"keys"`
	Actions        []Action          `json:"actions"`
	PredicateTypes []string          `json:"predicateTypes,omitzero"`
}

// ParseGrant reads a grant of at most limits.PolicyDocument bytes in YAML or
// JSON:
//
//	issuer: https://token.actions.githubusercontent.com
//	subject: "repo:acme/*:ref:refs/heads/main"    # and/or claims
//	repositories: ["registry.example.com/acme/**"]
//	keys: [release]
//	actions: [sign]
//
// Patterns match whole strings: `*` within a segment between slashes, `**`
// whole segments; the scheme and host of a URL are literal. At least one of subject
// and claims must say who; no list may be empty; predicateTypes needs an
// action that makes attestations. Errors wrap ErrGrant; those with a place are
// a *FieldError.
func ParseGrant(b []byte) (*Grant, error) {
	g, err := parseGrant(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGrant, err)
	}
	return g, nil
}

func parseGrant(b []byte) (*Grant, error) {
	raw, err := documentJSON(b)
	if err != nil {
		return nil, locate(err)
	}
	var s grantSpec
	if err := strictjson.Unmarshal(raw, &s); err != nil {
		return nil, locate(err)
	}
	g := &Grant{
		Issuer: s.Issuer, Claims: s.Claims, Repositories: s.Repositories,
		Keys: s.Keys, Actions: s.Actions, PredicateTypes: s.PredicateTypes,
		compiled: new(compiledGrant),
	}
	if err := g.readWho(s.Subject); err != nil {
		return nil, err
	}
	if err := g.readWhat(); err != nil {
		return nil, err
	}
	marshalled, err := strictjson.Marshal(s)
	if err != nil {
		return nil, err
	}
	g.document, err = strictjson.Canonical(marshalled)
	return g, err
}

func (g *Grant) readWho(subject *string) error {
	if g.Issuer == "" || len(g.Issuer) > limits.Pattern {
		return fault("/issuer", "must have 1 to %d bytes", limits.Pattern)
	}
	if subject == nil && g.Claims == nil {
		return fault("/subject", "is missing, and so are claims: say whose tokens of this issuer are meant")
	}
	if subject != nil {
		compiled, err := compileText(*subject)
		if err != nil {
			return fault("/subject", "%s", err.Error())
		}
		g.Subject, g.compiled.subject = *subject, &compiled
	}
	if g.Claims == nil {
		return nil
	}
	if n := len(g.Claims); n == 0 || n > limits.Patterns {
		return fault("/claims", "has %d claims, want 1 to %d, or leave it out", n, limits.Patterns)
	}
	g.compiled.claims = make(map[string]text, len(g.Claims))
	for _, claim := range slices.Sorted(maps.Keys(g.Claims)) {
		compiled, err := compileText(g.Claims[claim])
		if err != nil {
			return fault("/claims/"+escapePointer(claim), "%s", err.Error())
		}
		g.compiled.claims[claim] = compiled
	}
	return nil
}

func (g *Grant) readWhat() (err error) {
	if g.compiled.repositories, err = compileAll("/repositories", g.Repositories, glob.CompileImage); err != nil {
		return err
	}
	if g.compiled.keys, err = compileAll("/keys", g.Keys, glob.Compile); err != nil {
		return err
	}
	if err := checkActions(g.Actions); err != nil {
		return err
	}
	if g.PredicateTypes == nil {
		return nil
	}
	if !slices.Contains(g.Actions, ActionAttest) && !slices.Contains(g.Actions, ActionProvenance) {
		return fault("/predicateTypes", "is given, but no action makes attestations")
	}
	g.compiled.predicateTypes, err = compileAll("/predicateTypes", g.PredicateTypes, compileText)
	return err
}

func checkActions(actions []Action) error {
	if len(actions) == 0 {
		return fault("/actions", "is empty")
	}
	for i, a := range actions {
		at := fmt.Sprintf("/actions/%d", i)
		if !slices.Contains([]Action{ActionSign, ActionAttest, ActionProvenance}, a) {
			return fault(at, "is none of %s, %s and %s", ActionSign, ActionAttest, ActionProvenance)
		}
		if slices.Contains(actions[:i], a) {
			return fault(at, "is there twice")
		}
	}
	return nil
}

// Document is the grant as canonical JSON (RFC 8785), without its name.
func (g *Grant) Document() []byte { return bytes.Clone(g.document) }

// MarshalJSON is Document.
func (g *Grant) MarshalJSON() ([]byte, error) {
	if g.document == nil {
		return []byte("null"), nil
	}
	return g.Document(), nil
}

// Ask is what a caller wants to do.
type Ask struct {
	Action Action
	// Repository is host/repository without tag or digest.
	Repository string
	// Key is the managed key's name.
	Key string
	// PredicateType is of the attestation; empty for ActionSign.
	PredicateType string
}

// Permission is the answer to an Ask.
type Permission struct {
	Allowed bool
	// Grant is the name of the grant that allows it, or empty.
	Grant string
	// Detail says for a person which grant allows it, or what is missing. It
	// tells nothing of grants to others.
	Detail string
}

// Permit says whether an identity may do what it asks: it needs the role
// signer, and one grant that covers all of the ask. Grants do not add up: the
// repository of one and the key of another allow nothing. Without grants the
// answer is no. Of several grants that allow it, the first is named.
func Permit(grants []Grant, id identity.Identity, ask Ask) Permission {
	switch {
	case id.IsZero():
		return Permission{Detail: "nobody is authenticated"}
	case !id.Has(identity.Signer):
		return Permission{Detail: "the role signer is missing"}
	}
	best := 0
	for i := range grants {
		n := grants[i].covers(id, ask)
		if n == checksOfGrant {
			return Permission{Allowed: true, Grant: grants[i].Name, Detail: "allowed by grant " + grants[i].Name}
		}
		best = max(best, n)
	}
	return Permission{Detail: missing(best)}
}

// checksOfGrant is how many checks covers makes.
const checksOfGrant = 5

// missing says what the nearest grant lacks, in the order covers checks.
func missing(passed int) string {
	return [checksOfGrant]string{
		"no grant names this identity",
		"no grant lets this identity sign in this repository",
		"no grant lets this identity use this key in this repository",
		"no grant lets this identity do this with this key in this repository",
		"no grant lets this identity attest this predicate type with this key in this repository",
	}[passed]
}

// covers counts how many of the checks hold before the first that does not.
func (g *Grant) covers(id identity.Identity, ask Ask) int {
	c := g.compiled
	if c == nil {
		return 0
	}
	checks := [checksOfGrant]func() bool{
		func() bool { return g.Names(id) },
		func() bool { return matchesAny(c.repositories, ask.Repository) },
		func() bool { return matchesAny(c.keys, ask.Key) },
		func() bool { return slices.Contains(g.Actions, ask.Action) },
		func() bool { return ask.Action == ActionSign || c.covers(ask) },
	}
	for i, holds := range checks {
		if !holds() {
			return i
		}
	}
	return len(checks)
}

// covers reports whether the predicate types include the asked one. What a
// caller attests is its own word: that it may speak as the builder of an image,
// or as its verifier, is never a side effect of leaving a field out.
func (c *compiledGrant) covers(ask Ask) bool {
	if c.predicateTypes != nil {
		return matchesText(c.predicateTypes, ask.PredicateType)
	}
	switch predicate.Canonical(ask.PredicateType) {
	case predicate.SLSAProvenanceV01, predicate.SLSAProvenanceV02, predicate.SLSAProvenanceV1, predicate.VSAV02, predicate.VSAV1:
		return ask.Action != ActionAttest
	}
	return true
}

// Names reports whether the grant speaks of an identity: issuer, subject and
// claims match. It allows nothing by itself; see Permit.
func (g *Grant) Names(id identity.Identity) bool {
	c := g.compiled
	if c == nil || id.IsZero() || id.Issuer != g.Issuer || (c.subject == nil && len(c.claims) == 0) {
		return false
	}
	if c.subject != nil && !c.subject.match(id.Subject) {
		return false
	}
	for claim, pattern := range c.claims {
		value, has := id.Claims[claim]
		if !has || !pattern.match(value) {
			return false
		}
	}
	return true
}
