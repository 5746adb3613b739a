package glob_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"a", []string{"a"}, []string{"", "A", "aa", "a/a", "/a", "a/"}},
		{"*", []string{"a", "abc", ""}, []string{"a/b", "/", "a/"}},
		{"**", []string{"a", "a/b", "a/b/c"}, nil},
		{"a*", []string{"a", "ab"}, []string{"ba", "a/b"}},
		{"*a", []string{"a", "ba", "aa"}, []string{"ab", "b/a"}},
		{"a*b*c", []string{"abc", "axbyc", "abbcc"}, []string{"acb", "ab", "abcd", "a/bc"}},
		{"team/*", []string{"team/a", "team/"}, []string{"team", "team/a/b", "teams/a", "a/team/b"}},
		{"team/**", []string{"team/a", "team/a/b/c"}, []string{"team", "teams/a", "x/team/a"}},
		{"**/app", []string{"a/app", "a/b/app"}, []string{"app", "a/app/b", "a/myapp"}},
		{"a/**/z", []string{"a/b/z", "a/b/c/z", "a/z/z"}, []string{"a/z", "a/b", "b/a/b/z"}},
		{"a/**/m/**/z", []string{"a/b/m/n/z", "a/b/c/m/n/o/z", "a/m/m/m/z"}, []string{"a/m/z", "a/b/m/z", "a/m/n/z"}},
		{"**/**", []string{"a/b", "a/b/c"}, []string{"a"}},
		{"prod-*/x-*-y", []string{"prod-1/x-2-y", "prod-/x--y"}, []string{"prod-1/x-y", "prod1/x-2-y"}},
		// Nothing else is special.
		{"a?c", []string{"a?c"}, []string{"abc"}},
		{"[ab]", []string{"[ab]"}, []string{"a"}},
		{"a.c", []string{"a.c"}, []string{"abc"}},
		{`a\*`, []string{`a\`, `a\x`}, []string{"a*"}},
		{"{a,b}", []string{"{a,b}"}, []string{"a"}},
	} {
		p, err := glob.Compile(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for _, s := range tt.yes {
			if !p.Match(s) {
				t.Errorf("%s does not match %q", tt.pattern, s)
			}
		}
		for _, s := range tt.no {
			if p.Match(s) {
				t.Errorf("%s matches %q", tt.pattern, s)
			}
		}
	}
	if (glob.Pattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
}

// E3: a wildcard in the host never reaches across the slash that ends it, and
// a pattern matches the whole string.
func TestE3WildcardStaysInItsSegment(t *testing.T) {
	for pattern, tt := range map[string]struct{ yes, no []string }{
		"*.reg.example/org/*": {
			[]string{"a.reg.example/org/m"},
			[]string{"evil.io/x.reg.example/org/m", "reg.example/org/m", "a.reg.example/org/m/n", "a.reg.example/org", "a.reg.example.evil.io/org/m", "a.reg.example/evil/org/m"},
		},
		"registry.example.com/prod/**": {
			[]string{"registry.example.com/prod/a", "registry.example.com/prod/a/b"},
			[]string{"evil.io/registry.example.com/prod/a", "registry.example.com.evil.io/prod/a", "xregistry.example.com/prod/a", "registry.example.com/prod", "registry.example.com/production/a"},
		},
		"*/app": {[]string{"any.example.com/app"}, []string{"a/b/app", "evil.io/x/app"}},
	} {
		p, err := glob.CompileImage(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tt.yes {
			if !p.Match(s) {
				t.Errorf("%s does not match %s", pattern, s)
			}
		}
		for _, s := range tt.no {
			if p.Match(s) {
				t.Errorf("%s matches %s", pattern, s)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, pattern := range []string{"", "a//b", "/a", "a/", "/", "a**", "**a", "a/**b", "***", "a/b**c/d", strings.Repeat("a", limits.Pattern+1)} {
		if p, err := glob.Compile(pattern); !errors.Is(err, glob.ErrPattern) || p.Match(pattern) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"**", "**/a", "a", "*", "**/**", "", "registry.example.com"} {
		if _, err := glob.CompileImage(pattern); !errors.Is(err, glob.ErrPattern) {
			t.Errorf("image %q: %v", pattern, err)
		}
	}
}

// H11: the match is linear in space and at worst quadratic in time; patterns
// that send a backtracking matcher away for years end at once.
func TestH11NoBacktrackingExplosion(t *testing.T) {
	done := make(chan bool, 2)
	go func() {
		p, _ := glob.Compile(strings.Repeat("a*", 500) + "b")
		done <- p.Match(strings.Repeat("a", 100_000))
		p, _ = glob.Compile(strings.Repeat("**/a/", 200) + "b")
		done <- p.Match(strings.Repeat("a/", 20_000) + "a")
	}()
	for range 2 {
		select {
		case matched := <-done:
			if matched {
				t.Error("matches")
			}
		case <-time.After(20 * time.Second):
			t.Fatal("does not end")
		}
	}
}

// slow is the definition, by recursion.
func slow(pattern, s []string) bool {
	switch {
	case len(pattern) == 0:
		return len(s) == 0
	case len(s) == 0:
		return false
	case pattern[0] == "**":
		return slow(pattern[1:], s[1:]) || slow(pattern, s[1:])
	}
	return slowSegment(pattern[0], s[0]) && slow(pattern[1:], s[1:])
}

func slowSegment(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return slowSegment(pattern[1:], s) || (s != "" && slowSegment(pattern, s[1:]))
	}
	return s != "" && pattern[0] == s[0] && slowSegment(pattern[1:], s[1:])
}

// FuzzMatch compares the matcher with the definition.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"team/**", "team/a/b"},
		{"*.reg.example/org/*", "evil.io/x.reg.example/org/m"},
		{"a/**/m/**/z", "a/m/m/m/z"},
		{"a*b*c", "abbcc"},
		{"**/**", "a"},
		{"**", ""},
		{"*", ""},
		{"**/a", "a/a/a"},
		{"a*/**", "a//"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 24 || len(s) > 24 {
			t.Skip() // the definition takes exponential time
		}
		p, err := glob.Compile(pattern)
		if err != nil {
			return
		}
		want := slow(strings.Split(pattern, "/"), strings.Split(s, "/"))
		if got := p.Match(s); got != want {
			t.Errorf("%q on %q: %t, by definition %t", pattern, s, got, want)
		}
		if _, err := glob.CompileImage(pattern); err == nil && p.Match(s) && !strings.Contains(s, "/") {
			t.Errorf("%q: an image pattern matches %q, which has no repository", pattern, s)
		}
	})
}
