package registry_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/registry"
)

// tokenRegistry is a registry that wants a bearer token of its realm for one
// scope, in front of a real one.
type tokenRegistry struct {
	realm string
	next  http.Handler
	// accept judges a token.
	accept func(token, method string) bool
}

func (h *tokenRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !h.accept(token, r.Method) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.realm+`",service="svc",scope="registry:catalog:*"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	h.next.ServeHTTP(w, r)
}

// tokens answers as a token server: the token is the scope asked for and the
// basic credentials it was asked with.
func tokens(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	_, _ = fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, base64.RawURLEncoding.EncodeToString(
		[]byte(r.URL.Query().Get("service")+" "+r.URL.Query().Get("scope")+" "+user+":"+password)))
}

func tokenIs(want string) func(token, method string) bool {
	return func(token, _ string) bool {
		b, _ := base64.RawURLEncoding.DecodeString(token)
		return string(b) == want
	}
}

// A token is fetched once per scope and used until it expires.
func TestBearerToken(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	reg := &tokenRegistry{next: store, accept: tokenIs("svc repository:a:pull u:" + canary)}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", tokens)
	mux.Handle("/", reg)
	s, h := script(t, mux.ServeHTTP)
	reg.realm = s.URL + "/token"
	rule := plainRule(hostOf(s))
	rule.Credentials = &registry.Credentials{Username: "u", Password: canary}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := registry.New(registry.Config{Rules: rules(rule), Clock: clock.Func(func() time.Time { return now })})
	resolve := func(want int) {
		t.Helper()
		h.forget()
		if _, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1")); err != nil {
			t.Error(err)
		}
		if len(h.seen()) != want {
			t.Errorf("%q", h.seen())
		}
	}
	resolve(3) // asked, token, again
	resolve(1)
	now = now.Add(301 * time.Second)
	resolve(3)
}

func TestBasicAndStaticToken(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	for name, tt := range map[string]struct {
		credentials *registry.Credentials
		challenge   string
		header      string
		want        error
	}{
		"basic":             {&registry.Credentials{Username: "u", Password: "p"}, `Basic realm="r"`, "Basic dTpw", nil},
		"static token":      {&registry.Credentials{Token: "t"}, `Bearer realm="https://auth.example.com"`, "Bearer t", nil},
		"wrong password":    {&registry.Credentials{Username: "u", Password: "q"}, `Basic realm="r"`, "Basic dTpw", registry.ErrDenied},
		"wrong token":       {&registry.Credentials{Token: "x"}, `Bearer realm="https://auth.example.com"`, "Bearer t", registry.ErrDenied},
		"anonymous":         {nil, `Basic realm="r"`, "Basic dTpw", registry.ErrDenied},
		"unknown scheme":    {&registry.Credentials{Username: "u", Password: "p"}, `Negotiate`, "Basic dTpw", registry.ErrDenied},
		"broken challenge":  {&registry.Credentials{Username: "u", Password: "p"}, `Basic realm="`, "Basic dTpw", registry.ErrDenied},
		"endless challenge": {&registry.Credentials{Username: "u", Password: "p"}, `Basic realm="` + strings.Repeat("r", 5000) + `"`, "Basic dTpw", registry.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != tt.header {
					w.Header().Set("WWW-Authenticate", tt.challenge)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				store.ServeHTTP(w, r)
			})
			rule := plainRule(hostOf(s))
			rule.Credentials = tt.credentials
			_, err := client(rules(rule)).Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
			if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// I4: the token server is on the registry's own host, or https on its site and
// at an address that the rule allows. Nothing is sent anywhere else.
func TestI4Realm(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	for name, tt := range map[string]struct {
		realm string
		want  error
	}{
		"own host":              {"https://example.com/token", nil},
		"same site":             {"https://auth.example.com/token", nil},
		"same site, upper case": {"https://AUTH.Example.COM/token", nil},
		"own host over http":    {"http://example.com/token", registry.ErrUnsafe},
		"same site over http":   {"http://auth.example.com/token", registry.ErrUnsafe},
		"another site":          {"https://auth.example.net/token", registry.ErrUnsafe},
		"look-alike":            {"https://example.com.evil.net/token", registry.ErrUnsafe},
		"look-alike prefix":     {"https://evilexample.com/token", registry.ErrUnsafe},
		"public suffix":         {"https://com/token", registry.ErrUnsafe},
		"loopback":              {"https://127.0.0.1/token", registry.ErrUnsafe},
		"metadata":              {"http://169.254.169.254/token", registry.ErrUnsafe},
		"private":               {"https://10.0.0.1/token", registry.ErrUnsafe},
		"same site, private":    {"https://internal.example.com/token", registry.ErrUnsafe},
		"same site, loopback":   {"https://local.example.com/token", registry.ErrUnsafe},
		"with a user":           {"https://u:p@example.com/token", registry.ErrUnsafe},
		"with a fragment":       {"https://example.com/token#x", registry.ErrUnsafe},
		"empty":                 {"", registry.ErrUnsafe},
		"relative":              {"/token", registry.ErrUnsafe},
		"another scheme":        {"file://example.com/etc/passwd", registry.ErrUnsafe},
		"redirecting":           {"https://example.com/moved", registry.ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/token", tokens)
			mux.Handle("/moved", http.RedirectHandler("https://evil.example.net/", http.StatusFound))
			mux.Handle("/", &tokenRegistry{realm: tt.realm, next: store, accept: tokenIs("svc repository:a:pull u:" + canary)})
			s := certified(t, mux)
			evil := newSink(t, true, tokens)
			evilPlain := newSink(t, false, tokens)
			n := newInternet()
			n.host("example.com", s)
			n.host("auth.example.com", s) // httptest's certificate is valid for *.example.com too
			for _, host := range []string{"auth.example.net", "example.com.evil.net", "evilexample.com", "com", "evil.example.net"} {
				n.host(host, evil.Server)
			}
			n.names["internal.example.com"] = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
			n.names["local.example.com"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
			n.servers[netip.MustParseAddr("10.0.0.1")] = hostOf(evil.Server)
			n.servers[netip.MustParseAddr("127.0.0.1")] = hostOf(evil.Server)
			n.servers[netip.MustParseAddr("169.254.169.254")] = hostOf(evilPlain.Server)
			_, err := n.client(rules(exampleRule(s))).Resolve(t.Context(), parse(t, "example.com/a:v1"))
			if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if evil.connections.Load()+evilPlain.connections.Load() != 0 {
				t.Errorf("contacted: %v", n.dialed)
			}
		})
	}
}

// A token server that hangs, does not end, or answers nonsense.
func TestHostileTokenServer(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"hangs":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, registry.ErrUnavailable},
		"endless":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, registry.ErrLimit},
		"no token":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) }, registry.ErrUnavailable},
		"twice":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"a","token":"b"}`)) }, registry.ErrUnavailable},
		"header break": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"a\r\nX: y"}`)) }, registry.ErrUnavailable},
		"not JSON":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) }, registry.ErrUnavailable},
		"refuses":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, registry.ErrDenied},
		"useless":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"wrong"}`)) }, registry.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			reg := &tokenRegistry{next: content{}, accept: tokenIs("never")}
			mux := http.NewServeMux()
			mux.HandleFunc("/token", tt.answer)
			mux.Handle("/", reg)
			s, h := script(t, mux.ServeHTTP)
			reg.realm = s.URL + "/token"
			_, err := quick(rules(plainRule(hostOf(s))), 300*time.Millisecond).Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
			if !errors.Is(err, tt.want) || len(h.seen()) > 9 {
				t.Errorf("%v after %q", err, h.seen())
			}
		})
	}
}

// I5: credentials belong to exactly one host. A listed look-alike is asked
// anonymously, an unlisted one not at all, and a look-up that matches loosely
// does not hand them over.
func TestI5LookAlikeGetsNoCredentials(t *testing.T) {
	var asked atomic.Int64
	challenge := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	good, bad := newSink(t, false, challenge), newSink(t, false, challenge)
	rule := plainRule(hostOf(good.Server))
	rule.Credentials = &registry.Credentials{Username: "u", Password: canary}
	list := rules(rule, plainRule(hostOf(bad.Server)))
	c := client(list)
	resolve := func(s *sink) error {
		_, err := c.Resolve(t.Context(), parse(t, hostOf(s.Server)+"/a:v1"))
		return err
	}
	if err := resolve(good); !errors.Is(err, registry.ErrDenied) || !good.carried("Basic") { // control
		t.Errorf("%v", err)
	}
	if err := resolve(bad); !errors.Is(err, registry.ErrDenied) || bad.count("GET", "") == 0 {
		t.Errorf("%v", err)
	}
	before := bad.connections.Load()
	list.put(hostOf(bad.Server), rule) // a loose look-up: the good host's rule
	if err := resolve(bad); !errors.Is(err, registry.ErrNotListed) {
		t.Errorf("%v", err)
	}
	list.drop(hostOf(bad.Server))
	if err := resolve(bad); !errors.Is(err, registry.ErrNotListed) {
		t.Errorf("%v", err)
	}
	if bad.carried("Basic") || bad.connections.Load() != before {
		t.Error("the look-alike was contacted or got credentials")
	}
	for _, name := range []string{"registry.example.com.evil.net", "registry-example.com", "xregistry.example.com", "registry.example.com:8443"} {
		none := client(rules(registry.Rule{Host: "registry.example.com", Repositories: []string{"**"}, Credentials: rule.Credentials}))
		if _, err := none.Resolve(t.Context(), parse(t, name+"/a:v1")); !errors.Is(err, registry.ErrNotListed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// I5: a certificate that does not fit ends it; there is no way back to http,
// nor past the authorities of the rule.
func TestI5BadTLS(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	overTLS, plain := newSink(t, true, store.ServeHTTP), newSink(t, false, store.ServeHTTP)
	resolve := func(rule registry.Rule) error {
		rule.Credentials = &registry.Credentials{Token: canary}
		_, err := client(rules(rule)).Resolve(t.Context(), parse(t, rule.Host+"/a:v1"))
		return err
	}
	if err := resolve(tlsRule(overTLS.Server)); err != nil { // control
		t.Error(err)
	}
	overTLS.forget()
	untrusted := tlsRule(overTLS.Server)
	untrusted.CABundle = ""
	if err := resolve(untrusted); !errors.Is(err, registry.ErrUnavailable) || len(overTLS.seen()) != 0 {
		t.Errorf("certificate of nobody: %v", err)
	}
	notPlain := plainRule(hostOf(plain.Server))
	notPlain.InsecureHTTP = false
	if err := resolve(notPlain); !errors.Is(err, registry.ErrUnavailable) || len(plain.seen()) != 0 {
		t.Errorf("https asked, http there: %v, %q", err, plain.seen())
	}
}

// A scope is what the operation needs, whatever the challenge proposes.
func TestScopeIsOurs(t *testing.T) {
	var scopes []string
	reg := &tokenRegistry{next: realRegistries()["referrers API"](), accept: func(string, string) bool { return false }}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		scopes = append(scopes, r.URL.Query().Get("scope"))
		tokens(w, r)
	})
	mux.Handle("/", reg)
	s, _ := script(t, mux.ServeHTTP)
	reg.realm = s.URL + "/token?scope=admin"
	c := client(rules(plainRule(hostOf(s))))
	_, _ = c.Resolve(t.Context(), parse(t, hostOf(s)+"/team/app:v1"))
	subject := registry.Manifest{Reference: parse(t, hostOf(s)+"/team/app:v1"), Raw: []byte("{}"), MediaType: ociManifest}
	subject.Digest = attest.DigestOf(subject.Raw)
	_, _ = c.AttachLegacy(t.Context(), subject.Reference.WithDigest(subject.Digest), []byte("p"), map[string]string{signatureKey: "YQ=="})
	if got := strings.Join(scopes, " "); got != "repository:team/app:pull repository:team/app:pull,push" {
		t.Error(got)
	}
}
