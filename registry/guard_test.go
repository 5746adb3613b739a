package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/registry"
)

// internet gives names public addresses that lead to servers on loopback, and
// records who was asked for.
type internet struct {
	names   map[string][]netip.Addr
	servers map[netip.Addr]string
	// deadEnd is called when an address without a server is dialled.
	deadEnd func()

	mu     sync.Mutex
	dialed []netip.AddrPort
}

func newInternet() *internet {
	return &internet{names: map[string][]netip.Addr{}, servers: map[netip.Addr]string{}}
}

// publicAddr is the n-th address of a public network.
func publicAddr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{93, 184, 216, n}) }

// host puts a server under a name at a public address.
func (n *internet) host(name string, s *httptest.Server) {
	addr := publicAddr(byte(len(n.servers) + 1))
	n.names[name] = append(n.names[name], addr)
	n.servers[addr] = s.Listener.Addr().String()
}

func (n *internet) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if addrs, ok := n.names[strings.ToLower(host)]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *internet) connect(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, addr)
	n.mu.Unlock()
	server, ok := n.servers[addr.Addr()]
	if !ok {
		if n.deadEnd != nil {
			n.deadEnd()
		}
		return nil, errors.New("connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", server)
}

func (n *internet) client(r registry.Rules) *registry.Client {
	return registry.NewOn(registry.Config{Rules: r, Clock: clock.System{}, UserAgent: "ua-" + canary}, 5*time.Second, n.lookup, n.connect)
}

// addresses that must not be dialled: for a rule that does not allow private
// ones, and at all.
var (
	privateAddrs = []string{
		"127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"100.64.0.1", "192.0.0.8", "198.18.0.1", "fc00::1", "fd12:3456::1", "fec0::1", "::ffff:10.0.0.1",
		"::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "::127.0.0.1", "2001:db8::1",
	}
	neverAddrs = []string{
		"169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "0.1.2.3", "::",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::ffff:0.0.0.0",
	}
	publicAddrs = []string{"93.184.216.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "192.169.0.1"}
)

// I4: a private address is refused when dialled, whatever name led there.
func TestI4PrivateAddressIsRefused(t *testing.T) {
	dialed := func(addr string, allow bool) (bool, error) {
		n := newInternet()
		n.names["registry.example.com"] = []netip.Addr{netip.MustParseAddr(addr)}
		rule := registry.Rule{Host: "registry.example.com", Repositories: []string{"**"}, AllowPrivateAddress: allow}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n.deadEnd = cancel
		_, err := n.client(rules(rule)).Resolve(ctx, parse(t, "registry.example.com/a:v1"))
		return len(n.dialed) > 0, err
	}
	for _, addr := range privateAddrs {
		if did, err := dialed(addr, false); did || !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("%s: dialled %t, %v", addr, did, err)
		}
		if did, _ := dialed(addr, true); !did { // control
			t.Errorf("%s: not dialled though allowed", addr)
		}
	}
	for _, addr := range neverAddrs {
		for _, allow := range []bool{false, true} {
			if did, err := dialed(addr, allow); did || !errors.Is(err, registry.ErrUnsafe) {
				t.Errorf("%s, allowed %t: dialled %t, %v", addr, allow, did, err)
			}
		}
	}
	for _, addr := range publicAddrs { // control
		if did, _ := dialed(addr, false); !did {
			t.Errorf("%s: not dialled", addr)
		}
	}
}

// A literal address in the reference is judged like a resolved one, with the
// system's own resolver and dialler.
func TestI4PrivateLiteralIsRefused(t *testing.T) {
	s := newSink(t, false, nil)
	_, port, _ := net.SplitHostPort(hostOf(s.Server))
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port, "[::ffff:127.0.0.1]:" + port, "0.0.0.0:" + port} {
		rule := plainRule(host)
		rule.AllowPrivateAddress = false
		_, err := client(rules(rule)).Resolve(t.Context(), parse(t, host+"/a:v1"))
		if !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if n := s.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A name with one public and one private address is contacted at the public
// one only, also when a second look-up would say something else.
func TestI4MixedAndRebindingNames(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	s := newSink(t, true, store.ServeHTTP)
	n := newInternet()
	n.names["registry.example.com"] = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	n.host("registry.example.com", s.Server)
	lookups := 0
	lookup := func(ctx context.Context, host string) ([]netip.Addr, error) {
		if lookups++; lookups > 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return n.lookup(ctx, host)
	}
	rule := tlsRule(s.Server)
	rule.Host, rule.AllowPrivateAddress = "registry.example.com", false
	c := registry.NewOn(registry.Config{Rules: rules(rule), Clock: clock.System{}}, time.Second, lookup, n.connect)
	if _, err := c.Resolve(t.Context(), parse(t, "registry.example.com/a:v1")); err != nil && !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	for _, a := range n.dialed {
		if a.Addr() != publicAddr(1) {
			t.Errorf("dialled %s", a)
		}
	}
	if len(n.dialed) == 0 || lookups == 0 {
		t.Error("nothing dialled")
	}
}

// certified starts a TLS server whose certificate is valid for "example.com",
// the name httptest's certificate carries, and below it.
func certified(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// I3, I4, redirects: a manifest may not be redirected to another host at all;
// a blob may, over https to a public address, and nothing of ours goes along.
func TestI3Redirects(t *testing.T) {
	subject, bundle := manifestJSON("subject"), []byte(`{"good":true}`)
	good := referrerJSON(subject, bundle)
	elsewhere := newSink(t, true, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bundle) })
	plain := newSink(t, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bundle) })
	for name, location := range map[string]string{
		"loopback":            "https://" + hostOf(elsewhere.Server) + "/x",
		"loopback by name":    "https://localhost:443/x",
		"loopback over http":  "http://" + hostOf(plain.Server) + "/x",
		"metadata":            "http://169.254.169.254/latest/meta-data/",
		"metadata over https": "https://169.254.169.254/latest/meta-data/",
		"private":             "https://10.0.0.7/x",
		"public over http":    "http://cdn.example.net/x",
		"with a user":         "https://user@cdn.example.net/x",
		"no location":         "",
		"file":                "file:///etc/passwd",
		"same name, http":     "http://example.com/v2/a/blobs/x",
		"other port":          "https://example.com:8443/x",
	} {
		for _, kind := range []string{"manifest", "blob"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				store := content{}
				store.put(ociManifest, subject, "v1")
				store.put(ociManifest, good)
				store.put("", bundle)
				s := certified(t, redirecting(store, listingJSON(good), kind, location))
				n := newInternet()
				n.host("example.com", s)
				n.host("cdn.example.net", plain.Server)
				n.names["localhost"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
				c := n.client(rules(exampleRule(s)))
				var err error
				if kind == "manifest" {
					_, err = c.Resolve(t.Context(), parse(t, "example.com/a:v1"))
				} else {
					var found registry.Found
					found, err = c.Attachments(t.Context(), parse(t, "example.com/a@"+attest.DigestOf(subject).String()))
					if len(found.Problems) == 1 {
						err = found.Problems[0].Err
					}
				}
				if name == "other port" && kind == "blob" {
					// Another origin of the same name: allowed, and it is not there.
					if err == nil {
						t.Error("fetched")
					}
				} else if !errors.Is(err, registry.ErrUnsafe) {
					t.Error(err)
				}
			})
		}
	}
	if n := elsewhere.connections.Load() + plain.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// exampleRule lists a certified server as example.com, with credentials.
func exampleRule(s *httptest.Server) registry.Rule {
	return registry.Rule{
		Host: "example.com", Repositories: []string{"**"}, CABundle: caOf(s),
		Credentials: &registry.Credentials{Username: "u", Password: canary},
	}
}

// redirecting serves a registry that asks for basic authentication and
// redirects manifests or blobs to a place.
func redirecting(store content, listing []byte, kind, location string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _, ok := r.BasicAuth()
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case kind == "manifest" && strings.Contains(r.URL.Path, "/manifests/"), kind == "blob" && strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
		case strings.Contains(r.URL.Path, "/referrers/"):
			w.Header().Set("Content-Type", ociIndex)
			_, _ = w.Write(listing)
		default:
			store.ServeHTTP(w, r)
		}
	})
}

// I6, and the positive control of the redirects: a blob at a public https host
// is fetched without credentials or anything else that tells who asks; the
// registry itself gets them.
func TestI6BlobElsewhereGetsNoCredentials(t *testing.T) {
	subject, bundle := manifestJSON("subject"), []byte(`{"good":true}`)
	good := referrerJSON(subject, bundle)
	store := content{}
	store.put(ociManifest, good)
	store.put("", bundle, "moved")
	for location, want := range map[string]int{"/v2/a/moved": 1, "https://cdn.example.net/moved": 1} {
		cdn := newSink(t, true, store.ServeHTTP)
		h := &traced{next: redirecting(store, listingJSON(good), "blob", location)}
		s := certified(t, h)
		n := newInternet()
		n.host("example.com", s)
		n.host("cdn.example.net", cdn.Server)
		c := n.client(rules(exampleRule(s)))
		registry.TrustElsewhere(c, caOf(cdn.Server), "example.com")
		found, err := c.Attachments(t.Context(), parse(t, "example.com/a@"+attest.DigestOf(subject).String()))
		if err != nil || len(found.Attachments) != want {
			t.Errorf("%s: %+v, %v", location, found, err)
		}
		if wantSeen := boolInt(strings.HasPrefix(location, "https")); cdn.count("GET", "") != wantSeen {
			t.Errorf("%s: %q", location, cdn.seen())
		}
		if cdn.carried("Basic") || cdn.carried("Bearer") || cdn.carried(canary) || !h.carried("Basic") {
			t.Errorf("%s: credentials in the wrong place", location)
		}
	}
}

// Redirects within the registry are followed a bounded number of times.
func TestRedirectLoop(t *testing.T) {
	s, h := script(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
	_, err := client(rules(plainRule(hostOf(s)))).Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
	if !errors.Is(err, registry.ErrLimit) || len(h.seen()) > 8 {
		t.Errorf("%v after %d requests", err, len(h.seen()))
	}
}

// I3: foreign-layer urls are never followed; the blob comes from the registry
// or not at all.
func TestI3ForeignLayerURLs(t *testing.T) {
	s := newSink(t, false, nil)
	subject, bundle := manifestJSON("subject"), []byte(`{"good":true}`)
	var m map[string]any
	mustUnmarshal(t, referrerJSON(subject, bundle), &m)
	layer := descriptor(bundleType, bundle)
	layer["urls"] = []string{s.URL + "/x", "http://169.254.169.254/x"}
	m["layers"] = []any{layer}
	for _, present := range []bool{true, false} {
		store := content{}
		store.put(ociManifest, mustJSON(m))
		if present {
			store.put("", bundle)
		}
		_, c, ref := bundlesAbout(t, store, listingJSON(mustJSON(m)))
		found, err := c.Attachments(t.Context(), ref)
		if err != nil || len(found.Attachments) != boolInt(present) || len(found.Problems) != boolInt(!present) {
			t.Errorf("present %t: %+v, %v", present, found, err)
		}
	}
	if n := s.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// I3: a listing continues on the same path of the same origin or not at all.
func TestI3PaginationLink(t *testing.T) {
	s := newSink(t, false, nil)
	subject := manifestJSON("subject")
	digest := attest.DigestOf(subject).String()
	for link, want := range map[string]error{
		`<` + s.URL + `/v2/a/referrers/` + digest + `>; rel="next"`:            registry.ErrUnsafe,
		`<//` + hostOf(s.Server) + `/v2/a/referrers/` + digest + `>; rel=next`: registry.ErrUnsafe,
		`<http://169.254.169.254/>; rel="next"`:                                registry.ErrUnsafe,
		`<https://HOST/v2/a/referrers/` + digest + `>; rel="next"`:             registry.ErrUnsafe,
		`<http://u@HOST/v2/a/referrers/` + digest + `>; rel="next"`:            registry.ErrUnsafe,
		`</v2/other/referrers/` + digest + `>; rel="next"`:                     registry.ErrUnsafe,
		`<../../../x>; rel="next"`:                                             registry.ErrUnsafe,
		`nonsense`:                                                             registry.ErrUnsafe,
		`<` + s.URL + `>; rel="prev"`:                                          nil,
		`<?page=2>; rel="next"`:                                                nil,
		`<http://HOST/v2/a/referrers/` + digest + `?page=2>; rel="next"`:       nil,
	} {
		server, h := script(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				http.NotFound(w, r)
				return
			}
			if !r.URL.Query().Has("page") {
				w.Header().Set("Link", strings.ReplaceAll(link, "HOST", r.Host))
			}
			w.Header().Set("Content-Type", ociIndex)
			_, _ = w.Write(listingJSON())
		})
		rule := plainRule(hostOf(server))
		rule.Credentials = &registry.Credentials{Token: canary}
		_, err := client(rules(rule)).Attachments(t.Context(), parse(t, hostOf(server)+"/a@"+digest))
		if !errors.Is(err, want) || (want == nil && err != nil) {
			t.Errorf("%s: %v", link, err)
		}
		if want == nil && strings.Contains(link, "page=2") && h.count("GET", "/referrers/") != 2 {
			t.Errorf("%s: %q", link, h.seen())
		}
	}
	if n := s.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// I4: an upload goes where the registry is, or not at all.
func TestI4UploadLocation(t *testing.T) {
	for _, location := range []string{
		"OTHER/upload", "//OTHERHOST/upload", "https://HOST/upload", "http://u:p@HOST/upload", "", "http://169.254.169.254/x",
	} {
		s := newSink(t, false, nil)
		location = strings.NewReplacer("OTHERHOST", hostOf(s.Server), "OTHER", s.URL).Replace(location)
		h := &traced{next: realRegistries()["fallback tag"]()}
		server, _ := script(t, h.ServeHTTP)
		rule := plainRule(hostOf(server))
		rule.Credentials = &registry.Credentials{Token: canary}
		c := client(rules(rule))
		subject := pushImage(t, c, hostOf(server), "a", "v1")
		h.instead(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.Header().Set("Location", strings.ReplaceAll(location, "HOST", r.Host))
			w.WriteHeader(http.StatusAccepted)
			return true
		})
		_, err := c.AttachBundle(t.Context(), subject, bundleOf("x"))
		if !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("%q: %v", location, err)
		}
		h.instead(nil)
		if _, err := c.AttachBundle(t.Context(), subject, bundleOf("x")); err != nil { // control
			t.Error(err)
		}
		if n := s.connections.Load(); n != 0 {
			t.Errorf("%q: %d connections", location, n)
		}
	}
}

// An upload that is redirected is not sent again elsewhere.
func TestI4UploadRedirect(t *testing.T) {
	s := newSink(t, false, nil)
	h := &traced{next: realRegistries()["fallback tag"]()}
	server, _ := script(t, h.ServeHTTP)
	c := client(rules(plainRule(hostOf(server))))
	subject := pushImage(t, c, hostOf(server), "a", "v1")
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		h.instead(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == method {
				http.Redirect(w, r, s.URL+"/x", http.StatusTemporaryRedirect)
			}
			return r.Method == method
		})
		if _, err := c.AttachBundle(t.Context(), subject, bundleOf(fmt.Sprint(method))); !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("%s: %v", method, err)
		}
	}
	if n := s.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
