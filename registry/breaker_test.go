package registry_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

const plainManifest = `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{},"layers":[]}`

// manifests serves one manifest under every name, or a status.
func manifests(t *testing.T, status *atomic.Int64) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ociManifest)
		if n := int(status.Load()); n != 0 {
			w.WriteHeader(n)
			return
		}
		_, _ = w.Write([]byte(plainManifest))
	}))
	t.Cleanup(s.Close)
	return s
}

// A registry without an answer is left alone for a while, then tried by one
// request; what answers, however badly, is not, and nor are others.
func TestBreaker(t *testing.T) {
	var status, asked atomic.Int64
	var down atomic.Bool
	s, other := manifests(t, &status), manifests(t, &atomic.Int64{})
	host, otherHost := strings.TrimPrefix(s.URL, "http://"), strings.TrimPrefix(other.URL, "http://")
	var now atomic.Pointer[time.Time]
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	now.Store(&at)
	forward := func(d time.Duration) { next := now.Load().Add(d); now.Store(&next) }
	c := registry.NewOn(registry.Config{Rules: rules(plainRule(host), plainRule(otherHost)), Clock: clock.Func(func() time.Time { return *now.Load() })},
		limits.RegistryRequest, nil, func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			if down.Load() && addr.String() == host {
				asked.Add(1)
				return nil, errors.New("no route")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		})
	resolve := func(host string) error {
		_, err := c.Resolve(t.Context(), registry.Reference{Host: host, Repository: "app", Tag: "1"})
		return err
	}
	status.Store(http.StatusInternalServerError)
	for range limits.RegistryFailures/limits.RegistryAttempts + 1 {
		if err := resolve(host); !errors.Is(err, registry.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
	}
	status.Store(0)
	if err := resolve(host); err != nil {
		t.Fatalf("after bad answers: %v", err)
	}

	down.Store(true)
	c.Close() // connections that are there would still do
	for asked.Load() < limits.RegistryFailures {
		if err := resolve(host); !errors.Is(err, registry.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
	}
	before := asked.Load()
	if err := resolve(host); !errors.Is(err, registry.ErrUnavailable) || asked.Load() != before {
		t.Fatalf("error %v, asked %d times more", err, asked.Load()-before)
	}
	if err := resolve(otherHost); err != nil {
		t.Errorf("another registry: %v", err)
	}
	forward(limits.RegistryRest)
	if err := resolve(host); !errors.Is(err, registry.ErrUnavailable) || asked.Load() != before+1 {
		t.Errorf("error %v, tried %d times", err, asked.Load()-before)
	}
	down.Store(false)
	forward(limits.RegistryRest)
	for range 2 {
		if err := resolve(host); err != nil {
			t.Errorf("once it is back: %v", err)
		}
	}
}

// A manifest that was read a moment ago is not asked for again, under the same
// rule and in the same repository.
func TestResolveRecent(t *testing.T) {
	var status, trips atomic.Int64
	s := manifests(t, &status)
	host := strings.TrimPrefix(s.URL, "http://")
	list := rules(plainRule(host))
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := registry.New(registry.Config{
		Rules: list, Clock: clock.Func(func() time.Time { return at }),
		Observe: func(registry.RoundTrip) { trips.Add(1) },
	})
	digest := attest.DigestOf([]byte(plainManifest))
	ask := func(repository string, want int64, wantErr error) {
		t.Helper()
		before := trips.Load()
		m, err := c.ResolveRecent(t.Context(), registry.Reference{Host: host, Repository: repository, Digest: digest})
		if !errors.Is(err, wantErr) || err == nil && (m.Digest != digest || string(m.Raw) != plainManifest || m.Reference.Repository != repository) {
			t.Errorf("%+v, %v", m, err)
		}
		if n := trips.Load() - before; n != want {
			t.Errorf("%d round trips, want %d", n, want)
		}
	}
	if _, err := c.Resolve(t.Context(), registry.Reference{Host: host, Repository: "app", Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	ask("app", 0, nil)
	ask("other", 1, nil)
	rule := plainRule(host)
	rule.Credentials = &registry.Credentials{Username: "somebody", Password: "else"}
	list.put(host, rule)
	ask("app", 1, nil) // others may not see it
	ask("app", 0, nil)
	at = at.Add(limits.ManifestFresh)
	ask("app", 1, nil)
	status.Store(http.StatusNotFound)
	ask("app", 0, nil)
	if _, err := c.Resolve(t.Context(), registry.Reference{Host: host, Repository: "app", Digest: digest}); !errors.Is(err, registry.ErrNotFound) {
		t.Fatal(err)
	}
	ask("app", 1, registry.ErrNotFound)
	list.drop(host)
	ask("other", 0, registry.ErrNotListed)
}
