package policy

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/condition"
)

// requirement is one loaded requirement: a signature by an authority, an
// attestation, an in-toto layout, or at least need of its members. `all` needs as many as it has,
// `any` one.
type requirement struct {
	// One of authority (of a signature requirement), attestation, layout and
	// members is not empty.
	authority   string
	attestation *attestation
	layout      *layoutRule
	members     []requirement
	need        int
	// distinct is set for `atLeast`, whose members must be met by different
	// signers.
	distinct bool
	all      bool
	text     string
}

func (q *requirement) isZero() bool {
	return len(q.members) == 0 && q.authority == "" && q.attestation == nil && q.layout == nil
}

func (p *Policy) readRequire(d *document) error {
	if d.Spec.Require == nil {
		return fault("/spec/require", "is missing: say what must hold")
	}
	r := reader{authorities: p.Authorities}
	root, err := r.requirement(d.Spec.Require, "/spec/require", 1)
	p.require = root
	return err
}

// reader counts requirements over the whole policy.
type reader struct {
	authorities map[string]Authority
	count       int
	// counting is above 0 within thresholds.
	counting int
	// compiler is made for the first condition.
	compiler *condition.Compiler
}

func (r *reader) requirement(s *requireSpec, at string, depth int) (requirement, error) {
	if r.count++; r.count > limits.Requirements {
		return requirement{}, fault(at, "is beyond the %d requirements a policy may have", limits.Requirements)
	}
	if depth > limits.PolicyDepth {
		return requirement{}, fault(at, "is nested deeper than %d", limits.PolicyDepth)
	}
	given := 0
	for _, is := range []bool{s.All != nil, s.Any != nil, s.AtLeast != nil, s.Signature != nil, s.Attestation != nil, s.Layout != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return requirement{}, fault(at, "must have exactly one of all, any, atLeast, signature, attestation and layout")
	}
	switch {
	case s.All != nil:
		members, err := r.members(s.All, at+"/all", depth)
		return requirement{members: members, need: len(members), all: true, text: describe("all of", members)}, err
	case s.Any != nil:
		members, err := r.members(s.Any, at+"/any", depth)
		return requirement{members: members, need: 1, text: describe("any of", members)}, err
	case s.AtLeast != nil:
		return r.atLeast(s.AtLeast, at+"/atLeast", depth)
	case s.Signature != nil:
		return r.signature(s.Signature, at+"/signature")
	case s.Layout != nil:
		return r.layout(s.Layout, at+"/layout")
	default:
		return r.attestation(s.Attestation, at+"/attestation")
	}
}

func (r *reader) members(specs []requireSpec, at string, depth int) ([]requirement, error) {
	if len(specs) == 0 {
		return nil, fault(at, "is empty, and nothing to check is never a success")
	}
	var members []requirement
	for i := range specs {
		m, err := r.requirement(&specs[i], fmt.Sprintf("%s/%d", at, i), depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return members, nil
}

// atLeast refuses thresholds that cannot be met: one signer counts once, so
// neither the members nor the authorities they name may be fewer than n.
func (r *reader) atLeast(s *atLeastSpec, at string, depth int) (requirement, error) {
	r.counting++
	members, err := r.members(s.Of, at+"/of", depth)
	r.counting--
	if err != nil {
		return requirement{}, err
	}
	if s.N == nil || *s.N < 1 {
		return requirement{}, fault(at+"/n", "must be at least 1")
	}
	if *s.N > len(members) {
		return requirement{}, fault(at+"/n", "is more than the %d requirements it counts", len(members))
	}
	named := make(map[string]bool)
	for i := range members {
		members[i].name(named)
	}
	if *s.N > len(named) {
		return requirement{}, fault(at+"/n", "is more than the %d authorities it counts", len(named))
	}
	text := describe(fmt.Sprintf("at least %d of", *s.N), members)
	return requirement{members: members, need: *s.N, distinct: true, text: text}, nil
}

func (r *reader) signature(s *signatureSpec, at string) (requirement, error) {
	if _, ok := r.authorities[s.By]; !ok {
		return requirement{}, fault(at+"/by", "names no authority of this policy")
	}
	return requirement{authority: s.By, need: 1, text: "signature by " + s.By}, nil
}

// name adds the authorities the requirement names.
func (q *requirement) name(named map[string]bool) {
	if q.authority != "" {
		named[q.authority] = true
	}
	if q.attestation != nil {
		for _, name := range q.attestation.by {
			named[name] = true
		}
	}
	for i := range q.members {
		q.members[i].name(named)
	}
}

func describe(what string, members []requirement) string {
	texts := make([]string, len(members))
	for i, m := range members {
		texts[i] = m.text
	}
	return what + " (" + strings.Join(texts, ", ") + ")"
}

// Needs is what a policy looks at, for whoever gathers the facts.
type Needs struct {
	// Signatures is set if plain signatures are looked at.
	Signatures bool
	// PredicateTypes are those of attestations that are looked at, as
	// predicate.Canonical has them.
	PredicateTypes map[string]bool
	// Everything is set if the decision rests on there being nothing else, so
	// that no part of what is known of the image may be left out.
	Everything bool
	// Links is set if links of in-toto layouts are looked at, whatever they are
	// about and whoever signed them.
	Links bool
}

// Needs says what facts the decision rests on.
func (p *Policy) Needs() Needs {
	n := Needs{PredicateTypes: make(map[string]bool)}
	p.require.needs(&n)
	return n
}

func (q *requirement) needs(n *Needs) {
	n.Signatures = n.Signatures || q.authority != ""
	if a := q.attestation; a != nil {
		n.PredicateTypes[a.predicateType] = true
		n.Everything = n.Everything || a.which != WhichAny
	}
	if q.layout != nil {
		n.Links = true
	}
	for i := range q.members {
		q.members[i].needs(n)
	}
}
