// Package store keeps what must survive: managed objects, signing operations,
// kept bundles, decisions, the audit chain, the log's leaf and search index, its
// last checkpoints and what was used once. It offers a few small interfaces with one implementation over
// SQLite (the embedded default) and PostgreSQL; store/storetest is the suite
// both must pass.
//
// It knows nothing of what the bytes mean and judges nothing. A method that
// returns nil has made its effect durable: it survives the process being
// killed, and on storage that honours fsync also the machine. A method that
// returns an error has had no effect, unless the error is the context's or
// ErrUnavailable, in which case the effect may have happened; callers repeat
// with the same arguments, which every writing method allows.
//
// Times are kept in UTC to the nanosecond as integers; the zero time.Time is
// kept as 0 and read back as the zero time. Where a writing method says that a
// zero time means now, that is the machine's clock. Text fields are UTF-8
// without NUL and at most MaxText bytes, which is what every database can hold
// and index: writing any other is ErrText, asking for any other finds nothing.
// Empty and nil bytes are the same and read back as nil.
//
// Lists take a Page. Their cursors name the last row seen by its id or name, so
// rows written between two pages neither repeat nor hide others.
//
// All implementations are safe for concurrent use.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors of every interface.
var (
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists: a row of that name exists already.
	ErrExists = errors.New("exists already")
	// ErrStale: the row's revision is not the one named.
	ErrStale = errors.New("changed since it was read")
	// ErrUnavailable: the database cannot be reached or written; try again.
	ErrUnavailable = errors.New("store unavailable")
	// ErrExhausted: the database's disk is full, read-only or failing, or there
	// are no file descriptors. It is always ErrUnavailable, too.
	ErrExhausted = errors.New("storage exhausted")
	// ErrCursor: the page's cursor was not made by this list.
	ErrCursor = errors.New("invalid cursor")
	// ErrText: a text field is longer than MaxText or not UTF-8 without NUL.
	ErrText = errors.New("text that cannot be kept")
)

// MaxText bounds a text field, in bytes.
const MaxText = 1024

// Page asks for at most Limit rows after the row that Cursor names. The zero
// Cursor asks for the first page, the zero Limit for limits.PageDefault rows;
// no page holds more than MaxPage. A cursor is opaque and belongs to the list
// that answered it: another list refuses it with ErrCursor.
type Page struct {
	Limit  int
	Cursor string
}

// MaxPage bounds one page whatever its Limit says. It is wider than what the
// API allows, for callers in the process that load a whole kind.
const MaxPage = 1024

// Object is a managed object: a JSON document under a kind and a name.
type Object struct {
	Kind string
	Name string
	// Alias is a second unique name within the kind (a token's hash), or
	// empty.
	Alias string
	// Revision starts at 1 and grows by 1 with each Put.
	Revision int64
	Body     []byte
	// CreatedAt is when revision 1 was written; UpdatedAt when this one was.
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Objects keeps managed objects.
type Objects interface {
	// Get returns the object, or ErrNotFound.
	Get(ctx context.Context, kind, name string) (Object, error)
	// GetByAlias returns the object of that alias, or ErrNotFound.
	GetByAlias(ctx context.Context, kind, alias string) (Object, error)
	// List returns objects of a kind ordered by name, and the cursor of the
	// next page or "".
	List(ctx context.Context, kind string, page Page) ([]Object, string, error)
	// Put writes o.Body and o.Alias. With o.Revision 0 it creates (ErrExists if
	// there is one), else it replaces exactly that revision (ErrStale if it is
	// another one, ErrNotFound if there is none). An alias that another object
	// of the kind holds is ErrExists. UpdatedAt zero means now; CreatedAt is
	// read at creation only, where zero means UpdatedAt. It returns the object
	// as written.
	Put(ctx context.Context, o Object) (Object, error)
	// Delete removes exactly that revision; errors as Put.
	Delete(ctx context.Context, kind, name string, revision int64) error
	// Revision grows with every Put and Delete of any object. Equal values
	// mean that no object changed in between.
	Revision(ctx context.Context) (int64, error)
}

// Operation is one signing sequence and its result.
type Operation struct {
	// ID is a UUIDv7; it is also the id of the signature it makes.
	ID string
	// Kind is "signature" or "attestation".
	Kind string
	// Scope and IdempotencyKey name a retry: scope is the caller and the
	// route. An empty key never matches.
	Scope          string
	IdempotencyKey string
	// RequestHash is compared when the key is used again.
	RequestHash []byte
	// State is pending, running, done or failed.
	State string
	// Repository, Digest and Signer are what lists filter by.
	Repository string
	Digest     string
	Signer     string
	// PredicateType is empty for plain signatures.
	PredicateType string
	// Body is the caller's own document of progress.
	Body []byte
	// Result is the answer once State is done, or the problem once failed.
	Result []byte
	// CreatedAt and UpdatedAt are the caller's; zero means now.
	CreatedAt time.Time
	UpdatedAt time.Time
}

// OperationFilter selects operations; empty fields select all.
type OperationFilter struct {
	Kind          string
	State         string
	Repository    string
	Digest        string
	Signer        string
	PredicateType string
	// WithoutBody and WithoutResult leave those two out of what is read: with
	// attestations they are large.
	WithoutBody   bool
	WithoutResult bool
}

// Operations keeps signing sequences.
type Operations interface {
	// Begin inserts op. If one with the same scope and non-empty idempotency
	// key exists, or one with the same ID, that one is returned with existed
	// true and nothing is written. Of concurrent calls with one key exactly
	// one inserts.
	Begin(ctx context.Context, op Operation) (stored Operation, existed bool, err error)
	// Update writes State, Body, Result, UpdatedAt and the filter fields
	// (Repository, Digest, Signer, PredicateType) of op.ID, or ErrNotFound.
	// Kind, Scope, IdempotencyKey, RequestHash and CreatedAt never change.
	Update(ctx context.Context, op Operation) error
	// Get returns an operation, or ErrNotFound.
	Get(ctx context.Context, id string) (Operation, error)
	// Find returns the operation of a scope and idempotency key, or
	// ErrNotFound.
	Find(ctx context.Context, scope, key string) (Operation, error)
	// List returns operations, newest (highest ID) first.
	List(ctx context.Context, filter OperationFilter, page Page) ([]Operation, string, error)
}

// Bundle is a kept bundle or legacy signature of one subject.
type Bundle struct {
	// ID is a UUIDv7.
	ID            string
	Digest        string
	Repository    string
	Format        string
	PredicateType string
	KeyID         string
	Signer        string
	// LogIndex is the position of its entry in a log; negative when it has
	// none.
	LogIndex int64
	// Operation is the operation that made it, or empty when it was found.
	Operation string
	// Body is the archive's own document, unique per Digest and Repository.
	Body []byte
	// Logged are the digests (algorithm:hexadecimal) under which a log names
	// what was signed. Keep relates them to Digest, for LogIndex.Search; they
	// are not read back.
	Logged []string
	// CreatedAt zero means now.
	CreatedAt time.Time
}

// Bundles keeps bundles by subject digest.
type Bundles interface {
	// Keep inserts b; a bundle with the same digest, repository and body is
	// kept once, as it was first written.
	Keep(ctx context.Context, b Bundle) error
	// BySubject returns the bundles of a digest, newest (by CreatedAt, then
	// ID) first, at most limit and at most MaxPage, with the Body of plain
	// signatures only: a page of attestations may be hundreds of megabytes.
	BySubject(ctx context.Context, digest string, limit int) ([]Bundle, error)
	// Count is how many bundles of a digest are kept, or most if it is more:
	// none is ever removed, so an equal number below most says that nothing came.
	Count(ctx context.Context, digest string, most int) (int, error)
	// Get returns a bundle with its Body, or ErrNotFound.
	Get(ctx context.Context, id string) (Bundle, error)
	// Each returns up to limit bundles whose ID is higher than after, by ID.
	Each(ctx context.Context, after string, limit int) ([]Bundle, error)
	// Relate does again what Keep does with Logged, for bundles kept before.
	Relate(ctx context.Context, digest string, logged []string) error
}

// Decision is one answered question.
type Decision struct {
	// ID is a UUIDv7.
	ID      string
	Image   string
	Digest  string
	Verdict string
	Policy  string
	Caller  string
	Body    []byte
	// CreatedAt zero means now.
	CreatedAt time.Time
}

// DecisionFilter selects decisions; empty fields select all.
type DecisionFilter struct {
	Verdict string
	Digest  string
	Image   string
}

// Decisions keeps answers.
type Decisions interface {
	// Add inserts decisions, all or none. One whose ID is kept already is
	// passed over.
	Add(ctx context.Context, ds ...Decision) error
	// Get returns a decision, or ErrNotFound.
	Get(ctx context.Context, id string) (Decision, error)
	// List returns decisions, newest (highest ID) first.
	List(ctx context.Context, filter DecisionFilter, page Page) ([]Decision, string, error)
}

// Link is one record of the audit chain.
type Link struct {
	// Sequence starts at 1 and has no gaps.
	Sequence int64
	Body     []byte
	Hash     []byte
}

// Chain is the append-only, hash-chained audit journal.
type Chain interface {
	// Append calls next with the last link's sequence and hash (0 and nil at
	// the start) and appends what it returns, whose Sequence must be one more.
	// Appends are serialised, also between processes on one database: no two
	// links have the same predecessor. next may be called again when the
	// transaction is repeated, from another goroutine, and still be running
	// when Append returned the context's error; it must be quick, have no side
	// effects and not use the store. Its error is returned as it is.
	Append(ctx context.Context, next func(sequence int64, previous []byte) (Link, error)) (Link, error)
	// Head returns the sequence and hash of the last link as Append remembers
	// them, kept apart from the links so that removing the last ones shows; 0
	// and nil at the start.
	Head(ctx context.Context) (sequence int64, hash []byte, err error)
	// Read returns up to limit links after a sequence, in order.
	Read(ctx context.Context, after int64, limit int) ([]Link, error)
	// ReadBack returns up to limit links before a sequence, newest first; 0
	// starts at the end.
	ReadBack(ctx context.Context, before int64, limit int) ([]Link, error)
}

// Leaves is the index from leaf hash to position of one shard of the log. It is
// a cache of the log: rebuilt from it, never the other way round. Shards know
// nothing of each other: the same leaf may be recorded in several.
type Leaves interface {
	// Find returns the lowest position of a leaf hash.
	Find(ctx context.Context, leafHash []byte) (index uint64, found bool, err error)
	// Record stores the hashes of consecutive leaves from position first on.
	// Positions already stored are passed over.
	Record(ctx context.Context, first uint64, leafHashes [][]byte) error
	// Size is the number of consecutive positions stored from 0 on. Positions
	// recorded beyond a gap count once the gap is filled.
	Size(ctx context.Context) (uint64, error)
}

// Uses remembers what may be used once.
type Uses interface {
	// Use binds id to a purpose until a time, which it keeps to the second. The
	// first call for an id answers true, a later one whether its purpose is the
	// same; of concurrent first calls with different purposes exactly one
	// answers true. What was bound until now or earlier is forgotten.
	Use(ctx context.Context, id, purpose string, now, until time.Time) (bool, error)
}
