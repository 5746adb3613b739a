package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

// told is what a replica believes because its main service published it: the
// trusted root, the managed keys and the TLS certificate. To the key ring it is
// the store, which only the main service writes. It is safe for concurrent use.
//
// Revision asks the database whether anything changed and takes in what did; all
// other methods answer from what was taken in last. The verifier asks for the
// revision at each question.
type told struct {
	objects store.Objects
	under   *keys.Master
	logger  *slog.Logger

	// mu guards what follows; taking in holds it.
	mu sync.Mutex
	// revision is the database's when current was read.
	revision int64
	current  belief
}

// belief is a publication as it was read.
type belief struct {
	// body is the object's, number the publication's.
	body    []byte
	number  int64
	root    trust.Root
	keys    []store.Object
	serving *tls.Certificate
}

// openTold reads the publication, which must be there.
func openTold(ctx context.Context, objects store.Objects, under *keys.Master, logger *slog.Logger) (*told, error) {
	t := &told{objects: objects, under: under, logger: logger, revision: -1}
	return t, t.refresh(ctx)
}

// refresh takes in what was published since.
func (t *told) refresh(ctx context.Context) error {
	_, err := t.Revision(ctx)
	return err
}

// Revision is the database's. When what was published cannot be believed there is
// none, and so no verdict.
func (t *told) Revision(ctx context.Context) (int64, error) {
	revision, err := t.objects.Revision(ctx)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if revision == t.revision {
		return revision, nil
	}
	next, err := t.read(ctx)
	if err != nil {
		return 0, err
	}
	// What was read is as old as the revision that was asked for before, or newer.
	t.current, t.revision = next, revision
	return revision, nil
}

func (t *told) read(ctx context.Context) (belief, error) {
	o, err := t.objects.Get(ctx, publicationKind, publicationName)
	if errors.Is(err, store.ErrNotFound) {
		return belief{}, fmt.Errorf("%w: there is nothing: start the main service with this database once", errPublication)
	}
	if err != nil {
		return belief{}, err
	}
	if bytes.Equal(o.Body, t.current.body) {
		return t.current, nil
	}
	p, err := openPublication(o, t.under)
	if err != nil {
		return belief{}, err
	}
	if p.Number < t.current.number {
		return belief{}, fmt.Errorf("%w: it is older than what was published before", errPublication)
	}
	next, err := p.believed()
	next.body = o.Body
	return next, err
}

func (p publication) believed() (belief, error) {
	b := belief{number: p.Number}
	var err error
	if b.root, err = p.root(); err != nil {
		return belief{}, fmt.Errorf("%w: %w", errPublication, err)
	}
	if b.serving, err = p.Serving.certificate(); err != nil {
		return belief{}, fmt.Errorf("%w: %w", errPublication, err)
	}
	for _, k := range p.Keys {
		b.keys = append(b.keys, store.Object{Kind: keys.Kind, Name: k.Name, Revision: k.Revision, Body: k.Document})
	}
	slices.SortFunc(b.keys, func(a, b store.Object) int { return strings.Compare(a.Name, b.Name) })
	return b, nil
}

func (t *told) believed() belief {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// root is the trusted root in force.
func (t *told) root() trust.Root { return t.believed().root }

// certificate is what tls.Config.GetCertificate wants.
func (t *told) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := t.believed().serving; c != nil {
		return c, nil
	}
	return nil, errors.New("the main service published no TLS certificate: it is not served with tls-self-signed")
}

// run takes in what is published while nobody asks anything: a renewed TLS
// certificate is served before the first question under it.
func (t *told) run(ctx context.Context) {
	var before string
	for wait(ctx, limits.PublicationInterval) {
		err := t.refresh(ctx)
		switch {
		case err == nil:
			before = ""
		case err.Error() != before && ctx.Err() == nil: // once, not at every look
			before = err.Error()
			t.logger.ErrorContext(ctx, "nothing is verified: whom to believe is not known", "error", err)
		}
	}
}

// Get returns a key.
func (t *told) Get(_ context.Context, kind, name string) (store.Object, error) {
	for _, o := range t.believed().keys {
		if o.Kind == kind && o.Name == name {
			return o, nil
		}
	}
	return store.Object{}, store.ErrNotFound
}

// GetByAlias finds nothing: keys have no second name.
func (t *told) GetByAlias(context.Context, string, string) (store.Object, error) {
	return store.Object{}, store.ErrNotFound
}

// List returns the keys after the name that the cursor is.
func (t *told) List(_ context.Context, kind string, page store.Page) ([]store.Object, string, error) {
	limit := page.Limit
	if limit <= 0 || limit > store.MaxPage {
		limit = limits.PageDefault
	}
	var out []store.Object
	for _, o := range t.believed().keys {
		if o.Kind != kind || o.Name <= page.Cursor {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].Name, nil
		}
		out = append(out, o)
	}
	return out, "", nil
}

// Put is refused: only the main service changes keys.
func (t *told) Put(context.Context, store.Object) (store.Object, error) {
	return store.Object{}, fmt.Errorf("%w: a replica changes no key", store.ErrUnavailable)
}

// Delete is refused like Put.
func (t *told) Delete(context.Context, string, string, int64) error {
	return fmt.Errorf("%w: a replica changes no key", store.ErrUnavailable)
}
