package store

import (
	"errors"
	"testing"
)

// FuzzCursor: a cursor is read by its own list only, and what is accepted is
// what paginate writes.
func FuzzCursor(f *testing.F) {
	rows := []string{"a", "b"}
	_, cursor := paginate(Page{Limit: 1}, "p", rows, func(s string) string { return s })
	f.Add(cursor)
	f.Add("")
	f.Add("cB8")
	f.Add("!")
	f.Add("cB\n\n9h")
	f.Fuzz(func(t *testing.T, cursor string) {
		key, err := Page{Cursor: cursor}.after("p")
		if err != nil {
			if !errors.Is(err, ErrCursor) || key != "" {
				t.Fatalf("after(%q) = %q, %v", cursor, key, err)
			}
			return
		}
		if cursor == "" {
			return
		}
		if _, again := paginate(Page{Limit: 1}, "p", []string{key, "x"}, func(s string) string { return s }); again != cursor {
			t.Fatalf("%q and %q are one cursor", cursor, again)
		}
		if _, err := (Page{Cursor: cursor}).after("q"); !errors.Is(err, ErrCursor) {
			t.Fatalf("%q is taken by another list", cursor)
		}
	})
}
