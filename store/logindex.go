package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// LogEntry is what an entry of the log is about, as the search index has it.
type LogEntry struct {
	// Shard counts from 1, Position from 0 within it.
	Shard    int
	Position uint64
	LeafHash []byte
	Kind     string
	Version  string
	// Digest is of the bytes that were signed: algorithm:hexadecimal.
	Digest string
	// KeyID names the key that signed.
	KeyID string
	// Issuer and Subject are of the certificate, if the entry has one that
	// names somebody, else empty.
	Issuer  string
	Subject string
	// Time is the beginning of the certificate when Certified, else when the
	// entry was first recorded.
	Time      time.Time
	Certified bool
	// Subjects are the digests of artifacts that the signed bytes speak of, as
	// far as bundles that say so are kept. Search fills it; at most
	// LogSubjectsMax.
	Subjects []string
}

// LogSubjectsMax bounds the subjects of one LogEntry.
const LogSubjectsMax = 64

// LogFilter selects entries; an empty field selects all.
type LogFilter struct {
	// Digest is of an artifact, or of what was signed.
	Digest  string
	KeyID   string
	Issuer  string
	Subject string
	// Since is the first moment that counts, Until the first that does not.
	Since time.Time
	Until time.Time
}

// LogIndex is the search index of the log. It is a cache, rebuilt from the log
// and from the kept bundles, never the other way round.
type LogIndex interface {
	// Record adds the entries of a shard that follow the first ones, and counts
	// them, in one step. ErrStale says that the shard has another Size than
	// first. The entries' Shard and Position are not read. What lies there of an
	// index that was reset is replaced, but an entry of the same leaf hash that
	// is not Certified keeps the earlier Time.
	Record(ctx context.Context, shard int, first uint64, entries []LogEntry) error
	// Size is how many entries of the shard are indexed.
	Size(ctx context.Context, shard int) (uint64, error)
	// LeafHash is the leaf hash that is recorded at a position below Size, else
	// ErrNotFound.
	LeafHash(ctx context.Context, shard int, position uint64) ([]byte, error)
	// Reset makes Size 0.
	Reset(ctx context.Context, shard int) error
	// Search returns entries below Size that match all of the filter, newest
	// (highest shard, then position) first.
	Search(ctx context.Context, filter LogFilter, page Page) ([]LogEntry, string, error)
}

// KeptCheckpoint is a checkpoint that the log published.
type KeptCheckpoint struct {
	Shard int
	// LogID is the id of the shard's key.
	LogID []byte
	Size  uint64
	Root  []byte
	// Note is the whole signed note.
	Note []byte
	// UpdatedAt zero means now.
	UpdatedAt time.Time
}

// Checkpoints remembers how far the log has come, apart from the log itself.
type Checkpoints interface {
	// Advance keeps c if it is larger than the one kept for its shard, and does
	// nothing otherwise.
	Advance(ctx context.Context, c KeptCheckpoint) error
	// All returns the largest of each shard, by shard.
	All(ctx context.Context) ([]KeptCheckpoint, error)
	// Forget removes all of them: an older log was restored on purpose.
	Forget(ctx context.Context) error
}

// logIndex implements LogIndex.
type logIndex struct{ db *DB }

const logEntryColumns = `SELECT e.shard, e.position, e.leaf_hash, e.kind, e.version, e.digest, e.key_id, e.issuer,
	e.subject, e.time, e.certified FROM log_entries e`

func scanLogEntry(row scanner) (LogEntry, error) {
	var e LogEntry
	var moment, certified int64
	err := row.Scan(&e.Shard, &e.Position, &e.LeafHash, &e.Kind, &e.Version, &e.Digest, &e.KeyID, &e.Issuer,
		&e.Subject, &moment, &certified)
	e.LeafHash, e.Time, e.Certified = given(e.LeafHash), toTime(moment), certified != 0
	return e, err
}

func (l logIndex) Record(ctx context.Context, shard int, first uint64, entries []LogEntry) error {
	if shard < 1 || first > math.MaxInt64-uint64(len(entries)) {
		return fmt.Errorf("indexing the log: no position %d in shard %d", first, shard)
	}
	rows := make([][]any, 0, len(entries))
	for i, e := range entries {
		certified := int64(0)
		if e.Certified {
			certified = 1
		}
		rows = append(rows, []any{
			int64(shard), int64(first) + int64(i), kept(e.LeafHash), e.Kind, e.Version, e.Digest, e.KeyID, e.Issuer, //nolint:gosec // bounded above
			e.Subject, toInteger(orNow(e.Time)), certified,
		})
	}
	_, err := write(ctx, l.db, l.db.update, "indexing the log", func(ctx context.Context, s session) (struct{}, error) {
		if err := advanceIndex(ctx, s, shard, int64(first), int64(len(entries))); err != nil { //nolint:gosec // bounded above
			return struct{}{}, err
		}
		return struct{}{}, s.insert(ctx,
			"INSERT INTO log_entries (shard, position, leaf_hash, kind, version, digest, key_id, issuer, subject, time, certified)",
			replaceLogEntry, rows)
	})
	return err
}

// replaceLogEntry keeps the moment at which an entry was first seen through a
// rebuild, and leaves a row alone that says the same already: digests are random,
// so each index entry that is written anew is a page read and written somewhere
// else, and a rebuild would slow down with the log's size.
const replaceLogEntry = `ON CONFLICT (shard, position) DO UPDATE SET kind = excluded.kind, version = excluded.version,
	digest = excluded.digest, key_id = excluded.key_id, issuer = excluded.issuer, subject = excluded.subject,
	time = ` + firstSeen + `, leaf_hash = excluded.leaf_hash, certified = excluded.certified
	WHERE log_entries.leaf_hash <> excluded.leaf_hash OR log_entries.kind <> excluded.kind
	OR log_entries.version <> excluded.version OR log_entries.digest <> excluded.digest
	OR log_entries.key_id <> excluded.key_id OR log_entries.issuer <> excluded.issuer
	OR log_entries.subject <> excluded.subject OR log_entries.certified <> excluded.certified
	OR log_entries.time <> ` + firstSeen

const firstSeen = `CASE WHEN log_entries.leaf_hash = excluded.leaf_hash AND excluded.certified = 0 AND log_entries.certified = 0
	AND log_entries.time < excluded.time THEN log_entries.time ELSE excluded.time END`

// advanceIndex moves the shard's size, which lets one recorder at a time through.
func advanceIndex(ctx context.Context, s session, shard int, first, count int64) error {
	if _, err := s.exec(ctx, "INSERT INTO log_indexed (shard, size) VALUES ($1, 0) ON CONFLICT DO NOTHING", int64(shard)); err != nil {
		return err
	}
	moved, err := s.exec(ctx, "UPDATE log_indexed SET size = $1 WHERE shard = $2 AND size = $3", first+count, int64(shard), first)
	if err == nil && moved == 0 {
		err = ErrStale
	}
	return err
}

func (l logIndex) Size(ctx context.Context, shard int) (uint64, error) {
	n, err := one(ctx, l.db.read(), scanInteger, "SELECT size FROM log_indexed WHERE shard = $1", int64(shard))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, l.db.mapError(ctx, "reading the log's index", err)
	}
	return uint64(n), nil //nolint:gosec // a count
}

func (l logIndex) LeafHash(ctx context.Context, shard int, position uint64) ([]byte, error) {
	if position > math.MaxInt64 {
		return nil, ErrNotFound
	}
	hash, err := one(ctx, l.db.read(), scanBytes, "SELECT e.leaf_hash FROM log_entries e WHERE e.shard = $1 AND e.position = $2 AND "+indexedOnly,
		int64(shard), int64(position))
	return hash, l.db.mapError(ctx, "reading the log's index", err)
}

func scanBytes(row scanner) ([]byte, error) {
	var b []byte
	err := row.Scan(&b)
	return given(b), err
}

func (l logIndex) Reset(ctx context.Context, shard int) error {
	_, err := write(ctx, l.db, l.db.update, "resetting the log's index", func(ctx context.Context, s session) (int64, error) {
		return s.exec(ctx, "UPDATE log_indexed SET size = 0 WHERE shard = $1", int64(shard))
	})
	return err
}

// indexedOnly leaves out what a reset index has not reached again.
const indexedOnly = "e.position < (SELECT i.size FROM log_indexed i WHERE i.shard = e.shard)"

func (l logIndex) Search(ctx context.Context, filter LogFilter, page Page) ([]LogEntry, string, error) {
	const list = "l"
	after, err := page.after(list)
	if err != nil {
		return nil, "", err
	}
	w := filter.where()
	if after != "" {
		shard, position, ok := parsePlace(after)
		if !ok {
			return nil, "", ErrCursor
		}
		w.args = append(w.args, shard, position)
		n := len(w.args)
		w.text = append(w.text, fmt.Sprintf("(e.shard, e.position) < ($%d, $%d)", n-1, n))
	}
	query, args := w.list(logEntryColumns, "e.shard DESC, e.position DESC", page.size()+1)
	rows, err := collect(ctx, l.db.read(), scanLogEntry, query, args...)
	if err != nil {
		return nil, "", l.db.mapError(ctx, "searching the log", err)
	}
	rows, next := paginate(page, list, rows, place)
	for i := range rows {
		rows[i].Subjects, err = collect(ctx, l.db.read(), scanText,
			"SELECT digest FROM log_subjects WHERE logged = $1 ORDER BY digest LIMIT $2", rows[i].Digest, LogSubjectsMax)
		if err != nil {
			return nil, "", l.db.mapError(ctx, "searching the log", err)
		}
	}
	return rows, next, nil
}

// where is the filter's conditions. A digest is found by what was signed, which
// is what the index is ordered by, also where it is an artifact's.
func (f LogFilter) where() where {
	w := where{text: []string{indexedOnly}}
	if f.Digest != "" {
		w.args = append(w.args, f.Digest, f.Digest)
		w.text = append(w.text, "e.digest IN (SELECT $1 UNION SELECT s.logged FROM log_subjects s WHERE s.digest = $2)")
	}
	w.equal("e.key_id", f.KeyID)
	if f.Subject != "" {
		w.text = append(w.text, "e.subject <> ''") // the condition of the partial index
	}
	w.equal("e.subject", f.Subject)
	w.equal("e.issuer", f.Issuer)
	if !f.Since.IsZero() {
		w.add("e.time", ">=", toInteger(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("e.time", "<", toInteger(f.Until))
	}
	return w
}

// place is a row as a cursor names it.
func place(e LogEntry) string {
	return strconv.Itoa(e.Shard) + "/" + strconv.FormatUint(e.Position, 10)
}

func parsePlace(text string) (shard, position int64, ok bool) {
	first, second, found := strings.Cut(text, "/")
	shard, err := strconv.ParseInt(first, 10, 32)
	position, err2 := strconv.ParseInt(second, 10, 64)
	ok = found && errors.Join(err, err2) == nil && shard > 0 && position >= 0
	return shard, position, ok && strconv.FormatInt(shard, 10)+"/"+strconv.FormatInt(position, 10) == text
}

// checkpoints implements Checkpoints.
type checkpoints struct{ db *DB }

func (c checkpoints) Advance(ctx context.Context, k KeptCheckpoint) error {
	if k.Shard < 1 || k.Size > math.MaxInt64 {
		return fmt.Errorf("keeping a checkpoint: no size %d of shard %d", k.Size, k.Shard)
	}
	args := []any{int64(k.Shard), kept(k.LogID), int64(k.Size), kept(k.Root), kept(k.Note), toInteger(orNow(k.UpdatedAt))}
	_, err := write(ctx, c.db, c.db.update, "keeping a checkpoint", func(ctx context.Context, s session) (int64, error) {
		return s.exec(ctx, `INSERT INTO log_checkpoints (shard, log_id, size, root, note, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (shard) DO UPDATE SET log_id = excluded.log_id, size = excluded.size, root = excluded.root,
			note = excluded.note, updated_at = excluded.updated_at WHERE log_checkpoints.size < excluded.size`, args...)
	})
	return err
}

func (c checkpoints) Forget(ctx context.Context) error {
	_, err := write(ctx, c.db, c.db.update, "forgetting the kept checkpoints", func(ctx context.Context, s session) (int64, error) {
		return s.exec(ctx, "DELETE FROM log_checkpoints")
	})
	return err
}

func (c checkpoints) All(ctx context.Context) ([]KeptCheckpoint, error) {
	found, err := collect(ctx, c.db.read(), func(row scanner) (KeptCheckpoint, error) {
		var k KeptCheckpoint
		var updated int64
		err := row.Scan(&k.Shard, &k.LogID, &k.Size, &k.Root, &k.Note, &updated)
		k.LogID, k.Root, k.Note, k.UpdatedAt = given(k.LogID), given(k.Root), given(k.Note), toTime(updated)
		return k, err
	}, "SELECT shard, log_id, size, root, note, updated_at FROM log_checkpoints ORDER BY shard")
	if err != nil {
		return nil, c.db.mapError(ctx, "reading the kept checkpoints", err)
	}
	return found, nil
}
