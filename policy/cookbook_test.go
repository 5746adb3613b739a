package policy_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
)

// cookbook reads the policies of docs/policies.md by name.
func cookbook(t *testing.T) map[string]*policy.Policy {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, found := strings.Cut(string(page), "\n## Cookbook\n")
	if !found {
		t.Fatal("the page has no cookbook")
	}
	recipes := make(map[string]*policy.Policy)
	for i, part := range strings.Split(chapter, "```") {
		if document, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			p := mustParse(t, document)
			recipes[p.Name] = p
		}
	}
	return recipes
}

const (
	cookWorkflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
	cookBuilder  = "https://github.com/acme/builders/.github/workflows/build.yml@refs/heads/main"
)

// cookProvenance is that of a job of a builder, from a repository.
func cookProvenance(builder, repository string) string {
	return provenanceOf(map[string]string{
		"builder":  builder,
		"external": fmt.Sprintf(`{"workflow":{"ref":"refs/heads/main","repository":%q,"path":".github/workflows/release.yml"}}`, repository),
		"deps":     fmt.Sprintf(`[{"uri":"git+%s@refs/heads/main","digest":{"gitCommit":"6dcb09b5b57875f334f61aebed695e2e4193db5e"}}]`, repository),
	})
}

// certified adds what a GitHub certificate proves of a job.
func certified(f policy.Fact, repository string) policy.Fact {
	f.Claims = map[string]string{
		"buildSignerUri": cookWorkflow, "repositoryUri": repository, "ref": "refs/heads/main", "runnerEnvironment": "github-hosted",
	}
	return f
}

func scan(critical, unknown int) string {
	return fmt.Sprintf(`{"scanner":{"result":{"critical":%d,"high":2,"unknown":%d}}}`, critical, unknown)
}

func vex(status string) string {
	return fmt.Sprintf(`{"statements":[{"status":"not_affected"},{"status":%q}]}`, status)
}

func summaryOf(level, resource string) string {
	return fmt.Sprintf(`{"verifier":{"id":"https://partner.example/verifier"},"timeVerified":"2026-03-01T00:00:00Z",
"resourceUri":%q,"policy":{"uri":"https://partner.example/policy"},"verificationResult":"PASSED","verifiedLevels":[%q]}`, resource, level)
}

// TestCookbook: each policy of the page passes what it is for, and refuses the
// nearest thing to it. Rows F1, F2 and C2 of the known attacks, as a user meets
// them.
func TestCookbook(t *testing.T) {
	recipes := cookbook(t)
	attested := func(authority, uri, raw string) []policy.Fact {
		return []policy.Fact{attestedBy(authority, authority, uri, raw, 0)}
	}
	const app, fork = "https://github.com/acme/app", "https://github.com/acme/fork"
	late := attested("scanner", predicate.CosignVuln, scan(0, 0))
	late[0].ProvenAt = base.Add(-200 * time.Hour)
	built := attested("ci", predicate.SLSAProvenanceV1, cookProvenance(cookWorkflow, app))
	built[0] = certified(built[0], app)
	forked := attested("ci", predicate.SLSAProvenanceV1, cookProvenance(cookWorkflow, fork))
	forked[0] = certified(forked[0], app)
	for _, tt := range []struct {
		recipe string
		facts  []policy.Fact
		want   policy.Code
	}{
		{"release-key", accepted("release:1"), ""},
		{"release-key", []policy.Fact{rejected("release", policy.KeyRevoked)}, policy.KeyRevoked},
		{"two-of-three", accepted("build:1 security:3"), ""},
		{"two-of-three", accepted("build:1 security:1"), policy.ThresholdNotMet}, // one key under two names
		{"one-workflow", accepted("ci:1"), ""},
		{"one-workflow", []policy.Fact{rejected("ci", policy.IdentityMismatch)}, policy.IdentityMismatch},
		{"moving", accepted("before:1"), ""},
		{"moving", accepted("now:1"), ""},
		{"moving", nil, policy.NoSignature},
		{"built-from-source", built, ""},
		{"built-from-source", forked, policy.SourceMismatch},
		{"built-from-source", attested("ci", predicate.SLSAProvenanceV1, cookProvenance(cookWorkflow, app)), policy.BuildLevelTooLow},
		{"built-from-source", attested("ci", predicate.SPDX, `{}`), policy.PredicateTypeMismatch},
		{"isolated-builder", attested("builder", predicate.SLSAProvenanceV1, cookProvenance(cookBuilder, fork)), ""},
		{"isolated-builder", attested("builder", predicate.SLSAProvenanceV1, cookProvenance(cookWorkflow, fork)), policy.BuilderMismatch},
		{"isolated-builder", attested("builder", predicate.SLSAProvenanceV1, cookProvenance(cookBuilder, "https://github.com/evil/app")), policy.SourceMismatch},
		{"scanned", attested("scanner", predicate.CosignVuln, scan(0, 0)), ""},
		{"scanned", attested("scanner", predicate.CosignVuln, scan(1, 0)), policy.ConditionFalse},
		{"scanned", attested("scanner", predicate.CosignVuln, scan(0, 1)), policy.ConditionFalse},
		{"scanned", attested("scanner", predicate.CosignVuln, `{"scanner":{}}`), policy.ConditionError},
		{"scanned", late, policy.AttestationTooOld},
		{"bill-of-materials", attested("ci", predicate.SPDX, `{}`), ""},
		{"bill-of-materials", attested("ci", predicate.CycloneDX, `{}`), ""},
		{"bill-of-materials", attested("ci", predicate.CosignVuln, scan(0, 0)), policy.PredicateTypeMismatch},
		{"no-forbidden-component", attested("ci", predicate.CycloneDX, `{"components":[{"name":"log4j-core","version":"2.25.1"}]}`), ""},
		{"no-forbidden-component", attested("ci", predicate.CycloneDX, `{"components":[{"name":"log4j-core","version":"2.14.1"}]}`), policy.ConditionFalse},
		{"no-forbidden-component", attested("ci", predicate.CycloneDX, `{}`), policy.ConditionError},
		{"nothing-affects-it", attested("security", predicate.OpenVEX, vex("fixed")), ""},
		{"nothing-affects-it", attested("security", predicate.OpenVEX, vex("under_investigation")), policy.ConditionFalse},
		{"tested", attested("quality", predicate.TestResult, `{"result":"PASSED"}`), ""},
		{"tested", attested("quality", predicate.TestResult, `{"result":"WARNED"}`), policy.ConditionFalse},
		{"partner-verified", attested("partner", predicate.VSAV1, summaryOf("SLSA_BUILD_LEVEL_3", "r.example/team/app")), ""},
		{"partner-verified", attested("partner", predicate.VSAV1, summaryOf("SLSA_BUILD_LEVEL_2", "r.example/team/app")), policy.BuildLevelTooLow},
		{"partner-verified", attested("partner", predicate.VSAV1, summaryOf("SLSA_BUILD_LEVEL_3", "r.example/team/other")), policy.SubjectMismatch},
		{"verified-in-development", attested("development", predicate.VSAV1, ownSummary("development", "SLSA_BUILD_LEVEL_2")), ""},
		{"verified-in-development", attested("development", predicate.VSAV1, ownSummary("development", "SLSA_BUILD_LEVEL_UNEVALUATED")), policy.BuildLevelTooLow},
		{"verified-in-development", attested("development", predicate.VSAV1, ownSummary("anything", "SLSA_BUILD_LEVEL_3")), policy.ConditionFalse},
		{"verified-in-development", attested("development", predicate.SLSAProvenanceV1, cookProvenance(cookWorkflow, app)), policy.PredicateTypeMismatch},
	} {
		p := recipes[tt.recipe]
		if p == nil {
			t.Fatalf("the page has no policy %s", tt.recipe)
		}
		got := p.Decide(t.Context(), ask(tt.facts...))
		if (tt.want == "") != (got.Verdict == policy.Passed) || tt.want != "" && got.Reasons[0].Code != tt.want {
			t.Errorf("%s: %s %v, want %q", tt.recipe, got.Verdict, got.Reasons, tt.want)
		}
	}
	if len(recipes) != 14 {
		t.Errorf("the page has %d policies", len(recipes))
	}
}

// ownSummary is a Countersign's summary of an image, under one of its policies.
func ownSummary(rule, level string) string {
	return fmt.Sprintf(`{"verifier":{"id":"https://countersign.example.com"},"timeVerified":"2026-03-01T00:00:00Z","resourceUri":"oci://r.example/team/app",
"policy":{"uri":"https://countersign.example.com/v1/policies/%s"},"verificationResult":"PASSED","verifiedLevels":[%q],"slsaVersion":"1.2"}`, rule, level)
}

// cookLink is a link of a step of the recipe with a layout, by the key that the
// page gives a name.
func cookLink(t *testing.T, key, step, material, product, digest string) []byte {
	t.Helper()
	materials := "[]"
	if material != "" {
		materials = fmt.Sprintf(`[{"name":"app","digest":{"sha256":%q}}]`, material)
	}
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":%q,"digest":{"sha256":%q}}],
"predicateType":%q,"predicate":{"name":%q,"materials":%s}}`, product, digest, predicate.LinkV03, step, materials)
	seed := sha256.Sum256([]byte("cookbook " + key))
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), attest.PAE(attest.PayloadTypeInToto, payload))
	raw, err := attest.Envelope{
		PayloadType: attest.PayloadTypeInToto, Payload: payload, Signatures: []attest.EnvelopeSignature{{Signature: signature}},
	}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestCookbookLayout holds the recipe with a layout to links that hang together,
// and to the nearest that do not. Rows A4 and F4.
func TestCookbookLayout(t *testing.T) {
	p := cookbook(t)["built-then-packed"]
	app, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	build := cookLink(t, "build", "build", "", "app", app)
	pack := func(key, material, image string) []byte { return cookLink(t, key, "pack", material, "image", image) }
	for name, c := range map[string]struct {
		links [][]byte
		want  policy.Verdict
	}{
		"built and packed":  {[][]byte{build, pack("pack", app, digits)}, policy.Passed},
		"nothing":           {nil, policy.Failed},
		"only packed":       {[][]byte{pack("pack", app, digits)}, policy.Failed},
		"packed another":    {[][]byte{build, pack("pack", other, digits)}, policy.Failed},
		"another image":     {[][]byte{build, pack("pack", app, other)}, policy.Failed},
		"packed by builder": {[][]byte{build, pack("build", app, digits)}, policy.Failed},
	} {
		question := ask()
		question.Links = c.links
		got := p.Decide(t.Context(), question)
		if got.Verdict != c.want || c.want == policy.Failed && got.Reasons[0].Code != policy.LayoutNotSatisfied {
			t.Errorf("%s: %s %v", name, got.Verdict, got.Reasons)
		}
	}
}
