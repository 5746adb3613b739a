package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// publishing is a database with a key ring, and what replicas of it believe.
type publishing struct {
	t       *testing.T
	objects store.Objects
	ring    *keys.Ring
	under   *keys.Master
	root    json.RawMessage
}

func newPublishing(t *testing.T) *publishing {
	t.Helper()
	dir := t.TempDir()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := &publishing{t: t, objects: db.Objects()}
	master, err := keys.OpenMaster(filepath.Join(dir, "master.key"))
	p.must(err)
	p.under, err = master.Replica()
	p.must(err)
	p.ring, err = keys.Open(t.Context(), keys.Config{Objects: p.objects, Master: master, Clock: clock.System{}})
	p.must(err)
	p.root, err = testauthority.New(t).Root().MarshalTrustedRoot()
	p.must(err)
	return p
}

func (p *publishing) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// publish writes a publication of the keys there are, and returns the object.
func (p *publishing) publish(number int64) store.Object {
	p.t.Helper()
	next := publication{Format: publicationFormat, Number: number, TrustedRoot: p.root}
	published, err := p.ring.Publish(p.t.Context(), p.under)
	p.must(err)
	for _, o := range published {
		next.Keys = append(next.Keys, publishedKey{Name: o.Name, Revision: o.Revision, Document: o.Body})
	}
	before, err := p.objects.Get(p.t.Context(), publicationKind, publicationName)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		p.t.Fatal(err)
	}
	o, err := next.seal(p.under, before.Revision)
	p.must(err)
	o, err = p.objects.Put(p.t.Context(), o)
	p.must(err)
	return o
}

func (p *publishing) put(body []byte) {
	p.t.Helper()
	o, err := p.objects.Get(p.t.Context(), publicationKind, publicationName)
	p.must(err)
	o.Body = body
	_, err = p.objects.Put(p.t.Context(), o)
	p.must(err)
}

// TestToldKeys: a ring over what was published has every key of it, page by page,
// and sees a change at the next revision.
func TestToldKeys(t *testing.T) {
	p := newPublishing(t)
	const many = 250
	for i := range many {
		_, err := p.ring.Create(t.Context(), keys.Spec{Name: fmt.Sprintf("key-%03d", i)})
		p.must(err)
	}
	p.publish(1)
	told, err := openTold(t.Context(), p.objects, p.under, slog.New(slog.DiscardHandler))
	p.must(err)
	ring, err := keys.Open(t.Context(), keys.Config{Objects: told, Master: p.under, Clock: clock.System{}})
	p.must(err)
	seen := 0
	for page := (store.Page{Limit: 100}); ; {
		some, next, err := ring.List(t.Context(), page)
		p.must(err)
		for i, k := range some {
			if want := fmt.Sprintf("key-%03d", seen+i); k.Name != want {
				t.Fatalf("key %s, want %s", k.Name, want)
			}
		}
		seen += len(some)
		if page.Cursor = next; next == "" {
			break
		}
	}
	if seen != many {
		t.Errorf("%d keys, want %d", seen, many)
	}
	before, err := told.Revision(t.Context())
	p.must(err)
	_, err = p.ring.Revoke(t.Context(), "key-007", "stolen", nil)
	p.must(err)
	if k, err := ring.Get(t.Context(), "key-007"); err != nil || k.State != keys.Active {
		t.Errorf("before it was published: %s, %v", k.State, err)
	}
	p.publish(2)
	if after, err := told.Revision(t.Context()); err != nil || after == before {
		t.Errorf("revision %d after %d, %v", after, before, err)
	}
	if k, err := ring.Get(t.Context(), "key-007"); err != nil || k.State != keys.Compromised {
		t.Errorf("once it was published: %s, %v", k.State, err)
	}
	if _, err := ring.Create(t.Context(), keys.Spec{Name: "mine"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a key made at a replica: %v", err)
	}
}

// TestToldIsNotFooled: without a publication that can be believed there is no
// revision, and so no verdict.
func TestToldIsNotFooled(t *testing.T) {
	p := newPublishing(t)
	if _, err := openTold(t.Context(), p.objects, p.under, slog.New(slog.DiscardHandler)); !errors.Is(err, errPublication) {
		t.Errorf("nothing was published: %v", err)
	}
	first := p.publish(1)
	told, err := openTold(t.Context(), p.objects, p.under, slog.New(slog.DiscardHandler))
	p.must(err)
	second := p.publish(2)
	p.must(told.refresh(t.Context()))
	altered := append([]byte(nil), second.Body...)
	altered[len(altered)/2] ^= 1
	var inner sealedPublication
	p.must(json.Unmarshal(second.Body, &inner))
	twice, err := json.Marshal(map[string]any{"sealed": inner.Sealed, "also": 1})
	p.must(err)
	for name, body := range map[string][]byte{
		"an older one": first.Body, "an altered one": altered, "more fields": twice, "nothing sealed": []byte(`{"sealed":""}`), "no JSON": []byte("x"),
	} {
		p.put(body)
		if err := told.refresh(t.Context()); !errors.Is(err, errPublication) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.put(second.Body)
	p.must(told.refresh(t.Context())) // control
	p.publish(3)
	p.must(told.refresh(t.Context())) // control
	newer := map[string]any{"format": publicationFormat, "number": 4, "trustedRoot": p.root, "notaryRoots": []string{}, "keys": []string{}, "later": true}
	for _, c := range []struct {
		format int
		want   error
	}{{publicationFormat, nil}, {publicationFormat + 1, errPublication}} {
		newer["format"] = c.format
		plain, err := json.Marshal(newer)
		p.must(err)
		sealed, err := p.under.Seal(publicationKind, publicationName, plain)
		p.must(err)
		body, err := json.Marshal(sealedPublication{Sealed: sealed})
		p.must(err)
		p.put(body)
		if err := told.refresh(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("format %d of a newer service: %v", c.format, err)
		}
	}
	stranger := newPublishing(t)
	if _, err := openTold(t.Context(), p.objects, stranger.under, slog.New(slog.DiscardHandler)); !errors.Is(err, errPublication) {
		t.Errorf("under another service's key: %v", err)
	}
}
