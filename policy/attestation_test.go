package policy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
)

// withIdentity is withRequire with an identity, ci, among the authorities.
func withIdentity(require string) string {
	return `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: p}
spec:
  match: {images: ["r.example/**"]}
  authorities:
    a: {key: {name: a}}
    b: {key: {name: b}}
    ci: {identity: {issuer: "https://issuer.example", subject: "https://ci.example/w.yml@refs/heads/main"}}
  require: ` + require + "\n"
}

const (
	wholeProvenance = `{attestation: {predicateType: slsaprovenance1, by: ci, provenance: {builder: "https://ci.example/*", buildType: "https://b.example/t", source: "git+https://GitHub.com/acme/app.git", ref: refs/heads/main, externalParameters: {x: 1}, ignoreExternalParameters: ["y"], minLevel: 3, levels: [{by: ci, builder: "https://ci.example/*", level: 3}]}}}`
	wholeSummary    = `{attestation: {predicateType: vsa, by: [a, ci], vsa: {verifier: "https://v.example", policy: {uri: "https://p.example", digest: "sha256:` + digits + `"}, levels: [SLSA_BUILD_LEVEL_2], resource: "up.example/*"}}}`
	digits          = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// The contract's own example, and each form of the requirement.
func TestParseAttestations(t *testing.T) {
	for _, require := range []string{
		`{all: [{attestation: {predicateType: "https://slsa.dev/provenance/v1", by: ci, provenance: {builder: "https://github.com/acme/x", source: "git+https://github.com/acme/app", ref: refs/heads/main, minLevel: 2}}}, {attestation: {predicateType: "https://cosign.sigstore.dev/attestation/vuln/v1", by: a, maxAge: 168h, condition: "predicate.scanner.result.critical == 0"}}]}`,
		wholeProvenance, wholeSummary,
		`{attestation: {predicateType: spdxjson, by: a}}`,
		`{attestation: {predicateType: "https://own.example/type", by: [a], which: every}}`,
		`{atLeast: {n: 2, of: [{attestation: {predicateType: vuln, by: a}}, {attestation: {predicateType: vuln, by: b}}]}}`,
	} {
		p, err := policy.Parse([]byte(withIdentity(require)))
		if err != nil {
			t.Errorf("%s: %v", require, err)
			continue
		}
		again, err := policy.Parse(p.Document())
		if err != nil || string(again.Document()) != string(p.Document()) {
			t.Errorf("%s: %s, %v", require, p.Document(), err)
		}
		if v := decide(p, nil).Verdict; v != policy.Failed {
			t.Errorf("%s passes without facts", require)
		}
	}
}

// Defaults stand in the document.
func TestAttestationDefaults(t *testing.T) {
	for fields, want := range map[string]string{
		`predicateType: vuln, by: a`:                                      `{"by":"a","predicateType":"https://cosign.sigstore.dev/attestation/vuln/v1","which":"any"}`,
		`predicateType: vuln, by: [a], maxAge: 1h`:                        `{"by":["a"],"maxAge":"1h","predicateType":"https://cosign.sigstore.dev/attestation/vuln/v1","which":"newest"}`,
		`predicateType: custom, by: a, condition: "true"`:                 `{"by":"a","condition":"true","predicateType":"https://cosign.sigstore.dev/attestation/v1","which":"newest"}`,
		`predicateType: slsaprovenance1, by: a, provenance: {builder: b}`: `{"by":"a","predicateType":"https://slsa.dev/provenance/v1","provenance":{"builder":"b"},"which":"any"}`,
	} {
		p := mustParse(t, withIdentity("{attestation: {"+fields+"}}"))
		if !strings.Contains(string(p.Document()), `"require":{"attestation":`+want+`}`) {
			t.Errorf("%s: %s", fields, p.Document())
		}
	}
}

// E1 E5 F4 C3: what an attestation requirement may not be.
func TestParseRefusesAttestations(t *testing.T) {
	const at = "/spec/require/attestation"
	for _, tt := range []struct{ name, fields, pointer string }{
		{"E1 unknown field", `predicateType: vuln, by: a, policy: x`, "/policy"},
		{"E1 unknown field below", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, tag: v1}`, "/provenance/tag"},
		{"no type", `by: a`, "/predicateType"},
		{"no URI", `predicateType: slsa, by: a`, "/predicateType"},
		{"type of signatures", `predicateType: "https://sigstore.dev/cosign/sign/v1", by: a`, "/predicateType"},
		{"nobody", `predicateType: vuln`, "/by"},
		{"E5 empty list", `predicateType: vuln, by: []`, "/by"},
		{"unknown authority", `predicateType: vuln, by: z`, "/by"},
		{"unknown in list", `predicateType: vuln, by: [a, z]`, "/by/1"},
		{"twice in list", `predicateType: vuln, by: [a, a]`, "/by/1"},
		{"unknown which", `predicateType: vuln, by: a, which: all`, "/which"},
		{"maxAge in days", `predicateType: vuln, by: a, maxAge: 7d`, "/maxAge"},
		{"maxAge of nothing", `predicateType: vuln, by: a, maxAge: 0s`, "/maxAge"},
		{"maxAge negative", `predicateType: vuln, by: a, maxAge: -1h`, "/maxAge"},
		{"maxAge for ever", `predicateType: vuln, by: a, maxAge: 1000000h`, "/maxAge"},
		{"condition empty", `predicateType: vuln, by: a, condition: ""`, "/condition"},
		{"condition no boolean", `predicateType: vuln, by: a, condition: "1"`, "/condition"},
		{"condition of unknown names", `predicateType: vuln, by: a, condition: "now > 1"`, "/condition"},
		{"provenance of another type", `predicateType: vuln, by: a, provenance: {builder: b}`, "/provenance"},
		{"E5 provenance of nothing", `predicateType: slsaprovenance1, by: a, provenance: {}`, "/provenance"},
		{"E5 builder empty", `predicateType: slsaprovenance1, by: a, provenance: {builder: ""}`, "/provenance/builder"},
		{"E5 builder everything", `predicateType: slsaprovenance1, by: a, provenance: {builder: "**"}`, "/provenance/builder"},
		{"E3 builder on every host", `predicateType: slsaprovenance1, by: a, provenance: {builder: "https://*/acme/x"}`, "/provenance/builder"},
		{"source no repository", `predicateType: slsaprovenance1, by: a, provenance: {source: github.com/acme/app}`, "/provenance/source"},
		{"source with ref", `predicateType: slsaprovenance1, by: a, provenance: {source: "git+https://github.com/acme/app@refs/heads/main"}`, "/provenance/source"},
		{"source everything", `predicateType: slsaprovenance1, by: a, provenance: {source: "git+https://github.com/**"}`, "/provenance/source"},
		{"source on every host", `predicateType: slsaprovenance1, by: a, provenance: {source: "git+https://*.com/acme/app"}`, "/provenance/source"},
		{"level 0", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 0}`, "/provenance/minLevel"},
		{"level 4", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 4}`, "/provenance/minLevel"},
		{"C3 level no key reaches", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 2}`, "/provenance/minLevel"},
		{"C3 level no certificate reaches", `predicateType: slsaprovenance1, by: ci, provenance: {builder: b, minLevel: 3}`, "/provenance/minLevel"},
		{"levels without use", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, levels: [{by: a, builder: b, level: 2}]}`, "/provenance/levels"},
		{"levels of another", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 2, levels: [{by: b, builder: b, level: 2}]}`, "/provenance/levels/0/by"},
		{"E5 levels empty", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 2, levels: []}`, "/provenance/levels"},
		{"E5 levels of any builder", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, minLevel: 2, levels: [{by: a, builder: "*", level: 2}]}`, "/provenance/levels/0/builder"},
		{"E5 parameters empty", `predicateType: slsaprovenance1, by: a, provenance: {externalParameters: {}}`, "/provenance/externalParameters"},
		{"ignored empty", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, ignoreExternalParameters: []}`, "/provenance/ignoreExternalParameters"},
		{"ignored by wildcard", `predicateType: slsaprovenance1, by: a, provenance: {builder: b, ignoreExternalParameters: ["*"]}`, "/provenance/ignoreExternalParameters/0"},
		{"ignored and expected", `predicateType: slsaprovenance1, by: a, provenance: {externalParameters: {x: 1}, ignoreExternalParameters: [x]}`, "/provenance/ignoreExternalParameters/0"},
		{"vsa of another type", `predicateType: vuln, by: a, vsa: {verifier: v, levels: [L]}`, "/vsa"},
		{"vsa of an old version", `predicateType: "https://slsa.dev/verification_summary/v0.2", by: a, vsa: {verifier: v, levels: [L]}`, "/vsa"},
		{"vsa of nobody", `predicateType: vsa, by: a, vsa: {levels: [L]}`, "/vsa/verifier"},
		{"vsa of anybody", `predicateType: vsa, by: a, vsa: {verifier: "https://*", levels: [L]}`, "/vsa/verifier"},
		{"vsa without levels", `predicateType: vsa, by: a, vsa: {verifier: v}`, "/vsa/levels"},
		{"E5 vsa levels empty", `predicateType: vsa, by: a, vsa: {verifier: v, levels: []}`, "/vsa/levels"},
		{"vsa policy of nothing", `predicateType: vsa, by: a, vsa: {verifier: v, levels: [L], policy: {}}`, "/vsa/policy"},
		{"vsa policy digest", `predicateType: vsa, by: a, vsa: {verifier: v, levels: [L], policy: {digest: "sha256:00"}}`, "/vsa/policy/digest"},
		{"vsa resource on every host", `predicateType: vsa, by: a, vsa: {verifier: v, levels: [L], resource: "**"}`, "/vsa/resource"},
	} {
		_, err := policy.Parse([]byte(withIdentity("{attestation: {" + tt.fields + "}}")))
		f, ok := errors.AsType[*policy.FieldError](err)
		if !ok || f.Pointer != at+tt.pointer || !errors.Is(err, policy.ErrPolicy) {
			t.Errorf("%s: %v, want a fault at %s", tt.name, err, at+tt.pointer)
		}
	}
	for name, require := range map[string]string{
		"beside a signature": `{attestation: {predicateType: vuln, by: a}, signature: {by: a}}`,
		"C3 two of one":      `{atLeast: {n: 2, of: [{attestation: {predicateType: vuln, by: a}}, {attestation: {predicateType: custom, by: a}}]}}`,
	} {
		if _, err := policy.Parse([]byte(withIdentity(require))); !errors.Is(err, policy.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// attestedBy is an accepted attestation, proven at base plus some hours.
func attestedBy(authority, signer, predicateType, raw string, hours int) policy.Fact {
	statement := fmt.Sprintf(`{"predicateType":%q,"predicate":%s}`, predicateType, raw)
	return policy.Fact{
		Kind: policy.KindAttestation, Authority: authority, SignerID: signer, Accepted: true, PredicateType: predicateType,
		Evidence:    policy.Evidence{Authority: authority, Signer: signer, PredicateType: predicateType, SignedAt: fmt.Sprint(hours)},
		Attestation: policy.NewAttestation(predicateType, []byte(statement), []byte(raw)),
		SignatureID: fmt.Sprint(signer, hours, raw), ProvenAt: base.Add(time.Duration(hours) * time.Hour),
	}
}

func ask(facts ...policy.Fact) policy.Question {
	return policy.Question{
		Facts: facts, Now: base.Add(100 * time.Hour), Context: map[string]string{"cluster": "prod-1"},
		Image: policy.Image{Registry: "r.example", Repository: "team/app", Digest: "sha256:" + digits},
	}
}

// custom is a predicate of cosign's custom type.
func custom(n int) string { return fmt.Sprintf(`{"Data":"","Timestamp":"","n":%d}`, n) }

// Which attestation counts, C2 C4: for each list of (hour, n) with the
// condition n == 0.
func TestWhich(t *testing.T) {
	type made struct{ hour, n int }
	for _, tt := range []struct {
		facts              []made
		any, newest, every bool
	}{
		{nil, false, false, false},
		{[]made{{0, 0}}, true, true, true},
		{[]made{{0, 1}}, false, false, false},
		{[]made{{0, 0}, {1, 1}}, true, false, false},
		{[]made{{1, 1}, {0, 0}}, true, false, false},
		{[]made{{0, 1}, {1, 0}}, true, true, false},
		{[]made{{1, 0}, {1, 1}}, true, false, false}, // at the same time
		{[]made{{0, 0}, {1, 0}}, true, true, true},
	} {
		for which, want := range map[policy.Which]bool{policy.WhichAny: tt.any, policy.WhichNewest: tt.newest, policy.WhichEvery: tt.every} {
			p := mustParse(t, withIdentity(fmt.Sprintf(`{attestation: {predicateType: custom, by: a, which: %s, condition: "predicate.n == 0"}}`, which)))
			var facts []policy.Fact
			for _, m := range tt.facts {
				facts = append(facts, attestedBy("a", "1", predicate.CosignCustom, custom(m.n), m.hour))
			}
			// What others say, and what was refused, changes nothing.
			noise := attestedBy("b", "2", predicate.CosignCustom, custom(9), 9)
			refused := attestedBy("a", "1", predicate.CosignCustom, custom(9), 9)
			refused.Accepted, refused.Reason = false, policy.Reason{Code: policy.KeyRevoked, Message: "no"}
			for _, more := range [][]policy.Fact{nil, {noise, refused, {Kind: policy.KindUnknown, Authority: "a", Reason: policy.Reason{Code: policy.SignatureInvalid}}}} {
				got := p.Decide(t.Context(), ask(append(more, facts...)...))
				if (got.Verdict == policy.Passed) != want {
					t.Errorf("%s of %v: %s %v", which, tt.facts, got.Verdict, got.Reasons)
				}
			}
			// Where not everything was read, only `any` may hold.
			q := ask(facts...)
			q.Unread = policy.Reason{Code: policy.LimitExceeded, Message: "more"}
			got := p.Decide(t.Context(), q)
			if (got.Verdict == policy.Passed) != (want && which == policy.WhichAny) {
				t.Errorf("%s of %v, not all read: %s", which, tt.facts, got.Verdict)
			}
		}
	}
}

// An attestation is no signature and a signature no attestation, however alike
// their facts are.
func TestKindsDoNotMix(t *testing.T) {
	signature, attestation := mustParse(t, withIdentity("{signature: {by: a}}")), mustParse(t, withIdentity("{attestation: {predicateType: custom, by: a}}"))
	fact := attestedBy("a", "1", predicate.CosignCustom, custom(0), 0)
	if got := attestation.Decide(t.Context(), ask(fact)); got.Verdict != policy.Passed {
		t.Error(got)
	}
	if got := signature.Decide(t.Context(), ask(fact)); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.PredicateTypeMismatch {
		t.Error(got)
	}
	fact.Kind = policy.KindSignature
	if got := attestation.Decide(t.Context(), ask(fact)); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.AttestationMissing {
		t.Error(got)
	}
	fact.Kind = policy.KindUnknown
	for _, p := range []*policy.Policy{signature, attestation} {
		if got := p.Decide(t.Context(), ask(fact)); got.Verdict != policy.Failed {
			t.Error(got)
		}
	}
	empty := attestedBy("a", "", predicate.CosignCustom, custom(0), 0)
	if got := attestation.Decide(t.Context(), ask(empty)); got.Verdict != policy.Failed {
		t.Error("a signer without an id counts")
	}
}

// Types are the same by their canonical URI and not by resemblance (E5).
func TestPredicateTypes(t *testing.T) {
	for uri, want := range map[string]policy.Code{
		predicate.SLSAProvenanceV1: "", predicate.SLSAProvenanceV1 + ".0": "", // Witness's spelling
		predicate.SLSAProvenanceV02: policy.PredicateTypeMismatch, predicate.SLSAProvenanceV1 + "/": policy.PredicateTypeMismatch,
		"https://SLSA.dev/provenance/v1": policy.PredicateTypeMismatch,
	} {
		p := mustParse(t, withIdentity("{attestation: {predicateType: slsaprovenance1, by: a, provenance: {builder: b}}}"))
		got := p.Decide(t.Context(), ask(attestedBy("a", "1", uri, provenanceOf(map[string]string{"builder": "b"}), 0)))
		if (want == "") != (got.Verdict == policy.Passed) || want != "" && got.Reasons[0].Code != want {
			t.Errorf("%s: %s %v", uri, got.Verdict, got.Reasons)
		}
	}
}

func TestMaxAge(t *testing.T) {
	p := mustParse(t, withIdentity(`{attestation: {predicateType: custom, by: a, maxAge: 10h}}`))
	fact := attestedBy("a", "1", predicate.CosignCustom, custom(0), 0)
	q := ask(fact)
	for hours, want := range map[int]policy.Verdict{0: policy.Passed, 9: policy.Passed, 10: policy.Failed, 11: policy.Failed} {
		q.Now = base.Add(time.Duration(hours) * time.Hour)
		got := p.Decide(t.Context(), q)
		if got.Verdict != want || want == policy.Passed && !got.Expires.Equal(base.Add(10*time.Hour)) {
			t.Errorf("after %d hours: %s, expires %s", hours, got.Verdict, got.Expires)
		}
	}
	q.Now = base
	copied := fact // a copy of the signature, stamped before
	copied.ProvenAt = base.Add(-11 * time.Hour)
	if got := p.Decide(t.Context(), policy.Question{Facts: []policy.Fact{fact, copied}, Now: base}); got.Reasons[0].Code != policy.AttestationTooOld {
		t.Errorf("%+v", got)
	}
	stated := attestedBy("a", "1", predicate.CosignCustom, `{"Data":"","Timestamp":"2026-02-01T00:00:00Z"}`, 0)
	if got := p.Decide(t.Context(), policy.Question{Facts: []policy.Fact{stated}, Now: base}); got.Reasons[0].Code != policy.AttestationTooOld {
		t.Errorf("%+v", got)
	}
	fact.ProvenAt = time.Time{}
	if got := p.Decide(t.Context(), policy.Question{Facts: []policy.Fact{fact}, Now: base}); got.Reasons[0].Code != policy.TimestampMissing {
		t.Errorf("%+v", got)
	}
}

// A condition sees the image and the place, is interrupted with its context,
// and what it cannot answer is a no.
func TestConditions(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	list := `{"Data":"","Timestamp":"","n":[` + strings.Repeat("1,", 500) + `1]}`
	for _, tt := range []struct {
		ctx             context.Context
		condition, data string
		want            policy.Code
	}{
		{t.Context(), "image.name == 'r.example/team/app' && image.reference == image.name + '@' + image.digest && context.cluster == 'prod-1'", custom(0), ""},
		{t.Context(), "predicate.n == 0 && statement.predicate.n == 0.0", custom(0), ""},
		{t.Context(), "predicate.n == 0", custom(1), policy.ConditionFalse},
		{t.Context(), "predicate.m == 0", custom(0), policy.ConditionError},
		{t.Context(), "context.namespace == 'shop'", custom(0), policy.ConditionError},
		{t.Context(), "predicate.n", custom(0), policy.ConditionError},
		{t.Context(), "predicate.n.all(a, predicate.n.all(b, predicate.n.all(c, true)))", list, policy.ConditionError},
		{ended, "predicate.n.all(a, predicate.n.all(b, true))", list, policy.ConditionError},
	} {
		p := mustParse(t, withIdentity(fmt.Sprintf("{attestation: {predicateType: custom, by: a, condition: %q}}", tt.condition)))
		got := p.Decide(tt.ctx, ask(attestedBy("a", "1", predicate.CosignCustom, tt.data, 0)))
		if (tt.want == "") != (got.Verdict == policy.Passed) || tt.want != "" && got.Reasons[0].Code != tt.want {
			t.Errorf("%s: %s %v", tt.condition, got.Verdict, got.Reasons)
		}
	}
}

// provenanceOf writes provenance v1; a field given replaces the default, "-"
// leaves it out.
func provenanceOf(change map[string]string) string {
	f := map[string]string{
		"builder": "https://ci.example/w.yml@refs/heads/main", "type": "https://actions.github.io/buildtypes/workflow/v1",
		"external": `{"workflow":{"ref":"refs/heads/main","repository":"https://github.com/acme/app","path":"w.yml"}}`,
		"deps":     `[{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"gitCommit":"6dcb09b5b57875f334f61aebed695e2e4193db5e"}}]`,
	}
	for k, v := range change {
		f[k] = v
	}
	return fmt.Sprintf(`{"buildDefinition":{"buildType":%q,"externalParameters":%s,"resolvedDependencies":%s},"runDetails":{"builder":{"id":%q}}}`,
		f["type"], f["external"], f["deps"], f["builder"])
}

func TestProvenance(t *testing.T) {
	const good = `builder: "https://ci.example/*@refs/heads/main", source: "git+https://github.com/acme/app", ref: refs/heads/main`
	workflow := func(more string) string {
		return `{"workflow":{"ref":"refs/heads/main","repository":"https://github.com/acme/app","path":"w.yml"}` + more + `}`
	}
	for _, tt := range []struct {
		name, expect string
		change       map[string]string
		want         policy.Code
	}{
		{"good", good, nil, ""},
		{"source in other spellings", `source: "https://GITHUB.com:443/acme/app.git/"`, nil, ""},
		{"source by pattern", `source: "git+https://github.com/acme/*"`, nil, ""},
		{"source of another owner", `source: "git+https://github.com/acm/*"`, nil, policy.SourceMismatch},
		{"E2 prefix of a source", `source: "git+https://github.com/acme/ap"`, nil, policy.SourceMismatch},
		{"another host", `source: "git+https://github.com.evil.example/acme/app"`, nil, policy.SourceMismatch},
		{"plain http", good, map[string]string{"external": strings.Replace(workflow(""), "https://", "http://", 1), "deps": "[]"}, policy.SourceMismatch},
		{"another builder", good, map[string]string{"builder": "https://ci.example/w.yml@refs/heads/x"}, policy.BuilderMismatch},
		{"builder with a suffix", good, map[string]string{"builder": "https://ci.example/a/b@refs/heads/main"}, policy.BuilderMismatch},
		{"self-hosted builder", good, map[string]string{"builder": "self-hosted+https://ci.example/w.yml@refs/heads/main"}, policy.BuilderMismatch},
		{"build type", `buildType: "https://actions.github.io/buildtypes/workflow/v1"`, nil, ""},
		{"another build type", `buildType: "https://actions.github.io/buildtypes/workflow/v2"`, nil, policy.BuilderMismatch},
		{"another ref", `ref: refs/heads/release`, nil, policy.SourceMismatch},
		{"short ref", `ref: main`, nil, policy.SourceMismatch},
		{"ref by pattern", `ref: "refs/heads/*"`, nil, ""},
		{"dependencies contradict", good, map[string]string{"deps": `[{"uri":"git+https://github.com/evil/app@refs/heads/main"}]`}, policy.SourceMismatch},
		{"a dependency more", good, map[string]string{"deps": `[{"uri":"git+https://github.com/evil/lib"},{"uri":"git+https://github.com/acme/app@refs/heads/main"}]`}, ""},
		{"no dependencies", good, map[string]string{"deps": "[]"}, ""},
		{"unknown type with one repository", good, map[string]string{"type": "https://own.example/t", "external": "{}"}, ""},
		{"unknown type with two", good, map[string]string{"type": "https://own.example/t", "external": "{}", "deps": `[{"uri":"git+https://github.com/acme/app@refs/heads/main"},{"uri":"git+https://github.com/evil/app@refs/heads/main"}]`}, policy.SourceMismatch},
		{"unknown type with parameters", good, map[string]string{"type": "https://own.example/t"}, policy.ParameterMismatch},
		{"parameters of the caller", good, map[string]string{"external": workflow(`,"inputs":{"debug":true}`)}, policy.ParameterMismatch},
		{"empty ones", good, map[string]string{"external": workflow(`,"inputs":{},"vars":null,"x":"","y":[]`)}, ""},
		{"ignored ones", good + `, ignoreExternalParameters: [inputs]`, map[string]string{"external": workflow(`,"inputs":{"debug":true}`)}, ""},
		{"expected ones", good + `, externalParameters: {inputs: {debug: true, n: 1}}`, map[string]string{"external": workflow(`,"inputs":{"n":1.0,"debug":true,"e":null}`)}, ""},
		{"expected and another", good + `, externalParameters: {inputs: {debug: true}}`, map[string]string{"external": workflow(`,"inputs":{"debug":false}`)}, policy.ParameterMismatch},
		{"expected and missing", good + `, externalParameters: {inputs: {debug: true}}`, nil, policy.ParameterMismatch},
		{"source beside the workflow", good, map[string]string{"external": workflow(`,"source":{"repository":"https://github.com/evil/app","ref":"refs/heads/main"}`)}, policy.SourceMismatch},
		{"no builder", good, map[string]string{"builder": ""}, policy.PredicateInvalid},
		{"no build type", good, map[string]string{"type": ""}, policy.PredicateInvalid},
		{"parameters no object", good, map[string]string{"external": "[]"}, policy.PredicateInvalid},
		{"level by name", good + `, minLevel: 3, levels: [{by: ci, builder: "https://ci.example/*@refs/heads/main", level: 3}]`, nil, ""},
		{"level of another builder", good + `, minLevel: 3, levels: [{by: ci, builder: "https://ci.example/x@refs/heads/main", level: 3}]`, nil, policy.BuildLevelTooLow},
		{"level unproven", good + `, minLevel: 2`, nil, policy.BuildLevelTooLow},
		{"level 1", good + `, minLevel: 1`, nil, ""},
	} {
		p := mustParse(t, withIdentity("{attestation: {predicateType: slsaprovenance1, by: ci, provenance: {"+tt.expect+"}}}"))
		got := p.Decide(t.Context(), ask(attestedBy("ci", "1", predicate.SLSAProvenanceV1, provenanceOf(tt.change), 0)))
		if (tt.want == "") != (got.Verdict == policy.Passed) || tt.want != "" && got.Reasons[0].Code != tt.want {
			t.Errorf("%s: %s %v, want %q", tt.name, got.Verdict, got.Reasons, tt.want)
		}
	}
	old := `{"builder":{"id":"https://ci.example/w@refs/heads/main"},"buildType":"https://github.com/slsa-framework/slsa-github-generator/generic@v1",
		"invocation":{"configSource":{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"sha1":"6dcb09b5b57875f334f61aebed695e2e4193db5e"},"entryPoint":"w.yml"},"parameters":{}},
		"materials":[{"uri":"git+https://github.com/acme/app@refs/heads/main","digest":{"sha1":"6dcb09b5b57875f334f61aebed695e2e4193db5e"}}]}`
	p := mustParse(t, withIdentity("{attestation: {predicateType: slsaprovenance02, by: ci, provenance: {"+good+"}}}"))
	if got := p.Decide(t.Context(), ask(attestedBy("ci", "1", predicate.SLSAProvenanceV02, old, 0))); got.Verdict != policy.Passed {
		t.Errorf("v0.2: %v", got.Reasons)
	}
	moved := strings.ReplaceAll(old, "acme/app", "evil/app")
	if got := p.Decide(t.Context(), ask(attestedBy("ci", "1", predicate.SLSAProvenanceV02, moved, 0))); got.Reasons[0].Code != policy.SourceMismatch {
		t.Errorf("v0.2: %v", got.Reasons)
	}
}

// SLSA's seven checks of a verification summary.
func TestVerificationSummary(t *testing.T) {
	summary := func(change map[string]string) string {
		f := map[string]string{
			"verifier": "https://v.example", "resource": "r.example/team/app@sha256:" + digits, "result": "PASSED", "levels": `["SLSA_BUILD_LEVEL_3"]`,
			"policy": `{"uri":"https://p.example","digest":{"sha256":"` + digits + `"}}`,
		}
		for k, v := range change {
			f[k] = v
		}
		return fmt.Sprintf(`{"verifier":{"id":%q},"timeVerified":"2026-03-01T10:00:00Z","resourceUri":%q,"policy":%s,"verificationResult":%q,"verifiedLevels":%s}`,
			f["verifier"], f["resource"], f["policy"], f["result"], f["levels"])
	}
	const plain = `verifier: "https://v.example", levels: [SLSA_BUILD_LEVEL_2]`
	other := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, expect string
		change       map[string]string
		want         policy.Code
	}{
		{"good", plain, nil, ""},
		{"another verifier", plain, map[string]string{"verifier": "https://v.example/"}, policy.IdentityMismatch},
		{"another image", plain, map[string]string{"resource": "r.example/team/apple@sha256:" + digits}, policy.SubjectMismatch},
		{"another digest of the image", plain, map[string]string{"resource": "r.example/team/app@sha256:" + other}, policy.SubjectMismatch},
		{"image without digest", plain, map[string]string{"resource": "oci://r.example/team/app"}, ""},
		{"tag and digest", plain, map[string]string{"resource": "r.example/team/app:1.4@sha256:" + digits}, ""},
		{"tag alone", plain, map[string]string{"resource": "r.example/team/app:1.4"}, policy.SubjectMismatch},
		{"no image", plain, map[string]string{"resource": "git+https://github.com/acme/app"}, policy.SubjectMismatch},
		{"F6 repository that begins alike", plain, map[string]string{"resource": "r.example/team"}, policy.SubjectMismatch},
		{"upstream", plain + `, resource: "up.example/*/app"`, map[string]string{"resource": "up.example/x/app@sha256:" + digits}, ""},
		{"F6 upstream of another", plain + `, resource: "up.example/a/*"`, map[string]string{"resource": "up.example/ab/x"}, policy.SubjectMismatch},
		{"says FAILED", plain, map[string]string{"result": "FAILED"}, policy.ConditionFalse},
		{"says nothing", plain, map[string]string{"result": ""}, policy.PredicateInvalid},
		{"lower level", plain, map[string]string{"levels": `["SLSA_BUILD_LEVEL_1"]`}, policy.BuildLevelTooLow},
		{"level of another track", plain, map[string]string{"levels": `["SLSA_SOURCE_LEVEL_3"]`}, policy.BuildLevelTooLow},
		{"no level", plain, map[string]string{"levels": `[]`}, policy.BuildLevelTooLow},
		{"level that looks higher", plain, map[string]string{"levels": `["SLSA_BUILD_LEVEL_30","FAILED","SLSA_BUILD_LEVEL_UNEVALUATED"]`}, policy.BuildLevelTooLow},
		{"policy", plain + `, policy: {uri: "https://p.example", digest: "sha256:` + digits + `"}`, nil, ""},
		{"another policy", plain + `, policy: {uri: "https://p.example/2"}`, nil, policy.ConditionFalse},
		{"another version of the policy", plain + `, policy: {digest: "sha256:` + other + `"}`, nil, policy.ConditionFalse},
	} {
		p := mustParse(t, withIdentity("{attestation: {predicateType: vsa, by: a, vsa: {"+tt.expect+"}}}"))
		got := p.Decide(t.Context(), ask(attestedBy("a", "1", predicate.VSAV1, summary(tt.change), 0)))
		if (tt.want == "") != (got.Verdict == policy.Passed) || tt.want != "" && got.Reasons[0].Code != tt.want {
			t.Errorf("%s: %s %v, want %q", tt.name, got.Verdict, got.Reasons, tt.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	p := mustParse(t, withIdentity(`{any: [{signature: {by: a}}, {attestation: {predicateType: "https://slsa.dev/provenance/v1.0", by: a}}]}`))
	want := policy.Needs{Signatures: true, PredicateTypes: map[string]bool{predicate.SLSAProvenanceV1: true}}
	if diff := cmp.Diff(want, p.Needs()); diff != "" {
		t.Error(diff)
	}
	if !mustParse(t, withIdentity(`{attestation: {predicateType: vuln, by: a, maxAge: 1h}}`)).Needs().Everything {
		t.Error("the newest of some is not known without the others")
	}
}

// What a layout requirement may not be, and where none may stand (F4).
func TestParseRefusesLayouts(t *testing.T) {
	for name, tt := range map[string]struct{ require, pointer string }{
		"no document":   {`{layout: {}}`, "/spec/require/layout/document"},
		"no layout":     {`{layout: {document: {_type: link}}}`, "/spec/require/layout/document"},
		"no steps":      {`{layout: {document: {_type: layout, expires: "2027-01-01T00:00:00Z", steps: [], inspect: [], keys: {}}}}`, "/spec/require/layout/document"},
		"unknown field": {`{layout: {document: {}, keys: {}}}`, "/spec/require/layout/keys"},
		"in atLeast":    {`{atLeast: {n: 1, of: [{signature: {by: a}}, {any: [{layout: {document: {}}}]}]}}`, "/spec/require/atLeast/of/1/any/0/layout"},
		"beside others": {`{layout: {document: {}}, signature: {by: a}}`, "/spec/require"},
	} {
		_, err := policy.Parse([]byte(withIdentity(tt.require)))
		if f, ok := errors.AsType[*policy.FieldError](err); !ok || f.Pointer != tt.pointer {
			t.Errorf("%s: %v, want a fault at %s", name, err, tt.pointer)
		}
	}
}
