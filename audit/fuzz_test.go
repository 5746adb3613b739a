package audit

import (
	"bytes"
	"errors"
	"testing"

	"github.com/countersign/countersign/store"
)

// FuzzParseCursor: what is accepted is what formatCursor wrote.
func FuzzParseCursor(f *testing.F) {
	for _, n := range []int64{1, 2, 1 << 40} {
		f.Add(formatCursor(n))
	}
	f.Add("YXVkaXQfMDE")
	f.Add("!")
	f.Fuzz(func(t *testing.T, cursor string) {
		n, err := parseCursor(cursor)
		if err != nil {
			if !errors.Is(err, store.ErrCursor) || n != 0 {
				t.Fatalf("parseCursor(%q) = %d, %v", cursor, n, err)
			}
			return
		}
		if cursor != "" && formatCursor(n) != cursor {
			t.Fatalf("%q and %q are one cursor", cursor, formatCursor(n))
		}
	})
}

// FuzzParseLink: a kept record that is in canonical form and can be read back
// reads back to the same bytes, and nothing panics.
func FuzzParseLink(f *testing.F) {
	f.Add([]byte(`{"action":"a","actor":"","id":"","outcome":"done","previousHash":"","sequence":1,"time":"2026-11-20T10:00:00Z"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"detail":{"a":"b"},"sequence":1e3}`))
	f.Add([]byte("{\"action\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := verification{}
		problem := v.problem(store.Link{Sequence: 1, Body: body})
		if problem == "" {
			t.Fatal("a record without its hash passed")
		}
		r, err := ParseLink(store.Link{Sequence: 1, Body: body})
		if err != nil {
			return
		}
		link, err := r.link()
		if err != nil {
			return
		}
		again, err := ParseLink(link)
		if err != nil {
			t.Fatalf("%q reads back as nothing: %v", link.Body, err)
		}
		if twice, err := again.canonical(); err != nil || !bytes.Equal(twice, link.Body) {
			t.Fatalf("canonical form is not stable: %q, then %q", link.Body, twice)
		}
	})
}
