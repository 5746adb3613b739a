package policy

import (
	"encoding/json"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/layout"
	"github.com/countersign/countersign/attest/predicate"
)

// FormatLayout is the format of evidence that an in-toto layout is satisfied.
const FormatLayout = "layout"

// layoutSpec holds an in-toto layout with the keys of its functionaries, which
// are no authorities of the policy: what they sign counts for their step and
// for nothing else.
type layoutSpec struct {
	Document json.RawMessage `json:"document"`
}

// layoutRule is a loaded layout requirement.
type layoutRule struct {
	layout *layout.Layout
	// id names the layout in evidence.
	id string
}

func (r *reader) layout(s *layoutSpec, at string) (requirement, error) {
	if r.counting > 0 {
		return requirement{}, fault(at, "is by no signer that a threshold could count: want it beside atLeast")
	}
	l, err := layout.Parse(s.Document)
	if err != nil {
		return requirement{}, fault(at+"/document", "is no layout: %s", wordsOf(err, layout.ErrLayout))
	}
	return requirement{layout: &layoutRule{layout: l, id: attest.DigestOf(s.Document).String()}, need: 1, text: "in-toto layout"}, nil
}

// judgeLayout holds by links of the layout's own functionaries.
func (q *requirement) judgeLayout(in *Question) finding {
	digest, err := attest.ParseDigest(in.Image.Digest)
	if err != nil {
		return finding{reasons: []Reason{*reasonf(LayoutNotSatisfied, "the image has no digest")}}
	}
	if reason, ok := q.layout.layout.Judge(in.Links, digest, in.Now); !ok {
		return finding{reasons: []Reason{*reasonf(LayoutNotSatisfied, "the layout is not satisfied: %s", reason)}}
	}
	return finding{
		holds:    true,
		evidence: []Evidence{{Format: FormatLayout, Digest: in.Image.Digest, Authority: FormatLayout, Signer: q.layout.id}},
		ends:     end{q.layout.layout.Expires(), LayoutNotSatisfied},
	}
}

// IsLink reports whether statements of a type are links of in-toto layouts.
func IsLink(predicateType string) bool {
	switch predicate.Canonical(predicateType) {
	case predicate.LinkV03, predicate.CosignLink:
		return true
	}
	return false
}
