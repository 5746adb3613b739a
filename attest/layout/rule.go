package layout

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/countersign/countersign/internal/limits"
)

// edge says that artifacts of a step are matched with those of another.
type edge struct{ own, from, theirs string }

// checkRules refuses rules that in-toto-golang would pass over or fail to read
// only when it applies them: there a bad DISALLOW disallows nothing.
func checkRules(s in_toto.Step, names map[string]bool) ([]edge, error) {
	var edges []edge
	for _, side := range []struct {
		own   string
		rules [][]string
	}{{"materials", s.ExpectedMaterials}, {"products", s.ExpectedProducts}} {
		for _, rule := range side.rules {
			if len(rule) == 0 {
				return nil, fmt.Errorf("expected_%s: an empty rule", side.own)
			}
			parts, err := in_toto.UnpackRule(rule)
			if err != nil {
				return nil, fmt.Errorf("expected_%s: a rule of a form that is not known", side.own)
			}
			if err := checkPattern(parts["pattern"], parts["type"]); err != nil {
				return nil, fmt.Errorf("expected_%s: %w", side.own, err)
			}
			if parts["type"] != "match" {
				continue
			}
			if err := checkMatch(parts, names); err != nil {
				return nil, fmt.Errorf("expected_%s: %w", side.own, err)
			}
			edges = append(edges, edge{own: side.own, from: parts["dstName"], theirs: parts["dstType"]})
		}
	}
	return edges, nil
}

func checkMatch(parts map[string]string, names map[string]bool) error {
	if !names[parts["dstName"]] {
		return errors.New("MATCH: FROM names no step")
	}
	if parts["dstType"] != "materials" && parts["dstType"] != "products" {
		return errors.New("MATCH: want WITH MATERIALS or WITH PRODUCTS")
	}
	for _, prefix := range []string{parts["srcPrefix"], parts["dstPrefix"]} {
		if prefix != "" && strings.TrimSuffix(prefix, "/") != path.Clean(prefix) {
			return errors.New("MATCH: IN is not a plain path")
		}
	}
	return nil
}

// checkPattern takes the patterns that in-toto's implementations in Go and
// Python read alike: `*` and `?` for any characters, slashes too, and classes
// [abc], [a-z] and [!abc], where `^` is a character like others. A backslash
// escapes in one and not in the other, and a class without an end, or with a
// range that is no range, is an error in one and text in the other. Paths that
// are not plain (dir/../file) are cleaned in one only.
func checkPattern(pattern, kind string) error {
	switch {
	case pattern == "" || len(pattern) > limits.Pattern || !utf8.ValidString(pattern):
		return errors.New("a pattern that is empty, too long or not UTF-8")
	case path.Clean(pattern) != pattern:
		return errors.New("a pattern that is not a plain path: it ends in a slash or has //, . or .. in it")
	case kind == "require":
		return nil // a file name, not a pattern
	case strings.Contains(pattern, `\`):
		return errors.New("a pattern with a backslash, which readers take differently")
	}
	rest := pattern
	for {
		_, after, found := strings.Cut(rest, "[")
		if !found {
			return nil
		}
		class, tail, closed := strings.Cut(strings.TrimPrefix(after, "!"), "]")
		if !closed || !isClass(class) {
			return errors.New("a pattern with a class that is not like [abc], [a-z] or [!abc]")
		}
		rest = tail
	}
}

func isClass(class string) bool {
	members := []rune(class)
	if len(members) == 0 || slices.Contains(members, '[') || slices.Contains(members, '/') {
		return false
	}
	for i := 0; i < len(members); i++ {
		if members[i] == '-' {
			return false
		}
		if i+1 < len(members) && members[i+1] == '-' {
			if i+2 >= len(members) || members[i+2] == '-' || members[i+2] < members[i] {
				return false
			}
			i += 2
		}
	}
	return true
}
