package provenance

import "fmt"

// grade is a level with its reasons.
type grade struct {
	level          int
	reasons, codes []string
}

// lower caps the level and says why. What caps it is told also when something
// else caps it more.
func (g *grade) lower(level int, code, reason string) {
	g.level = min(g.level, level)
	g.codes = append(g.codes, code)
	g.reasons = append(g.reasons, reason)
}

// grade says which SLSA build level the facts support. Level 2 asks for a
// hosted platform; level 3 also for external parameters that are all seen and
// for isolation from the tenant, which only the operator's rule vouches for.
func (f facts) grade(rules Rules, callerParameters bool) grade {
	g := grade{level: 3}
	rule, ruled := rules.rule(f.builderID())
	if ruled && rule.MaxLevel < 3 {
		g.lower(rule.MaxLevel, "builder_rule", fmt.Sprintf("a rule trusts this builder to level %d", rule.MaxLevel))
	}
	f.gradeRunner(&g, ruled)
	if !ruled {
		g.lower(2, "builder_not_listed", "no rule vouches for this builder")
	}
	if !f.isolated {
		g.lower(2, "workflow_not_isolated", "the job is not a reusable workflow of another repository")
	}
	if !f.visible {
		g.lower(2, "inputs_not_visible", "the claims do not show every input of such a build")
	}
	switch f.fork {
	case "merge_request_fork":
		g.lower(1, f.fork, "the source is a fork and the job ran in another project")
	case "merge_request_unclear":
		g.lower(1, f.fork, "the claims do not say whether the merge request is from a fork")
	}
	if f.commit == "" {
		g.lower(2, "commit_unknown", "the claims name no commit")
	}
	if callerParameters {
		g.lower(2, "caller_parameters", "the caller added external parameters that nothing proves")
	}
	if len(g.codes) == 0 {
		g.lower(3, "isolated_builder", "a reusable workflow that a rule vouches for ran on a hosted runner, and the claims show every input")
	}
	return g
}

// gradeRunner asks for a hosted runner. A rule's word makes its owner's machines
// a platform, but nothing makes them isolated.
func (f facts) gradeRunner(g *grade, ruled bool) {
	level := 1
	if ruled {
		level = 2
	}
	switch f.environment {
	case selfHosted:
		g.lower(level, "runner_self_hosted", "the job ran on a self-hosted runner")
	case unknown:
		g.lower(level, "runner_unknown", "the claims do not say whether the runner is hosted")
	case hosted:
	}
}

// rule is the first that matches the builder.
func (r Rules) rule(builder string) (BuilderRule, bool) {
	for _, b := range r.Builders {
		if textMatches(b.Builder, builder) {
			return b, true
		}
	}
	return BuilderRule{}, false
}
