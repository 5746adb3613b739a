package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/netguard"
	"github.com/countersign/countersign/internal/testissuer"
)

// trap is a server that nobody may ask.
type trap struct {
	*httptest.Server
	asked atomic.Int32
}

func setTrap(t *testing.T, answer any) *trap {
	t.Helper()
	trapped := &trap{}
	trapped.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		trapped.asked.Add(1)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(trapped.Close)
	return trapped
}

const discovery, keysPath = "/.well-known/openid-configuration", "/keys"

// TestIssuersThatMislead: I2. Where an issuer leads elsewhere, nobody is asked
// there and the token is not judged.
func TestIssuersThatMislead(t *testing.T) {
	mallory := testissuer.NewKey(t, jose.RS256)
	foreign := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: mallory.Private.Public(), KeyID: mallory.ID, Use: "sig"}}}
	elsewhere := setTrap(t, foreign)
	metadata := "http://169.254.169.254/latest/meta-data/"
	redirect := func(path, to string) func(i *testissuer.Issuer) http.HandlerFunc {
		return func(*testissuer.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == path {
					http.Redirect(w, r, to, http.StatusFound)
				}
			}
		}
	}
	document := func(name string, value func(i *testissuer.Issuer) any) func(i *testissuer.Issuer) http.HandlerFunc {
		return func(i *testissuer.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == discovery {
					d := map[string]any{"issuer": i.URL, "jwks_uri": i.URL + keysPath, name: value(i)}
					_ = json.NewEncoder(w).Encode(d)
				}
			}
		}
	}
	say := func(v any) func(*testissuer.Issuer) any { return func(*testissuer.Issuer) any { return v } }
	useless := map[string]bool{"redirects without end": true, "endless": true, "an error": true, "not JSON": true}
	for name, hostile := range map[string]func(i *testissuer.Issuer) http.HandlerFunc{
		"discovery redirects to metadata":     redirect(discovery, metadata),
		"discovery redirects to another port": redirect(discovery, elsewhere.URL+discovery),
		"keys redirect to metadata":           redirect(keysPath, metadata),
		"keys redirect to another port":       redirect(keysPath, elsewhere.URL),
		"redirects without end":               redirect(discovery, discovery),
		"foreign jwks_uri":                    document("jwks_uri", say(elsewhere.URL)),
		"jwks_uri at metadata":                document("jwks_uri", say(metadata)),
		"jwks_uri with another scheme":        document("jwks_uri", func(i *testissuer.Issuer) any { return strings.Replace(i.URL, "http:", "https:", 1) + keysPath }),
		"jwks_uri in a file":                  document("jwks_uri", say("file:///etc/passwd")),
		"jwks_uri by its host only": document("jwks_uri", func(i *testissuer.Issuer) any {
			return strings.Replace(i.URL, "http://", "http://evil@", 1) + keysPath
		}),
		"jwks_uri without host": document("jwks_uri", say("/keys")),
		"no jwks_uri":           document("jwks_uri", say("")),
		"another's document":    document("issuer", say("https://token.actions.githubusercontent.com")),
		"endless": func(*testissuer.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"issuer":"` + strings.Repeat("a", limits.IssuerDocument) + `"}`))
			}
		},
		"an error": func(*testissuer.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }
		},
		"not JSON": func(*testissuer.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, i := open(t), testissuer.Start(t)
			h.believe(i, oidc.GitHub, nil)
			h.accepts(i.GitHub(nil)) // the control: before it misleads
			misleading := hostile(i)
			i.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				recorder := httptest.NewRecorder()
				misleading(recorder, r)
				if recorder.Code == http.StatusOK && recorder.Body.Len() == 0 {
					return false
				}
				for k, v := range recorder.Header() {
					w.Header()[k] = v
				}
				w.WriteHeader(recorder.Code)
				_, _ = w.Write(recorder.Body.Bytes())
				return true
			})
			h = open(t)
			h.believe(i, oidc.GitHub, nil)
			want := oidc.ErrIssuerUnsafe
			if useless[name] {
				want = oidc.ErrIssuerUnavailable
			}
			h.refuses(i.GitHub(nil), want)
			h.refuses(i.TokenBy(mallory, nil), want)
		})
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("a host that is not the issuer's was asked %d times", n)
	}
}

// TestRedirectOnTheIssuer is the control of the redirects above: one that stays
// is followed.
func TestRedirectOnTheIssuer(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	i.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != discovery || r.URL.RawQuery != "" {
			return false
		}
		http.Redirect(w, r, discovery+"?again", http.StatusFound)
		return true
	})
	h.accepts(i.GitHub(nil))
}

// TestKeysElsewhere: keys on another host are used when the operator says so.
func TestKeysElsewhere(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	keys := setTrap(t, i.KeySet())
	i.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.NotFound(w, r)
		return true
	})
	h.believe(i, oidc.Kubernetes, nil)
	h.refuses(i.Kubernetes(nil), oidc.ErrIssuerUnavailable)
	h.believe(i, oidc.Kubernetes, map[string]any{"jwksUrl": keys.URL})
	h.accepts(i.Kubernetes(nil))
}

// TestNothingIsForwarded: I6. Neither the token nor anything of it, and no
// credential, reaches the issuer or anybody else.
func TestNothingIsForwarded(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	const canary = "canary-4711"
	token := i.GitHub(map[string]any{"sub": canary, "canary": canary})
	h.accepts(token)
	h.refuses(i.TokenBy(testissuer.NewKey(t, jose.RS256), nil), oidc.ErrSignature)
	requests := i.Requests()
	if len(requests) < 2 {
		t.Fatalf("%d requests: the test does not see them", len(requests))
	}
	for _, r := range requests {
		for name, values := range r.Header {
			switch {
			case name == "Authorization" || name == "Cookie" || name == "Referer" || name == "Proxy-Authorization":
				t.Errorf("%s %s carries %s", r.Method, r.URL, name)
			case strings.Contains(strings.Join(values, " "), canary) || strings.Contains(strings.Join(values, " "), token[:20]):
				t.Errorf("%s %s carries the token in %s", r.Method, r.URL, name)
			}
		}
		if r.Method != http.MethodGet || strings.Contains(r.URL.String(), canary) || r.ContentLength != 0 {
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}
}

// TestURLsOfATokenAreNotAsked: I1. iss and header of a token lead nowhere that
// is not configured.
func TestURLsOfATokenAreNotAsked(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	elsewhere := testissuer.Start(t)
	h.refuses(elsewhere.GitHub(nil), oidc.ErrUnknownIssuer)
	h.refuses(i.GitHub(map[string]any{"iss": elsewhere.URL}), oidc.ErrUnknownIssuer)
	key := i.Key()
	h.refuses(i.Forge(map[string]any{"alg": "RS256", "kid": key.ID, "jku": elsewhere.URL + keysPath}, i.Claims(nil), elsewhere.Key().Sign), oidc.ErrMalformed)
	if n := len(elsewhere.Requests()); n != 0 {
		t.Errorf("%d requests to a host that a token named", n)
	}
	h.believe(elsewhere, oidc.GitHub, nil)
	h.accepts(elsewhere.GitHub(nil))
}

// TestIssuersAreApart: the keys of one issuer verify no token of another.
func TestIssuersAreApart(t *testing.T) {
	h, one, two := open(t), testissuer.Start(t), testissuer.Start(t)
	h.believe(one, oidc.GitHub, nil)
	h.believe(two, oidc.GitHub, nil)
	h.accepts(one.GitHub(nil))
	h.accepts(two.GitHub(nil))
	h.refuses(one.TokenBy(two.Key(), nil), oidc.ErrSignature)
	swapped := two.Key()
	swapped.ID = one.Key().ID
	h.refuses(one.TokenBy(swapped, nil), oidc.ErrSignature)
}

// TestPrivateAddresses: I2. An issuer may be on a private address only if its
// definition says so, and on a metadata address never, whatever its name
// resolves to.
func TestPrivateAddresses(t *testing.T) {
	i := testissuer.Start(t)
	at := func(address string) *house {
		return open(t, func(c *oidc.Config) {
			c.Network = netguard.System()
			c.Network.Lookup = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr(address)}, nil
			}
			c.Network.Connect = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(i.URL, "http://"))
			}
		})
	}
	for address, allowed := range map[string]struct{ public, consented bool }{
		"203.0.114.7": {true, true}, "2a00:1450::1": {true, true}, "127.0.0.1": {false, true}, "10.1.2.3": {false, true},
		"::1": {false, true}, "::ffff:10.0.0.1": {false, true}, "64:ff9b::7f00:1": {false, true}, "100.64.0.1": {false, true},
		"169.254.169.254": {}, "::ffff:169.254.169.254": {}, "fe80::1": {}, "fd00:ec2::254": {}, "0.0.0.0": {}, "224.0.0.1": {},
	} {
		for consent, want := range map[bool]bool{false: allowed.public, true: allowed.consented} {
			h := at(address)
			h.believe(i, oidc.GitHub, map[string]any{"allowPrivateAddress": consent})
			_, err := h.Authenticate(t.Context(), i.GitHub(nil))
			if (err == nil) != want || err != nil && !errors.Is(err, oidc.ErrIssuerUnsafe) {
				t.Errorf("%s, consent %t: %v", address, consent, err)
			}
			if err != nil && !errors.Is(err, netguard.ErrRefused) {
				t.Errorf("%s: refused for another reason: %v", address, err)
			}
		}
	}
}

// TestRotation: a new key counts at once, an old one that is not published any
// more counts no longer when the keys are asked for again.
func TestRotation(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	h.accepts(i.GitHub(nil))
	h.wait(limits.IssuerPause)
	old := i.Rotate(true)
	h.accepts(i.GitHub(nil))
	h.accepts(i.TokenBy(old, nil))
	old = i.Rotate(false)
	gone := i.TokenBy(old, map[string]any{"exp": h.Now().Add(time.Hour).Unix()})
	h.accepts(gone) // the keys known are not old yet
	h.wait(limits.IssuerPause)
	h.accepts(i.GitHub(nil))
	h.refuses(gone, oidc.ErrSignature)
}

// TestSwappedKeys: keys that were replaced under the same kid.
func TestSwappedKeys(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	long := map[string]any{"exp": h.Now().Add(time.Hour).Unix()}
	before := i.GitHub(long)
	h.accepts(before)
	swapped := testissuer.NewKey(t, jose.RS256)
	swapped.ID = i.Key().ID
	i.SetKeys(swapped)
	h.refuses(i.GitHub(long), oidc.ErrSignature)
	h.accepts(before)
	h.wait(limits.IssuerKeysFresh)
	h.accepts(i.GitHub(long))
	h.refuses(before, oidc.ErrSignature)
}

// TestAskedSeldom: tokens that anybody can make up do not make us ask the
// issuer more often than the pause allows, and what is known is kept while it
// cannot be asked, but not for ever.
func TestAskedSeldom(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, _ = h.Authenticate(t.Context(), i.TokenBy(testissuer.Key{ID: "made up", Algorithm: jose.RS256, Private: i.Key().Private}, nil))
		})
	}
	wg.Wait()
	h.accepts(i.GitHub(nil))
	if n := len(i.Requests()); n != 2 {
		t.Errorf("%d requests, want one for discovery and one for the keys", n)
	}
	long := i.GitHub(map[string]any{"exp": h.Now().Add(24 * time.Hour).Unix()})
	i.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	h.wait(limits.IssuerKeysFresh + time.Second)
	h.accepts(long)
	h.wait(limits.IssuerKeysStale)
	h.refuses(long, oidc.ErrIssuerUnavailable)
	asked := len(i.Requests())
	h.refuses(long, oidc.ErrIssuerUnavailable)
	if n := len(i.Requests()); n != asked {
		t.Error("an issuer that failed is asked again at once")
	}
	i.Intercept(nil)
	h.wait(limits.IssuerPause)
	h.accepts(long)
}

// TestImpatientCaller: one whose context ends while another asks goes away, and
// the question goes on.
func TestImpatientCaller(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	i.Intercept(func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() { close(asked) })
		<-answer
		return false
	})
	first, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := h.Authenticate(first, i.GitHub(nil))
		done <- err
	}()
	<-asked
	cancel()
	impatient, end := context.WithCancel(t.Context())
	end()
	if _, err := h.Authenticate(impatient, i.GitHub(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(answer)
	if err := <-done; err != nil {
		t.Errorf("the question ended with its caller: %v", err)
	}
	h.accepts(i.GitHub(nil))
}

// TestChangedDefinition: keys fetched by one definition are forgotten with it.
func TestChangedDefinition(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	h.accepts(i.GitHub(nil))
	elsewhere := setTrap(t, jose.JSONWebKeySet{})
	h.believe(i, oidc.GitHub, map[string]any{"jwksUrl": elsewhere.URL})
	h.refuses(i.GitHub(nil), oidc.ErrSignature)
}

// TestWeakKeys: what an issuer publishes is not believed whatever it is.
func TestWeakKeys(t *testing.T) {
	i := testissuer.Start(t)
	key := i.Key()
	good := i.KeySet().Keys[0]
	encryption, other, otherAlgorithm := good, good, good
	encryption.Use, other.KeyID, otherAlgorithm.Algorithm = "enc", "x", "RS512"
	secret := jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: key.ID, Use: "sig"}
	private := jose.JSONWebKey{Key: key.Private, KeyID: "p", Use: "sig"}
	for name, test := range map[string]struct {
		keys []jose.JSONWebKey
		want error
	}{
		"good":              {[]jose.JSONWebKey{good}, nil},
		"among others":      {[]jose.JSONWebKey{other, secret, encryption, good}, nil},
		"for encryption":    {[]jose.JSONWebKey{encryption}, oidc.ErrSignature},
		"another algorithm": {[]jose.JSONWebKey{otherAlgorithm}, oidc.ErrAlgorithm},
		"another kid":       {[]jose.JSONWebKey{other}, oidc.ErrSignature},
		"secret":            {[]jose.JSONWebKey{secret}, oidc.ErrSignature},
		"private":           {[]jose.JSONWebKey{good, private}, oidc.ErrIssuerUnavailable},
		"none":              {nil, oidc.ErrSignature},
		"too many":          {many(good, limits.IssuerKeys+1), oidc.ErrIssuerUnavailable},
	} {
		h := open(t)
		h.believe(i, oidc.GitHub, map[string]any{"jwksUrl": setTrap(t, jose.JSONWebKeySet{Keys: test.keys}).URL})
		if test.want == nil {
			h.accepts(i.GitHub(nil))
			continue
		}
		if _, err := h.Authenticate(t.Context(), i.GitHub(nil)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(k jose.JSONWebKey, n int) []jose.JSONWebKey {
	keys := make([]jose.JSONWebKey, n)
	for i := range keys {
		keys[i] = k
	}
	return keys
}

// TestTokenWithoutKid: it means the issuer's only key.
func TestTokenWithoutKid(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.Generic, nil)
	bare := func(k testissuer.Key) string {
		return i.Forge(map[string]any{"alg": "RS256"}, i.Claims(nil), k.Sign)
	}
	h.accepts(bare(i.Key()))
	i.Rotate(true)
	h.wait(limits.IssuerKeysFresh)
	h.refuses(i.Forge(map[string]any{"alg": "RS256"}, i.Claims(map[string]any{"exp": h.Now().Add(time.Hour).Unix()}), i.Key().Sign), oidc.ErrSignature)
}
