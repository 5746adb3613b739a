package server_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

const (
	hostileTimeout = 5 * time.Second
	hostileHeap    = 64 << 20
	manifestType   = "application/vnd.oci.image.manifest.v1+json"
	indexType      = "application/vnd.oci.image.index.v1+json"
)

// misbehaviour is what a registry does in the place of an answer. It returns
// false to answer honestly.
type misbehaviour struct {
	name string // rows of the catalogue first, where there is one
	do   func(h *hostile, w http.ResponseWriter, r *http.Request) bool
	// tag asks by tag, so that what comes is not held to a digest beforehand.
	tag bool
	tls bool
	// want is the code; or, if set, is as good.
	want, or policy.Code
}

// hostile is a registry that has what the good one has, and keeps to the
// protocol only when it is told to.
type hostile struct {
	host    string
	honest  http.Handler
	wicked  atomic.Bool
	asked   atomic.Int64
	outside string // where it sends people
	gone    chan struct{}
	// certificate is of its listener where that is TLS.
	certificate *x509.Certificate
}

func (h *hostile) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-h.gone:
	}
}

// at does something in the place of answers to some paths.
func at(part string, do func(h *hostile, w http.ResponseWriter, r *http.Request)) func(*hostile, http.ResponseWriter, *http.Request) bool {
	return func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		do(h, w, r)
		return true
	}
}

func endless(w http.ResponseWriter) {
	for chunk := []byte(strings.Repeat(" ", 32<<10)); ; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// raw takes the connection over.
func raw(w http.ResponseWriter, do func(net.Conn)) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	do(conn)
}

func misbehaviours() []misbehaviour {
	const manifests = "/manifests/"
	return append([]misbehaviour{
		{name: "H8 hangs", want: policy.DeadlineExceeded, do: at(manifests, func(h *hostile, _ http.ResponseWriter, r *http.Request) { h.hang(r) })},
		{name: "H8 one byte a second", want: policy.DeadlineExceeded, do: at(manifests, func(h *hostile, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte("{")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-h.gone:
					return
				case <-time.After(time.Second):
				}
			}
		})},
		{name: "H1 endless body", want: policy.LimitExceeded, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			endless(w)
		})},
		{name: "H1 length of 10 GiB", want: policy.LimitExceeded, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Content-Length", fmt.Sprint(10<<30))
			_, _ = w.Write([]byte("{}"))
		})},
		{name: "H1 endless attachment", want: policy.LimitExceeded, do: at("/blobs/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) { endless(w) })},
		{name: "H8 length longer than the body", want: policy.RegistryUnavailable, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
		})},
		{name: "H8 reset in the middle", want: policy.RegistryUnavailable, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: "+manifestType+"\r\nContent-Length: 1000\r\n\r\n{")
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
			})
		})},
		{name: "H8 endless headers", want: policy.RegistryUnavailable, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(conn net.Conn) {
				_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				for err == nil {
					_, err = io.WriteString(conn, "X-Header: "+strings.Repeat("x", 1000)+"\r\n")
				}
			})
		})},
		{name: "H8 endless early hints", want: policy.RegistryUnavailable, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(conn net.Conn) {
				var err error
				for err == nil {
					_, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("x", 1000)+"\r\n\r\n")
				}
			})
		})},
		{name: "H8 always busy", want: policy.RegistryUnavailable, or: policy.DeadlineExceeded, do: at("/v2/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		})},
		{name: "H8 busy for no time", want: policy.RegistryUnavailable, do: at("/v2/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		})},
		{name: "H8 server faults", want: policy.RegistryUnavailable, do: at("/v2/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })},
		{name: "F1 server faults at attachments alone", want: policy.RegistryUnavailable, do: at("/referrers/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		})},
	}, misdirections()...)
}

// bomb is a megabyte of zeros, compressed: members of gzip follow one another.
func bomb() []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(make([]byte, 1<<20))
	_ = w.Close()
	return out.Bytes()
}

// thousand are as many entries of a page of referrers, with PAGE in the place
// of what tells pages apart.
func thousand() string {
	entries := make([]string, 1000)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"mediaType":%q,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"sha256:%056xPAGE","size":500}`, manifestType, i)
	}
	return strings.Join(entries, ",")
}

func misdirections() []misbehaviour {
	const manifests = "/manifests/"
	return []misbehaviour{
		{name: "H4 compression bomb", want: policy.LimitExceeded, or: policy.DigestMismatch, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Content-Encoding", "gzip")
			for member := bomb(); ; {
				if _, err := w.Write(member); err != nil {
					return
				}
			}
		})},
		{name: "H3 a million referrers on endless pages", want: policy.LimitExceeded, do: at("/referrers/", func(h *hostile, w http.ResponseWriter, r *http.Request) {
			page := h.asked.Add(1)
			w.Header().Set("Content-Type", indexType)
			w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.URL.Path, page))
			_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+indexType+`","manifests":[`)
			_, _ = io.WriteString(w, strings.ReplaceAll(thousand(), "PAGE", fmt.Sprintf("%08x", page)))
			_, _ = io.WriteString(w, "]}")
		})},
		{name: "I3 redirects in a circle", want: policy.LimitExceeded, do: at("/v2/", func(h *hostile, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, fmt.Sprintf("%s?n=%d", r.URL.Path, h.asked.Add(1)), http.StatusTemporaryRedirect)
		})},
		{name: "I3 redirect to another host", want: policy.RegistryUnavailable, do: at("/v2/", func(h *hostile, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, h.outside+r.URL.Path, http.StatusTemporaryRedirect)
		})},
		{name: "I3 redirect to a metadata address", want: policy.RegistryUnavailable, do: at("/v2/", func(_ *hostile, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		})},
		{name: "I3 pages of another host", want: policy.RegistryUnavailable, do: at("/referrers/", func(h *hostile, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", indexType)
			w.Header().Set("Link", "<"+h.outside+r.URL.Path+`>; rel="next"`)
			_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+indexType+`","manifests":[]}`)
		})},
		{name: "I4 realm elsewhere", want: policy.RegistryUnavailable, do: at("/v2/", func(h *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.outside+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		})},
		{name: "I4 token server that hangs", want: policy.DeadlineExceeded, do: func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				h.hang(r)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+h.host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}},
		{name: "I4 endless token", want: policy.RegistryUnavailable, or: policy.LimitExceeded, do: func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				endless(w)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+h.host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}},
		{name: "I5 certificate that nobody vouches for", tls: true, want: policy.RegistryUnavailable, do: at("/none", nil)},
		{name: "A1 digest flips between reads", want: policy.DigestMismatch, do: at(manifests, func(h *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"annotations":{"n":"%d"}}`, manifestType, h.asked.Add(1))
		})},
		{name: "A1 header of one digest, bytes of another", tag: true, want: policy.DigestMismatch, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
			_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"config":{},"layers":[]}`, manifestType)
		})},
		{name: "A3 manifest and index at once", tag: true, want: policy.AmbiguousManifest, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"config":{},"layers":[],"manifests":[]}`, manifestType)
		})},
		{name: "A3 manifest served as an index", tag: true, want: policy.AmbiguousManifest, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", indexType)
			_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"config":{},"layers":[]}`, manifestType)
		})},
		{name: "A3 wrong content type", tag: true, want: policy.AmbiguousManifest, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		})},
		{name: "H9 deep manifest", tag: true, want: policy.AmbiguousManifest, do: at(manifests, func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			_, _ = io.WriteString(w, strings.Repeat(`{"a":`, 100_000))
		})},
	}
}

// start serves a hostile registry in front of a good one.
func (m misbehaviour) start(t *testing.T, good, outside string) *hostile {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: good}
	proxy := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog: log.New(io.Discard, "", 0),
	}
	h := &hostile{honest: proxy, outside: outside, gone: make(chan struct{})}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.wicked.Load() && m.do(h, w, r) {
			return
		}
		h.honest.ServeHTTP(w, r)
	})
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if m.tls {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		s.StartTLS()
		h.certificate = s.Certificate()
	} else {
		s.Start()
	}
	t.Cleanup(func() { close(h.gone); s.CloseClientConnections(); s.Close() })
	h.host = s.Listener.Addr().String()
	h.wicked.Store(true)
	return h
}

// TestHostileRegistry asks the service about registries that do what they must
// not, all at once and over the API, beside a good one (rows A1, A3, H1, H3, H8,
// H9, I3 to I5). Each question is decided within its deadline, with the code of
// what is wrong; the good registry's images pass meanwhile; the heap stays small.
// The control of each is the same registry once it behaves.
func TestHostileRegistry(t *testing.T) {
	signing := open(t)
	builder := signing.furnish()
	var images []string
	for i := range 40 {
		images = append(images, signing.push(fmt.Sprint("good ", i)))
		_, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: images[i], Key: "release"}, api.SignOptions{})
		signing.must(err)
	}
	good := signing.registry.Host
	_, digest, _ := strings.Cut(images[0], "@")
	outside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("somebody went to %s", r.URL) }))
	t.Cleanup(outside.Close)

	// Another service, which knows the key and nothing of the signatures.
	h := open(t)
	all := misbehaviours()
	registries, hosts := make([]*hostile, len(all)), []string{good}
	for i, m := range all {
		registries[i] = m.start(t, good, outside.URL)
		hosts = append(hosts, registries[i].host)
	}
	h.trustPartner(signing, hosts, all)

	heap := watchHeap(t)
	stop, passed := make(chan struct{}), make(chan int, 1)
	go func() { passed <- h.askMeanwhile(images[1:], stop) }()
	var group sync.WaitGroup
	answers := make([]api.VerifyResult, len(all))
	took := make([]time.Duration, len(all))
	for i, m := range all {
		group.Go(func() {
			from := time.Now()
			answers[i] = h.question(registries[i].image(m, digest))
			took[i] = time.Since(from)
		})
	}
	group.Wait()
	close(stop)
	enough := 5
	if raced {
		enough = 1
	}
	if n := <-passed; n < enough {
		t.Errorf("%d questions about the good registry passed meanwhile", n)
	}
	grown := heap()
	t.Logf("%d behaviours, heap grew by %d KiB", len(all), grown>>10)
	if grown > hostileHeap && !raced { // the race detector keeps more alive
		t.Errorf("the heap grew by %d bytes", grown)
	}
	for i, m := range all {
		t.Run(m.name, func(t *testing.T) {
			r := answers[i]
			if r.Verdict != policy.Failed || len(r.Reasons) == 0 {
				t.Fatalf("%s %v", r.Verdict, r.Reasons)
			}
			late := raced && r.Reasons[0].Code == policy.DeadlineExceeded // what takes long takes longer there
			if code := r.Reasons[0].Code; code != m.want && code != m.or && !late {
				t.Fatalf("%v, want %s", r.Reasons, m.want)
			}
			if took[i] > hostileTimeout+5*time.Second {
				t.Errorf("decided after %s", took[i])
			}
			t.Attr("verdict", "FAILED "+string(r.Reasons[0].Code))
			registries[i].behave(t, h, m, digest)
		})
	}
}

// image is what is asked of a hostile registry.
func (h *hostile) image(m misbehaviour, digest string) string {
	if m.tag {
		return h.host + "/team/app:latest"
	}
	return h.host + "/team/app@" + digest
}

// behave is the control: the same image passes once the registry behaves, and
// has been left alone for as long as registries are that give no answer.
func (h *hostile) behave(t *testing.T, service *house, m misbehaviour, digest string) {
	t.Helper()
	h.wicked.Store(false)
	m.tag = false
	if m.tls {
		h.vouch(service)
	}
	var r api.VerifyResult
	for range 60 {
		if r = service.question(h.image(m, digest)); r.Verdict == policy.Passed {
			t.Attr("verdict", "PASSED")
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("it behaves, and %s: %v", r.Verdict, r.Reasons)
}

// vouch makes the service believe the certificate of a registry.
func (h *hostile) vouch(service *house) {
	service.t.Helper()
	current, err := service.admin.Registry(service.t.Context(), h.host)
	service.must(err)
	_, err = service.admin.PutRegistry(service.t.Context(), h.host, api.RegistryRequest{
		Repositories: current.Repositories, AllowPrivateAddress: true, CABundle: string(testauthority.CertificatePEM(h.certificate)),
	}, api.PutOptions{Revision: current.Revision})
	service.must(err)
}

// trustPartner lists registries, and puts a policy that wants the signature of
// another service's key.
func (h *house) trustPartner(partner *house, hosts []string, all []misbehaviour) {
	h.t.Helper()
	for i, host := range hosts {
		_, err := h.admin.PutRegistry(h.t.Context(), host, api.RegistryRequest{
			Repositories: []string{"team/**"}, InsecureHTTP: i == 0 || !all[i-1].tls, AllowPrivateAddress: true,
		}, api.PutOptions{})
		h.must(err)
	}
	pem, err := partner.admin.PublicKey(h.t.Context(), "release")
	h.must(err)
	patterns, err := json.Marshal(globs(hosts))
	h.must(err)
	_, err = h.admin.PutPolicy(h.t.Context(), "production", fmt.Appendf(nil, `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: %s}
  authorities: {partner: {key: {pem: %q}}}
  require: {signature: {by: partner}}
`, patterns, pem), api.PutOptions{})
	h.must(err)
}

func globs(hosts []string) (out []string) {
	for _, host := range hosts {
		out = append(out, host+"/**")
	}
	return out
}

// question asks about one image, with a deadline.
func (h *house) question(image string) api.VerifyResult {
	a, err := h.admin.Verify(h.t.Context(), api.VerifyRequest{Images: []string{image}, Timeout: hostileTimeout.String()})
	if err != nil || len(a.Results) != 1 || a.Results[0].Verdict != a.Verdict {
		h.t.Errorf("%s: %+v, %v", image, a, err)
		return api.VerifyResult{}
	}
	return a.Results[0]
}

// askMeanwhile asks about images of the good registry, each for the first time,
// and then again, until it is stopped; it returns how often one passed.
func (h *house) askMeanwhile(images []string, stop <-chan struct{}) (passed int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return passed
		default:
		}
		if r := h.question(images[n%len(images)]); r.Verdict != policy.Passed {
			h.t.Errorf("the good registry's image: %s %v", r.Verdict, r.Reasons)
			return passed
		}
		passed++
		time.Sleep(20 * time.Millisecond)
	}
}

// watchHeap samples the live heap until the function it returns is called, which
// tells by how much the heap was larger at most than at the start.
func watchHeap(t *testing.T) (grown func() uint64) {
	t.Helper()
	read := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	start, most := read(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most = max(most, read())
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return most - min(most, start)
	}
}
