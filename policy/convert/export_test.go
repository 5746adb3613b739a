package convert_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
)

// ours is a policy of two keys by PEM, an identity and a managed key; those that
// the requirement does not name are left away.
func ours(t testing.TB, name, images, require, extra string) *policy.Policy {
	t.Helper()
	authorities := map[string]string{
		"a": `{"key":{"pem":` + keyA + `}}`, "b": `{"key":{"pem":` + keyB + `}}`,
		"ci":   `{"identity":{"issuer":"https://issuer.example","subject":"ci@acme.example","trustRoot":"partner"}}`,
		"wild": `{"identity":{"issuer":"https://issuer.example","subjectPattern":"https://git.example/acme/*.x/**","trustRoot":"partner"}}`,
		"us":   `{"identity":{"issuer":"https://issuer.example","subject":"us@acme.example"}}`,
		"held": `{"key":{"name":"release"}}`, "logged": `{"key":{"pem":` + keyB + `},"log":"required"}`,
	}
	var used []string
	for _, authority := range slices.Sorted(maps.Keys(authorities)) {
		if strings.Contains(require, `"`+authority+`"`) {
			used = append(used, fmt.Sprintf("%q:%s", authority, authorities[authority]))
		}
	}
	p, err := policy.Parse(fmt.Appendf(nil, `{"apiVersion":"countersign.dev/v1","kind":"TrustPolicy","metadata":{"name":%q},"spec":{"match":{"images":[%s]%s},"authorities":{%s},"require":%s}}`,
		name, images, extra, strings.Join(used, ","), require))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sig(by string) string { return `{"signature":{"by":"` + by + `"}}` }

func TestExportClusterImagePolicy(t *testing.T) {
	prod := `"registry.example.com/prod/**"`
	for _, tt := range []struct {
		name     string
		policies []*policy.Policy
		objects  int
		has      string
		refused  bool
	}{
		{"a key", []*policy.Policy{ours(t, "p", prod, sig("a"), "")}, 1, `"glob":"registry.example.com/prod/**"`, false},
		{"all become several", []*policy.Policy{ours(t, "p", prod, `{"all":[`+sig("a")+`,`+sig("ci")+`]}`, "")}, 2, `"trustRootRef":"partner"`, false},
		{"any become one", []*policy.Policy{ours(t, "p", prod, `{"any":[`+sig("a")+`,`+sig("b")+`]}`, "")}, 1, `"authorities":[{`, false},
		{"our own root", []*policy.Policy{ours(t, "p", prod, sig("us"), "")}, 1, `"trustRootRef":"countersign"`, false},
		{"everything", []*policy.Policy{ours(t, "p", `"*/**"`, sig("a"), "")}, 1, `"glob":"**"`, false},
		{"one repository", []*policy.Policy{ours(t, "p", `"registry.example.com/app"`, sig("a"), "")}, 1, `"glob":"registry.example.com/app:**"`, false},
		{"one repository that another speaks of", []*policy.Policy{ours(t, "p", `"registry.example.com/app"`, sig("a"), ""), ours(t, "q", `"registry.example.com/*"`, sig("b"), "")}, 0, "", true},
		{"a threshold (row C3)", []*policy.Policy{ours(t, "p", prod, `{"atLeast":{"n":2,"of":[`+sig("a")+`,`+sig("b")+`]}}`, "")}, 0, "", true},
		{"a managed key", []*policy.Policy{ours(t, "p", prod, sig("held"), "")}, 0, "", true},
		{"a managed key of several", []*policy.Policy{ours(t, "p", prod, `{"any":[`+sig("a")+`,`+sig("held")+`]}`, "")}, 1, `"name":"a"`, true},
		{"a log", []*policy.Policy{ours(t, "p", prod, sig("logged"), "")}, 0, "", true},
		{"a place", []*policy.Policy{ours(t, "p", prod, sig("a"), `,"context":{"cluster":["x"]}`)}, 0, "", true},
		{"a wildcard that meets tags", []*policy.Policy{ours(t, "p", `"registry.example.com/*-x"`, sig("a"), "")}, 0, "", true},
		{"a condition (row F1)", []*policy.Policy{ours(t, "p", prod, `{"attestation":{"predicateType":"vuln","by":"a","condition":"predicate.x == 1"}}`, "")}, 0, "", true},
		{"an attestation", []*policy.Policy{ours(t, "p", prod, `{"attestation":{"predicateType":"vuln","by":"a"}}`, "")}, 1, `"attestations":[{`, false},
		{"a refused one withdraws its overlap", []*policy.Policy{ours(t, "p", prod, sig("held"), ""), ours(t, "q", prod, sig("a"), "")}, 0, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document, report, err := convert.Export(convert.ClusterImagePolicy, tt.policies)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(document), `"ClusterImagePolicy"`) != tt.objects || !strings.Contains(string(document), tt.has) || convert.HasRefused(report) != tt.refused {
				t.Errorf("%s\n%+v", document, report)
			}
		})
	}
}

func TestExportContainersPolicy(t *testing.T) {
	prod := `"registry.example.com/prod","registry.example.com/prod/**"`
	for _, tt := range []struct {
		name     string
		policies []*policy.Policy
		has      string
	}{
		{"a key", []*policy.Policy{ours(t, "p", prod, sig("a"), "")}, `"registry.example.com/prod":[{"keyData":`},
		{"all", []*policy.Policy{ours(t, "p", prod, `{"all":[`+sig("a")+`,`+sig("b")+`]}`, "")}, `},{"keyData":`},
		{"any", []*policy.Policy{ours(t, "p", prod, `{"any":[`+sig("a")+`,`+sig("b")+`]}`, "")}, `"keyDatas":[`},
		{"a host", []*policy.Policy{ours(t, "p", `"registry.example.com/**"`, sig("a"), "")}, `"registry.example.com":[`},
		{"Docker Hub", []*policy.Policy{ours(t, "p", `"index.docker.io/**"`, sig("a"), "")}, `"docker.io":[`},
		{"everything", []*policy.Policy{ours(t, "p", `"*/**"`, sig("a"), "")}, `"":[`},
		{"the scope would reach below", []*policy.Policy{ours(t, "p", `"registry.example.com/prod"`, sig("a"), "")}, ""},
		{"the scope would reach above", []*policy.Policy{ours(t, "p", `"registry.example.com/prod/**"`, sig("a"), "")}, ""},
		{"a wildcard", []*policy.Policy{ours(t, "p", `"registry.example.com/prod*"`, sig("a"), "")}, ""},
		{"only the most specific counts", []*policy.Policy{ours(t, "p", `"registry.example.com/**"`, sig("a"), ""), ours(t, "q", prod, sig("b"), "")}, ""},
		{"an identity", []*policy.Policy{ours(t, "p", prod, sig("ci"), "")}, ""},
		{"an attestation", []*policy.Policy{ours(t, "p", prod, `{"attestation":{"predicateType":"vuln","by":"a"}}`, "")}, ""},
		{"a log", []*policy.Policy{ours(t, "p", prod, sig("logged"), "")}, ""},
		{"a threshold", []*policy.Policy{ours(t, "p", prod, `{"atLeast":{"n":2,"of":[`+sig("a")+`,`+sig("b")+`]}}`, "")}, ""},
		{"a place", []*policy.Policy{ours(t, "p", prod, sig("a"), `,"context":{"cluster":["x"]}`)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document, report, err := convert.Export(convert.PolicyJSON, tt.policies)
			if err != nil {
				t.Fatal(err)
			}
			if (document == nil) != (tt.has == "") || !strings.Contains(string(document), tt.has) || convert.HasRefused(report) != (tt.has == "") {
				t.Errorf("%s\n%+v", document, report)
			}
			if document != nil && !strings.Contains(string(document), `"default":[{"type":"reject"}]`) {
				t.Errorf("it does not reject by default: %s", document)
			}
		})
	}
}

func TestExportRefusesKinds(t *testing.T) {
	p := ours(t, "p", `"registry.example.com/prod/**"`, sig("a"), "")
	document, report, err := convert.Export(convert.Notation, []*policy.Policy{p})
	if err != nil || document != nil || len(report) < 6 || !convert.HasRefused(report) {
		t.Errorf("%s %v %v", document, report, err)
	}
	if _, _, err := convert.Export(convert.Kyverno, nil); !errors.Is(err, convert.ErrKind) {
		t.Error(err)
	}
}

// What is exported for notation and imported again is the same policy.
func TestNotationThereAndBack(t *testing.T) {
	imported := importOne(t, convert.Notation, read(t, "notation.yaml"), convert.Options{})
	p, err := policy.Parse(imported.Policies[0].JSON)
	if err != nil {
		t.Fatal(err)
	}
	document, report, err := convert.Export(convert.Notation, []*policy.Policy{p})
	if err != nil || convert.HasRefused(report) {
		t.Fatalf("%v %+v", err, report)
	}
	var out struct{ TrustPolicy, TrustStores json.RawMessage }
	if err := json.Unmarshal(document, &out); err != nil {
		t.Fatal(err)
	}
	stores := fmt.Appendf(nil, `{"trustStores": %s}`, out.TrustStores)
	again, err := convert.Import(convert.Notation, [][]byte{out.TrustPolicy, stores}, convert.Options{})
	if err != nil || len(again.Policies) != 1 || string(again.Policies[0].JSON) != string(imported.Policies[0].JSON) {
		t.Errorf("%v %+v\n%s", err, again.Report, imported.Policies[0].JSON)
	}
}

// A policy that notation would read as a wider one is not written for it.
func TestNotationExportRefuses(t *testing.T) {
	good := string(importOne(t, convert.Notation, read(t, "notation.yaml"), convert.Options{}).Policies[0].JSON)
	for name, change := range map[string][2]string{
		"":                          {`"revocation":"skip"`, `"revocation":"check"`},
		"below a repository":        {`registry.example.com/web`, `registry.example.com/web/**`},
		"only logged":               {`"mode":"enforce"`, `"mode":"audit"`},
		"in the log":                {`"log":"optional"`, `"log":"required"`},
		"a subject without country": {`C=US, ST=WA, O=acme`, `O=acme`},
	} {
		p, err := policy.Parse([]byte(strings.ReplaceAll(good, change[0], change[1])))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		document, report, err := convert.Export(convert.Notation, []*policy.Policy{p})
		if err != nil || (document == nil) != (name != "") || convert.HasRefused(report) != (name != "") {
			t.Errorf("%q: %v %s %+v", name, err, document, report)
		}
	}
}

// Every pattern over subjects is written as an expression that matches no more
// (row E2).
func TestExportedExpressionsAreAnchored(t *testing.T) {
	p := ours(t, "p", `"registry.example.com/prod/**"`, sig("wild"), "")
	document, _, err := convert.Export(convert.ClusterImagePolicy, []*policy.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`"subjectRegExp":("(?:[^"\\]|\\.)*")`).FindSubmatch(document)
	if found == nil {
		t.Fatalf("%s", document)
	}
	var text string
	if err := json.Unmarshal(found[1], &text); err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(text)
	for subject, want := range map[string]bool{
		"https://git.example/acme/app.x/.github/y": true, "https://git.example/acme/app.x/y@z": true,
		"https://git.example/acme/app.x": false, "https://git.example/acme/appyx/y": false, "x https://git.example/acme/app.x/y": false,
		"https://git.example/acme/app.x/../y": false, "https://gitxexample/acme/app.x/y": false, "https://git.example/acme/a/b.x/y": false,
	} {
		if re.MatchString(subject) != want {
			t.Errorf("%s on %s: not %t", text, subject, want)
		}
	}
}

// What comes back from an export passes nothing that the policy does not.
func TestRoundTripIsEqualOrNarrower(t *testing.T) {
	prod := `"registry.example.com/prod","registry.example.com/prod/**"`
	images := []string{"registry.example.com/prod", "registry.example.com/prod/app", "registry.example.com/other", "evil.example/registry.example.com/prod/app"}
	came := map[convert.Kind]int{}
	for _, require := range []string{
		sig("a"), sig("ci"), sig("wild"), `{"all":[` + sig("a") + `,` + sig("b") + `]}`, `{"any":[` + sig("a") + `,` + sig("b") + `]}`,
		`{"all":[` + sig("a") + `,{"any":[` + sig("b") + `,` + sig("ci") + `]}]}`, `{"any":[` + sig("a") + `,` + sig("held") + `]}`,
		`{"attestation":{"predicateType":"vuln","by":"a"}}`, `{"atLeast":{"n":2,"of":[` + sig("a") + `,` + sig("b") + `]}}`,
	} {
		p := ours(t, "p", prod, require, "")
		for _, kind := range []convert.Kind{convert.ClusterImagePolicy, convert.PolicyJSON} {
			document, _, err := convert.Export(kind, []*policy.Policy{p})
			if err != nil {
				t.Fatal(err)
			}
			if document == nil {
				continue
			}
			back := importList(t, kind, document)
			if len(back) > 0 {
				came[kind]++
			}
			compare(t, p, back, images)
		}
	}
	if came[convert.ClusterImagePolicy] < 6 || came[convert.PolicyJSON] < 3 {
		t.Errorf("little came back: %v", came)
	}
}

// importList imports an export; the members of a List are documents.
func importList(t *testing.T, kind convert.Kind, document []byte) []*policy.Policy {
	t.Helper()
	documents := [][]byte{document}
	if kind == convert.ClusterImagePolicy {
		var list struct{ Items []json.RawMessage }
		if err := json.Unmarshal(document, &list); err != nil {
			t.Fatal(err)
		}
		documents = nil
		for _, item := range list.Items {
			documents = append(documents, item)
		}
	}
	result, err := convert.Import(kind, documents, convert.Options{AnySignedNameUnsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	return checkPolicies(t, result)
}

// compare asks the policy and those that came back about the same signers.
func compare(t *testing.T, p *policy.Policy, back []*policy.Policy, images []string) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		holds := map[string]bool{}
		for _, who := range everybody {
			holds[who] = random.IntN(2) == 0
		}
		for _, image := range images {
			if passes(back, image, holds) && !passes([]*policy.Policy{p}, image, holds) {
				t.Fatalf("%s passes with %v, and not by %s", image, holds, p.Document())
			}
		}
	}
}

var everybody = []string{"key a", "key b", "ci@acme.example", "https://git.example/acme/*.x/**", "attestation a"}

// passes reports whether policies match and all of them pass by those who signed.
func passes(policies []*policy.Policy, image string, holds map[string]bool) bool {
	matched := false
	for _, p := range policies {
		if !p.Matches(image, nil) {
			continue
		}
		matched = true
		if p.Decide(context.Background(), policy.Question{Facts: facts(p, holds)}).Verdict != policy.Passed {
			return false
		}
	}
	return matched
}

func facts(p *policy.Policy, holds map[string]bool) []policy.Fact {
	var out []policy.Fact
	for name, a := range p.Authorities {
		who := ""
		switch {
		case a.Identity != nil:
			who = a.Identity.Subject + a.Identity.SubjectPattern
		case strings.Contains(a.Key.PEM, "8nXRh950"):
			who = "key a"
		case a.Key.PEM != "":
			who = "key b"
		}
		if holds[who] {
			out = append(out, policy.Fact{Authority: name, SignerID: who, SignatureID: who, Accepted: true})
		}
		if who == "key a" && holds["attestation a"] {
			out = append(out, policy.Fact{
				Kind: policy.KindAttestation, Authority: name, SignerID: who, SignatureID: "attestation " + who, Accepted: true,
				PredicateType: "https://cosign.sigstore.dev/attestation/vuln/v1",
				Attestation:   policy.NewAttestation("https://cosign.sigstore.dev/attestation/vuln/v1", []byte(`{}`), []byte(`{}`)),
			})
		}
	}
	return out
}
