// Package testissuer is an OpenID Connect issuer on loopback for tests: real
// HTTP, a real discovery document, real keys that rotate, and tokens shaped
// like those of GitHub Actions, GitLab CI/CD and Kubernetes.
//
// It signs whatever it is asked to: never put it in front of others.
package testissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/internal/clock"
)

// Audience is the aud of tokens that name no other.
const Audience = "countersign"

// Key is one signing key of an issuer.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

// Issuer is a running issuer. Its methods are safe for concurrent use.
type Issuer struct {
	// URL is the iss of its tokens. Its host is an address of this machine.
	URL string
	// CABundle is the PEM of the authority of its certificate, for one started
	// with StartTLS.
	CABundle string

	t      testing.TB
	server *httptest.Server

	mu        sync.Mutex
	clock     clock.Clock
	keys      []Key // the first signs; all are published
	requests  []*http.Request
	intercept func(http.ResponseWriter, *http.Request) bool
}

// Start serves an issuer with one RS256 key over plain HTTP until the test
// ends.
func Start(t testing.TB) *Issuer {
	t.Helper()
	return start(t, (*httptest.Server).Start)
}

// StartTLS serves it over HTTPS, with a certificate of CABundle.
func StartTLS(t testing.TB) *Issuer {
	t.Helper()
	i := start(t, (*httptest.Server).StartTLS)
	i.CABundle = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw}))
	return i
}

func start(t testing.TB, run func(*httptest.Server)) *Issuer {
	i := &Issuer{t: t, clock: clock.System{}}
	i.keys = []Key{NewKey(t, jose.RS256)}
	i.server = httptest.NewUnstartedServer(i)
	i.server.EnableHTTP2 = true
	i.server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused certificates are what some tests want
	run(i.server)
	t.Cleanup(i.server.Close)
	i.URL = i.server.URL
	return i
}

// NewKey makes a key with a random id.
func NewKey(t testing.TB, algorithm jose.SignatureAlgorithm) Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Key{ID: rand.Text(), Algorithm: algorithm, Private: private}
}

// Close stops the issuer before the test ends.
func (i *Issuer) Close() { i.server.Close() }

// SetClock makes the issuer date its tokens by another clock.
func (i *Issuer) SetClock(c clock.Clock) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clock = c
}

// SetKeys replaces the keys: the first signs, all are published.
func (i *Issuer) SetKeys(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Rotate makes a new key to sign with and returns the one before it, which
// stays published only if keep is set.
func (i *Issuer) Rotate(keep bool) Key {
	next := NewKey(i.t, jose.RS256)
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.keys[0]
	if keep {
		i.keys = append([]Key{next}, i.keys...)
	} else {
		i.keys = []Key{next}
	}
	return old
}

// Key is the key that signs now.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

// Intercept puts f in front of every request; it reports whether it answered.
func (i *Issuer) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.intercept = f
}

// Requests are those that came so far.
func (i *Issuer) Requests() []*http.Request {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]*http.Request(nil), i.requests...)
}

// ServeHTTP answers discovery and keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests = append(i.requests, r.Clone(r.Context()))
	intercept := i.intercept
	i.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer(w, map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
			"claims_supported":                      []string{"sub", "aud", "exp", "iat", "iss"},
		})
	case "/keys":
		answer(w, i.KeySet())
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// KeySet is what the issuer publishes.
func (i *Issuer) KeySet() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig",
		})
	}
	return set
}

// Token signs a token that lasts five minutes. Claims replace or add to iss,
// sub, aud, iat, nbf, exp and jti; a nil value removes one.
func (i *Issuer) Token(claims map[string]any) string {
	return i.TokenBy(i.Key(), claims)
}

// TokenBy signs a token with a key of the test's.
func (i *Issuer) TokenBy(key Key, claims map[string]any) string {
	header := map[string]any{"typ": "JWT", "alg": string(key.Algorithm), "kid": key.ID}
	return i.Forge(header, i.Claims(claims), key.Sign)
}

// Claims are those that Token signs.
func (i *Issuer) Claims(claims map[string]any) map[string]any {
	i.mu.Lock()
	now := i.clock.Now()
	i.mu.Unlock()
	all := map[string]any{
		"iss": i.URL, "sub": "somebody", "aud": Audience, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	return with(all, claims)
}

// Forge makes a token of any header, claims and signature.
func (i *Issuer) Forge(header, claims map[string]any, sign func(input []byte) ([]byte, error)) string {
	input := i.part(header) + "." + i.part(claims)
	signature, err := sign([]byte(input))
	if err != nil {
		i.t.Fatalf("signing a token: %v", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (i *Issuer) part(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		i.t.Fatalf("encoding a token: %v", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Sign is the signature over the input of a JWS (RFC 7518 §3), for Forge.
func (k Key) Sign(input []byte) ([]byte, error) {
	switch private := k.Private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(private, input), nil
	case *ecdsa.PrivateKey:
		return signECDSA(private, digest(k.Algorithm, input))
	}
	hash := hashOf(k.Algorithm)
	if strings.HasPrefix(string(k.Algorithm), "PS") {
		return k.Private.Sign(rand.Reader, digest(k.Algorithm, input), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	}
	return k.Private.Sign(rand.Reader, digest(k.Algorithm, input), hash)
}

func signECDSA(private *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, private, digest)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	size := (private.Curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out, nil
}

func hashOf(algorithm jose.SignatureAlgorithm) crypto.Hash {
	switch {
	case strings.HasSuffix(string(algorithm), "384"):
		return crypto.SHA384
	case strings.HasSuffix(string(algorithm), "512"):
		return crypto.SHA512
	}
	return crypto.SHA256
}

func digest(algorithm jose.SignatureAlgorithm, input []byte) []byte {
	h := hashOf(algorithm).New()
	h.Write(input)
	return h.Sum(nil)
}

func with(all, more map[string]any) map[string]any {
	for name, value := range more {
		if value == nil {
			delete(all, name)
			continue
		}
		all[name] = value
	}
	return all
}
