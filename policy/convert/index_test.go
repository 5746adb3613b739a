package convert_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
)

// Row A8: no other verifier has our index rules, and an export must not drop one.
func TestA8ExportRefusesIndexRules(t *testing.T) {
	const document = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/team/*"]}
  authorities:
    release: {key: {pem: "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\nq9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n"}}
  require: {signature: {by: release}}
`
	for rule, refused := range map[string]bool{"": false, "index": true, "children": true, "both": true} {
		text := document
		if rule != "" {
			text += "  index: {require: " + rule + "}\n"
		}
		p, err := policy.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		out, report, err := convert.Export(convert.ClusterImagePolicy, []*policy.Policy{p})
		if err != nil {
			t.Fatal(err)
		}
		told := false
		for _, line := range report {
			told = told || line.Outcome == convert.Refused && strings.Contains(line.Source, "/spec/index")
		}
		if told != refused || refused == strings.Contains(string(out), "registry.example.com") {
			t.Errorf("%q: %s\n%+v", rule, out, report)
		}
	}
}
