package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// builtPolicy is what has to be proven in development.
const builtPolicy = `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["%[1]s/**"], context: {namespace: [dev]}}
  authorities:
    ci: {identity: {issuer: "%[2]s", subject: "` + workflow + `", trustRoot: self}}
  require:
    attestation:
      predicateType: slsaprovenance1
      by: ci
      provenance: {source: "git+https://github.com/acme/app", ref: refs/heads/main, minLevel: 2}
`

// gatePolicy trusts the summary of it.
const gatePolicy = `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: gate}
spec:
  match: {images: ["%s/**"], context: {namespace: [prod]}}
  authorities:
    verifier: {key: %s}
  require:
    attestation: {predicateType: vsa, by: verifier, %s}
`

// gate is a house whose production trusts summaries.
type gate struct {
	*house
	// host is the registry's.
	host     string
	revision int64
}

// trusts replaces the policy of production.
func (g *gate) trusts(key, expect string) {
	g.t.Helper()
	p, err := g.admin.PutPolicy(g.t.Context(), "gate", fmt.Appendf(nil, gatePolicy, g.host, key, expect), api.PutOptions{Revision: g.revision})
	g.must(err)
	g.revision = p.Revision
}

// admits is the verdict on an image in production, as PASSED or a reason's code.
func (g *gate) admits(image string) string {
	g.t.Helper()
	a, err := g.admin.Verify(g.t.Context(), api.VerifyRequest{Images: []string{image}, Context: map[string]string{"namespace": "prod"}})
	g.must(err)
	if r := a.Results[0]; r.Verdict != policy.Passed {
		return string(r.Reasons[0].Code)
	}
	return string(policy.Passed)
}

// develop is the verdict in development, with a summary.
func (h *house) develop(image string, attach bool) api.VerifyResult {
	h.t.Helper()
	a, err := h.admin.Verify(h.t.Context(), api.VerifyRequest{
		Images: []string{image}, Context: map[string]string{"namespace": "dev"}, VSA: true, VSAAttach: attach,
	})
	h.must(err)
	if a.Results[0].VSA == nil {
		h.t.Fatalf("%+v", a.Results[0])
	}
	return a.Results[0]
}

// seesAtOnce lets what somebody else attaches to an image that FAILED count at
// the next question.
func seesAtOnce(c *daemon.Config) { c.Verdicts.FailedTTL = -1 }

// newGate builds an image, proves its provenance in development, and attaches
// the summary.
func newGate(t *testing.T) (g *gate, image string, summary api.VerifyResult) {
	t.Helper()
	h := open(t, seesAtOnce)
	h.furnish()
	image = h.push("built")
	_, _, err := h.buildOf(image, "identity")
	h.must(err)
	p, err := h.admin.Policy(t.Context(), "production")
	h.must(err)
	_, err = h.admin.PutPolicy(t.Context(), "production", fmt.Appendf(nil, builtPolicy, h.registry.Host, h.issuer.URL), api.PutOptions{Revision: p.Revision})
	h.must(err)
	return &gate{house: h, host: h.registry.Host}, image, h.develop(image, true)
}

// TestSummaryTrusted: development verifies once, production trusts the summary,
// and nothing but the summary. The seven checks of SLSA's "Verifying" of a
// summary, each with the nearest thing that fails it. Rows F1 and F6.
func TestSummaryTrusted(t *testing.T) {
	g, image, made := newGate(t)
	vsa := summaryIn(t, made.VSA.Bundle)
	if got := vsa.GetVerifiedLevels(); len(got) != 1 || got[0] != "SLSA_BUILD_LEVEL_2" {
		t.Errorf("levels %v", got)
	}
	if made.VSA.Referrer == "" || made.Policies[0].BuildLevel != 2 {
		t.Errorf("%+v", made)
	}
	managed, pem := "{name: "+summaryKey+"}", g.publicOf(summaryKey)
	expect := func(verifier, level, more string) string {
		return fmt.Sprintf("vsa: {verifier: %q, levels: [%s]%s}", verifier, level, more)
	}
	good := expect(g.url, "SLSA_BUILD_LEVEL_2", fmt.Sprintf(", policy: {uri: %q, digest: %q}", g.url+"/v1/policies/production", made.Policies[0].Digest))
	for _, c := range []struct{ name, key, expect, want string }{
		{"managed key", managed, good, "PASSED"},
		{"its public half", pem, good, "PASSED"},
		{"a lower level", managed, expect(g.url, "SLSA_BUILD_LEVEL_1", ""), "PASSED"},
		{"another signer", g.publicOf("release"), good, "untrusted_key"},
		{"another key", "{name: release}", good, "untrusted_key"},
		{"a key of the log", "{name: countersign-log}", good, "policy_error"},
		{"another verifier", managed, expect("https://other.example", "SLSA_BUILD_LEVEL_2", ""), "identity_mismatch"},
		{"another resource", managed, expect(g.url, "SLSA_BUILD_LEVEL_2", fmt.Sprintf(", resource: %q", g.host+"/other/*")), "subject_mismatch"},
		{"another policy", managed, expect(g.url, "SLSA_BUILD_LEVEL_2", `, policy: {uri: "https://p.example"}`), "condition_false"},
		{"another revision", managed, expect(g.url, "SLSA_BUILD_LEVEL_2", fmt.Sprintf(", policy: {digest: %q}", attest.DigestOf(nil))), "condition_false"},
		{"a higher level", managed, expect(g.url, "SLSA_BUILD_LEVEL_3", ""), "build_level_too_low"},
		{"expired", managed, "maxAge: 1ms, " + good, "attestation_too_old"},
		{"young", managed, "maxAge: 1h, " + good, "PASSED"},
	} {
		g.trusts(c.key, c.expect)
		if got := g.admits(image); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	g.trusts(managed, good)
	checkOtherDigest(t, g, made)
	checkSummaryLastWord(t, g, image)
	checkSummaryRevoked(t, g, image)
}

// publicOf is a key as a policy has it.
func (h *house) publicOf(name string) string {
	h.t.Helper()
	pem, err := h.admin.PublicKey(h.t.Context(), name)
	h.must(err)
	quoted, err := json.Marshal(string(pem))
	h.must(err)
	return "{pem: " + string(quoted) + "}"
}

// checkOtherDigest: a summary carried over to another image says nothing of it.
func checkOtherDigest(t *testing.T, g *gate, made api.VerifyResult) {
	t.Helper()
	other := g.push("other")
	if got := g.admits(other); got != "attestation_missing" {
		t.Errorf("without a summary: %s", got)
	}
	_, subject, _ := strings.Cut(other, "@")
	_, err := g.registry.PushReferrer(t.Context(), "team/app", digest.Digest(subject), "application/vnd.dev.sigstore.bundle.v0.3+json", made.VSA.Bundle)
	g.must(err)
	if got := g.admits(other); got != "subject_mismatch" {
		t.Errorf("with the summary of another image: %s", got)
	}
}

// checkSummaryLastWord: what the verifier says of the same digest elsewhere is
// not its last word on this image.
func checkSummaryLastWord(t *testing.T, g *gate, image string) {
	t.Helper()
	elsewhere, err := g.registry.PushImage(t.Context(), "team/mirror", "", "built")
	g.must(err)
	if _, same, _ := strings.Cut(image, "@"); elsewhere.String() != same {
		t.Fatalf("another image: %s", elsewhere)
	}
	g.develop(g.registry.Image("team/mirror", elsewhere), false)
	if got := g.admits(image); got != "PASSED" {
		t.Errorf("after a summary of the mirror: %s", got)
	}
}

// checkSummaryRevoked: what the key signed stays good when it is rotated, and
// not when it is revoked.
func checkSummaryRevoked(t *testing.T, g *gate, image string) {
	t.Helper()
	_, err := g.admin.RotateKey(t.Context(), summaryKey, api.RotateRequest{})
	g.must(err)
	if got := g.admits(image); got != "PASSED" {
		t.Errorf("after a rotation: %s", got)
	}
	_, err = g.admin.RevokeKey(t.Context(), summaryKey, api.RevokeRequest{Reason: "stolen"})
	g.must(err)
	if got := g.admits(image); got != "key_revoked" {
		t.Errorf("after a revocation: %s", got)
	}
}

// TestSummaryOfPartner: another Countersign trusts the summaries of this one by
// its public half and what the registry has; one that says FAILED, made with a
// partner's key, is the partner's last word.
func TestSummaryOfPartner(t *testing.T) {
	dev, image, _ := newGate(t)
	prod := &gate{house: open(t, seesAtOnce), host: dev.host}
	_, err := prod.admin.PutRegistry(t.Context(), dev.host, api.RegistryRequest{
		Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	prod.must(err)
	expect := fmt.Sprintf("vsa: {verifier: %q, levels: [SLSA_BUILD_LEVEL_2]}", dev.url)
	prod.trusts(dev.publicOf(summaryKey), expect)
	if got := prod.admits(image); got != "PASSED" {
		t.Errorf("the partner's summary: %s", got)
	}
	prod.trusts("{name: "+summaryKey+"}", expect)
	if got := prod.admits(image); got != "untrusted_key" {
		t.Errorf("the partner's summary as ours: %s", got)
	}
	builder := dev.client(dev.secret)
	for _, result := range []string{"PASSED", "FAILED"} {
		want := map[string]string{"PASSED": "PASSED", "FAILED": "condition_false"}[result]
		_, err := dev.admin.PutGrant(t.Context(), "partner-"+strings.ToLower(result), api.GrantRequest{
			Issuer: "local", Subject: "admin", Repositories: []string{dev.host + "/team/**"}, Keys: []string{"release"}, Actions: []string{"attest"},
			PredicateTypes: []string{"https://slsa.dev/verification_summary/*"},
		}, api.PutOptions{})
		dev.must(err)
		_, _, err = builder.Attest(t.Context(), api.AttestationRequest{
			Image: image, Key: "release", PredicateType: "vsa", Predicate: fmt.Appendf(nil, `{"verifier":{"id":%q},"resourceUri":"oci://%s/team/app",
"policy":{"uri":"https://p.example/p"},"verificationResult":%q,"verifiedLevels":["SLSA_BUILD_LEVEL_2"]}`, dev.url, dev.host, result),
		}, api.SignOptions{})
		dev.must(err)
		dev.trusts("{name: release}", expect)
		if got := dev.admits(image); got != want {
			t.Errorf("%s: %s, want %s", result, got, want)
		}
	}
}
