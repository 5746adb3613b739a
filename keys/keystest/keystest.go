// Package keystest holds what every back end of package keys must pass, as one
// suite that runs against the peers themselves or doubles that police their
// contract. Tests only.
package keystest

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// Peer is one back end and the hands on the other side of it. Optional hands
// are nil where the peer has none; the suite says so in its log.
type Peer struct {
	// Name is the back end's; Backend reaches the peer.
	Name    string
	Backend keys.Backend
	// Algorithms are those the peer signs with.
	Algorithms []keys.Algorithm
	// Make makes a key and returns its reference.
	Make func(t *testing.T, a keys.Algorithm) string
	// Missing is a well-formed reference to no key; Foreign is one to a key of
	// an algorithm that is none of ours.
	Missing string
	Foreign string
	// Replace puts another key of the algorithm behind a reference.
	Replace func(t *testing.T, ref string, a keys.Algorithm)
	// Pinned says that an opened key goes on signing with what it was opened
	// with for a while, as long as the peer still has that.
	Pinned bool
	// Break makes the peer unreachable, Hang lets it answer nothing, Corrupt
	// lets it answer damaged signatures, each until what it returns is called.
	Break, Hang, Corrupt func(t *testing.T) func()
}

// Run runs the suite.
func Run(t *testing.T, p Peer) {
	for name, f := range map[string]func(*testing.T, Peer){
		"signs with every algorithm": signs, "refuses": refuses, "callers' references": references,
		"one key, one name": onlyOnce, "exchanged key": exchanged, "rotation": rotation, "life cycle": lifeCycle,
		"unreachable": unreachable, "hanging": hanging, "damaged signature": damaged, "service key": serviceKey,
	} {
		t.Run(name, func(t *testing.T) { f(t, p) })
	}
}

// bench is one store that several rings, as after restarts, open.
type bench struct {
	peer    Peer
	objects store.Objects
	master  *keys.Master
	ring    *keys.Ring
}

func open(t *testing.T, p Peer, refs ...string) *bench {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() }) //nolint:errcheck // a test's database
	master, err := keys.OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{peer: p, objects: db.Objects(), master: master}
	b.restart(t, limits.BackendCall, refs...)
	return b
}

func (b *bench) restart(t *testing.T, timeout time.Duration, refs ...string) {
	t.Helper()
	allowed, err := keys.ParseRefs(refs)
	if err != nil {
		t.Fatal(err)
	}
	b.ring, err = keys.Open(t.Context(), keys.Config{
		Objects: b.objects, Master: b.master, Clock: clock.System{}, Refs: allowed,
		Backends: map[string]keys.Backend{b.peer.Name: b.peer.Backend}, BackendTimeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func message() []byte { return []byte("what is signed") }

func (b *bench) adopt(t *testing.T, ref string) keys.Key {
	t.Helper()
	k, err := b.ring.Create(t.Context(), keys.Spec{Name: "release", Backend: b.peer.Name, Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (b *bench) mustSign(t *testing.T, name string) keys.Signature {
	t.Helper()
	s, err := b.ring.Sign(t.Context(), name, message())
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Verify(s.Public, keys.FormBundle, message(), s.Bytes); err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) signError(t *testing.T, want error) {
	t.Helper()
	if s, err := b.ring.Sign(t.Context(), "release", message()); !errors.Is(err, want) || s.Bytes != nil {
		t.Fatalf("signing: %v, want %v", err, want)
	}
}

func signs(t *testing.T, p Peer) {
	for _, a := range p.Algorithms {
		t.Run(string(a), func(t *testing.T) {
			ref := p.Make(t, a)
			b := open(t, p, ref)
			k := b.adopt(t, ref)
			if k.Algorithm != a || k.Backend != p.Name || k.Ref != ref || k.State != keys.Active {
				t.Fatalf("adopted %+v", k)
			}
			if s := b.mustSign(t, "release"); s.KeyID != k.CurrentVersion().KeyID || s.Algorithm != a {
				t.Fatalf("signed by %s with %s", s.KeyID, s.Algorithm)
			}
			s, err := b.ring.SignLegacy(t.Context(), "release", message())
			if a == keys.ECDSAP384 && errors.Is(err, keys.ErrForm) {
				t.Log("signs SHA-384 digests only: no legacy tags")
			} else if err != nil {
				t.Fatal(err)
			} else if err := keys.Verify(s.Public, keys.FormLegacy, message(), s.Bytes); err != nil {
				t.Fatal(err)
			}
			b.restart(t, limits.BackendCall)
			b.mustSign(t, "release")
		})
	}
}

// refuses shows row E7 among others: the algorithm is the record's, and a key
// of another is not taken.
func refuses(t *testing.T, p Peer) {
	ref := p.Make(t, keys.ECDSAP256)
	for name, c := range map[string]struct {
		ref  string
		algo keys.Algorithm
		want error
	}{
		"another algorithm than asked (row E7)": {ref, keys.ECDSAP384, keys.ErrAlgorithm},
		"an algorithm that is none of ours":     {p.Foreign, "", keys.ErrAlgorithm},
		"no key":                                {p.Missing, "", keys.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ref == "" {
				t.Skip("the peer has no such key")
			}
			b := open(t, p, c.ref)
			_, err := b.ring.Create(t.Context(), keys.Spec{Name: "release", Backend: p.Name, Ref: c.ref, Algorithm: c.algo})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if _, err := b.ring.Get(t.Context(), "release"); !errors.Is(err, keys.ErrNotFound) {
				t.Fatalf("a refused key was recorded: %v", err)
			}
		})
	}
	b := open(t, p, ref)
	if _, err := b.ring.Create(t.Context(), keys.Spec{Name: "release", Backend: p.Name, Ref: ref, Algorithm: keys.ECDSAP256}); err != nil {
		t.Fatalf("positive control: %v", err)
	}
}

// references shows row I1: a caller chooses no place that the operator did not
// allow, at creation nor at rotation.
func references(t *testing.T, p Peer) {
	ref, other := p.Make(t, keys.ECDSAP256), p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	if _, err := b.ring.Create(t.Context(), keys.Spec{Name: "second", Backend: p.Name, Ref: other}); !errors.Is(err, keys.ErrRef) {
		t.Fatalf("create: %v", err)
	}
	if _, err := b.ring.RotateTo(t.Context(), "release", other); !errors.Is(err, keys.ErrRef) {
		t.Fatalf("rotate: %v", err)
	}
	b.restart(t, limits.BackendCall, ref, other)
	if k, err := b.ring.RotateTo(t.Context(), "release", other); err != nil || k.Ref != other || k.Current != 2 {
		t.Fatalf("positive control: %+v, %v", k, err)
	}
	b.mustSign(t, "release")
}

func onlyOnce(t *testing.T, p Peer) {
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	for _, name := range []string{"release", "second"} {
		if _, err := b.ring.Create(t.Context(), keys.Spec{Name: name, Backend: p.Name, Ref: ref}); !errors.Is(err, keys.ErrExists) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	spec := keys.Spec{Name: "authority", Backend: p.Name, Ref: ref, Purposes: []string{"ca"}}
	if _, err := b.ring.Ensure(t.Context(), spec); !errors.Is(err, keys.ErrExists) {
		t.Fatalf("a caller's key became an authority's: %v", err)
	}
}

func exchanged(t *testing.T, p Peer) {
	if p.Replace == nil {
		t.Skip("keys of this peer cannot be exchanged")
	}
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	first := b.adopt(t, ref)
	b.mustSign(t, "release")
	p.Replace(t, ref, keys.ECDSAP256)
	if !p.Pinned {
		b.signError(t, keys.ErrChanged)
	}
	b.restart(t, limits.BackendCall, ref)
	b.signError(t, keys.ErrChanged)
	if k, err := b.ring.Get(t.Context(), "release"); err != nil || k.CurrentVersion().KeyID != first.CurrentVersion().KeyID {
		t.Fatalf("the exchanged key was adopted silently: %v", err)
	}
}

func rotation(t *testing.T, p Peer) {
	if p.Replace == nil {
		t.Skip("keys of this peer cannot be exchanged")
	}
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	if _, err := b.ring.Rotate(t.Context(), "release"); !errors.Is(err, keys.ErrUnchanged) {
		t.Fatalf("rotated to the same key: %v", err)
	}
	b.mustSign(t, "release")
	p.Replace(t, ref, keys.ECDSAP256)
	k, err := b.ring.Rotate(t.Context(), "release")
	if err != nil || k.Current != 2 || k.Versions[0].State != keys.Deactivated || k.Versions[1].State != keys.Active {
		t.Fatalf("%+v, %v", k, err)
	}
	if s := b.mustSign(t, "release"); s.Version != 2 {
		t.Fatalf("signed with version %d", s.Version)
	}
	p.Replace(t, ref, keys.ECDSAP384)
	if _, err := b.ring.Rotate(t.Context(), "release"); !errors.Is(err, keys.ErrAlgorithm) {
		t.Fatalf("row E7: rotated to another algorithm: %v", err)
	}
}

func lifeCycle(t *testing.T, p Peer) {
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	for _, step := range []struct {
		do   func(context.Context, string) (keys.Key, error)
		want error
	}{
		{b.ring.Suspend, keys.ErrNotActive},
		{b.ring.Resume, nil},
		{func(ctx context.Context, name string) (keys.Key, error) { return b.ring.Revoke(ctx, name, "lost", nil) }, keys.ErrNotActive},
		{b.ring.Destroy, keys.ErrNotActive},
	} {
		if _, err := step.do(t.Context(), "release"); err != nil {
			t.Fatal(err)
		}
		if step.want == nil {
			b.mustSign(t, "release")
		} else {
			b.signError(t, step.want)
		}
	}
}

// unreachable shows that a back end that is away stops its own keys only, and
// not the start.
func unreachable(t *testing.T, p Peer) {
	if p.Break == nil {
		t.Skip("the peer cannot be made unreachable")
	}
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	if _, err := b.ring.Create(t.Context(), keys.Spec{Name: "local"}); err != nil {
		t.Fatal(err)
	}
	mend := p.Break(t)
	b.restart(t, time.Second, ref)
	b.signError(t, keys.ErrUnavailable)
	b.mustSign(t, "local")
	if _, err := b.ring.Create(t.Context(), keys.Spec{Name: "second", Backend: p.Name, Ref: ref}); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("adopted from nowhere: %v", err)
	}
	mend()
	b.restart(t, limits.BackendCall, ref)
	b.mustSign(t, "release")
}

// hanging has more callers than turns: each is answered, and none blocks
// another key.
func hanging(t *testing.T, p Peer) {
	if p.Hang == nil {
		t.Skip("the peer cannot be made to hang")
	}
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	b.adopt(t, ref)
	if _, err := b.ring.Create(t.Context(), keys.Spec{Name: "local"}); err != nil {
		t.Fatal(err)
	}
	b.restart(t, 300*time.Millisecond, ref)
	release := p.Hang(t)
	var calls sync.WaitGroup
	for range limits.BackendCalls + 4 {
		calls.Go(func() {
			if _, err := b.ring.Sign(t.Context(), "release", message()); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("signing: %v", err)
			}
		})
	}
	b.mustSign(t, "local")
	calls.Wait()
	if _, err := b.ring.Suspend(t.Context(), "release"); err != nil {
		t.Fatalf("a hanging back end keeps a key from being suspended: %v", err)
	}
	release()
	b.restart(t, limits.BackendCall, ref)
	if _, err := b.ring.Resume(t.Context(), "release"); err != nil {
		t.Fatal(err)
	}
	b.mustSign(t, "release")
}

// damaged shows row D7: what a back end answers is verified before it leaves.
func damaged(t *testing.T, p Peer) {
	if p.Corrupt == nil {
		t.Skip("the peer cannot be made to answer damaged signatures")
	}
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p, ref)
	stop := p.Corrupt(t)
	_, err := b.ring.Create(t.Context(), keys.Spec{Name: "release", Backend: p.Name, Ref: ref})
	if err == nil {
		t.Fatal("a key that cannot sign was adopted")
	}
	stop()
	b.adopt(t, ref)
	stop = p.Corrupt(t)
	if s, err := b.ring.Sign(t.Context(), "release", message()); err == nil || s.Bytes != nil {
		t.Fatal("row D7: a damaged signature was released")
	}
	stop()
	b.mustSign(t, "release")
}

func serviceKey(t *testing.T, p Peer) {
	ref := p.Make(t, keys.ECDSAP256)
	b := open(t, p) // callers may name nothing; the operator's own is not theirs
	spec := keys.Spec{Name: "authority", Algorithm: keys.ECDSAP256, Backend: p.Name, Ref: ref, Purposes: []string{"ca"}}
	for range 2 {
		if _, err := b.ring.Ensure(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := b.ring.Signer(t.Context(), "authority")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message())
	signature, err := signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Verify(signer.Public(), keys.FormBundle, message(), signature); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ring.RotateTo(t.Context(), "authority", ""); !errors.Is(err, keys.ErrPurpose) {
		t.Fatalf("an authority's key was rotated like a caller's: %v", err)
	}
}
