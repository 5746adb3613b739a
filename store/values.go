package store

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// toInteger is t in nanoseconds since 1970, which reach the year 2262 and give
// back exactly what was written.
func toInteger(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func toTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// orNow is t in UTC, or the machine's time when t is zero.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return clock.System{}.Now()
	}
	return t.UTC()
}

// kept is a copy of b that a NOT NULL column takes: nil would be NULL.
func kept(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// given is the reverse of kept.
func given(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// size is how many rows a page asks for.
func (p Page) size() int {
	if p.Limit <= 0 {
		return limits.PageDefault
	}
	return min(p.Limit, MaxPage)
}

// after is the id or name that a cursor of the list names; "" for the first
// page.
func (p Page) after(list string) (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(p.Cursor)
	// The decoder passes over line breaks: a cursor has one spelling.
	if err != nil || base64.RawURLEncoding.EncodeToString(b) != p.Cursor {
		return "", ErrCursor
	}
	key, ok := strings.CutPrefix(string(b), list+"\x1f")
	if !ok || key == "" || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return "", ErrCursor
	}
	return key, nil
}

// paginate cuts rows, of which one more than the page was read, and names the
// next page.
func paginate[T any](p Page, list string, rows []T, key func(T) string) ([]T, string) {
	if len(rows) <= p.size() {
		return rows, ""
	}
	rows = rows[:p.size()]
	last := key(rows[len(rows)-1])
	return rows, base64.RawURLEncoding.EncodeToString([]byte(list + "\x1f" + last))
}
