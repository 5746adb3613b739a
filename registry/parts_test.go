package registry_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	ggcrregistry "github.com/google/go-containerregistry/pkg/registry"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/registry"
)

const (
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	bundleType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	signatureKey = "dev.cosignproject.cosign/signature"
	canary       = "canary-7f3a9c"
)

// testRules is a Rules with loose control: it returns what was put under a
// name, whatever host the rule itself says.
type testRules struct {
	mu    sync.Mutex
	rules map[string]registry.Rule
}

func rules(list ...registry.Rule) *testRules {
	r := &testRules{rules: map[string]registry.Rule{}}
	for _, rule := range list {
		r.put(rule.Host, rule)
	}
	return r
}

func (r *testRules) put(host string, rule registry.Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules[host] = rule
}

func (r *testRules) drop(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rules, host)
}

func (r *testRules) Rule(_ context.Context, host string) (registry.Rule, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rule, ok := r.rules[host]
	if !ok {
		return registry.Rule{}, registry.ErrNotListed
	}
	return rule, nil
}

// plainRule lists a test server that speaks http on loopback.
func plainRule(host string) registry.Rule {
	return registry.Rule{Host: host, Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true}
}

// tlsRule lists a test server that speaks https on loopback.
func tlsRule(s *httptest.Server) registry.Rule {
	return registry.Rule{
		Host: hostOf(s), Repositories: []string{"**"}, AllowPrivateAddress: true, CABundle: caOf(s),
	}
}

func caOf(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func hostOf(s *httptest.Server) string { return s.Listener.Addr().String() }

func client(r registry.Rules) *registry.Client {
	return registry.New(registry.Config{Rules: r, Clock: clock.System{}, UserAgent: "countersign-test"})
}

// quick makes a client whose requests end after a moment.
func quick(r registry.Rules, timeout time.Duration) *registry.Client {
	return registry.NewOn(registry.Config{Rules: r, Clock: clock.System{}}, timeout, nil, nil)
}

// realRegistries are the two kinds: with and without the referrers API.
func realRegistries() map[string]func() http.Handler {
	return map[string]func() http.Handler{
		"referrers API": func() http.Handler { return ociserver.New(ocimem.New(), nil) },
		"fallback tag":  func() http.Handler { return ggcrregistry.New(ggcrregistry.Logger(log.New(io.Discard, "", 0))) },
	}
}

// eachRegistry runs a test on both kinds.
func eachRegistry(t *testing.T, test func(t *testing.T, host string, handler *traced)) {
	t.Helper()
	for name, handler := range realRegistries() {
		t.Run(name, func(t *testing.T) {
			h := &traced{next: handler()}
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			test(t, hostOf(s), h)
		})
	}
}

// traced records requests in front of a registry, and may answer itself.
type traced struct {
	next http.Handler

	mu sync.Mutex
	// Guarded by mu. answer answers a request if it returns true.
	answer   func(w http.ResponseWriter, r *http.Request) bool
	requests []string
	headers  []http.Header
}

func (h *traced) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests = append(h.requests, r.Method+" "+r.URL.Path)
	h.headers = append(h.headers, r.Header.Clone())
	answer := h.answer
	h.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	h.next.ServeHTTP(w, r)
}

// instead has f answer requests from now on; nil ends that.
func (h *traced) instead(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = f
}

func (h *traced) seen() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.requests...)
}

func (h *traced) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests, h.headers = nil, nil
}

func (h *traced) count(method, pathPart string) int {
	n := 0
	for _, r := range h.seen() {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, pathPart) {
			n++
		}
	}
	return n
}

// carried reports whether any request so far had the string in a header.
func (h *traced) carried(s string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, header := range h.headers {
		for _, values := range header {
			if strings.Contains(strings.Join(values, " "), s) {
				return true
			}
		}
	}
	return false
}

// sink is a host that must not be contacted, or not with anything of ours.
type sink struct {
	*httptest.Server
	traced
	connections atomic.Int64
}

// newSink starts a sink over https or http.
func newSink(t *testing.T, overTLS bool, answer http.HandlerFunc) *sink {
	t.Helper()
	s := &sink{}
	s.next = answer
	if answer == nil {
		s.next = http.NotFoundHandler()
	}
	s.Server = httptest.NewUnstartedServer(&s.traced)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if overTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// script serves a registry by hand.
func script(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *traced) {
	t.Helper()
	h := &traced{next: handler}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s, h
}

// content is a small content-addressed store behind a scripted registry.
type content map[string]stored

type stored struct {
	mediaType string
	body      []byte
}

// put keeps bytes under their digest and any other names.
func (c content) put(mediaType string, body []byte, names ...string) attest.Digest {
	d := attest.DigestOf(body)
	for _, n := range append(names, d.String()) {
		c[n] = stored{mediaType, body}
	}
	return d
}

// ServeHTTP answers by the last element of the path.
func (c content) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := c[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", v.mediaType)
	w.Header().Set("Content-Length", fmt.Sprint(len(v.body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(v.body)
	}
}

// manifestJSON is a minimal image manifest, told apart by its seed.
func manifestJSON(seed string) []byte {
	config := descriptor("application/vnd.oci.image.config.v1+json", []byte("{}"))
	return mustJSON(map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": []any{},
		"annotations": map[string]string{"seed": seed},
	})
}

func descriptor(mediaType string, body []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": attest.DigestOf(body).String(), "size": len(body)}
}

// referrerJSON is a bundle's manifest about a subject.
func referrerJSON(subject, bundle []byte) []byte {
	return mustJSON(map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "artifactType": bundleType,
		"config":  descriptor("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers":  []any{descriptor(bundleType, bundle)},
		"subject": descriptor(ociManifest, subject),
	})
}

// listingJSON is a referrers answer.
func listingJSON(referrers ...[]byte) []byte {
	entries := make([]any, 0, len(referrers))
	for _, r := range referrers {
		d := descriptor(ociManifest, r)
		d["artifactType"] = bundleType
		entries = append(entries, d)
	}
	return mustJSON(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// pushImage puts an image manifest into a real registry and returns it
// resolved.
func pushImage(t *testing.T, c *registry.Client, host, repository, tag string) registry.Manifest {
	t.Helper()
	pushBlob(t, host, repository, []byte("{}"))
	pushManifest(t, host, repository, tag, ociManifest, manifestJSON(t.Name()+tag))
	m, err := c.Resolve(t.Context(), parse(t, host+"/"+repository+":"+tag))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func pushManifest(t *testing.T, host, repository, tag, mediaType string, body []byte) {
	t.Helper()
	send(t, http.MethodPut, "http://"+host+"/v2/"+repository+"/manifests/"+tag, mediaType, body, http.StatusCreated)
}

func pushBlob(t *testing.T, host, repository string, body []byte) {
	t.Helper()
	resp := send(t, http.MethodPost, "http://"+host+"/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := location.Query()
	q.Set("digest", attest.DigestOf(body).String())
	location.RawQuery = q.Encode()
	send(t, http.MethodPut, location.String(), "application/octet-stream", body, http.StatusCreated)
}

func send(t *testing.T, method, url, contentType string, body []byte, want int) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, b)
	}
	return resp
}

func parse(t testing.TB, s string) registry.Reference {
	t.Helper()
	ref, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func mustUnmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
