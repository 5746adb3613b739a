package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/policy"
)

func authorityNames() []string { return []string{"a", "b", "c", "d"} }

// genRequire draws a requirement as YAML together with what it means: a
// straightforward second implementation to judge the first by.
func genRequire(t *rapid.T, depth int) (string, model) {
	kinds := []string{"signature", "all", "any", "atLeast"}
	if depth == 0 {
		kinds = kinds[:1]
	}
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	if kind == "signature" {
		by := rapid.SampledFrom(authorityNames()).Draw(t, "by")
		return fmt.Sprintf("{signature: {by: %s}}", by), model{by: by}
	}
	m := model{kind: kind}
	var texts []string
	for range rapid.IntRange(1, 3).Draw(t, "members") {
		text, member := genRequire(t, depth-1)
		texts = append(texts, text)
		m.members = append(m.members, member)
	}
	list := strings.Join(texts, ", ")
	if kind != "atLeast" {
		return fmt.Sprintf("{%s: [%s]}", kind, list), m
	}
	named := make(map[string]bool)
	m.name(named)
	m.n = rapid.IntRange(1, min(len(texts), len(named))).Draw(t, "n")
	return fmt.Sprintf("{atLeast: {n: %d, of: [%s]}}", m.n, list), m
}

type model struct {
	by      string
	kind    string
	n       int
	members []model
}

func (m model) name(named map[string]bool) {
	if m.by != "" {
		named[m.by] = true
	}
	for _, member := range m.members {
		member.name(named)
	}
}

// holds is the requirement by its definition: the signers it holds by, or nil.
func (m model) holds(facts []policy.Fact) []string {
	var signers []string
	if m.by != "" {
		for _, f := range facts {
			if f.Accepted && f.Authority == m.by {
				signers = append(signers, f.SignerID)
			}
		}
		return signers
	}
	var held [][]string
	for _, member := range m.members {
		if by := member.holds(facts); by != nil {
			held = append(held, by)
			signers = append(signers, by...)
		}
	}
	switch {
	case m.kind == "all" && len(held) == len(m.members), m.kind == "any" && len(held) > 0:
		return signers
	case m.kind == "atLeast" && most(held, nil) >= m.n:
		return signers
	}
	return nil
}

// most tries every way to give members signers of their own.
func most(members [][]string, taken []string) int {
	if len(members) == 0 {
		return 0
	}
	best := most(members[1:], taken)
	for _, s := range members[0] {
		if !slices.Contains(taken, s) {
			best = max(best, 1+most(members[1:], append(slices.Clone(taken), s)))
		}
	}
	return best
}

func genFacts(t *rapid.T, acceptedOnly bool) []policy.Fact {
	fact := rapid.Custom(func(t *rapid.T) policy.Fact {
		f := policy.Fact{
			Authority: rapid.SampledFrom(append(authorityNames(), "other")).Draw(t, "authority"),
			SignerID:  rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "signer"),
			Accepted:  acceptedOnly || rapid.Bool().Draw(t, "accepted"),
			Reason:    policy.Reason{Code: policy.UntrustedKey, Message: "no"},
		}
		if f.Accepted {
			f.Reason = policy.Reason{}
			f.Evidence = policy.Evidence{Authority: f.Authority, Signer: f.SignerID}
		}
		return f
	})
	return rapid.SliceOfN(fact, 0, 5).Draw(t, "facts")
}

func genPolicy(t *rapid.T, parse func(string) *policy.Policy) (*policy.Policy, model) {
	require, m := genRequire(t, rapid.IntRange(0, 3).Draw(t, "depth"))
	return parse(require), m
}

func TestDecideProperties(t *testing.T) {
	parse := func(require string) *policy.Policy { return withRequire(t, require) }
	rapid.Check(t, func(t *rapid.T) {
		p, m := genPolicy(t, parse)
		facts := genFacts(t, false)
		got := decide(p, facts).Verdict

		if want := m.holds(facts) != nil; (got == policy.Passed) != want {
			t.Fatalf("%s with %+v: %s", p.Document(), facts, got)
		}
		// Nothing passes by default (F1, F4).
		if v := decide(p, nil).Verdict; v != policy.Failed {
			t.Fatalf("%s passes without facts", p.Document())
		}
		// Monotone: more accepted facts never take a pass away.
		more := append(slices.Clone(facts), genFacts(t, true)...)
		if v := decide(p, more).Verdict; got == policy.Passed && v != policy.Passed {
			t.Fatalf("%s: %+v took the pass away", p.Document(), more)
		}
		// What was not accepted changes no verdict.
		kept := slices.DeleteFunc(slices.Clone(facts), func(f policy.Fact) bool { return !f.Accepted })
		if v := decide(p, kept).Verdict; v != got {
			t.Fatalf("%s: rejected facts made it %s", p.Document(), got)
		}
		// Facts of authorities the policy does not name change nothing.
		stranger := policy.Fact{Authority: "other", SignerID: "9", Accepted: true}
		if diff := cmp.Diff(decide(p, facts), decide(p, append(slices.Clone(facts), stranger))); diff != "" {
			t.Fatalf("a stranger counts: %s", diff)
		}
		// Order matters to no verdict and no reason.
		shuffled := rapid.Permutation(facts).Draw(t, "shuffled")
		a, b := decide(p, facts), decide(p, shuffled)
		if a.Verdict != b.Verdict || cmp.Diff(a.Reasons, b.Reasons) != "" {
			t.Fatalf("order matters: %s", cmp.Diff(a, b))
		}
	})
}

func TestParseMarshalIdentity(t *testing.T) {
	parse := func(require string) *policy.Policy { return withRequire(t, require) }
	rapid.Check(t, func(t *rapid.T) {
		p, _ := genPolicy(t, parse)
		again, err := policy.Parse(p.Document())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(p.Document()), string(again.Document())); diff != "" {
			t.Fatal(diff)
		}
		facts := genFacts(t, false)
		if diff := cmp.Diff(decide(p, facts), decide(again, facts)); diff != "" {
			t.Fatalf("decides otherwise: %s", diff)
		}
	})
}
