package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
)

// bare is a server without services, for what needs none.
func bare(t *testing.T, chain store.Chain) *Server {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Clock: clock.System{}, NewID: func() string { return "id" }, Logger: slog.New(slog.DiscardHandler),
		Journal: audit.New(audit.Config{Chain: chain}),
	}
	return &Server{cfg: cfg, engine: newEngine(), access: map[route]access{}, problems: problemTable(), metrics: m, crossOrigin: http.NewCrossOriginProtection()}
}

// TestRouteWithoutRole: a route that the role table does not name does not
// start the server, nor does an entry without a route or without a role.
func TestRouteWithoutRole(t *testing.T) {
	s := bare(t, nil)
	if err := s.checkRoutes(); err != nil {
		t.Fatalf("the control: %v", err)
	}
	s.engine.GET("/v1/forgotten", func(*gin.Context) {})
	if err := s.checkRoutes(); err == nil || !strings.Contains(err.Error(), "/v1/forgotten") {
		t.Errorf("a route without an entry: %v", err)
	}
	s.access[route{"GET", "/v1/forgotten"}] = access{}
	if err := s.checkRoutes(); err == nil {
		t.Error("an entry that admits nobody is accepted")
	}
	s.access[route{"GET", "/v1/forgotten"}] = by(identity.Auditor)
	if err := s.checkRoutes(); err != nil {
		t.Errorf("the second control: %v", err)
	}
	s.access[route{"GET", "/v1/nowhere"}] = by(identity.Auditor)
	if err := s.checkRoutes(); err == nil {
		t.Error("an entry without a route is accepted")
	}
}

// brokenChain cannot be written.
type brokenChain struct{ store.Chain }

func (brokenChain) Append(context.Context, func(int64, []byte) (store.Link, error)) (store.Link, error) {
	return store.Link{}, store.ErrUnavailable
}

// TestNoChangeWithoutRecord: a journal that cannot be written refuses the
// change before it is made.
func TestNoChangeWithoutRecord(t *testing.T) {
	s := bare(t, brokenChain{})
	made := false
	err := s.change(t.Context(), "policy.put", "policy/x", nil, func() error { made = true; return nil })
	if made || err == nil {
		t.Fatalf("the change was made: %v, error %v", made, err)
	}
	if p := s.problem(t.Context(), err); p.Code != "journal_unavailable" || p.RetryAfter == 0 {
		t.Errorf("problem: %+v", p)
	}
}

// TestPanicIsAnswered: the process lives, the answer is a problem, and nothing
// of the panic is in it.
func TestPanicIsAnswered(t *testing.T) {
	s := bare(t, nil)
	s.use()
	s.access[route{"GET", "/v1/panic"}] = access{anonymous: true}
	s.engine.GET("/v1/panic", func(*gin.Context) { panic("CANARY") })
	for range 2 {
		w := httptest.NewRecorder()
		s.engine.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/panic", nil))
		if w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != api.ProblemType || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// TestUnknownErrorsSayNothing: what the table does not know is 500 without its
// text.
func TestUnknownErrorsSayNothing(t *testing.T) {
	s := bare(t, nil)
	p := s.problem(t.Context(), errors.New("password hunter2 in /srv/x"))
	if p.Status != http.StatusInternalServerError || p.Code != "internal" || strings.Contains(p.Error(), "hunter2") {
		t.Errorf("problem: %+v", p)
	}
}

func TestLocations(t *testing.T) {
	for pointer, want := range map[string]string{
		"": "body", "/image": "body.image", "/formats/0": "body.formats[0]", "/a~1b/c~0d": "body.a/b.c~d",
		"/headers/Idempotency-Key": "header.Idempotency-Key", "images": "body.images",
	} {
		if got := location(pointer); got != want {
			t.Errorf("%q gives %q, want %q", pointer, got, want)
		}
	}
}

func TestPatience(t *testing.T) {
	for query, want := range map[string]string{"": "9s", "nonsense": "9s", "-1s": "9s", "1s": "900ms", "30s": "27s", "24h": "30s"} {
		if got := withinPatience(query, webhookPatience).String(); got != want {
			t.Errorf("%q gives %s, want %s", query, got, want)
		}
	}
}

// FuzzCanonicalPath: what is accepted has no second reading.
func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{"/", "/v1/keys", "//v1", "/v1/%2e%2e/x", "/a/./b", "/a%2Fb", "a", "/a\\b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !canonicalPath(path) {
			return
		}
		for _, bad := range []string{"//", "/./", "/../", "\\", "%2e", "%2E", "%2f", "%2F"} {
			if strings.Contains(path+"/", bad) && path != "/" {
				t.Errorf("%q is accepted with %q in it", path, bad)
			}
		}
	})
}
