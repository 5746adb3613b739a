package admission

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What the Kubernetes API server shows of an answer: warnings beyond 256
// characters may be cut, all of them together at 4096.
const (
	maxWarning  = 256
	maxWarnings = 4096
	maxMessage  = 1024
	// maxAnnotation bounds one audit annotation.
	maxAnnotation = 8192
)

// Warnings are those that the API server shows: each once, without control
// characters (for one of which it drops the warning), within its bounds.
func Warnings(all []string) []string {
	var out []string
	seen := map[string]bool{}
	total := 0
	for _, w := range all {
		w = cut(plain(w), maxWarning)
		if w == "" || seen[w] {
			continue
		}
		if total += len(w); total > maxWarnings {
			break
		}
		seen[w] = true
		out = append(out, w)
	}
	return out
}

// plain is text on one line, in valid UTF-8.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// joined are values in one annotation, whole ones only, and how many more there
// are.
func joined(values []string) string {
	var b strings.Builder
	for i, v := range values {
		if b.Len()+len(v) > maxAnnotation {
			b.WriteString(",+" + strconv.Itoa(len(values)-i))
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(v)
	}
	return b.String()
}
