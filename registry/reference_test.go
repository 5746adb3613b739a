package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/countersign/countersign/registry"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseReference(t *testing.T) {
	for in, want := range map[string]string{
		"nginx":                                     "index.docker.io/library/nginx:latest",
		"nginx:1.25":                                "index.docker.io/library/nginx:1.25",
		"docker.io/nginx":                           "index.docker.io/library/nginx:latest",
		"docker.io/bitnami/redis":                   "index.docker.io/bitnami/redis:latest",
		"team/app":                                  "index.docker.io/team/app:latest",
		"localhost/app":                             "localhost/app:latest",
		"localhost:5000/app:v1":                     "localhost:5000/app:v1",
		"REGISTRY.example.com/team/app:V1":          "registry.example.com/team/app:V1",
		"registry.example.com/a/b/c/d":              "registry.example.com/a/b/c/d:latest",
		"127.0.0.1:5000/a":                          "127.0.0.1:5000/a:latest",
		"[::1]:5000/a":                              "[::1]:5000/a:latest",
		"[2001:db8::1]/a":                           "[2001:db8::1]/a:latest",
		"r.example.com/a@" + someDigest:             "r.example.com/a@" + someDigest,
		"r.example.com/a:v1@" + someDigest:          "r.example.com/a:v1@" + someDigest,
		"r.example.com/a.b_c__d-e---f:v1.0_x-y":     "r.example.com/a.b_c__d-e---f:v1.0_x-y",
		"nginx@" + someDigest:                       "index.docker.io/library/nginx@" + someDigest,
		"xn--bcher-kva.example/" + "app:_under":     "xn--bcher-kva.example/app:_under",
		"r.example.com:443/a":                       "r.example.com:443/a:latest",
		"r.example.com/" + strings.Repeat("a", 255): "r.example.com/" + strings.Repeat("a", 255) + ":latest",
	} {
		ref, err := registry.ParseReference(in)
		if err != nil || ref.String() != want {
			t.Errorf("%s: %s, %v", in, ref, err)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "/", "a/", "/a", "r.example.com/", "r.example.com//a", "r.example.com/a//b", "r.example.com/../a", "r.example.com/a/..",
		"r.example.com/./a", "r.example.com/A", "Foo", "r.example.com/a:", "r.example.com/a:.x", "r.example.com/a:-x", "r.example.com/a:x/y",
		"r.example.com/a:" + strings.Repeat("x", 129), "r.example.com/a@", "r.example.com/a@sha256:abc", "r.example.com/a@sha512:" + strings.Repeat("a", 128),
		"r.example.com/a@" + strings.ToUpper(someDigest), "r.example.com/a@" + someDigest + "@" + someDigest, "r.example.com/a@" + someDigest + ":v1",
		"r.example.com:0/a", "r.example.com:65536/a", "r.example.com:080/a", "r.example.com:x/a", "r.example.com:/a", "r.example.com./a", ".example.com/a",
		"-r.example.com/a", "r-.example.com/a", "r_x.example.com/a", "user@r.example.com/a", "https://r.example.com/a", "r.example.com/a?x", "r.example.com/a#x",
		"r.example.com/a%2e", "r.example.com/a b", "r.example.com/a\n", "r.example.com/a\x00", "[::1/a", "[fe80::1%25eth0]/a", "[1.2.3.4]/a", "[]:5000/a",
		"r.example.com/_a", "r.example.com/a_", "r.example.com/a___b", "r.example.com/a..b", "r.example.com/a._b", "r.exámple.com/a", "r.example.com/ä",
		"r.example.com/" + strings.Repeat("a", 256), strings.Repeat("a.", 200) + "com/a", strings.Repeat("x", 2000),
	} {
		ref, err := registry.ParseReference(in)
		if !errors.Is(err, registry.ErrReference) || ref != (registry.Reference{}) {
			t.Errorf("%q: %s, %v", in, ref, err)
		}
	}
}

// What parses, parses from its own string to the same, and means the same to
// go-containerregistry, which other tools use.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{
		"nginx", "docker.io/a", "localhost:5000/a:v1", "[::1]:5000/a", "r.example.com/a:v1@" + someDigest, "a/b:c", "A.b/c", "a.b:443/c__d", "r.example.com/../a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := registry.ParseReference(s)
		if err != nil {
			if ref != (registry.Reference{}) {
				t.Errorf("%q: %+v with an error", s, ref)
			}
			return
		}
		again, err := registry.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Errorf("%q: %+v, then %+v, %v", s, ref, again, err)
		}
		theirs, err := name.ParseReference(ref.String())
		if err != nil {
			t.Skip() // stricter than us: names of one character
		}
		want := ref.Tag
		if !ref.Digest.IsZero() {
			want = ref.Digest.String()
		}
		if theirs.Context().Name() != ref.Name() || theirs.Identifier() != want {
			t.Errorf("%q: %s, theirs %s", s, ref, theirs.Name())
		}
	})
}

// E4: a second spelling of a path is no reference, so that no rule, grant or
// policy ever sees it; a rule's patterns cannot name one either.
func TestE4Traversal(t *testing.T) {
	if ref, err := registry.ParseReference("registry.example.com/team/app:1"); err != nil || ref.Name() != "registry.example.com/team/app" {
		t.Fatalf("the control: %+v, %v", ref, err)
	}
	for _, path := range []string{
		"team/../other", "team/./app", "../app", "team/..", "team//app", "/team/app", "team/app/", "team/%2e%2e/other", "team/app.",
		"team/.app", "team/App", "team/app%2fx", `team\..\elsewhere`, "team/[a]", "team/!app", "team/^app", "team/app..x",
	} {
		for _, s := range []string{"registry.example.com/" + path, "registry.example.com/" + path + ":1", "registry.example.com/" + path + "@sha256:" + strings.Repeat("0", 64)} {
			if ref, err := registry.ParseReference(s); !errors.Is(err, registry.ErrReference) {
				t.Errorf("%s: %+v, %v", s, ref, err)
			}
		}
	}
	rule, err := registry.ParseRule("registry.example.com", []byte(`{"repositories":["team/**"]}`))
	if err != nil || !rule.Allows("team/app") {
		t.Fatalf("the control: %v", err)
	}
	for _, path := range []string{"team/../other", "team//app", "team/%2e%2e/other", "team/App", "other/app", "team"} {
		if rule.Allows(path) {
			t.Errorf("the rule allows %s", path)
		}
	}
	for _, pattern := range []string{"[!a]*", "[^a]/**", "!team/**", "team/../**", "Team/**", "team/%2e%2e"} {
		if _, err := registry.ParseRule("registry.example.com", []byte(`{"repositories":["`+pattern+`"]}`)); !errors.Is(err, registry.ErrRule) {
			t.Errorf("pattern %s: %v", pattern, err)
		}
	}
}
