package policy

// IndexRule says whose signatures and attestations count for an image that
// stands in an index (an image for several platforms). Whatever the rule, all
// requirements are judged over the evidence of one digest at a time.
type IndexRule string

// The index rules. Without one the digest that the answer names must satisfy
// the policy: an index when the index was asked for, its child when a platform
// was chosen.
const (
	// IndexItself: the index must satisfy the policy, and whichever child is
	// chosen rests on it, since the index's bytes name the child's digest.
	IndexItself IndexRule = "index"
	// IndexChildren: the chosen child must satisfy the policy; without a
	// platform each of the index's children must.
	IndexChildren IndexRule = "children"
	// IndexBoth: the index must, and what IndexChildren says.
	IndexBoth IndexRule = "both"
)

type indexSpec struct {
	Require IndexRule `json:"require"`
}

func (p *Policy) readIndex(d *document) error {
	if d.Spec.Index == nil {
		return nil
	}
	p.Index = d.Spec.Index.Require
	switch p.Index {
	case IndexItself, IndexChildren, IndexBoth:
		return nil
	}
	return fault("/spec/index/require", "is none of %s, %s and %s", IndexItself, IndexChildren, IndexBoth)
}
