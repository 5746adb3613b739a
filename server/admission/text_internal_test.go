package admission

import (
	"testing"
	"unicode/utf8"
)

func TestCutKeepsCharactersWhole(t *testing.T) {
	for n := range 12 {
		if got := cut("äöü€🙂x", n); len(got) > n || !utf8.ValidString(got) {
			t.Errorf("cut to %d gives %q", n, got)
		}
	}
	if got := cut("short", 10); got != "short" {
		t.Errorf("a short text became %q", got)
	}
}

// TestJoinedKeepsValuesWhole: an annotation has whole digests, and says of how
// many more there are.
func TestJoinedKeepsValuesWhole(t *testing.T) {
	if got := joined([]string{"a", "b"}); got != "a,b" {
		t.Errorf("%q", got)
	}
	long := string(make([]byte, maxAnnotation))
	if got := joined([]string{"a", long, "b"}); got != "a,+2" {
		t.Errorf("%.20q", got)
	}
}
