package glob_test

import (
	"errors"
	"regexp"
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

// E4: no pattern reaches another place by a second spelling of the path, and the
// signs that mean negation in one language and nothing in another have one
// meaning: they stand for themselves, and are refused where nothing has them.
func TestE4Traversal(t *testing.T) {
	for _, tt := range []struct {
		compile func(string) (glob.Pattern, error)
		pattern string
		yes, no []string
	}{
		{glob.CompileImage, "r.example/team/**", []string{"r.example/team/x", "r.example/team/a.b_c-d/x"}, []string{
			"r.example/team/../other", "r.example/team/x/../../other", "r.example/team/./x", "r.example/team//x", "r.example/team/",
			"r.example/team/%2e%2e/other", "r.example/team/x.", "r.example/team/.x", "r.example/team/X", "r.example/team/x%2fy", `r.example/team/..\elsewhere`,
		}},
		{glob.CompileImage, "r.example/*", []string{"r.example/x"}, []string{"r.example/..", "r.example/.", "r.example/", "r.example/%2E%2E"}},
		{glob.CompileRepository, "team/**", []string{"team/x"}, []string{"team/..", "team/../other", "team//x", "team/X", ""}},
		{glob.CompileRepository, "**", []string{"x", "team/x"}, []string{"..", "../x", "x/..", ""}},
		{glob.Compile, "team/**", []string{"team/x", "team/a..b", "team/X//y"}, []string{
			"team/../other", "team/x/%2e%2E/%2e./other", "team/.",
		}},
		{glob.Compile, "repo:acme/*", []string{"repo:acme/app"}, []string{"repo:acme/..", "repo:acme/.%2E"}},
		{glob.Compile, "a/../b", []string{"a/../b"}, []string{"b", "a/b", "a/x/b"}},
		{glob.Compile, "[!a]", []string{"[!a]"}, []string{"b", "a", "!", "^"}},
		{glob.Compile, "[^a]*", []string{"[^a]", "[^a]x"}, []string{"b", "^", "!", "ba"}},
		{glob.Compile, "!main", []string{"!main"}, []string{"main", "other"}},
	} {
		p, err := tt.compile(tt.pattern)
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
	for _, repository := range []string{"[!a]", "[^a]*", "!team/**", "team/../other", "team/./x", "..", "Team/*", "team/%2e%2e", "{a,b}/*", "a?", `a\*`, "..*/[a-z]"} {
		if p, err := glob.CompileRepository(repository); !errors.Is(err, glob.ErrPattern) || p.Match(repository) {
			t.Errorf("repository %q: %v", repository, err)
		}
		if p, err := glob.CompileImage("r.example/" + repository); !errors.Is(err, glob.ErrPattern) || p.Match("r.example/"+repository) {
			t.Errorf("image %q: %v", repository, err)
		}
	}
	if p, err := glob.CompileImage("[::1]:5000/team/*"); err != nil || !p.Match("[::1]:5000/team/app") {
		t.Errorf("the brackets of an address are its own: %v", err)
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

var elsewhere = regexp.MustCompile(`(?i)(^|/)(\.|%2e){1,2}(/|$)`)

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
		{"team/**", "team/../other"},
		{"team/../other", "team/../other"},
		{"team/*", "team/%2E."},
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
		if elsewhere.MatchString(s) {
			want = pattern == s
		}
		if got := p.Match(s); got != want {
			t.Errorf("%q on %q: %t, by definition %t", pattern, s, got, want)
		}
		if _, err := glob.CompileImage(pattern); err == nil && p.Match(s) && !strings.Contains(s, "/") {
			t.Errorf("%q: an image pattern matches %q, which has no repository", pattern, s)
		}
	})
}
