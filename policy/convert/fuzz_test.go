package convert_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
)

// Whatever a document holds, every policy that comes of it is one that Parse
// writes, passes nothing without facts, and an error gives nothing.
func fuzzKind(f *testing.F, kind convert.Kind) {
	for file, of := range recorded() {
		if of == kind {
			f.Add(read(f, file))
		}
	}
	f.Add([]byte(`{"apiVersion":"policy.sigstore.dev/v1alpha1","kind":"TrustRoot","metadata":{"name":"a"},"spec":{"sigstoreKeys":{"tLogs":[{"publicKey":"eA=="}]}}}`))
	f.Add([]byte("a: [\n---\n{}: x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		result, err := convert.Import(kind, [][]byte{b}, convert.Options{AnySignedNameUnsafe: true})
		if err != nil {
			if !errors.Is(err, convert.ErrDocument) || result.Policies != nil || result.TrustRoots != nil {
				t.Fatalf("%v %v", err, result)
			}
			return
		}
		for _, p := range checkPolicies(t, result) {
			if decide(p) != policy.Failed {
				t.Fatalf("passes without facts: %s", p.Document())
			}
		}
	})
}

func decide(p *policy.Policy) policy.Verdict {
	if passes([]*policy.Policy{p}, "registry.example.com/prod/app", nil) {
		return policy.Passed
	}
	return policy.Failed
}

func FuzzClusterImagePolicy(f *testing.F) { fuzzKind(f, convert.ClusterImagePolicy) }
func FuzzTrustRoot(f *testing.F)          { fuzzKind(f, convert.TrustRoot) }
func FuzzNotation(f *testing.F)           { fuzzKind(f, convert.Notation) }
func FuzzContainersPolicy(f *testing.F)   { fuzzKind(f, convert.PolicyJSON) }
func FuzzKyverno(f *testing.F)            { fuzzKind(f, convert.Kyverno) }
func FuzzConnaisseur(f *testing.F)        { fuzzKind(f, convert.Connaisseur) }
func FuzzContentTrust(f *testing.F)       { fuzzKind(f, convert.DCT) }
