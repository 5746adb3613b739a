package keystest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/countersign/countersign/keys"
)

// Memory is a back end in memory whose calls ignore their context, as some
// real clients do.
type Memory struct {
	mu      sync.Mutex
	private map[string]crypto.Signer
	down    bool
	damage  bool
	hang    chan struct{}
}

func (v *Memory) get(ref string) (crypto.Signer, error) {
	v.mu.Lock()
	hang, down, private, ok := v.hang, v.down, v.private[ref], v.private[ref] != nil
	v.mu.Unlock()
	if hang != nil {
		<-hang
	}
	switch {
	case down:
		return nil, errors.New("connection refused")
	case !ok:
		return nil, keys.ErrRefused
	}
	return private, nil
}

// Open implements keys.Backend.
func (v *Memory) Open(_ context.Context, ref string) (keys.Remote, error) {
	private, err := v.get(ref)
	if err != nil {
		return nil, err
	}
	return &memoryKey{v, ref, private.Public()}, nil
}

type memoryKey struct {
	memory *Memory
	ref    string
	public crypto.PublicKey
}

// Public implements keys.Remote.
func (k *memoryKey) Public() crypto.PublicKey { return k.public }

// SignDigest implements keys.Remote.
func (k *memoryKey) SignDigest(_ context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	private, err := k.memory.get(k.ref)
	if err != nil {
		return nil, err
	}
	signature, err := private.Sign(rand.Reader, digest, hash)
	k.memory.mu.Lock()
	defer k.memory.mu.Unlock()
	if k.memory.damage {
		return nil, nil // row D7: an empty signature is one too
	}
	return signature, err
}

// Put makes a key behind a reference, in the place of the one there.
func (v *Memory) Put(t *testing.T, ref string, a keys.Algorithm) {
	t.Helper()
	var private crypto.Signer
	var err error
	switch a {
	case keys.ECDSAP256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keys.ECDSAP384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.private[ref] = private
}

// NewMemory returns an empty back end.
func NewMemory() *Memory { return &Memory{private: map[string]crypto.Signer{}} }

// Down makes every call fail, or no more.
func (v *Memory) Down(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down = on
}

// Peer is the back end as the suite sees it, in the place of Vault.
func (v *Memory) Peer(t *testing.T) Peer {
	t.Helper()
	v.Put(t, "hashivault://p521", "")
	made := 0
	return Peer{
		Name: keys.BackendHashivault, Backend: v,
		Algorithms: []keys.Algorithm{keys.ECDSAP256, keys.ECDSAP384, keys.RSA3072},
		Make: func(t *testing.T, a keys.Algorithm) string {
			made++
			ref := "hashivault://key-" + strconv.Itoa(made)
			v.Put(t, ref, a)
			return ref
		},
		Missing: "hashivault://nothing", Foreign: "hashivault://p521",
		Replace: v.Put,
		Break: func(*testing.T) func() {
			v.Down(true)
			return func() { v.Down(false) }
		},
		Corrupt: func(*testing.T) func() {
			v.setDamage(true)
			return func() { v.setDamage(false) }
		},
		Hang: func(*testing.T) func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			hang := make(chan struct{})
			v.hang = hang
			return func() {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.hang = nil
				close(hang)
			}
		},
	}
}

func (v *Memory) setDamage(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.damage = on
}
