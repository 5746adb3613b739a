package keys_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// TestPublish: what is published opens under the replicas' key alone, says of each
// managed key what the ring says, and has no private key in it.
func TestPublish(t *testing.T) {
	b := open(t)
	b.create(t, "release", keys.ECDSAP256)
	if _, err := b.Rotate(t.Context(), "release"); err != nil {
		t.Fatal(err)
	}
	b.create(t, "gone", keys.ECDSAP384)
	if _, err := b.Revoke(t.Context(), "gone", "stolen", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ensure(t.Context(), keys.Spec{Name: "countersign-log", Algorithm: keys.ECDSAP256, Purposes: []string{"log"}}); err != nil {
		t.Fatal(err)
	}
	under, err := b.master.Replica()
	if err != nil {
		t.Fatal(err)
	}
	published, err := b.Publish(t.Context(), under)
	if err != nil || len(published) != 2 {
		t.Fatalf("published %d keys, want the two managed ones: %v", len(published), err)
	}
	for _, o := range published {
		if bytes.Contains(o.Body, []byte("sealed")) || bytes.Contains(o.Body, []byte("privateKey")) {
			t.Errorf("a private key is published: %s", o.Body)
		}
	}
	replica, err := keys.Open(t.Context(), keys.Config{Objects: fixed(published), Master: under, Clock: b.clock})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"release", "gone"} {
		want, err := b.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := replica.Get(t.Context(), name)
		if err != nil || got.State != want.State || got.Revision != want.Revision || len(got.Versions) != len(want.Versions) ||
			got.CurrentVersion().KeyID != want.CurrentVersion().KeyID || got.CurrentVersion().RevokedReason != want.CurrentVersion().RevokedReason {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
		if _, err := replica.Signer(t.Context(), name); err == nil {
			t.Errorf("%s signs at a replica", name)
		}
	}
	if _, err := keys.Open(t.Context(), keys.Config{Objects: fixed(published), Master: b.master, Clock: b.clock}); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("under the master key: %v", err)
	}
	published[0].Body = bytes.Replace(published[0].Body, []byte("compromised"), []byte("deactivated"), 1)
	if _, err := keys.Open(t.Context(), keys.Config{Objects: fixed(published), Master: under, Clock: b.clock}); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("an altered state: %v", err)
	}
}

// fixed is a store that holds some objects and is never written.
type fixed []store.Object

func (f fixed) Get(_ context.Context, kind, name string) (store.Object, error) {
	for _, o := range f {
		if o.Kind == kind && o.Name == name {
			return o, nil
		}
	}
	return store.Object{}, store.ErrNotFound
}

func (f fixed) List(context.Context, string, store.Page) ([]store.Object, string, error) {
	return f, "", nil
}
func (f fixed) Revision(context.Context) (int64, error) { return 1, nil }
func (f fixed) GetByAlias(context.Context, string, string) (store.Object, error) {
	return store.Object{}, store.ErrNotFound
}

func (f fixed) Put(context.Context, store.Object) (store.Object, error) {
	return store.Object{}, store.ErrUnavailable
}

func (f fixed) Delete(context.Context, string, string, int64) error { return store.ErrUnavailable }

// TestChangesAreTold: whoever is to be told of a managed key's change is, before
// the change is acknowledged, and of nothing else.
func TestChangesAreTold(t *testing.T) {
	b := open(t)
	told, fault := 0, error(nil)
	ring, err := keys.Open(t.Context(), keys.Config{
		Objects: b.objects, Master: b.master, Clock: b.clock,
		Changed: func(context.Context) error { told++; return fault },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Ensure(t.Context(), keys.Spec{Name: "countersign-log", Algorithm: keys.ECDSAP256, Purposes: []string{"log"}}); err != nil || told != 0 {
		t.Fatalf("a key of the service: told %d times, %v", told, err)
	}
	if _, err := ring.Create(t.Context(), keys.Spec{Name: "release"}); err != nil || told != 1 {
		t.Fatalf("a new key: told %d times, %v", told, err)
	}
	fault = errors.New("nobody listens")
	if _, err := ring.Revoke(t.Context(), "release", "stolen", nil); !errors.Is(err, fault) || told != 2 {
		t.Errorf("a change that cannot be told: %v, told %d times", err, told)
	}
	if k, err := ring.Get(t.Context(), "release"); err != nil || k.State != keys.Compromised {
		t.Errorf("the change is made all the same: %+v, %v", k, err)
	}
}

// TestReplicaKeyFile: a replica's key comes from a file in one form that the world
// cannot read, and is no master key.
func TestReplicaKeyFile(t *testing.T) {
	b := open(t)
	line := b.master.ReplicaKey()
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "replica.key")
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, mode := range []os.FileMode{0o400, 0o440, 0o600, 0o640} {
		under, err := keys.OpenReplicaKey(write(line, mode))
		if err != nil {
			t.Fatalf("mode %o: %v", mode, err)
		}
		if want, err := b.master.Replica(); err != nil || under.ID() != want.ID() || under.ID() == b.master.ID() {
			t.Errorf("mode %o: another key", mode)
		}
	}
	master, err := os.ReadFile(b.masterPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"for everybody": write(line, 0o644), "the master key": write(string(master), 0o600), "two lines": write(line+line, 0o600),
		"empty": write("", 0o600), "a folder": t.TempDir(), "none": filepath.Join(t.TempDir(), "none"),
	} {
		if _, err := keys.OpenReplicaKey(path); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := keys.OpenMaster(write(line, 0o600)); !errors.Is(err, keys.ErrMaster) {
		t.Errorf("a replica key as a master key: %v", err)
	}
}
