package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/condition"
	"github.com/countersign/countersign/policy/slsa"
)

// Which attestations of an authority a requirement is about, when there are
// several of its type.
type Which string

const (
	// WhichNewest takes the authority's last word. Whoever can only add or
	// copy attestations cannot bring an earlier one back. The default where a
	// report of a state is judged: condition, maxAge, vsa.
	WhichNewest Which = "newest"
	// WhichAny takes one that satisfies everything. The default for the
	// record of an event, which a later one does not undo: provenance, or no
	// expectation at all.
	WhichAny Which = "any"
	// WhichEvery wants each to satisfy everything.
	WhichEvery Which = "every"
)

// attestation is a loaded attestation requirement.
type attestation struct {
	// predicateType is canonical.
	predicateType string
	by            []string
	which         Which
	// maxAge is 0 for any.
	maxAge     time.Duration
	condition  *condition.Condition
	expression string
	provenance *provenance
	summary    *summary
}

type attestationSpec struct {
	PredicateType string          `json:"predicateType"`
	By            names           `json:"by"`
	Which         *Which          `json:"which,omitzero"`
	MaxAge        *string         `json:"maxAge,omitzero"`
	Condition     *string         `json:"condition,omitzero"`
	Provenance    *provenanceSpec `json:"provenance,omitzero"`
	VSA           *vsaSpec        `json:"vsa,omitzero"`
}

// names is one name or a list of them, written as it was read.
type names struct {
	list   []string
	single bool
}

// UnmarshalJSON reads a string or a list of strings.
func (n *names) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*n = names{list: []string{one}, single: true}
		return nil
	}
	*n = names{}
	return json.Unmarshal(b, &n.list)
}

// MarshalJSON writes it as it was read.
func (n names) MarshalJSON() ([]byte, error) {
	if n.single {
		return json.Marshal(n.list[0])
	}
	return json.Marshal(n.list)
}

func (r *reader) attestation(s *attestationSpec, at string) (requirement, error) {
	a := &attestation{by: s.By.list}
	steps := []func(*attestationSpec, string) error{r.readBy, a.readType, a.readMaxAge, r.readCondition(a), a.readProvenance, a.readSummary, a.readWhich}
	for _, step := range steps {
		if err := step(s, at); err != nil {
			return requirement{}, err
		}
	}
	if a.provenance != nil && !a.provenance.reachable(r.authorities, a.by) {
		return requirement{}, fault(at+"/provenance/minLevel",
			"is reached by no entry of levels: provenance counts as level 1, or as 2 when a certificate of the signer proves builder, source, ref and a hosted runner")
	}
	return requirement{attestation: a, need: 1, text: "attestation of " + a.predicateType + " by " + strings.Join(a.by, " or ")}, nil
}

func (r *reader) readBy(s *attestationSpec, at string) error {
	at += "/by"
	if n := len(s.By.list); n == 0 || n > limits.Requirements {
		return fault(at, "names %d authorities, want 1 to %d", n, limits.Requirements)
	}
	for i, name := range s.By.list {
		place := at
		if !s.By.single {
			place = fmt.Sprintf("%s/%d", at, i)
		}
		if _, ok := r.authorities[name]; !ok {
			return fault(place, "names no authority of this policy")
		}
		if slices.Contains(s.By.list[:i], name) {
			return fault(place, "is there twice")
		}
	}
	return nil
}

// readType writes the URI for a short name.
func (a *attestation) readType(s *attestationSpec, at string) error {
	uri, err := predicate.ParseType(s.PredicateType)
	if err != nil {
		return fault(at+"/predicateType", "is neither the URI of a predicate type nor one of %s", strings.Join(predicate.Names(), ", "))
	}
	s.PredicateType, a.predicateType = uri, predicate.Canonical(uri)
	if a.predicateType == predicateSign {
		return fault(at+"/predicateType", "is that of plain signatures: want a signature requirement")
	}
	return nil
}

// predicateSign is what a plain image signature says in a bundle.
const predicateSign = "https://sigstore.dev/cosign/sign/v1"

func (a *attestation) readMaxAge(s *attestationSpec, at string) error {
	if s.MaxAge == nil {
		return nil
	}
	age, err := time.ParseDuration(*s.MaxAge)
	if err != nil || age <= 0 || age > limits.MaxAge {
		return fault(at+"/maxAge", "must be a duration such as 168h, of more than nothing and at most %d hours", int(limits.MaxAge/time.Hour))
	}
	a.maxAge = age
	return nil
}

func (r *reader) readCondition(a *attestation) func(*attestationSpec, string) error {
	return func(s *attestationSpec, at string) (err error) {
		if s.Condition == nil {
			return nil
		}
		if r.compiler == nil {
			if r.compiler, err = condition.NewCompiler(); err != nil {
				return err
			}
		}
		a.expression = *s.Condition
		if a.condition, err = r.compiler.Compile(a.expression); err != nil {
			return fault(at+"/condition", "is no condition: %s", wordsOf(err, condition.ErrExpression))
		}
		return nil
	}
}

func (a *attestation) readProvenance(s *attestationSpec, at string) (err error) {
	if s.Provenance == nil {
		return nil
	}
	if !slsa.IsProvenance(a.predicateType) {
		return fault(at+"/provenance", "needs a predicateType of SLSA provenance, %s or %s", predicate.SLSAProvenanceV1, predicate.SLSAProvenanceV02)
	}
	a.provenance, err = s.Provenance.compile(a.by, at+"/provenance")
	return err
}

func (a *attestation) readSummary(s *attestationSpec, at string) (err error) {
	if s.VSA == nil {
		return nil
	}
	if a.predicateType != predicate.VSAV1 {
		return fault(at+"/vsa", "needs the predicateType %s", predicate.VSAV1)
	}
	a.summary, err = s.VSA.compile(at + "/vsa")
	return err
}

// readWhich writes the default.
func (a *attestation) readWhich(s *attestationSpec, at string) error {
	if s.Which == nil {
		s.Which = new(WhichAny)
		if a.condition != nil || a.maxAge > 0 || a.summary != nil {
			s.Which = new(WhichNewest)
		}
	}
	a.which = *s.Which
	if !slices.Contains([]Which{WhichNewest, WhichAny, WhichEvery}, a.which) {
		return fault(at+"/which", "is none of %s, %s and %s", WhichNewest, WhichAny, WhichEvery)
	}
	return nil
}

// wordsOf is an error's text without those of the sentinels in front.
func wordsOf(err error, sentinels ...error) string {
	text := err.Error()
	for _, sentinel := range sentinels {
		text = strings.TrimPrefix(text, sentinel.Error()+": ")
	}
	return text
}
