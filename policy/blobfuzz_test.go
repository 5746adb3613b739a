package policy_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/countersign/countersign/policy"
)

// FuzzInline: an authority that comes with a question is read as strictly as one
// in a policy, and says nothing outside of its place.
func FuzzInline(f *testing.F) {
	f.Add([]byte(`{"key":{"name":"release"}}`), "")
	f.Add([]byte(`{"identity":{"issuer":"https://i.example","subject":"https://s.example/x"}}`), "https://slsa.dev/provenance/v1")
	f.Add([]byte(`{"key":{"name":"a"}},"other":{"key":{"name":"b"}}`), "vuln")
	f.Fuzz(func(t *testing.T, authority []byte, predicateType string) {
		p, err := policy.Inline(json.RawMessage(authority), predicateType)
		if err != nil {
			if p != nil || !errors.Is(err, policy.ErrPolicy) {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		if p.Name != policy.InlinePolicy || len(p.Authorities) != 1 {
			t.Fatalf("%q of %d authorities", p.Name, len(p.Authorities))
		}
		if _, err := policy.Parse(p.Document()); err != nil {
			t.Fatalf("its document is none: %v", err)
		}
	})
}
