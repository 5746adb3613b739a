package policy_test

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/policy"
)

const document = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match:
    images: ["registry.example.com/prod/**"]
  authorities:
    release: {key: {name: release}}
    security: {key: {name: security}}
  require:
    atLeast:
      n: 2
      of:
        - signature: {by: release}
        - signature: {by: security}
`

func ExampleParse() {
	p, err := policy.Parse([]byte(document))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Name, p.Mode, p.Matches("registry.example.com/prod/shop", nil))

	_, err = policy.Parse([]byte(`{"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "speck": {}}`))
	fmt.Println(err)
	// Output:
	// production enforce true
	// invalid policy: /speck: is not a known field
}

func ExamplePolicy_Decide() {
	p, err := policy.Parse([]byte(document))
	if err != nil {
		fmt.Println(err)
		return
	}
	release := policy.Fact{Authority: "release", SignerID: "9f86…", Accepted: true}
	ask := policy.Question{Facts: []policy.Fact{release}}
	fmt.Println(p.Decide(context.Background(), ask).Reasons[0].Message)

	security := policy.Fact{Authority: "security", SignerID: "60a3…", Accepted: true}
	ask.Facts = append(ask.Facts, security)
	fmt.Println(p.Decide(context.Background(), ask).Verdict)
	// Output:
	// 1 of 2 needed signers: at least 2 of (signature by release, signature by security)
	// PASSED
}
