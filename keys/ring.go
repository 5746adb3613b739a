package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// Kind is the store's kind of every key.
const Kind = "key"

// Staleness is how long after it became durable a change made by another
// process may go unnoticed by Sign.
const Staleness = time.Second

// Config is what a Ring needs. Objects, Master and Clock are required.
type Config struct {
	Objects store.Objects
	Master  *Master
	Clock   clock.Clock
	// Rand is crypto/rand when nil.
	Rand io.Reader
	// Backends are the back ends beside BackendFile, by name.
	Backends map[string]Backend
	// Refs are the references that Create and RotateTo accept; Reserved are
	// those of the service's own keys, which they never do.
	Refs     Refs
	Reserved []string
	// BackendTimeout is limits.BackendCall when zero.
	BackendTimeout time.Duration
	// Changed is told of each change of a managed key when it is durable, before
	// the call that made it returns; its error is that call's. Nil tells nobody.
	Changed func(ctx context.Context) error
}

// Ring holds the service's keys. It is safe for concurrent use.
type Ring struct {
	objects store.Objects
	master  *Master
	clock   clock.Clock
	rand    io.Reader

	backends map[string]*bounded
	refs     Refs
	reserved []string
	changed  func(ctx context.Context) error
	// adopting is held from before a public half is found to be unknown until
	// it is recorded.
	adopting sync.Mutex

	// asked is the last answer to "has anything changed", shared by all slots.
	asked atomic.Pointer[answer]
	// asking lets one caller ask and the others wait for its answer.
	asking sync.Mutex

	// mu guards slots. A slot is made only for a key that exists and is never
	// taken away, so that a key has one lock for good.
	mu    sync.Mutex
	slots map[string]*slot
}

type answer struct {
	revision int64
	at       time.Time
}

// Open opens the ring and checks that every stored key is authentic under the
// master key, so that a wrong or lost master key file stops the start and not
// the first signature. Errors wrap ErrSealed or the store's.
func Open(ctx context.Context, c Config) (*Ring, error) {
	if c.Objects == nil || c.Master == nil || c.Clock == nil {
		return nil, errors.New("key ring needs a store, a master key and a clock")
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	r := &Ring{
		objects: c.Objects, master: c.Master, clock: c.Clock, rand: c.Rand, slots: map[string]*slot{},
		backends: map[string]*bounded{}, refs: c.Refs, reserved: slices.Clone(c.Reserved), changed: c.Changed,
	}
	for name, b := range c.Backends {
		r.backends[name] = newBounded(b, c.BackendTimeout)
	}
	return r, r.checkAll(ctx)
}

func (r *Ring) checkAll(ctx context.Context) error {
	page := store.Page{Limit: limits.PageMax}
	for {
		objects, next, err := r.objects.List(ctx, Kind, page)
		if err != nil {
			return fmt.Errorf("listing keys: %w", err)
		}
		for _, o := range objects {
			if _, err := r.decodeKey(o); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

func (r *Ring) decodeKey(o store.Object) (Key, error) {
	rec, err := r.master.decode(o)
	if err != nil {
		return Key{}, err
	}
	return rec.key()
}

// Get returns a key as it is in the store now, or ErrNotFound.
func (r *Ring) Get(ctx context.Context, name string) (Key, error) {
	rec, err := r.read(ctx, name)
	if err != nil {
		return Key{}, err
	}
	return rec.key()
}

func (r *Ring) read(ctx context.Context, name string) (record, error) {
	if err := checkName(name); err != nil {
		return record{}, ErrNotFound // no key can have that name
	}
	o, err := r.objects.Get(ctx, Kind, name)
	if errors.Is(err, store.ErrNotFound) {
		return record{}, ErrNotFound
	}
	if err != nil {
		return record{}, fmt.Errorf("reading key: %w", err)
	}
	return r.master.decode(o)
}

// List returns managed keys ordered by name and the cursor of the next page or
// "". See Service for those of the service.
func (r *Ring) List(ctx context.Context, page store.Page) ([]Key, string, error) {
	if page.Limit <= 0 || page.Limit > limits.PageMax {
		page.Limit = limits.PageDefault
	}
	return r.list(ctx, page, Key.Managed)
}

// Service returns the service's own keys ordered by name.
func (r *Ring) Service(ctx context.Context) ([]Key, error) {
	var all []Key
	page := store.Page{Limit: limits.PageMax}
	for {
		some, next, err := r.list(ctx, page, Key.Service)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		page.Cursor = next
	}
}

// list fetches until the page is full: what is left out must not make pages
// short or their cursors skip.
func (r *Ring) list(ctx context.Context, page store.Page, want func(Key) bool) ([]Key, string, error) {
	var out []Key
	cursor := page.Cursor
	for {
		objects, next, err := r.objects.List(ctx, Kind, store.Page{Limit: page.Limit - len(out), Cursor: cursor})
		if err != nil {
			return nil, "", fmt.Errorf("listing keys: %w", err)
		}
		for _, o := range objects {
			k, err := r.decodeKey(o)
			if err != nil {
				return nil, "", err
			}
			if want(k) {
				out = append(out, k)
			}
		}
		if next == "" || len(out) >= page.Limit {
			return out, next, nil
		}
		cursor = next
	}
}

// Revision is the store's: while it stays equal no key has changed. It also
// grows when other managed objects change.
func (r *Ring) Revision(ctx context.Context) (int64, error) {
	revision, err := r.objects.Revision(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the store's revision: %w", err)
	}
	return revision, nil
}

// Create makes a key with PurposeSign and its first version, active unless the
// spec says otherwise. With another back end than BackendFile it adopts the key
// that is there under Spec.Ref. Errors: ErrName (also for a name that begins
// like those of the service's own keys), ErrAlgorithm, ErrBackend,
// ErrPurpose for any other purpose, ErrExists (also for a public half that
// another key has); of other back ends ErrRef, ErrRefused, ErrUnavailable, and
// ErrChanged when the key does not sign as its public half says.
func (r *Ring) Create(ctx context.Context, spec Spec) (Key, error) {
	spec, err := spec.validated()
	if err != nil {
		return Key{}, err
	}
	if len(spec.Purposes) != 1 || spec.Purposes[0] != PurposeSign {
		return Key{}, fmt.Errorf("%w: keys made on request have the purpose %q", ErrPurpose, PurposeSign)
	}
	if strings.HasPrefix(spec.Name, ownPrefix) {
		return Key{}, fmt.Errorf("%w: names that begin with %q are the service's own", ErrName, ownPrefix)
	}
	if spec.Backend != BackendFile {
		if err := r.mayName(spec.Backend, spec.Ref); err != nil {
			return Key{}, err
		}
	}
	return r.create(ctx, spec)
}

// Ensure returns the key of the spec's name and makes it when there is none.
// It is how the service gets its own keys; any purpose and, in another back
// end, any reference is allowed: both come from the operator. A key of
// that name with another algorithm or other purposes is ErrExists.
func (r *Ring) Ensure(ctx context.Context, spec Spec) (Key, error) {
	spec, err := spec.validated()
	if err != nil {
		return Key{}, err
	}
	k, err := r.Get(ctx, spec.Name)
	if errors.Is(err, ErrNotFound) {
		k, err = r.create(ctx, spec)
		if errors.Is(err, ErrExists) { // another process was faster, or the public half is another key's
			if made, getErr := r.Get(ctx, spec.Name); getErr == nil {
				k, err = made, nil
			}
		}
	}
	if err != nil {
		return Key{}, err
	}
	if !spec.describes(k) {
		return Key{}, fmt.Errorf("%w: %q is %s for %v", ErrExists, k.Name, k.Algorithm, k.Purposes)
	}
	return k, nil
}

func (r *Ring) create(ctx context.Context, spec Spec) (Key, error) {
	now := r.now()
	rec := record{
		Name: spec.Name, Algorithm: spec.Algorithm, Backend: spec.Backend, Ref: spec.Ref,
		Purposes: spec.Purposes, CreatedAt: now,
	}
	state := Active
	if spec.PreActive {
		state = PreActive
	}
	if spec.Backend != BackendFile {
		return r.createAdopted(ctx, rec, spec, state)
	}
	private, err := rec.Algorithm.generate(r.rand)
	if err != nil {
		return Key{}, fmt.Errorf("generating %s key: %w", rec.Algorithm, err)
	}
	if err := r.addVersion(&rec, private, state, now); err != nil {
		return Key{}, err
	}
	return r.writeFirst(ctx, rec, now)
}

func (r *Ring) createAdopted(ctx context.Context, rec record, spec Spec, state State) (Key, error) {
	r.adopting.Lock()
	defer r.adopting.Unlock()
	if _, err := r.read(ctx, spec.Name); !errors.Is(err, ErrNotFound) {
		return Key{}, errors.Join(err, ErrExists)
	}
	pub, algorithm, err := r.adopt(ctx, spec)
	if err != nil {
		return Key{}, err
	}
	now := r.now()
	rec.Algorithm, rec.CreatedAt = algorithm, now
	if err := r.addAdopted(&rec, pub, spec.Ref, state, now); err != nil {
		return Key{}, err
	}
	return r.writeFirst(ctx, rec, now)
}

func (r *Ring) writeFirst(ctx context.Context, rec record, now time.Time) (Key, error) {
	k, err := r.write(ctx, rec, now)
	if errors.Is(err, store.ErrExists) {
		return Key{}, ErrExists
	}
	return k, err
}

// addVersion seals a private key as the next version and makes it current.
func (r *Ring) addVersion(rec *record, private crypto.Signer, state State, now time.Time) (err error) {
	v := recordVersion{Version: len(rec.Versions) + 1, State: state, CreatedAt: now}
	if v.KeyID, err = KeyID(private.Public()); err != nil {
		return err
	}
	if v.Public, err = publicPEM(private.Public()); err != nil {
		return err
	}
	if v.Sealed, err = r.master.seal(private, rec.place(&v), r.rand); err != nil {
		return err
	}
	rec.append(v, now)
	return nil
}

// write replaces revision rec.Revision of the key; store.ErrStale and
// store.ErrExists pass through.
func (r *Ring) write(ctx context.Context, rec record, now time.Time) (Key, error) {
	rec.UpdatedAt = now
	o, err := r.master.encode(rec)
	if err != nil {
		return Key{}, err
	}
	if o, err = r.objects.Put(ctx, o); err != nil {
		return Key{}, fmt.Errorf("writing key: %w", err)
	}
	k, err := r.decodeKey(o)
	if err != nil || r.changed == nil || !k.Managed() {
		return k, err
	}
	return k, r.changed(ctx)
}

// now is in whole microseconds: what a store or a JSON document keeps.
func (r *Ring) now() time.Time { return r.clock.Now().UTC().Truncate(time.Microsecond) }
