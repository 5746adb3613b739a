package registry_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/registry"
)

// lentFor are credentials for one host, and for no other.
type lentFor struct {
	host string
	list []registry.Credentials
}

func (l lentFor) Lend(host, _ string, _ bool) []registry.Credentials {
	if host != l.host {
		return nil
	}
	return l.list
}

func userOf(r *http.Request) string {
	user, _, _ := r.BasicAuth()
	return user
}

// privateTo serves a signed image to one user, and refuses everybody else with a
// status. All that is asked for is private.
func privateTo(t *testing.T, user string, refusal int) (host string, h *traced, digest string) {
	t.Helper()
	store := content{}
	image, bundle := manifestJSON("x"), []byte(`{"good":true}`)
	d := store.put(ociManifest, image, "v1")
	referrer := referrerJSON(image, bundle)
	store.put(ociManifest, referrer)
	store.put("", bundle)
	store.put(ociIndex, listingJSON(referrer), "sha256-"+d.Hex())
	s, h := script(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case userOf(r) == user:
			store.ServeHTTP(w, r)
		case userOf(r) == "": // who is not known is told how to be
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(refusal)
		}
	})
	return hostOf(s), h, d.String()
}

func person(name string) registry.Credentials {
	return registry.Credentials{Username: name, Password: canary}
}

// Lent credentials read what the registry denies to the configured ones, tag,
// digest and attachments, one after another until one is let in.
func TestLent(t *testing.T) {
	for name, refusal := range map[string]int{"denied": http.StatusForbidden, "hidden": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			host, _, digest := privateTo(t, "reader", refusal)
			rule := plainRule(host)
			stranger := person("stranger")
			rule.Credentials = &stranger
			c := client(rules(rule))
			if _, err := c.Resolve(t.Context(), parse(t, host+"/a:v1")); !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrNotFound) {
				t.Fatalf("control: %v", err)
			}
			lent := c.Lent(lentFor{host, []registry.Credentials{person("wrong"), person("reader")}})
			m, err := lent.Resolve(t.Context(), parse(t, host+"/a:v1"))
			if err != nil || m.Digest.String() != digest {
				t.Fatalf("by tag: %v, %v", m.Digest, err)
			}
			if _, err := lent.ResolveRecent(t.Context(), m.Reference.WithDigest(m.Digest)); err != nil {
				t.Errorf("by digest: %v", err)
			}
			found, err := lent.AttachmentsFor(t.Context(), m.Reference, registry.Want{})
			if err != nil || len(found.Attachments) != 1 {
				t.Errorf("attachments: %+v, %v", found, err)
			}
		})
	}
}

// What the configured credentials read is read with them, and lent ones stay at
// home.
func TestLentComesSecond(t *testing.T) {
	host, h, _ := privateTo(t, "own", http.StatusForbidden)
	rule := plainRule(host)
	own := person("own")
	rule.Credentials = &own
	lent := client(rules(rule)).Lent(lentFor{host, []registry.Credentials{{Token: "lent-token"}}})
	m, err := lent.Resolve(t.Context(), parse(t, host+"/a:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := lent.AttachmentsFor(t.Context(), m.Reference, registry.Want{}); err != nil || len(found.Attachments) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if h.carried("lent-token") {
		t.Error("lent credentials were sent where none were needed")
	}
}

// Rows I4, I5 and I6: lent credentials open no other registry, go to no other host,
// no mirror, and to nobody that no rule lists.
func TestLentStaysWhereItBelongs(t *testing.T) {
	host, h, digest := privateTo(t, "reader", http.StatusForbidden)
	mirror, m := script(t, http.NotFound)
	other, o := script(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	rule := plainRule(host)
	rule.Mirrors = []string{hostOf(mirror)}
	narrow := plainRule(hostOf(other))
	narrow.Repositories = []string{"team/**"}
	list := rules(rule, plainRule(hostOf(mirror)), narrow)
	lent := client(list).Lent(lentFor{host, []registry.Credentials{person("reader")}})
	if _, err := lent.Resolve(t.Context(), parse(t, host+"/a@"+digest)); err != nil { // control
		t.Fatal(err)
	}
	if !h.carried("Basic") || m.carried("Basic") {
		t.Error("the mirror got lent credentials")
	}
	if _, err := lent.Resolve(t.Context(), parse(t, hostOf(other)+"/team/app:v1")); !errors.Is(err, registry.ErrDenied) || o.carried("Basic") {
		t.Errorf("another host: %v", err)
	}
	all := client(list).Lent(everywhere{person("reader")})
	if _, err := all.Resolve(t.Context(), parse(t, hostOf(other)+"/elsewhere/app:v1")); !errors.Is(err, registry.ErrNotListed) || o.carried("Basic") {
		t.Errorf("another repository: %v", err)
	}
	list.drop(host)
	h.forget()
	for name, err := range map[string]error{
		"tag":    firstOf(all.Resolve(t.Context(), parse(t, host+"/a:v1"))),
		"digest": firstOf(lent.ResolveRecent(t.Context(), parse(t, host+"/a@"+digest))),
		"list":   firstOf(lent.AttachmentsFor(t.Context(), parse(t, host+"/a@"+digest), registry.Want{})),
	} {
		if !errors.Is(err, registry.ErrNotListed) || len(h.seen()) != 0 {
			t.Errorf("%s of a registry that is not listed: %v, %q", name, err, h.seen())
		}
	}
}

// everywhere are credentials for every host.
type everywhere struct{ registry.Credentials }

func (e everywhere) Lend(string, string, bool) []registry.Credentials {
	return []registry.Credentials{e.Credentials}
}

func firstOf[T any](_ T, err error) error { return err }

// Row J3: a manifest that was read with lent credentials is given to nobody else,
// and again to who brings the same.
func TestLentIsRememberedApart(t *testing.T) {
	host, h, digest := privateTo(t, "reader", http.StatusForbidden)
	c := client(rules(plainRule(host)))
	ref := parse(t, host+"/a@"+digest)
	reader := c.Lent(lentFor{host, []registry.Credentials{person("reader")}})
	if _, err := reader.ResolveRecent(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]registry.Keychain{
		"nobody": nil, "another": lentFor{host, []registry.Credentials{person("another")}},
		"another password": lentFor{host, []registry.Credentials{{Username: "reader", Password: "x"}}},
	} {
		want := registry.ErrDenied
		if name == "another password" {
			want = nil // this registry asks no password: it must be asked again
		}
		h.forget()
		if _, err := c.Lent(k).ResolveRecent(t.Context(), ref); !errors.Is(err, want) || len(h.seen()) == 0 {
			t.Errorf("%s: %v, %q", name, err, h.seen())
		}
	}
	if _, err := c.ResolveRecent(t.Context(), ref); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("without a keychain: %v", err)
	}
	h.forget()
	if _, err := reader.ResolveRecent(t.Context(), ref); err != nil || len(h.seen()) != 0 {
		t.Errorf("the same again: %v, %q", err, h.seen())
	}
}

// Credentials that HTTP cannot carry are not tried, and no more than a few are.
func TestLentIsBounded(t *testing.T) {
	var asked atomic.Int32
	s, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
		if userOf(r) != "" || strings.HasPrefix(r.Header.Get("Authorization"), "Bearer") {
			asked.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	list := []registry.Credentials{{Username: "a:b", Password: "p"}, {Username: "u"}, {Token: "t\n"}}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		list = append(list, person(name))
	}
	lent := client(rules(plainRule(hostOf(s)))).Lent(lentFor{hostOf(s), list})
	if _, err := lent.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1")); !errors.Is(err, registry.ErrDenied) || asked.Load() != 4 {
		t.Errorf("%v after %d tries", err, asked.Load())
	}
}

// Equal keychains have equal marks and others have others; nothing lent has none.
func TestMark(t *testing.T) {
	ref := parse(t, "r.example.com/a:v1")
	of := func(c ...registry.Credentials) [32]byte { return registry.Mark(lentFor{"r.example.com", c}, ref) }
	if registry.Mark(nil, ref) != [32]byte{} || of() != [32]byte{} || registry.Mark(lentFor{"other", []registry.Credentials{person("a")}}, ref) != [32]byte{} {
		t.Error("nothing lent has a mark")
	}
	seen := map[[32]byte]bool{}
	for _, mark := range [][32]byte{
		of(person("a")), of(person("b")), of(person("a"), person("b")), of(person("b"), person("a")), of(registry.Credentials{Token: canary}),
		of(registry.Credentials{Username: "a " + canary, Password: ""}), of(registry.Credentials{Username: "a", Password: canary + " "}),
	} {
		if seen[mark] || mark == [32]byte{} {
			t.Error("two keychains have one mark")
		}
		seen[mark] = true
	}
	if first, again := of(person("a")), of(person("a")); first != again {
		t.Error("one keychain has two marks")
	}
}
