package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

// The real services cannot be had in a test run: Vault is too big to build
// there, and the clouds are elsewhere. What stands in for them here speaks the
// documented wire protocol to the real client libraries and polices it: a
// request without credentials, to another path, or with another digest form
// than the contract's fails the test. docs/keys.md says which services were
// never faced themselves.

// shelf is the keys of a double and what is wrong with it.
type shelf struct {
	t  *testing.T
	mu sync.Mutex
	// versions are the keys by name, oldest first; the last one signs.
	versions map[string][]crypto.Signer
	made     int
	down     bool
	damage   bool
	hang     chan struct{}
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, versions: map[string][]crypto.Signer{}}
	s.put("p521", "p521")
	return s
}

func (s *shelf) put(name string, a keys.Algorithm) {
	var private crypto.Signer
	var err error
	switch a {
	case keys.ECDSAP256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keys.ECDSAP384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[name] = append(s.versions[name], private)
}

// current is the newest version, or nil.
func (s *shelf) current(name string) (crypto.Signer, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.versions[name]
	if len(all) == 0 {
		return nil, 0
	}
	return all[len(all)-1], len(all)
}

// sign makes the signature that the double answers.
func (s *shelf) sign(private crypto.Signer, digest []byte, hash crypto.Hash) []byte {
	if len(digest) != hash.Size() {
		s.t.Errorf("a digest of %d bytes for %v", len(digest), hash)
		return nil
	}
	signature, err := private.Sign(rand.Reader, digest, hash)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damage {
		signature[len(signature)-1] ^= 1
	}
	return signature
}

// wait lets a call hang, and reports whether it is to be cut.
func (s *shelf) wait() (cut bool) {
	s.mu.Lock()
	hang, down := s.hang, s.down
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return down
}

// faulty is HTTP with what is wrong with the shelf.
func (s *shelf) faulty(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.wait() {
			panic(http.ErrAbortHandler)
		}
		next(w, r)
	})
}

// peer is the shelf as the suite sees it; ref names a key.
func (s *shelf) peer(name string, b keys.Backend, ref func(key string) string, nameOf func(ref string) string) keystest.Peer {
	toggle := func(field *bool) func(*testing.T) func() {
		return func(*testing.T) func() {
			set := func(on bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				*field = on
			}
			set(true)
			return func() { set(false) }
		}
	}
	return keystest.Peer{
		Name: name, Backend: b, Algorithms: []keys.Algorithm{keys.ECDSAP256, keys.ECDSAP384, keys.RSA3072},
		Make: func(_ *testing.T, a keys.Algorithm) string {
			s.made++
			key := "key" + strconv.Itoa(s.made)
			s.put(key, a)
			return ref(key)
		},
		Missing: ref("nothing"), Foreign: ref("p521"),
		Replace: func(_ *testing.T, ref string, a keys.Algorithm) { s.put(nameOf(ref), a) },
		Break:   toggle(&s.down), Corrupt: toggle(&s.damage),
		Hang: func(*testing.T) func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			hang := make(chan struct{})
			s.hang = hang
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.hang = nil
				close(hang)
			}
		},
	}
}

func spki(t *testing.T, private crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func publicPEM(t *testing.T, private crypto.Signer) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, private)}))
}
