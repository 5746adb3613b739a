package glob_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/internal/glob"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"https://ci.example/a/b", "https://ci.example/a/b", true},
		{"https://ci.example/a/b", "https://ci.example/a/b/c", false},
		{"https://ci.example/**", "https://ci.example/a//b@refs/heads/main", true},
		{"https://ci.example/**", "https://evil.example/?x=https://ci.example/a", false},
		{"https://ci.example/**", "self-hosted+https://ci.example/a", false},
		{"https://ci.example/*", "https://ci.example/a/b", false},
		{"repo:acme/*:ref:refs/heads/main", "repo:acme/app:ref:refs/heads/main", true},
	} {
		p, err := glob.CompileText(c.pattern)
		if err != nil || p.Match(c.s) != c.want {
			t.Errorf("%s over %s: want %t, %v", c.pattern, c.s, c.want, err)
		}
	}
	for _, bad := range []string{"", "https://*.example/a", "https://ci.example/a**"} {
		if _, err := glob.CompileText(bad); !errors.Is(err, glob.ErrPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (glob.Text{}).Match("") {
		t.Error("the zero value matches")
	}
}
