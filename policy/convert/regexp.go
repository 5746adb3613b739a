package convert

import (
	"errors"
	"strings"
)

// Marks of wildcards while an expression is read.
const (
	inSegment = '\x01' // [^/]*
	anywhere  = '\x02' // .*
)

var errExpression = errors.New("holds more than text, `.*` and `[^/]*`: write subjectPattern by hand")

// expression reads a regular expression as patterns of which any may match, all
// of them together matching no more than it. What is not anchored becomes so,
// and an unescaped point stands for itself (row E2). narrowed tells whether
// anything is lost.
func expression(re string) (patterns []string, narrowed bool, err error) {
	body, begins := strings.CutPrefix(re, "^")
	body, ends := strings.CutSuffix(body, "$")
	if ends && strings.HasSuffix(body, `\`) {
		return nil, false, errExpression
	}
	narrowed = !begins || !ends
	marked, dots, err := markWildcards(body)
	if err != nil {
		return nil, false, err
	}
	if !strings.ContainsAny(marked, string([]rune{inSegment, anywhere})) {
		return []string{marked}, narrowed || dots, nil
	}
	return spell(marked), true, nil
}

func markWildcards(body string) (marked string, dots bool, err error) {
	var out strings.Builder
	for i := 0; i < len(body); i++ {
		rest := body[i:]
		switch c := body[i]; {
		case strings.HasPrefix(rest, "[^/]*"):
			out.WriteByte(inSegment)
			i += len("[^/]*") - 1
		case strings.HasPrefix(rest, ".*"):
			out.WriteByte(anywhere)
			i++
		case c == '\\' && i+1 < len(body) && strings.IndexByte(`.-/@:_+?()[]{}|^$`, body[i+1]) >= 0:
			i++
			out.WriteByte(body[i])
			continue
		case c == '.':
			dots = true
			out.WriteByte('.')
		case c < ' ' || strings.IndexByte(`\*+?()[]{}|^$`, c) >= 0:
			return "", false, errExpression
		default:
			out.WriteByte(c)
			continue
		}
		if after := body[min(i+1, len(body)):]; after != "" && strings.IndexByte("*+?{", after[0]) >= 0 {
			return "", false, errExpression
		}
	}
	return out.String(), dots, nil
}

// spell writes marks as wildcards. `.*` between slashes is one or more segments,
// elsewhere a part of one; at the end also what follows it.
func spell(marked string) []string {
	var out strings.Builder
	tail := false
	for i, c := range marked {
		before, after := i == 0 || marked[i-1] == '/', i == len(marked)-1 || marked[i+1] == '/'
		switch {
		case c == anywhere && before && after:
			out.WriteString("**")
		case c == anywhere || c == inSegment:
			tail = c == anywhere && i == len(marked)-1
			out.WriteString("*")
		default:
			out.WriteRune(c)
		}
	}
	if tail {
		return []string{out.String(), out.String() + "/**"}
	}
	return []string{out.String()}
}
