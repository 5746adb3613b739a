package api_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/server/api"
)

func serve(t *testing.T, handler http.HandlerFunc) *api.Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c, err := api.NewClient(s.URL+"/prefix/", "cst_secret")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientURLs(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:8181", "ftp://x", "http://", "http://u:p@x", "http://x?a=b"} {
		if _, err := api.NewClient(bad, ""); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/prefix/v1/registries/127.0.0.1:5000" || r.Header.Get("Authorization") != "Bearer cst_secret" {
			t.Errorf("%s %v", r.URL.EscapedPath(), r.Header)
		}
		_, _ = io.WriteString(w, `{"host":"127.0.0.1:5000"}`)
	})
	r, err := c.Registry(t.Context(), "127.0.0.1:5000")
	if err != nil || r.Host != "127.0.0.1:5000" {
		t.Errorf("%+v %v", r, err)
	}
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/prefix/v1/keys/..%2Fadmin" && r.URL.EscapedPath() != "/prefix/v1/keys/%2E.%2Fadmin" {
			t.Errorf("a name became a path: %s", r.URL.EscapedPath())
		}
		w.WriteHeader(http.StatusNotFound)
	})
	if _, err := c.Key(t.Context(), "../admin"); !errors.Is(err, api.ErrServer) {
		t.Errorf("error: %v", err)
	}
}

func TestClientProblems(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.ProblemType)
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"log_unavailable","detail":"Try again.","errors":[{"location":"body.image","detail":"bad"}]}`)
	})
	_, err := c.Me(t.Context())
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != "log_unavailable" || p.Status != 503 || p.RetryAfter != 5*time.Second {
		t.Fatalf("%v", err)
	}
	if p.Error() != "Try again. (log_unavailable); body.image: bad" {
		t.Errorf("text: %s", p.Error())
	}
	for _, body := range []string{"<html>", "{}", ""} {
		c = serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, body)
		})
		if _, err := c.Me(t.Context()); !errors.Is(err, api.ErrServer) || strings.Contains(err.Error(), "html") {
			t.Errorf("a proxy's page: %v", err)
		}
	}
}

// TestClientFollowsNoRedirect: the token stays with the host it is for.
func TestClientFollowsNoRedirect(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(other.Close)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.Me(t.Context()); !errors.Is(err, api.ErrServer) || reached {
		t.Errorf("redirected: %v, error %v", reached, err)
	}
}

func TestWaitOperation(t *testing.T) {
	states := []string{"pending", "running", "failed"}
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		state := states[0]
		if len(states) > 1 {
			states = states[1:]
		}
		body := `{"id":"1","state":"` + state + `"}`
		if state == "failed" {
			body = `{"id":"1","state":"failed","problem":{"code":"registry_denied","detail":"No."}}`
		}
		_, _ = io.WriteString(w, body)
	})
	_, err := c.WaitOperation(t.Context(), "1", time.Millisecond)
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != "registry_denied" {
		t.Errorf("a failed operation: %v", err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"state":"pending"}`) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.WaitOperation(ctx, "1", time.Millisecond); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, api.ErrServer) {
		t.Errorf("a wait that ends: %v", err)
	}
}

func TestVerifyStreamStops(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "{\"image\":\"a\"}\n{\"image\":\"b\"}\n{broken\n")
	})
	var seen []string
	err := c.VerifyStream(t.Context(), api.VerifyRequest{}, func(r api.VerifyResult) error { seen = append(seen, r.Image); return nil })
	if !errors.Is(err, api.ErrServer) || len(seen) != 2 {
		t.Errorf("%v %v", seen, err)
	}
	stop := errors.New("enough")
	if err := c.VerifyStream(t.Context(), api.VerifyRequest{}, func(api.VerifyResult) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// An operation in place of a signature is not a signature.
func TestClientPending(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"id":"01","kind":"signature","state":"running"}`)
	})
	for name, call := range map[string]func() error{
		"sign": func() error { _, _, err := c.Sign(t.Context(), api.SignatureRequest{}, api.SignOptions{}); return err },
		"attest": func() error {
			_, _, err := c.Attest(t.Context(), api.AttestationRequest{Predicate: []byte("{}")}, api.SignOptions{})
			return err
		},
		"provenance": func() error {
			_, _, err := c.Provenance(t.Context(), api.ProvenanceRequest{}, api.SignOptions{})
			return err
		},
	} {
		err := call()
		if pending, ok := errors.AsType[*api.PendingError](err); !ok || pending.Operation.ID != "01" || pending.Operation.Finished() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
