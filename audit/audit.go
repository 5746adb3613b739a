// Package audit keeps the journal of who did what: an append-only chain of
// records in which each holds the hash of the one before.
//
// A record is kept as its canonical JSON (RFC 8785), and its hash is the
// SHA-256 of exactly those bytes:
//
//	{"action":"key.rotate","actor":"local alice","actorIssuer":"local",
//	 "actorSubject":"alice","id":"0194…","outcome":"done","previousHash":"5f1c…",
//	 "requestId":"0194…","resource":"keys/release","sequence":2,
//	 "time":"2026-11-20T10:00:00.123456789Z"}
//
// Verify therefore finds every record that was edited, removed, inserted or
// moved, and, as the store remembers the chain's head apart from the records,
// also a removed end. What a chain alone cannot show is that somebody with
// write access to the whole database computed all hashes anew: audit/anchor
// puts hashes of it in the transparency log, which cannot be computed anew.
//
// The package refuses to change or remove a record, and to journal without
// durability: Append returns only when the record survives a crash, and a
// caller whose record could not be written must not act.
package audit

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// Config is what a Journal needs.
type Config struct {
	// Chain keeps the records. Required.
	Chain store.Chain
	// Clock dates them; nil is the machine's clock.
	Clock clock.Clock
	// NewID names them; nil makes a UUIDv7.
	NewID func() string
	// Appended, if set, hears of each record that was written. It must return
	// at once.
	Appended func(Record)
}

// Journal is the audit journal. It is safe for concurrent use, also by several
// processes on one database.
type Journal struct {
	chain store.Chain
	clock clock.Clock
	newID func() string

	appended func(Record)
}

// New makes a Journal over a chain.
func New(c Config) *Journal {
	j := &Journal{chain: c.Chain, clock: c.Clock, newID: c.NewID, appended: c.Appended}
	if j.clock == nil {
		j.clock = clock.System{}
	}
	if j.newID == nil {
		j.newID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	return j
}

// Append adds r at the end of the chain and returns it as written. It fills
// Sequence, ID, Time, PreviousHash and Hash, whatever r holds there, and
// RequestID from the context unless r has one. Errors: ErrRecord, and those of
// store.Chain; on any error the record must be taken as not written.
func (j *Journal) Append(ctx context.Context, r Record) (Record, error) {
	if err := r.check(); err != nil {
		return Record{}, err
	}
	r.ID, r.Time = j.newID(), j.clock.Now().UTC()
	r.Detail = maps.Clone(r.Detail)
	if r.RequestID == "" {
		r.RequestID = RequestID(ctx)
	}
	link, err := j.chain.Append(ctx, func(sequence int64, previous []byte) (store.Link, error) {
		following := r
		following.Sequence, following.PreviousHash = sequence+1, hex.EncodeToString(previous)
		return following.link()
	})
	if err != nil {
		return Record{}, fmt.Errorf("journalling %s: %w", r.Action, err)
	}
	written, err := ParseLink(link)
	if err == nil && j.appended != nil {
		j.appended(written)
	}
	return written, err
}

// List returns records, newest first, and the cursor of the next page or "". A
// cursor that List did not make is store.ErrCursor.
func (j *Journal) List(ctx context.Context, page store.Page) ([]Record, string, error) {
	before, err := parseCursor(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	limit := min(page.Limit, store.MaxPage-1)
	if limit <= 0 {
		limit = limits.PageDefault
	}
	links, err := j.chain.ReadBack(ctx, before, limit+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(links) > limit {
		links = links[:limit]
		next = formatCursor(links[limit-1].Sequence)
	}
	records := make([]Record, 0, len(links))
	for _, l := range links {
		r, err := ParseLink(l)
		if err != nil {
			return nil, "", fmt.Errorf("%w: record %d: %w", ErrChain, l.Sequence, err)
		}
		records = append(records, r)
	}
	return records, next, nil
}

const cursorPrefix = "audit\x1f"

func formatCursor(sequence int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + strconv.FormatInt(sequence, 10)))
}

func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return 0, store.ErrCursor
	}
	digits, ok := strings.CutPrefix(string(b), cursorPrefix)
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 1 || formatCursor(n) != cursor {
		return 0, store.ErrCursor
	}
	return n, nil
}

type requestIDKey struct{}

// WithRequestID returns a context whose records name the request.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the request that WithRequestID named, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
