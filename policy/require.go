package policy

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// requirement is one loaded requirement: a signature by an authority, or at
// least need of its members. `all` needs as many as it has, `any` one.
type requirement struct {
	// authority is of a signature requirement; else members is not empty.
	authority string
	members   []requirement
	need      int
	// distinct is set for `atLeast`, whose members must be met by different
	// signers.
	distinct bool
	all      bool
	text     string
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
}

func (r *reader) requirement(s *requireSpec, at string, depth int) (requirement, error) {
	if r.count++; r.count > limits.Requirements {
		return requirement{}, fault(at, "is beyond the %d requirements a policy may have", limits.Requirements)
	}
	if depth > limits.PolicyDepth {
		return requirement{}, fault(at, "is nested deeper than %d", limits.PolicyDepth)
	}
	given := 0
	for _, is := range []bool{s.All != nil, s.Any != nil, s.AtLeast != nil, s.Signature != nil, s.Attestation != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return requirement{}, fault(at, "must have exactly one of all, any, atLeast and signature")
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
	default:
		return requirement{}, unsupported(at+"/attestation", "an attestation requirement")
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
	members, err := r.members(s.Of, at+"/of", depth)
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
