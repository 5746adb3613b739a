package verifier

import (
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
)

// Where a piece of evidence came from.
const (
	SourceArchive  = "archive"
	SourceRegistry = "registry"
	SourceRequest  = "request"
)

// Explanation is every piece of evidence that was considered of an image and
// what became of it under each authority of each policy.
type Explanation struct {
	Evidence []Considered `json:"evidence"`
	// Truncated reports that there was more than is told.
	Truncated bool `json:"truncated,omitempty"`

	judgements int
}

// Considered is one signature or attestation, or what could not be read as one.
type Considered struct {
	// Subject is the digest that it was found with.
	Subject string `json:"subject"`
	// Attachment is the digest of the bundle or layer, empty of what was not
	// read.
	Attachment string `json:"attachment,omitempty"`
	// Format is as in evidence; Source archive or registry.
	Format string `json:"format,omitempty"`
	Source string `json:"source"`
	// PredicateType is what an attestation says of itself, verified or not.
	PredicateType string `json:"predicateType,omitempty"`
	// Problem is why it cannot be read, for every authority.
	Problem    *policy.Reason `json:"problem,omitempty"`
	Judgements []Judgement    `json:"judgements"`
}

// Judgement is what one authority makes of a piece of evidence.
type Judgement struct {
	Policy    string `json:"policy"`
	Authority string `json:"authority"`
	Accepted  bool   `json:"accepted"`
	// Signer is who signed, where that could be told.
	Signer string `json:"signer,omitempty"`
	// Checks are those that it passed, in their order: read, signer, subject,
	// log, time, and window or identity.
	Checks []string `json:"checks"`
	// Reason is the check that refused it.
	Reason *policy.Reason `json:"reason,omitempty"`
}

// The checks, in the order of bench.decide.
const (
	checkRead     = "read"
	checkSigner   = "signer"
	checkSubject  = "subject"
	checkLog      = "log"
	checkTime     = "time"
	checkWindow   = "window"
	checkIdentity = "identity"
)

// consider notes a piece of evidence for what follows.
func (x *Explanation) consider(subject string, e *evidence) {
	if x == nil {
		return
	}
	if len(x.Evidence) == limits.ExplainedEvidence {
		x.Truncated = true
		return
	}
	c := Considered{Subject: subject, Attachment: e.attached, Format: formatInAnswers(e.format), Source: e.source, Judgements: []Judgement{}}
	switch {
	case e.fault != nil:
		c.Problem = new(e.fault.reason())
	case e.signed.kind == policy.KindAttestation:
		c.PredicateType = e.signed.predicateType
	}
	x.Evidence = append(x.Evidence, c)
}

// judged notes what an authority made of the evidence considered last.
func (x *Explanation) judged(policyName string, fact policy.Fact, checks []string) {
	if x == nil {
		return
	}
	if x.Truncated || x.judgements == limits.ExplainedJudgements {
		x.Truncated = true
		return
	}
	x.judgements++
	j := Judgement{Policy: policyName, Authority: fact.Authority, Accepted: fact.Accepted, Signer: fact.SignerID, Checks: append([]string{}, checks...)}
	if !fact.Accepted {
		j.Reason = new(fact.Reason)
	}
	last := &x.Evidence[len(x.Evidence)-1]
	last.Judgements = append(last.Judgements, j)
}

// add takes in what was considered of another member of an index.
func (x *Explanation) add(other *Explanation) {
	if x == nil || other == nil {
		return
	}
	x.Truncated = x.Truncated || other.Truncated
	for _, c := range other.Evidence {
		if len(x.Evidence) == limits.ExplainedEvidence {
			x.Truncated = true
			return
		}
		x.Evidence = append(x.Evidence, c)
	}
}

// passed notes a check that the evidence in hand passed.
func (b *bench) passed(check string) {
	if b.tracing {
		b.checks = append(b.checks, check)
	}
}
