package policy

import "github.com/countersign/countersign/internal/glob"

// text is a pattern over free text: subjects, claims, predicate types.
type text struct{ glob.Text }

func compileText(pattern string) (text, error) {
	compiled, err := glob.CompileText(pattern)
	return text{compiled}, err
}

func (t text) match(s string) bool { return t.Match(s) }

func matchesText(patterns []text, s string) bool {
	for _, p := range patterns {
		if p.match(s) {
			return true
		}
	}
	return false
}
