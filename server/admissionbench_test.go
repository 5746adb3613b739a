package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkAdmission asks about a pod of 30 different images over HTTP, a local
// registry behind it. Warm, every verdict is remembered; cold, none is: each
// question is of another cluster. The decisions are recorded unless it says
// otherwise.
func BenchmarkAdmission(b *testing.B) {
	h := open(b)
	builder := h.furnish()
	var containers []string
	for i := range 30 {
		image := h.signed(builder, fmt.Sprint("bench ", i))
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image))
	}
	object := objectOf("", "Pod", `"spec":%s`, `{"containers":[`+strings.Join(containers, ",")+`]}`)
	ask := func(b *testing.B, path string, dry bool) {
		b.Helper()
		got := h.ask("POST", path, h.secret, asked{kind: "Pod", operation: "CREATE", object: object, dryRun: dry}.body())
		if got.status != http.StatusOK || !allows(b, path, got) {
			b.Fatalf("%d %s", got.status, got.body)
		}
	}
	for _, path := range []string{"/v1/admission/validate", "/v1/admission/mutate"} {
		b.Run(path[len("/v1/admission/"):]+"/warm", func(b *testing.B) {
			ask(b, path, false)
			for b.Loop() {
				ask(b, path, false)
			}
		})
		b.Run(path[len("/v1/admission/"):]+"/warm-dry", func(b *testing.B) {
			ask(b, path, true)
			for b.Loop() {
				ask(b, path, true)
			}
		})
	}
	n := 0
	b.Run("validate/cold", func(b *testing.B) {
		for b.Loop() {
			n++
			ask(b, fmt.Sprint("/v1/admission/validate?cluster=c", n), false)
		}
	})
}
