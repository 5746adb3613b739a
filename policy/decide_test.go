package policy_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/policy"
)

// decide asks with facts alone.
func decide(p *policy.Policy, facts []policy.Fact) policy.Outcome {
	return p.Decide(context.Background(), policy.Question{Facts: facts})
}

// withRequire is a policy with authorities a, b, c, d over managed keys.
func withRequire(t testing.TB, require string) *policy.Policy {
	t.Helper()
	return mustParse(t, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: p}
spec:
  match: {images: ["r.example/**"]}
  authorities:
    a: {key: {name: a}}
    b: {key: {name: b}}
    c: {key: {name: c}}
    d: {key: {name: d}}
  require: `+require+"\n")
}

// accepted are facts written "authority:signer", space separated.
func accepted(s string) []policy.Fact {
	var facts []policy.Fact
	for f := range strings.FieldsSeq(s) {
		authority, signer, _ := strings.Cut(f, ":")
		facts = append(facts, policy.Fact{
			Authority: authority, SignerID: signer, Accepted: true,
			Evidence: policy.Evidence{Format: "bundle", Authority: authority, Signer: signer},
		})
	}
	return facts
}

func rejected(authority string, code policy.Code) policy.Fact {
	return policy.Fact{Authority: authority, SignerID: "K", Reason: policy.Reason{Code: code, Message: "because"}}
}

// Rows C2, C4, F1, F7: what each form of requirement is met by.
func TestDecide(t *testing.T) {
	const sigA, sigB, sigC, sigD = "{signature: {by: a}}", "{signature: {by: b}}", "{signature: {by: c}}", "{signature: {by: d}}"
	twoOf := "{atLeast: {n: 2, of: [" + sigA + "," + sigB + "," + sigC + "]}}"
	tests := []struct {
		require string
		pass    []string
		fail    []string
	}{
		{
			require: sigA,
			pass:    []string{"a:1", "a:1 a:1", "b:2 a:1", "a:1 nobody:3"},
			fail:    []string{"", "b:1", "A:1", "a:", "release:1 :1"},
		},
		{
			require: "{all: [" + sigA + "]}",
			pass:    []string{"a:1"},
			fail:    []string{"", "b:1"},
		},
		{
			require: "{all: [" + sigA + "," + sigB + "]}",
			// `all` asks for each, not for different signers.
			pass: []string{"a:1 b:2", "b:2 a:1 c:3", "a:1 b:1"},
			fail: []string{"", "a:1", "b:2", "a:1 a:2", "a:1 c:2"},
		},
		{
			require: "{any: [" + sigA + "," + sigB + "]}",
			pass:    []string{"a:1", "b:1", "a:1 b:2"},
			fail:    []string{"", "c:1", "d:1 c:1"},
		},
		{
			require: "{atLeast: {n: 1, of: [" + sigA + "," + sigB + "]}}",
			pass:    []string{"a:1", "b:1"},
			fail:    []string{"", "c:1 d:2"},
		},
		{
			require: twoOf,
			pass:    []string{"a:1 b:2", "a:1 c:3", "b:2 c:3", "a:1 b:2 c:3", "a:1 b:1 c:2", "a:1 a:2 b:1", "a:1 b:1 b:2"},
			fail: []string{
				"", "a:1", "a:1 a:2", // one authority is one member, however many keys it had
				"a:1 b:1", "a:1 b:1 c:1", // C2: one signer under several names
				"a:1 d:2", "a:1 d:2 d:3", // facts of an authority not named
				"a:1 b:", // a signer that has no id counts for nothing
			},
		},
		{
			// Only the matching that gives c the signer 3 finds three.
			require: "{atLeast: {n: 3, of: [" + sigA + "," + sigB + "," + sigC + "]}}",
			pass:    []string{"a:1 b:2 c:3", "a:1 a:2 b:1 c:1 c:3", "c:1 c:2 c:3 b:1 b:2 a:1"},
			fail:    []string{"a:1 b:2", "a:1 a:2 b:1 b:2 c:1 c:2", "a:1 b:2 c:2"},
		},
		{
			require: "{all: [{any: [" + sigA + "," + sigB + "]}, {any: [" + sigC + "," + sigD + "]}]}",
			pass:    []string{"a:1 c:2", "b:1 d:2", "a:1 b:2 c:3 d:4"},
			fail:    []string{"", "a:1", "a:1 b:2", "c:1 d:2"},
		},
		{
			require: "{any: [{all: [" + sigA + "," + sigB + "]}, {all: [" + sigC + "," + sigD + "]}]}",
			pass:    []string{"a:1 b:2", "c:1 d:2", "a:1 c:1 d:2"},
			fail:    []string{"", "a:1 c:2", "b:1 d:2", "a:1 d:1"},
		},
		{
			require: "{atLeast: {n: 2, of: [{all: [" + sigA + "," + sigB + "]}, " + sigC + ", {any: [" + sigA + "," + sigD + "]}]}}",
			pass:    []string{"a:1 b:2 c:3", "a:1 b:2", "c:1 d:2", "a:1 b:2 d:1"},
			fail:    []string{"", "a:1", "c:1", "c:1 d:1", "a:1 b:1", "b:1 c:2"},
		},
		{
			require: "{any: [" + twoOf + ", " + sigD + "]}",
			pass:    []string{"d:1", "a:1 b:2", "a:1 b:1 d:1"},
			fail:    []string{"", "a:1", "a:1 b:1"},
		},
	}
	for _, tt := range tests {
		p := withRequire(t, tt.require)
		for _, facts := range tt.pass {
			check(t, p, tt.require, facts, policy.Passed)
		}
		for _, facts := range tt.fail {
			check(t, p, tt.require, facts, policy.Failed)
		}
	}
}

func check(t *testing.T, p *policy.Policy, require, facts string, want policy.Verdict) {
	t.Helper()
	for _, order := range [][]policy.Fact{accepted(facts), reverse(accepted(facts))} {
		got := decide(p, order)
		if got.Verdict != want {
			t.Errorf("%s with %q: %s, want %s", require, facts, got.Verdict, want)
		}
		if (got.Verdict == policy.Failed) != (len(got.Reasons) > 0) {
			t.Errorf("%s with %q: %s with reasons %v", require, facts, got.Verdict, got.Reasons)
		}
		for _, r := range got.Requirements {
			if (r.Verdict == policy.Passed) != (len(r.Evidence) > 0) || (r.Verdict == policy.Failed) != (len(r.Reasons) > 0) {
				t.Errorf("%s with %q: %+v", require, facts, r)
			}
		}
	}
}

func reverse(facts []policy.Fact) []policy.Fact {
	slices.Reverse(facts)
	return facts
}

// Rejected facts meet nothing, alone or beside an accepted one of another
// authority, even when they say who signed and carry evidence.
func TestRejectedFactsNeverCount(t *testing.T) {
	p := withRequire(t, "{atLeast: {n: 2, of: [{signature: {by: a}}, {signature: {by: b}}]}}")
	bad := rejected("b", policy.KeyRevoked)
	bad.Evidence = policy.Evidence{Signer: "K"}
	if got := decide(p, append(accepted("a:1"), bad)).Verdict; got != policy.Failed {
		t.Error(got)
	}
	if got := decide(p, append(accepted("a:1 b:2"), bad)).Verdict; got != policy.Passed {
		t.Error("a rejected fact took a pass away")
	}
}

func TestZeroPolicyFails(t *testing.T) { // F4
	got := decide(new(policy.Policy), accepted("a:1"))
	if got.Verdict != policy.Failed || got.Reasons[0].Code != policy.PolicyError {
		t.Errorf("%+v", got)
	}
}

// Modes are the verifier's: the decision is the same in each.
func TestModeDoesNotChangeTheDecision(t *testing.T) {
	for _, mode := range []policy.Mode{policy.Enforce, policy.Warn, policy.Audit} {
		p := mustParse(t, strings.Replace(control(t), "mode: enforce", "mode: "+string(mode), 1))
		if p.Mode != mode || decide(p, nil).Verdict != policy.Failed || decide(p, accepted("release:1")).Verdict != policy.Passed {
			t.Errorf("mode %s", mode)
		}
	}
}

func codes(reasons []policy.Reason) []policy.Code {
	var c []policy.Code
	for _, r := range reasons {
		c = append(c, r.Code)
	}
	return c
}

// The first reason is the nearest miss, and each reason says of which policy
// and requirement it is.
func TestReasons(t *testing.T) {
	tests := []struct {
		name    string
		require string
		facts   []policy.Fact
		want    []policy.Code // of the only requirement
	}{
		{"nothing there", "{signature: {by: a}}", nil, []policy.Code{policy.NoSignature}},
		{"only another authority's", "{signature: {by: a}}", accepted("b:1"), []policy.Code{policy.NoSignature}},
		{"somebody else's key", "{signature: {by: a}}", []policy.Fact{rejected("a", policy.UntrustedKey), rejected("a", policy.UntrustedKey)}, []policy.Code{policy.UntrustedKey}},
		{"copied to another digest", "{signature: {by: a}}", []policy.Fact{rejected("a", policy.UntrustedKey), rejected("a", policy.SubjectMismatch)}, []policy.Code{policy.SubjectMismatch, policy.UntrustedKey}},
		{
			"all the way to a revoked key", "{signature: {by: a}}",
			[]policy.Fact{rejected("a", policy.UntrustedKey), rejected("a", policy.LogEntryMissing), rejected("a", policy.KeyRevoked), rejected("a", policy.SignatureInvalid)},
			[]policy.Code{policy.KeyRevoked, policy.LogEntryMissing, policy.SignatureInvalid, policy.UntrustedKey},
		},
		{"a code of no signature", "{signature: {by: a}}", []policy.Fact{rejected("a", policy.UntrustedKey), rejected("a", "new_code")}, []policy.Code{"new_code", policy.UntrustedKey}},
		{"a fact without a reason", "{signature: {by: a}}", []policy.Fact{{Authority: "a"}}, []policy.Code{policy.PolicyError}},
		{"any of two", "{any: [{signature: {by: a}}, {signature: {by: b}}]}", []policy.Fact{rejected("b", policy.UntrustedKey)}, []policy.Code{policy.UntrustedKey, policy.NoSignature}},
		{"one of two", "{atLeast: {n: 2, of: [{signature: {by: a}}, {signature: {by: b}}]}}", accepted("a:1"), []policy.Code{policy.ThresholdNotMet, policy.NoSignature}},
		{"one signer twice", "{atLeast: {n: 2, of: [{signature: {by: a}}, {signature: {by: b}}]}}", accepted("a:1 b:1"), []policy.Code{policy.ThresholdNotMet}},
		{"none of two", "{atLeast: {n: 2, of: [{signature: {by: a}}, {signature: {by: b}}]}}", nil, []policy.Code{policy.NoSignature}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, facts := range [][]policy.Fact{tt.facts, reverse(slices.Clone(tt.facts))} {
				out := decide(withRequire(t, tt.require), facts)
				if out.Verdict != policy.Failed || len(out.Requirements) != 1 {
					t.Fatalf("%+v", out)
				}
				if diff := cmp.Diff(tt.want, codes(out.Requirements[0].Reasons)); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(tt.want[:1], codes(out.Reasons)); diff != "" {
					t.Error(diff)
				}
				for _, r := range out.Requirements[0].Reasons {
					if r.Policy != "p" || r.Requirement != out.Requirements[0].Requirement || r.Message == "" {
						t.Errorf("%+v", r)
					}
				}
			}
		})
	}
}

// C4: every signature is evaluated and the whole set of those that are valid
// is returned, once each.
func TestEvidence(t *testing.T) {
	p := withRequire(t, "{all: [{signature: {by: a}}, {any: [{signature: {by: a}}, {signature: {by: b}}, {signature: {by: c}}]}]}")
	facts := append(accepted("a:1"), rejected("a", policy.SignatureInvalid))
	facts = append(facts, accepted("a:2 b:3 d:4")...)
	out := decide(p, facts)
	var got [][]string
	for _, r := range out.Requirements {
		var signers []string
		for _, e := range r.Evidence {
			signers = append(signers, e.Authority+":"+e.Signer)
		}
		got = append(got, signers)
	}
	want := [][]string{{"a:1", "a:2"}, {"a:1", "a:2", "b:3"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	texts := []string{"signature by a", "any of (signature by a, signature by b, signature by c)"}
	for i, r := range out.Requirements {
		if r.Requirement != texts[i] {
			t.Errorf("requirement %d is %q", i, r.Requirement)
		}
	}

	twice := decide(withRequire(t, "{any: [{signature: {by: a}}, {signature: {by: a}}]}"), accepted("a:1"))
	if n := len(twice.Requirements[0].Evidence); n != 1 {
		t.Errorf("one signature is shown %d times", n)
	}
}

func TestDecideLeavesFactsAlone(t *testing.T) {
	facts := append(accepted("a:1"), rejected("b", policy.KeyRevoked))
	before := slices.Clone(facts)
	decide(withRequire(t, "{any: [{signature: {by: b}}, {signature: {by: c}}]}"), facts)
	if diff := cmp.Diff(before, facts); diff != "" {
		t.Error(diff)
	}
}
