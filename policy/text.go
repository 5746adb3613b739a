package policy

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
)

// text is a pattern over free text: subjects, claims, predicate types. Without
// `*` it is compared byte for byte. With one it is a glob over the segments
// between slashes; in a URL the scheme and host are literal, since a wildcard
// there would also match `evil.io?x=.trusted.example`.
type text struct {
	exact  string
	prefix string
	glob   *glob.Pattern
}

func compileText(pattern string) (text, error) {
	if pattern == "" || len(pattern) > limits.Pattern {
		return text{}, fmt.Errorf("%w: must have 1 to %d bytes", glob.ErrPattern, limits.Pattern)
	}
	if !strings.Contains(pattern, "*") {
		return text{exact: pattern}, nil
	}
	prefix, rest := "", pattern
	if scheme, after, isURL := strings.Cut(pattern, "://"); isURL && !strings.ContainsAny(scheme, "*/") {
		host, path, _ := strings.Cut(after, "/")
		if strings.Contains(host, "*") {
			return text{}, fmt.Errorf("%w: a URL's host is without wildcard", glob.ErrPattern)
		}
		prefix, rest = scheme+"://"+host+"/", path
	}
	compiled, err := glob.Compile(rest)
	if err != nil {
		return text{}, err
	}
	return text{prefix: prefix, glob: &compiled}, nil
}

func (t text) match(s string) bool {
	if t.glob == nil {
		return t.exact != "" && s == t.exact
	}
	rest, ok := strings.CutPrefix(s, t.prefix)
	return ok && rest != "" && t.glob.Match(rest)
}

func matchesText(patterns []text, s string) bool {
	for _, p := range patterns {
		if p.match(s) {
			return true
		}
	}
	return false
}
