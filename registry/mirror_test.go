package registry_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// unreachable is a host at which nobody listens.
func unreachable(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return hostOf(s)
}

// A mirror is asked when the registry cannot be reached, under its own rule
// and credentials; never for writes.
func TestMirrorServesReads(t *testing.T) {
	store := content{}
	image, bundle := manifestJSON("x"), []byte(`{"good":true}`)
	digest := store.put(ociManifest, image, "v1")
	referrer := referrerJSON(image, bundle)
	store.put(ociManifest, referrer)
	store.put("", bundle)
	store.put(ociIndex, listingJSON(referrer), "sha256-"+digest.Hex())
	mirror, h := script(t, store.ServeHTTP)
	rule := plainRule(unreachable(t))
	rule.Credentials = &registry.Credentials{Token: canary}
	rule.Mirrors = []string{"unlisted.example.com", hostOf(mirror) + "/hub"}
	own := plainRule(hostOf(mirror))
	own.Credentials = &registry.Credentials{Token: "the-mirrors-own"}
	c := client(rules(rule, own))
	m, err := c.Resolve(t.Context(), parse(t, rule.Host+"/a:v1"))
	if err != nil || m.Digest != digest || m.Reference.Name() != rule.Host+"/a" {
		t.Fatalf("%v, %v", m.Reference, err)
	}
	found, err := c.Attachments(t.Context(), m.Reference)
	if err != nil || len(found.Attachments) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if h.count("GET", "/v2/hub/a/") != len(h.seen()) || h.carried(canary) || !h.carried("the-mirrors-own") {
		t.Errorf("%q", h.seen())
	}
	h.forget()
	if _, err := c.AttachBundle(t.Context(), m, bundleOf("x")); !errors.Is(err, registry.ErrUnavailable) || len(h.seen()) != 0 {
		t.Errorf("write: %v, %q", err, h.seen())
	}
}

// What a registry answers stands; a mirror is no second opinion.
func TestMirrorIsNoSecondOpinion(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1", "gone", "denied", "other")
	mirror, h := script(t, store.ServeHTTP)
	main, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/a/manifests/denied":
			w.WriteHeader(http.StatusForbidden)
		case "/v2/a/manifests/other":
			w.Header().Set("Content-Type", "text/html")
		default:
			http.NotFound(w, r)
		}
	})
	rule := plainRule(hostOf(main))
	rule.Mirrors = []string{hostOf(mirror)}
	c := client(rules(rule, plainRule(hostOf(mirror))))
	for tag, want := range map[string]error{
		"gone": registry.ErrNotFound, "denied": registry.ErrDenied, "other": registry.ErrAmbiguous,
	} {
		if _, err := c.Resolve(t.Context(), parse(t, rule.Host+"/a:"+tag)); !errors.Is(err, want) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if len(h.seen()) != 0 {
		t.Errorf("mirror asked: %q", h.seen())
	}
}

// A mirror without the image or its signatures proves nothing: the answer is
// that the registry cannot be reached.
func TestMirrorWithoutIt(t *testing.T) {
	store := content{}
	digest := store.put(ociManifest, manifestJSON("x"), "v1")
	mirror, _ := script(t, store.ServeHTTP)
	rule := plainRule(unreachable(t))
	rule.Mirrors = []string{hostOf(mirror)}
	c := client(rules(rule, plainRule(hostOf(mirror))))
	if _, err := c.Resolve(t.Context(), parse(t, rule.Host+"/a:v2")); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := c.Attachments(t.Context(), parse(t, rule.Host+"/a@"+digest.String())); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
}

// A registry that hangs leaves time for its mirror, and is asked after it for
// a while.
func TestHangingRegistryLeavesTimeForItsMirror(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	mirror, _ := script(t, store.ServeHTTP)
	main, h := script(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	rule := plainRule(hostOf(main))
	rule.Mirrors = []string{hostOf(mirror)}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := registry.New(registry.Config{
		Rules: rules(rule, plainRule(hostOf(mirror))), Clock: clock.Func(func() time.Time { return now }),
	})
	for i, asked := range []int{1, 1, 2} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := c.Resolve(ctx, parse(t, rule.Host+"/a:v1")); err != nil {
			t.Error(err)
		}
		cancel()
		if len(h.seen()) != asked {
			t.Errorf("resolve %d: the registry was asked %d times", i, len(h.seen()))
		}
		if i == 1 {
			now = now.Add(limits.RegistryPause)
		}
	}
}

func TestCheck(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, h *traced) {
		rule := plainRule(host)
		rule.Repositories = []string{"team/**"}
		c := client(rules(rule))
		pushImage(t, c, host, "team/app", "v1")
		h.forget()
		r, err := c.Check(t.Context(), host, "team/app")
		withAPI := t.Name() == "TestCheck/referrers_API"
		if err != nil || !r.Reachable || !r.Authenticated || !r.Write || r.Referrers != withAPI || (r.Detail["referrers"] == "") != withAPI {
			t.Errorf("%+v, %v", r, err)
		}
		if h.count("PUT", "") != 0 {
			t.Errorf("%q", h.seen())
		}
		if r, err = c.Check(t.Context(), host, ""); err != nil || !r.Reachable || !r.Authenticated || !r.Write {
			t.Errorf("host only: %+v, %v", r, err)
		}
		if _, err = c.Check(t.Context(), host, "other"); !errors.Is(err, registry.ErrNotListed) {
			t.Error(err)
		}
		if _, err = c.Check(t.Context(), host, "../x"); !errors.Is(err, registry.ErrReference) {
			t.Error(err)
		}
	})
}

func TestCheckFaults(t *testing.T) {
	denied, _ := script(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	readOnly, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	private := plainRule("127.0.0.1:1")
	private.AllowPrivateAddress = false
	c := client(rules(plainRule(unreachable(t)), plainRule(hostOf(denied)), plainRule(hostOf(readOnly)), private))
	r, err := c.Check(t.Context(), hostOf(denied), "a")
	if err != nil || !r.Reachable || r.Authenticated || r.Detail["authenticated"] == "" {
		t.Errorf("denied: %+v, %v", r, err)
	}
	r, err = c.Check(t.Context(), hostOf(readOnly), "a")
	if err != nil || !r.Authenticated || r.Write || r.Detail["write"] == "" {
		t.Errorf("read only: %+v, %v", r, err)
	}
	r, err = c.Check(t.Context(), private.Host, "a")
	if err != nil || r.Reachable || r.Detail["reachable"] == "" {
		t.Errorf("private: %+v, %v", r, err)
	}
}
