package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// Errors of this package. Those of policy, registry and store pass through
// wrapped.
var (
	// ErrStored: a stored document cannot be read back.
	ErrStored = errors.New("stored object cannot be read")
	// ErrName: a name that a managed object cannot have, or a document that
	// names itself differently.
	ErrName = errors.New("invalid object name")
	// ErrFull: there are as many objects of the kind as may be.
	ErrFull = errors.New("too many objects of this kind")
)

// Entry is one managed object.
type Entry[T any] struct {
	Name string
	// Value must not be changed: it is shared.
	Value     T
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Draft is a checked document that was not written yet.
type Draft[T any] struct {
	name  string
	alias string // a second name that no other object of the kind may have
	value T
	body  []byte
}

// Name is the object's.
func (d Draft[T]) Name() string { return d.name }

// Value is the checked document.
func (d Draft[T]) Value() T { return d.value }

// Hash is the hexadecimal SHA-256 of the document as it will be stored, for
// the journal.
func (d Draft[T]) Hash() string {
	sum := sha256.Sum256(d.body)
	return hex.EncodeToString(sum[:])
}

// Collection is all objects of one kind.
type Collection[T any] struct {
	kind    string
	objects store.Objects
	decode  func(store.Object) (T, error)
	most    int

	mu sync.Mutex
	// Guarded by mu: entries as of store revision, by name; nil at first.
	revision int64
	entries  map[string]Entry[T]
	sorted   []Entry[T]
}

// maxReloads bounds how often a load is repeated because objects changed
// meanwhile. The last one is used: it is as old as its first read.
const maxReloads = 3

// All returns every object by name order.
func (c *Collection[T]) All(ctx context.Context) ([]Entry[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(ctx); err != nil {
		return nil, err
	}
	return c.sorted, nil
}

// Get returns one object, or store.ErrNotFound.
func (c *Collection[T]) Get(ctx context.Context, name string) (Entry[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(ctx); err != nil {
		return Entry[T]{}, err
	}
	e, ok := c.entries[name]
	if !ok {
		return Entry[T]{}, fmt.Errorf("%s: %w", c.kind, store.ErrNotFound)
	}
	return e, nil
}

// List returns a page in name order.
func (c *Collection[T]) List(ctx context.Context, page store.Page) ([]Entry[T], string, error) {
	objects, next, err := c.objects.List(ctx, c.kind, page)
	if err != nil {
		return nil, "", fmt.Errorf("listing %s objects: %w", c.kind, err)
	}
	entries := make([]Entry[T], 0, len(objects))
	for _, o := range objects {
		e, err := c.entry(o)
		if err != nil {
			return nil, "", err
		}
		entries = append(entries, e)
	}
	return entries, next, nil
}

// Put writes a draft. Revision 0 creates (store.ErrExists if there is one,
// ErrFull if there are too many), another replaces exactly that one
// (store.ErrStale, store.ErrNotFound).
func (c *Collection[T]) Put(ctx context.Context, d Draft[T], revision int64) (Entry[T], error) {
	if revision == 0 {
		if err := c.room(ctx, d.name); err != nil {
			return Entry[T]{}, err
		}
	}
	o, err := c.objects.Put(ctx, store.Object{Kind: c.kind, Name: d.name, Alias: d.alias, Body: d.body, Revision: revision})
	if err != nil {
		return Entry[T]{}, fmt.Errorf("writing a %s: %w", c.kind, err)
	}
	return c.entry(o)
}

// Delete removes exactly that revision; errors as Put.
func (c *Collection[T]) Delete(ctx context.Context, name string, revision int64) error {
	if err := c.objects.Delete(ctx, c.kind, name, revision); err != nil {
		return fmt.Errorf("deleting a %s: %w", c.kind, err)
	}
	return nil
}

// Stored returns the revision of an object without reading its document, so
// that one which cannot be read can still be replaced or deleted.
func (c *Collection[T]) Stored(ctx context.Context, name string) (int64, error) {
	o, err := c.objects.Get(ctx, c.kind, name)
	if err != nil {
		return 0, fmt.Errorf("reading a %s: %w", c.kind, err)
	}
	return o.Revision, nil
}

func (c *Collection[T]) room(ctx context.Context, name string) error {
	entries, err := c.All(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == name {
			return fmt.Errorf("%s: %w", c.kind, store.ErrExists)
		}
	}
	if len(entries) >= c.most {
		return fmt.Errorf("%w: at most %d", ErrFull, c.most)
	}
	return nil
}

// refresh loads the kind again if any object changed. mu is held.
func (c *Collection[T]) refresh(ctx context.Context) error {
	for range maxReloads {
		now, err := c.objects.Revision(ctx)
		if err != nil {
			return fmt.Errorf("asking for the revision: %w", err)
		}
		if c.entries != nil && now == c.revision {
			return nil
		}
		if err := c.load(ctx); err != nil {
			return err
		}
		// The revision was read first: what was loaded is at least as new, and
		// a change during the load shows as another revision.
		c.revision = now
	}
	return nil
}

func (c *Collection[T]) load(ctx context.Context) error {
	entries, sorted := map[string]Entry[T]{}, []Entry[T]{}
	for page := (store.Page{Limit: limits.PageMax}); ; {
		batch, next, err := c.List(ctx, page)
		if err != nil {
			return err
		}
		for _, e := range batch {
			entries[e.Name] = e
		}
		sorted = append(sorted, batch...)
		if len(sorted) > c.most {
			return fmt.Errorf("%w: more than %d %s objects", ErrStored, c.most, c.kind)
		}
		if next == "" {
			break
		}
		page.Cursor = next
	}
	c.entries, c.sorted = entries, sorted
	return nil
}

func (c *Collection[T]) entry(o store.Object) (Entry[T], error) {
	value, err := c.decode(o)
	if err != nil {
		return Entry[T]{}, fmt.Errorf("%w: %s of revision %d: %w", ErrStored, c.kind, o.Revision, err)
	}
	return Entry[T]{Name: o.Name, Value: value, Revision: o.Revision, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt}, nil
}
