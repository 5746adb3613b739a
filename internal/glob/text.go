package glob

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// Text is a compiled pattern over free text: subjects, claims, URIs. Without
// `*` it is compared byte for byte. With one it is a Pattern; in a URI the
// scheme and host are literal, since a wildcard there would also match
// `evil.io?x=.trusted.example`. The zero value matches nothing.
type Text struct {
	exact  string
	prefix string
	rest   *Pattern
}

// CompileText reads a pattern over free text; errors wrap ErrPattern.
func CompileText(pattern string) (Text, error) {
	if pattern == "" || len(pattern) > limits.Pattern {
		return Text{}, fmt.Errorf("%w: must have 1 to %d bytes", ErrPattern, limits.Pattern)
	}
	if !strings.Contains(pattern, "*") {
		return Text{exact: pattern}, nil
	}
	prefix, rest := "", pattern
	if scheme, after, isURI := strings.Cut(pattern, "://"); isURI && !strings.ContainsAny(scheme, "*/") {
		host, path, _ := strings.Cut(after, "/")
		if strings.Contains(host, "*") {
			return Text{}, fmt.Errorf("%w: a URL's host is without wildcard", ErrPattern)
		}
		prefix, rest = scheme+"://"+host+"/", path
	}
	compiled, err := Compile(rest)
	if err != nil {
		return Text{}, err
	}
	return Text{prefix: prefix, rest: &compiled}, nil
}

// Match reports whether the whole of s matches.
func (t Text) Match(s string) bool {
	if t.rest == nil {
		return t.exact != "" && s == t.exact
	}
	rest, ok := strings.CutPrefix(s, t.prefix)
	return ok && rest != "" && t.rest.Match(rest)
}
