// Package glob matches whole strings of "/"-separated segments against
// patterns: `*` stands for any run of characters within one segment, `**` for
// any number of whole segments. There is no other syntax: no `?`, no
// character class, no escape, so that two readers cannot disagree. `[`, `!` and
// `^` stand for themselves; in the pattern of a repository, whose names cannot
// have them, they are refused with everything else that could never match.
//
//	registry.example.com/team/*    one repository below team
//	registry.example.com/team/**   everything below team, at any depth
//	prod-*                         a name that begins with prod-
//
// `**` must be a whole segment and never stands for zero segments at the end:
// `team/**` does not match `team`. The first segment of an image pattern is its
// host; `*` cannot cross the `/` that ends it and `**` is refused there by
// CompileImage, so no wildcard reaches from one host into another.
//
// No wildcard stands for a segment that leads elsewhere: `.` and `..`, also
// spelt with %2e, match only themselves. The name of a repository has no such
// segment, no empty one and no uppercase; what has is no name and matches no
// pattern of CompileImage and CompileRepository (row E4).
package glob

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// ErrPattern is wrapped by every error of this package.
var ErrPattern = errors.New("invalid pattern")

// Pattern is a compiled pattern. The zero value matches nothing.
type Pattern struct {
	segments []string
	// names is how many segments stand before the name of a repository; it
	// counts when named.
	names int
	named bool
}

// Compile reads a pattern. It refuses an empty pattern, empty segments, and
// `**` next to other characters.
func Compile(pattern string) (Pattern, error) {
	if pattern == "" || len(pattern) > limits.Pattern {
		return Pattern{}, fmt.Errorf("%w: must have 1 to %d bytes", ErrPattern, limits.Pattern)
	}
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		switch {
		case s == "" && len(segments) > 1:
			return Pattern{}, fmt.Errorf("%w: segment %d is empty", ErrPattern, i+1)
		case s != "**" && strings.Contains(s, "**"):
			return Pattern{}, fmt.Errorf("%w: ** must be a whole segment", ErrPattern)
		}
	}
	return Pattern{segments: segments}, nil
}

// CompileImage reads a pattern over `host/repository`. The first segment is
// the host and must not be `**`; a repository part is required.
func CompileImage(pattern string) (Pattern, error) {
	p, err := Compile(pattern)
	if err != nil {
		return Pattern{}, err
	}
	if len(p.segments) < 2 || p.segments[0] == "**" {
		return Pattern{}, fmt.Errorf("%w: an image pattern is HOST/REPOSITORY and its host is one segment", ErrPattern)
	}
	return p.over(1)
}

// CompileRepository reads a pattern over the name of a repository, without a
// host.
func CompileRepository(pattern string) (Pattern, error) {
	p, err := Compile(pattern)
	if err != nil {
		return Pattern{}, err
	}
	return p.over(0)
}

// over makes p a pattern over repositories, whose name follows so many
// segments.
func (p Pattern) over(names int) (Pattern, error) {
	for _, s := range p.segments[names:] {
		if strings.Trim(s, ".") == "" || strings.IndexFunc(s, func(r rune) bool { return r != '*' && !inName(r) }) >= 0 {
			return Pattern{}, fmt.Errorf("%w: the name of a repository has lowercase letters, digits and inner . _ -", ErrPattern)
		}
	}
	p.names, p.named = names, true
	return p, nil
}

// Match reports whether the whole of s matches.
func (p Pattern) Match(s string) bool {
	if len(p.segments) == 0 {
		return false
	}
	segments := strings.Split(s, "/")
	if p.named && (len(segments) <= p.names || slices.ContainsFunc(segments[p.names:], notNamed)) {
		return false
	}
	if slices.ContainsFunc(segments, leads) {
		return slices.Equal(p.segments, segments)
	}
	return matchSegments(p.segments, segments)
}

// leads reports whether a reader of paths takes a segment for a step to
// elsewhere.
func leads(segment string) bool {
	if len(segment) > len("%2e%2e") {
		return false
	}
	plain := strings.ReplaceAll(strings.ToLower(segment), "%2e", ".")
	return plain == "." || plain == ".."
}

// notNamed reports whether no repository has such a segment in its name.
func notNamed(s string) bool {
	return s == "" || !isAlnum(rune(s[0])) || !isAlnum(rune(s[len(s)-1])) ||
		strings.IndexFunc(s, func(r rune) bool { return !inName(r) }) >= 0
}

func inName(r rune) bool { return isAlnum(r) || r == '.' || r == '_' || r == '-' }

func isAlnum(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }

// matchSegments runs the usual two-pointer wildcard match over segments, where
// `**` is the star: linear in space and at worst quadratic in time.
func matchSegments(pattern, segments []string) bool {
	p, s := 0, 0
	star, mark := -1, 0
	for s < len(segments) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			star, mark = p, s
			p++
			s++ // ** stands for at least one segment
		case p < len(pattern) && matchSegment(pattern[p], segments[s]):
			p++
			s++
		case star >= 0:
			mark++
			p, s = star+1, mark+1
		default:
			return false
		}
		if s > len(segments) {
			return false
		}
	}
	return p == len(pattern)
}

// matchSegment is the same match over the bytes of one segment.
func matchSegment(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
