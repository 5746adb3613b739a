package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/server/api"
)

// house is the whole service on a real data folder, with a registry, behind a
// listener: what these tests speak to is what an operator starts.
type house struct {
	t        testing.TB
	url      string
	admin    *api.Client
	secret   string
	registry *localregistry.Registry
	log      *lockedBuffer
	dir      string
	// issuer is of jobs, once one is believed.
	issuer *testissuer.Issuer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t testing.TB, change ...func(*daemon.Config)) *house {
	t.Helper()
	ctx := context.Background()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, url: "http://" + listener.Addr().String(), log: &lockedBuffer{}, dir: t.TempDir()}
	cfg := daemon.Config{
		DataDir: h.dir, PublicURL: h.url, CheckpointInterval: 100 * time.Millisecond,
		Logger: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	d, err := daemon.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(d.AdminTokenPath())
	if err != nil {
		t.Fatal(err)
	}
	h.secret = strings.TrimSpace(string(secret))
	h.admin = h.client(h.secret)
	web := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() { defer close(served); _ = web.Serve(listener) }()
	t.Cleanup(func() {
		web.Close()
		<-served
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return h
}

func (h *house) client(secret string) *api.Client {
	h.t.Helper()
	transport := &http.Transport{DisableCompression: true}
	h.t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClientWith(api.ClientConfig{URL: h.url, Token: secret, Transport: transport})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// as makes a token with roles and a client that uses it.
func (h *house) as(name string, roles ...string) (*api.Client, string) {
	h.t.Helper()
	made, err := h.admin.CreateToken(h.t.Context(), api.TokenRequest{Name: name, Roles: roles})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.client(made.Secret), made.Secret
}

const releasePolicy = `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["%s/**"]}
  authorities:
    release: {key: {name: release}}
  require:
    all: [{signature: {by: release}}]
`

// furnish starts a registry and lists it, makes the key release, lets the
// token builder sign with it, and requires its signature.
func (h *house) furnish() *api.Client {
	h.t.Helper()
	ctx := h.t.Context()
	var err error
	if h.registry, err = localregistry.Start(ctx, localregistry.Options{}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.registry.Close() })
	builder, _ := h.as("builder", "signer")
	_, err = h.admin.PutRegistry(ctx, h.registry.Host, api.RegistryRequest{
		Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	h.must(err)
	_, err = h.admin.CreateKey(ctx, api.KeyRequest{Name: "release"})
	h.must(err)
	_, err = h.admin.PutGrant(ctx, "builder", api.GrantRequest{
		Issuer: "local", Subject: "builder", Repositories: []string{h.registry.Host + "/team/**"},
		Keys: []string{"release"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	h.must(err)
	_, err = h.admin.PutPolicy(ctx, "production", []byte(strings.ReplaceAll(releasePolicy, "%s", h.registry.Host)), api.PutOptions{})
	h.must(err)
	return builder
}

func (h *house) push(content string) string {
	h.t.Helper()
	d, err := h.registry.PushImage(h.t.Context(), "team/app", "", content)
	h.must(err)
	return h.registry.Image("team/app", d)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// answer is one raw HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a raw request, for what the client would not send.
func (h *house) ask(method, path, secret, body string, header ...string) answer {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	h.must(err)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	h.must(err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	h.must(err)
	return answer{resp.StatusCode, resp.Header, read}
}

// wantProblem checks that an error is a problem of that code and status.
func wantProblem(t *testing.T, err error, status int, code string) *api.Problem {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatalf("want problem %s, got %v", code, err)
	}
	if p.Code != code || p.Status != status {
		t.Fatalf("want problem %s (%d), got %s (%d): %s", code, status, p.Code, p.Status, p.Detail)
	}
	if p.Instance == "" || p.Type == "" || p.Title == "" {
		t.Errorf("incomplete problem: %+v", p)
	}
	return p
}

func readCloser(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// rawPath asks for a path exactly as it is written, which net/http's client
// would tidy.
func (h *house) rawPath(path string) answer {
	h.t.Helper()
	host := strings.TrimPrefix(h.url, "http://")
	conn, err := new(net.Dialer).DialContext(h.t.Context(), "tcp", host)
	h.must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+h.secret+"\r\nConnection: close\r\n\r\n")
	h.must(err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	h.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	h.must(err)
	return answer{resp.StatusCode, resp.Header, body}
}

func firstError[T any](_ T, err error) error { return err }

// field is a text in a JSON document, by the names that lead to it.
func field(t *testing.T, document []byte, names ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		object, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", name, document)
		}
		v = object[name]
	}
	text, ok := v.(string)
	if !ok {
		t.Fatalf("no text %v in %s", names, document)
	}
	return text
}

// settled waits until every trust change so far has its entry in the log, and
// returns the log's size: until there is another, only what the test logs makes
// it grow.
func (h *house) settled() (size int) {
	h.t.Helper()
	const looks = 5 // a change may not have begun to wait
	for same := 0; same < looks; same++ {
		metrics := string(h.ask(http.MethodGet, "/metrics", h.secret, "").body)
		var origin string
		var now int
		_, err := fmt.Sscanf(string(h.ask(http.MethodGet, "/api/v2/checkpoint", "", "").body), "%s\n%d\n", &origin, &now)
		h.must(err)
		if now != size || !strings.Contains(metrics, "\ncountersign_journal_waiting_anchors 0\n") {
			same = -1
		}
		size = now
		time.Sleep(40 * time.Millisecond)
	}
	return size
}
