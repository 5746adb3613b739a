package verifier

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/registry"
)

// FuzzPlatform: a platform chooses a child that the index names by it, or none.
func FuzzPlatform(f *testing.F) {
	f.Add("linux/arm64")
	f.Add("linux/arm/v7")
	children := []registry.Child{
		{Digest: attest.DigestOf([]byte("a")), Platform: "linux/amd64"},
		{Digest: attest.DigestOf([]byte("b")), Platform: "linux/arm64/v8"},
		{Digest: attest.DigestOf([]byte("c")), Platform: "linux/arm/v6"},
		{Digest: attest.DigestOf([]byte("d")), Platform: "linux/arm/v7"},
	}
	index := registry.Manifest{IsIndex: true, Children: children}
	f.Fuzz(func(t *testing.T, platform string) {
		got, fault := familyOf(index, platform)
		if fault != nil || platform == "" {
			return
		}
		if got.platform != platform && !strings.HasPrefix(got.platform, platform+"/") {
			t.Fatalf("%q chose %q", platform, got.platform)
		}
	})
}
