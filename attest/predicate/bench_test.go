package predicate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
)

// large are bills of materials of about 5 MB, of the items of the documents.
func large(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, list := range map[string]string{"spdx-2.3": "\n  \"packages\": [", "cyclonedx-1.6": "\n  \"components\": ["} {
		text := document(t, name)
		start := strings.Index(text, list) + len(list)
		end := start + strings.Index(text[start:], "\n    },")
		item := text[start:end] + "\n    },"
		var many strings.Builder
		for i := 0; many.Len()+len(text) < 5_000_000; i++ {
			many.WriteString(strings.ReplaceAll(item, "1.2.5-r8", fmt.Sprintf("1.2.5-r%d", i)))
		}
		out[name] = text[:start] + many.String() + text[start:]
	}
	return out
}

func TestCheckTakesLargeSBOM(t *testing.T) {
	for name, text := range large(t) {
		if len(text) < 5_000_000 || len(text) > limits.Predicate {
			t.Fatalf("%d bytes", len(text))
		}
		uri := documents()[name][0]
		if err := predicate.Check(uri, []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		at := strings.LastIndex(text, `"name": "musl"`)
		broken := text[:at] + `"nome": "musl"` + text[at+len(`"nome": "musl"`):]
		if err := predicate.Check(uri, []byte(broken)); err == nil {
			t.Errorf("%s: the last fault was not seen", name)
		}
	}
}

func BenchmarkCheckSBOM(b *testing.B) {
	for name, text := range large(b) {
		document, uri := []byte(text), documents()[name][0]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if err := predicate.Check(uri, document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
