package keys_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

func TestBackendInMemory(t *testing.T) {
	keystest.Run(t, keystest.NewMemory().Peer(t))
}

// TestRefs is row I1: which places a caller may have this service call. Each
// pattern has its positive control.
func TestRefs(t *testing.T) {
	const library = "?module-path=/usr/lib/hsm.so&pin-source=file:/run/pin"
	for _, c := range []struct {
		pattern   string
		yes, no   []string
		malformed bool
	}{
		{
			pattern: "hashivault://team-a.*",
			yes:     []string{"hashivault://team-a.release"},
			no:      []string{"hashivault://team-a.", "hashivault://team-ax", "hashivault://team-a.x/y", "openbao://team-a.x"},
		},
		{
			pattern: "azurekms://prod.vault.azure.net/*",
			yes:     []string{"azurekms://prod.vault.azure.net/release"},
			no:      []string{"azurekms://prod.vault.azure.net.evil.example/release", "azurekms://evil.example/release", "azurekms://prod.vault.azure.net/a/b"},
		},
		{
			pattern: "awskms:///arn:aws:kms:eu-west-1:111122223333:key/*",
			yes:     []string{"awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
			no:      []string{"awskms://169.254.169.254/arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
		},
		{
			pattern: "pkcs11:token=prod;object=*" + library,
			yes:     []string{"pkcs11:token=prod;object=release" + library},
			no: []string{
				"pkcs11:token=prod;object=release?module-path=/tmp/evil.so&pin-source=file:/run/pin",
				"pkcs11:token=prod;object=x;id=1" + library, "pkcs11:token=prod;object=release",
			},
		},
		{pattern: "azurekms://*.vault.azure.net/key", malformed: true},
		{pattern: "awskms://*/alias/x", malformed: true},
		{pattern: "pkcs11:token=prod;object=x?module-path=*", malformed: true},
		{pattern: "pkcs11:token=prod;object=x?pin-value=1234", malformed: true},
		{pattern: "*", malformed: true},
		{pattern: "https://vault.example/key", malformed: true},
		{pattern: "hashivault://a b", malformed: true},
		{pattern: "azurekms://prod@evil/x", malformed: true},
		{pattern: "hashivault://", malformed: true},
		{pattern: "gcpkms://projects/../x", malformed: true},
	} {
		refs, err := keys.ParseRefs([]string{c.pattern})
		if (err != nil) != c.malformed {
			t.Errorf("%s: %v", c.pattern, err)
		}
		for _, ref := range c.yes {
			if err := refs.Allow(ref); err != nil {
				t.Errorf("%s does not allow %s", c.pattern, ref)
			}
		}
		for _, ref := range c.no {
			if err := refs.Allow(ref); !errors.Is(err, keys.ErrRef) {
				t.Errorf("%s allows %s", c.pattern, ref)
			}
		}
	}
	if err := (keys.Refs{}).Allow("hashivault://x"); !errors.Is(err, keys.ErrRef) {
		t.Error("nothing configured allows something")
	}
}

// FuzzRefs holds matching to its law: what a pattern allows has its fixed
// beginning and end, and is a well-formed reference of the same back end.
func FuzzRefs(f *testing.F) {
	f.Add("hashivault://team-*", "hashivault://team-a")
	f.Add("azurekms://prod.vault.azure.net/*/*", "azurekms://prod.vault.azure.net/a/b")
	f.Add("pkcs11:token=a;object=*?module-path=/x&pin-source=file:/y", "pkcs11:token=a;object=b?module-path=/x&pin-source=file:/y")
	f.Fuzz(func(t *testing.T, pattern, ref string) {
		refs, err := keys.ParseRefs([]string{pattern})
		if err != nil {
			return
		}
		if len(ref) > limits.KeyRef || refs.Allow(ref) != nil {
			return
		}
		want, err := keys.BackendOf(ref)
		if err != nil {
			return // the ring asks BackendOf too
		}
		if _, err := keys.ParseRefs([]string{ref}); err != nil {
			t.Fatalf("%q allows %q, which is malformed: %v", pattern, ref, err)
		}
		allowed, err := keys.ParseRefs([]string{pattern, ref})
		if err != nil || allowed.Allow(ref) != nil {
			t.Fatalf("%q: %v", ref, err)
		}
		if got, err := keys.BackendOf(ref); err != nil || got != want {
			t.Fatalf("%q: %s, then %s", ref, want, got)
		}
	})
}

func TestAdoptionNeedsItsBackend(t *testing.T) {
	b := open(t)
	for _, name := range keys.Backends()[1:] {
		ref := map[string]string{
			keys.BackendHashivault: "hashivault://x", keys.BackendAWS: "awskms:///alias/x", keys.BackendGCP: "gcpkms://projects/p",
			keys.BackendAzure: "azurekms://v/k", keys.BackendPKCS11: "pkcs11:token=a",
		}[name]
		spec := keys.Spec{Name: "x", Backend: name, Ref: ref}
		if _, err := b.Create(t.Context(), spec); !errors.Is(err, keys.ErrBackend) {
			t.Errorf("%s: a caller: %v", name, err)
		}
		spec.Purposes = []string{"ca"}
		if _, err := b.Ensure(t.Context(), spec); !errors.Is(err, keys.ErrBackend) {
			t.Errorf("%s: the service: %v", name, err)
		}
	}
}

// TestReservedRefs keeps callers from adopting an authority's key before the
// authority does.
func TestReservedRefs(t *testing.T) {
	peer := keystest.NewMemory().Peer(t)
	b := open(t)
	ref := peer.Make(t, keys.ECDSAP256)
	refs, err := keys.ParseRefs([]string{"hashivault://*"})
	if err != nil {
		t.Fatal(err)
	}
	config := keys.Config{
		Objects: b.objects, Master: b.master, Clock: b.clock, Refs: refs, Reserved: []string{ref},
		Backends: map[string]keys.Backend{peer.Name: peer.Backend},
	}
	ring, err := keys.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Create(t.Context(), keys.Spec{Name: "x", Backend: peer.Name, Ref: ref}); !errors.Is(err, keys.ErrRef) {
		t.Fatalf("a reserved reference: %v", err)
	}
	if _, err := ring.Create(t.Context(), keys.Spec{Name: "x", Backend: peer.Name, Ref: peer.Make(t, keys.ECDSAP256)}); err != nil {
		t.Fatalf("positive control: %v", err)
	}
}

// TestWeakModuli: what a back end shows is held to what keys made here are.
func TestWeakModuli(t *testing.T) {
	peer := keystest.NewMemory().Peer(t)
	good, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	product := big.NewInt(1)
	for p := int64(2); p < 720; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	// A modulus of the length of good's that is 65537^77 modulo the product.
	faulty := new(big.Int).Mul(new(big.Int).Div(good.N, product), product)
	faulty.Add(faulty, new(big.Int).Exp(big.NewInt(65537), big.NewInt(77), product))
	threes := new(big.Int).Mul(new(big.Int).Div(good.N, big.NewInt(6)), big.NewInt(6))
	for name, public := range map[string]*rsa.PublicKey{
		"CVE-2017-15361": {N: faulty, E: 65537},
		"factor 3":       {N: threes.Add(threes, big.NewInt(3)), E: 65537},
		"even exponent":  {N: good.N, E: 65538},
	} {
		b := open(t)
		refs, err := keys.ParseRefs([]string{"hashivault://x"})
		if err != nil {
			t.Fatal(err)
		}
		ring, err := keys.Open(t.Context(), keys.Config{
			Objects: b.objects, Master: b.master, Clock: b.clock, Refs: refs,
			Backends: map[string]keys.Backend{peer.Name: showing{public}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Create(t.Context(), keys.Spec{Name: "x", Backend: peer.Name, Ref: "hashivault://x"}); !errors.Is(err, keys.ErrAlgorithm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// showing shows a public half and signs nothing.
type showing struct{ public crypto.PublicKey }

func (s showing) Open(context.Context, string) (keys.Remote, error) { return s, nil }
func (s showing) Public() crypto.PublicKey                          { return s.public }
func (s showing) SignDigest(context.Context, []byte, crypto.Hash) ([]byte, error) {
	return nil, keys.ErrRefused
}

// TestClientPanics is row H7: a client that trips over an answer ends its call,
// not the process.
func TestClientPanics(t *testing.T) {
	b := open(t)
	refs, err := keys.ParseRefs([]string{"hashivault://*"})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.Open(t.Context(), keys.Config{
		Objects: b.objects, Master: b.master, Clock: b.clock, Refs: refs,
		Backends: map[string]keys.Backend{keys.BackendHashivault: tripping{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ring.Create(t.Context(), keys.Spec{Name: "x", Backend: keys.BackendHashivault, Ref: "hashivault://x"})
	if !errors.Is(err, keys.ErrUnavailable) {
		t.Fatal(err)
	}
}

type tripping struct{}

func (tripping) Open(context.Context, string) (keys.Remote, error) {
	var answer *struct{ key string }
	return nil, errors.New(answer.key)
}
