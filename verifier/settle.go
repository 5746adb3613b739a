package verifier

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/policy"
)

// Excepted is the exception by which a policy's verdict is PASSED.
type Excepted struct {
	Name      string    `json:"name"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Until is a moment at which time alone changes a verdict, and why.
type Until struct {
	At     time.Time     `json:"at"`
	Reason policy.Reason `json:"reason"`
}

// endsAt is of what a policy's verdict rests on, or nil if nothing of it ends.
func endsAt(outcome policy.Outcome, name string) *Until {
	if outcome.Expires.IsZero() {
		return nil
	}
	return &Until{At: outcome.Expires, Reason: policy.Reason{
		Code: outcome.Ends, Message: "what the verdict rests on ends then", Policy: name,
	}}
}

// earlierOf is the earlier of two, of which nil is none.
func earlierOf(a, b *Until) *Until {
	if a == nil || b != nil && b.At.Before(a.At) {
		return b
	}
	return a
}

// settle turns what each policy says into the verdict: an exception may help a
// policy that FAILED, and each that enforces must have passed. An outcome
// without policies was not decided by them and stays.
func (q *question) settle(image policy.Image, out outcome) outcome {
	if len(out.policies) == 0 {
		return out
	}
	out.verdict = policy.Passed
	var excepted []policy.Reason
	for i := range out.policies {
		p := &out.policies[i]
		if p.Verdict != policy.Passed {
			q.except(p, image, &out)
		}
		if p.Verdict == policy.Passed {
			if p.Exception != nil && p.Mode == policy.Enforce {
				excepted = append(excepted, p.Reasons...)
			}
			continue
		}
		switch p.Mode {
		case policy.Warn:
			for _, reason := range p.Reasons {
				out.warnings = append(out.warnings, fmt.Sprintf("policy %s: %s: %s", p.Name, reason.Code, reason.Message))
			}
		case policy.Audit:
		default:
			out.verdict = policy.Failed
			out.reasons = append(out.reasons, p.Reasons...)
		}
	}
	if out.verdict == policy.Passed {
		out.reasons = excepted
		for _, p := range out.policies {
			if p.Mode == policy.Enforce {
				out.until = earlierOf(out.until, p.Until)
			}
		}
	}
	out.sure = out.sure || out.verdict == policy.Passed && len(out.warnings) == 0
	return out
}

// except lets an exception change one policy's verdict. Its requirements stay
// as they were found. While something about the image could not be read no
// exception helps: what is not known might be what none may help.
func (q *question) except(p *PolicyResult, image policy.Image, out *outcome) {
	if !out.sure || !policy.Excusable(p.Requirements) {
		return
	}
	var longest *policy.Exception
	for _, e := range q.exceptions {
		if e.Covers(p.Name, image, out.at) && (longest == nil || e.ExpiresAt.After(longest.ExpiresAt)) {
			longest = e
		}
	}
	if longest == nil {
		return
	}
	until := longest.ExpiresAt.Format(time.RFC3339)
	reason := policy.Reason{
		Code: policy.Excepted, Policy: p.Name,
		Message: fmt.Sprintf("exception %s until %s: %s (without it: %s)", longest.Name, until, longest.Reason, p.Reasons[0].Code),
	}
	if p.Mode != policy.Audit {
		out.notices = append(out.notices, fmt.Sprintf("policy %s: %s: %s", p.Name, reason.Code, reason.Message))
	}
	p.Until = &Until{At: longest.ExpiresAt, Reason: p.Reasons[0]}
	p.Until.Reason.Message = fmt.Sprintf("exception %s ends: %s", longest.Name, p.Reasons[0].Message)
	p.Verdict, p.Reasons = policy.Passed, []policy.Reason{reason}
	p.Exception = &Excepted{Name: longest.Name, Reason: longest.Reason, ExpiresAt: longest.ExpiresAt}
	out.expire(longest.ExpiresAt)
}
