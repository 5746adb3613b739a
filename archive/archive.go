// Package archive keeps what verification works on and answers: bundles and
// legacy signatures, found by the digest of their subject, and decisions with
// the whole answer that was given.
//
// What an item's signature is over is hashed when it is kept, so that the log's
// entries, which hold that digest, are found by the digest of the subject.
//
// It judges nothing: an item kept here is as untrusted as one fetched from a
// registry, and the verifier proves both alike. It refuses items without a
// digest, a repository or content, and content beyond limits.Bundle.
package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Formats of an item.
const (
	// FormatBundle is a Sigstore bundle v0.3.
	FormatBundle = "bundle"
	// FormatLegacy is a simple signing payload with cosign's annotations.
	FormatLegacy = "legacy"
	// FormatLegacyAttestation is a DSSE envelope with cosign's annotations.
	FormatLegacyAttestation = "legacy-attestation"
	// FormatNotation is an envelope of the Notary Project.
	FormatNotation = "notation"
)

// ErrItem is an item or decision that cannot be kept; the error says why.
var ErrItem = errors.New("invalid archive item")

// Config is what an Archive needs.
type Config struct {
	// Bundles and Decisions keep the rows. Required.
	Bundles   store.Bundles
	Decisions store.Decisions
	// Clock dates what comes without a date; nil is the machine's clock.
	Clock clock.Clock
	// NewID names what comes without an id; nil makes a UUIDv7.
	NewID func() string
}

// Archive is safe for concurrent use.
type Archive struct {
	bundles   store.Bundles
	decisions store.Decisions
	clock     clock.Clock
	newID     func() string
}

// New makes an Archive.
func New(c Config) *Archive {
	a := &Archive{bundles: c.Bundles, decisions: c.Decisions, clock: c.Clock, newID: c.NewID}
	if a.clock == nil {
		a.clock = clock.System{}
	}
	if a.newID == nil {
		a.newID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	return a
}

// Item is one kept bundle or legacy signature.
type Item struct {
	// ID is a UUIDv7; empty lets Keep make one.
	ID string
	// Digest is the subject's.
	Digest attest.Digest
	// Repository is host/repository, without tag or digest.
	Repository string
	// Format is FormatBundle, FormatLegacy, FormatLegacyAttestation or
	// FormatNotation.
	Format string
	// PredicateType is of every attestation, and empty for plain signatures.
	PredicateType string
	// KeyID and Signer name who signed, as the maker of the item knew it.
	KeyID  string
	Signer string
	// LogIndex is the position in the log, nil without a log entry.
	LogIndex *int64
	// Operation is the signing operation that made it, or empty when found.
	Operation string
	// Bundle is the v0.3 JSON of FormatBundle, byte for byte.
	Bundle []byte
	// Legacy is the content of FormatLegacy and FormatLegacyAttestation.
	Legacy *Legacy
	// Notation is the content of FormatNotation.
	Notation *Notation
	// CreatedAt zero lets Keep fill it.
	CreatedAt time.Time
}

// Legacy is a layer of cosign's `.sig` or `.att` tag: its bytes and its
// annotations.
type Legacy struct {
	Payload     []byte            `json:"payload"`
	Annotations map[string]string `json:"annotations"`
}

// Notation is an envelope of the Notary Project, which has no place for its log
// entry: that is kept beside it, as protojson.
type Notation struct {
	MediaType string          `json:"mediaType"`
	Envelope  []byte          `json:"envelope"`
	LogEntry  json.RawMessage `json:"logEntry,omitempty"`
}

// content is the kept form of an item. It holds neither id nor date: two items
// of the same content are one.
type content struct {
	Bundle []byte  `json:"bundle,omitempty"`
	Legacy *Legacy `json:"legacy,omitempty"`

	Notation *Notation `json:"notation,omitempty"`
}

// Keep keeps an item durably. The same content for the same digest and
// repository is kept once, as it was first kept. Errors: ErrItem and those of
// the store.
func (a *Archive) Keep(ctx context.Context, item Item) error {
	body, err := item.content()
	if err != nil {
		return err
	}
	row := store.Bundle{
		ID: item.ID, Digest: item.Digest.String(), Repository: item.Repository, Format: item.Format,
		PredicateType: item.PredicateType, KeyID: item.KeyID, Signer: item.Signer, LogIndex: -1,
		Operation: item.Operation, Body: body, Logged: item.logged(), CreatedAt: item.CreatedAt,
	}
	if item.LogIndex != nil {
		row.LogIndex = *item.LogIndex
	}
	if row.ID == "" {
		row.ID = a.newID()
	}
	if row.CreatedAt.IsZero() {
		row.CreatedAt = a.clock.Now()
	}
	return a.bundles.Keep(ctx, row)
}

func (i Item) content() ([]byte, error) {
	if i.Digest.IsZero() || i.Repository == "" {
		return nil, fmt.Errorf("%w: no digest or repository", ErrItem)
	}
	bundle := i.Format == FormatBundle && len(i.Bundle) > 0 && i.Legacy == nil && i.Notation == nil
	legacy := (i.Format == FormatLegacy || i.Format == FormatLegacyAttestation) && i.Legacy != nil && len(i.Bundle) == 0 && i.Notation == nil
	notation := i.Format == FormatNotation && i.Notation != nil && i.Legacy == nil && len(i.Bundle) == 0
	if !bundle && !legacy && !notation {
		return nil, fmt.Errorf("%w: the content is not of format %q", ErrItem, i.Format)
	}
	if i.LogIndex != nil && *i.LogIndex < 0 {
		return nil, fmt.Errorf("%w: negative log index", ErrItem)
	}
	body, err := json.Marshal(content{Bundle: i.Bundle, Legacy: i.Legacy, Notation: i.Notation})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrItem, err)
	}
	if len(body) > 2*limits.Bundle {
		return nil, fmt.Errorf("%w: larger than a bundle may be", ErrItem)
	}
	return body, nil
}

// Overview returns what is kept for a digest, in any repository, newest first
// and at most limit items, without the content of attestations.
func (a *Archive) Overview(ctx context.Context, digest attest.Digest, limit int) ([]Item, error) {
	if digest.IsZero() {
		return nil, fmt.Errorf("%w: no digest", ErrItem)
	}
	rows, err := a.bundles.BySubject(ctx, digest.String(), limit)
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(rows))
	for _, row := range rows {
		item, err := ParseItem(row)
		if err != nil {
			return nil, fmt.Errorf("reading kept bundle %s: %w", row.ID, err)
		}
		items = append(items, item)
	}
	return items, nil
}

// BySubject returns what is kept for a digest, in any repository, newest first,
// of the predicate types that want takes ("" is a plain signature; a nil want
// takes all): at most limit items of together limits.AttachmentBytes, the last
// of which may go beyond. complete is false when there is more.
func (a *Archive) BySubject(ctx context.Context, digest attest.Digest, want func(predicateType string) bool, limit int) (items []Item, complete bool, err error) {
	all, err := a.Overview(ctx, digest, store.MaxPage)
	if err != nil {
		return nil, false, err
	}
	complete = len(all) < store.MaxPage
	read := 0
	for _, item := range all {
		if want != nil && !want(item.PredicateType) {
			continue
		}
		if len(items) == limit || read >= limits.AttachmentBytes {
			return items, false, nil
		}
		if len(item.Bundle) == 0 && item.Legacy == nil && item.Notation == nil {
			if item, err = a.content(ctx, item.ID); err != nil {
				return nil, false, err
			}
		}
		read += item.size()
		items = append(items, item)
	}
	return items, complete, nil
}

// Count is how much is kept for a digest, in any repository; more than can be
// read of one digest counts as store.MaxPage. It grows with what is kept, and
// nothing makes it less.
func (a *Archive) Count(ctx context.Context, digest attest.Digest) (int, error) {
	return a.bundles.Count(ctx, digest.String(), store.MaxPage)
}

func (a *Archive) content(ctx context.Context, id string) (Item, error) {
	row, err := a.bundles.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	item, err := ParseItem(row)
	if err != nil {
		return Item{}, fmt.Errorf("reading kept bundle %s: %w", id, err)
	}
	return item, nil
}

func (i Item) size() int {
	if i.Legacy != nil {
		return len(i.Legacy.Payload)
	}
	if i.Notation != nil {
		return len(i.Notation.Envelope)
	}
	return len(i.Bundle)
}

// ParseItem reads a row back. It judges nothing.
func ParseItem(row store.Bundle) (Item, error) {
	digest, err := attest.ParseDigest(row.Digest)
	if err != nil {
		return Item{}, err
	}
	var c content
	if len(row.Body) > 0 {
		if err := strictjson.Unmarshal(row.Body, &c); err != nil {
			return Item{}, err
		}
	}
	item := Item{
		ID: row.ID, Digest: digest, Repository: row.Repository, Format: row.Format,
		PredicateType: row.PredicateType, KeyID: row.KeyID, Signer: row.Signer,
		Operation: row.Operation, Bundle: c.Bundle, Legacy: c.Legacy, Notation: c.Notation, CreatedAt: row.CreatedAt,
	}
	if row.LogIndex >= 0 {
		item.LogIndex = &row.LogIndex
	}
	return item, nil
}

// clone copies what a caller may change later.
func (d Decision) clone() Decision {
	d.Context = maps.Clone(d.Context)
	d.Result = bytes.Clone(d.Result)
	return d
}
