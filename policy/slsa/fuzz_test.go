package slsa_test

import (
	"testing"

	"github.com/countersign/countersign/policy/slsa"
)

// FuzzParseResource and FuzzParseSource: nothing is read beside an error, and
// what is read twice is the same.
func FuzzParseResource(f *testing.F) {
	f.Add("oci://registry.example/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f.Add("docker://registry.example/team/app:v1")
	f.Fuzz(func(t *testing.T, uri string) {
		r, ok := slsa.ParseResource(uri)
		if again, okAgain := slsa.ParseResource(uri); ok != okAgain || r != again || (!ok && r != slsa.Resource{}) {
			t.Fatalf("%q: %+v, %t", uri, r, ok)
		}
	})
}

func FuzzParseSource(f *testing.F) {
	f.Add("git+https://github.com/acme/app@refs/heads/main")
	f.Add("https://user@github.com/acme/../app.git")
	f.Fuzz(func(t *testing.T, uri string) {
		s, err := slsa.ParseSource(uri)
		if err != nil && s != (slsa.Source{}) {
			t.Fatalf("%q: %+v beside %v", uri, s, err)
		}
	})
}
