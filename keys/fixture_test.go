package keys_test

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// clockAt is a clock that tests move.
type clockAt struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clockAt {
	return &clockAt{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
}

func (c *clockAt) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clockAt) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// objects is the real store with doors for faults and a count of its reads.
type objects struct {
	store.Objects
	reads atomic.Int64
	// putError, when set, is what the next Put returns although it has written.
	putError atomic.Pointer[error]
	// down, when set, is what Revision returns.
	down atomic.Pointer[error]
}

func (o *objects) Get(ctx context.Context, kind, name string) (store.Object, error) {
	o.reads.Add(1)
	return o.Objects.Get(ctx, kind, name)
}

func (o *objects) Revision(ctx context.Context) (int64, error) {
	o.reads.Add(1)
	if err := o.down.Load(); err != nil {
		return 0, *err
	}
	return o.Objects.Revision(ctx)
}

func (o *objects) Put(ctx context.Context, object store.Object) (store.Object, error) {
	stored, err := o.Objects.Put(ctx, object)
	if fault := o.putError.Swap(nil); fault != nil && err == nil {
		return store.Object{}, *fault
	}
	return stored, err
}

// bench is a ring over a real store in a temporary directory.
type bench struct {
	*keys.Ring
	objects    *objects
	master     *keys.Master
	masterPath string
	clock      *clockAt
}

func open(t testing.TB) *bench {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	path := filepath.Join(t.TempDir(), "master.key")
	master, err := keys.OpenMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{objects: &objects{Objects: db.Objects()}, master: master, masterPath: path, clock: newClock()}
	b.Ring = b.another(t)
	return b
}

// another is a second process on the same store.
func (b *bench) another(t testing.TB) *keys.Ring {
	t.Helper()
	ring, err := keys.Open(t.Context(), keys.Config{Objects: b.objects, Master: b.master, Clock: b.clock})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func (b *bench) create(t testing.TB, name string, algorithm keys.Algorithm) keys.Key {
	t.Helper()
	k, err := b.Create(t.Context(), keys.Spec{Name: name, Algorithm: algorithm})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
