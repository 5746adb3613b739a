package admission

import (
	"strings"
	"testing"
)

// FuzzPath: a path that is read is written as it was.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"a", "a.b[*].c", "a[*][*]", "a/b.~c", "", ".", "a..b", "[*]", "a[0]", "a[*", "a[*]b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parsePath(text)
		if err == nil && formatPath(steps) != text {
			t.Fatalf("%q became %q", text, formatPath(steps))
		}
		if err != nil && steps != nil {
			t.Fatalf("%q failed and left %v", text, steps)
		}
	})
}

// formatPath is the text that parsePath reads into steps.
func formatPath(steps []step) string {
	var b strings.Builder
	for i, s := range steps {
		switch {
		case s.name == "":
			b.WriteString("[*]")
		case i > 0:
			b.WriteString("." + s.name)
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}
