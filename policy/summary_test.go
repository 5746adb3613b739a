package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
)

// saidAt is a summary by the authority a, made some hours after base.
func saidAt(hours int, verifier, resource, rule, result string, level int) policy.Fact {
	raw := fmt.Sprintf(`{"verifier":{"id":%q},"timeVerified":%q,"resourceUri":%q,"policy":{"uri":%q},"verificationResult":%q,"verifiedLevels":["SLSA_BUILD_LEVEL_%d"]}`,
		verifier, base.Add(time.Duration(hours)*time.Hour).Format(time.RFC3339), resource, rule, result, level)
	return attestedBy("a", "1", predicate.VSAV1, raw, hours)
}

// TestSummaryLastWord: of a verifier's summaries the last one counts that is
// about this image and the policy wanted; those about others are no word on it,
// and what is about it and bad is not hidden by them.
func TestSummaryLastWord(t *testing.T) {
	const v, app, mirror, p1, p2 = "https://v.example", "oci://r.example/team/app", "oci://r.example/team/mirror", "https://p.example/1", "https://p.example/2"
	const which = `{attestation: {predicateType: vsa, by: a%s, vsa: {verifier: "https://v.example", levels: [SLSA_BUILD_LEVEL_2], policy: {uri: "https://p.example/1"}}}}`
	good := saidAt(1, v, app, p1, "PASSED", 3)
	malformed := attestedBy("a", "1", predicate.VSAV1, `{"verifier":{}}`, 9)
	for _, tt := range []struct {
		name, which string
		later       policy.Fact
		want        policy.Code
	}{
		{"another image", "", saidAt(9, v, mirror, p1, "FAILED", 0), ""},
		{"another policy", "", saidAt(9, v, app, p2, "FAILED", 0), ""},
		{"another verifier", "", saidAt(9, "https://w.example", app, p1, "FAILED", 0), ""},
		{"FAILED", "", saidAt(9, v, app, p1, "FAILED", 3), policy.ConditionFalse},
		{"a lower level", "", saidAt(9, v, app, p1, "PASSED", 1), policy.BuildLevelTooLow},
		{"what cannot be read", "", malformed, policy.PredicateInvalid},
		{"FAILED before", "", saidAt(0, v, app, p1, "FAILED", 3), ""},
		{"any", ", which: any", saidAt(9, v, app, p1, "FAILED", 3), ""},
		{"every", ", which: every", saidAt(9, v, mirror, p1, "PASSED", 3), policy.SubjectMismatch},
	} {
		p := mustParse(t, withIdentity(fmt.Sprintf(which, tt.which)))
		got := p.Decide(t.Context(), ask(good, tt.later))
		if (tt.want == "") != (got.Verdict == policy.Passed) || tt.want != "" && got.Reasons[0].Code != tt.want {
			t.Errorf("%s: %s %v, want %q", tt.name, got.Verdict, got.Reasons, tt.want)
		}
	}
	p := mustParse(t, withIdentity(fmt.Sprintf(which, "")))
	if got := p.Decide(t.Context(), ask(saidAt(1, v, mirror, p1, "PASSED", 3))); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.SubjectMismatch {
		t.Errorf("only another image: %s %v", got.Verdict, got.Reasons)
	}
}

// TestBuildLevelProven: what a decision proves is the level of what holds, and
// never that of what does not.
func TestBuildLevelProven(t *testing.T) {
	const levels = `minLevel: 1, levels: [{by: a, builder: "https://ci.example/*@refs/heads/main", level: 3}]`
	built := attestedBy("a", "1", predicate.SLSAProvenanceV1, provenanceOf(nil), 0)
	elsewhere := attestedBy("b", "2", predicate.SLSAProvenanceV1, provenanceOf(map[string]string{"builder": "https://other.example/x"}), 0)
	said := saidAt(2, "https://v.example", "oci://r.example/team/app", "https://p.example", "PASSED", 3)
	const vsa = `{attestation: {predicateType: vsa, by: a, vsa: {verifier: "https://v.example", levels: [%s]}}}`
	provenance := func(by, expect string) string {
		return `{attestation: {predicateType: slsaprovenance1, by: ` + by + `, provenance: {` + expect + `}}}`
	}
	for _, tt := range []struct {
		name, require string
		facts         []policy.Fact
		want          int
		since         bool
	}{
		{"named pair", provenance("a", levels), []policy.Fact{built}, 3, false},
		{"unnamed pair", provenance("b", `source: "git+https://github.com/acme/app"`), []policy.Fact{elsewhere}, 1, false},
		{"expectations fail", provenance("a", `source: "git+https://github.com/acme/fork"`), []policy.Fact{built}, 0, false},
		{"provenance that nobody looks into", `{attestation: {predicateType: slsaprovenance1, by: a}}`, []policy.Fact{built}, 0, false},
		{"best of all", "{all: [" + provenance("b", `source: "git+https://github.com/acme/app"`) + ", " + provenance("a", levels) + "]}", []policy.Fact{built, elsewhere}, 3, false},
		{"failed threshold", "{atLeast: {n: 2, of: [" + provenance("a", levels) + ", {signature: {by: b}}]}}", []policy.Fact{built}, 0, false},
		{"summary, as wanted", fmt.Sprintf(vsa, "SLSA_BUILD_LEVEL_2"), []policy.Fact{said}, 2, true},
		{"summary of another track", fmt.Sprintf(vsa, "OWN_WORD"), []policy.Fact{saidOwn()}, 0, true},
		{"signature", `{signature: {by: a}}`, accepted("a:1"), 0, false},
	} {
		got := mustParse(t, withIdentity(tt.require)).Decide(t.Context(), ask(tt.facts...))
		if got.BuildLevel != tt.want || got.Since.IsZero() == tt.since {
			t.Errorf("%s: level %d, since %s: %v", tt.name, got.BuildLevel, got.Since, got.Reasons)
		}
	}
}

func saidOwn() policy.Fact {
	return attestedBy("a", "1", predicate.VSAV1, `{"verifier":{"id":"https://v.example"},"resourceUri":"oci://r.example/team/app","policy":{"uri":"https://p.example"},"verificationResult":"PASSED","verifiedLevels":["OWN_WORD"]}`, 0)
}
