//go:build soak

package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store/storetest"
)

var (
	soakFor  = flag.Duration("soak", time.Minute, "how long TestSoakVerify asks")
	soakSeed = flag.Uint64("soak-seed", 0, "seed of TestSoakVerify; 0 takes the time")
	// With replicas the service is on PostgreSQL, and whoever asks asks any of all.
	soakReplicas = flag.Int("soak-replicas", 0, "how many verification replicas TestSoakVerify asks beside the service")
)

// The shape of the load.
const (
	soakPassedTTL  = 2 * time.Second
	soakAskers     = 8
	soakCandidates = 24 // images of each kind at the start
	soakChange     = 150 * time.Millisecond
)

// truth is the state of the world as the generator made it. A state is never
// changed: each change makes the next one.
type truth struct {
	// signers are the keys that signed each image.
	signers map[string][]string
	// gone is since when an image is deleted.
	gone map[string]time.Time
	// revoked keys.
	revoked map[string]bool
	// wants are the keys of which the policy takes any; nil is no policy.
	wants []string
	// both demands every one of them.
	both bool
	// extra: the second repository is listed.
	extra bool
	tags  map[string]string
}

// allowed says whether an image may pass, and whether it may fail, at a time.
func (s *truth) allowed(image string, at time.Time) (pass, fail bool) {
	if target, ok := s.tags[image]; ok {
		pass, fail = s.allowed(target, at)
		if _, gone := s.gone[target]; gone {
			fail = true // a tag is resolved each time
		}
		return pass, fail
	}
	if strings.Contains(image, "/other/") || strings.Contains(image, "/extra/") && !s.extra || s.wants == nil {
		return false, true
	}
	good := 0
	for _, key := range s.wants {
		if slices.Contains(s.signers[image], key) && !s.revoked[key] {
			good++
		}
	}
	passes := good > 0 && (!s.both || good >= len(s.wants))
	if gone, ok := s.gone[image]; ok && passes {
		// What was read before may be answered until it has aged.
		return at.Before(gone.Add(soakPassedTTL + limits.ManifestFresh + time.Second)), true
	}
	return passes, !passes
}

// history is the states of the world, the last one perhaps not in force yet.
type history struct {
	mu      sync.Mutex
	states  []*truth
	settled int
}

func (h *history) begin() (from int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.settled
}

// judge holds a verdict against every state that was in force, or on its way,
// while the question was open.
func (h *history) judge(from int, image string, began, ended time.Time, passed bool) bool {
	h.mu.Lock()
	states := h.states[from:]
	h.mu.Unlock()
	for _, s := range states {
		for _, at := range []time.Time{began, ended} {
			if pass, fail := s.allowed(image, at); passed && pass || !passed && fail {
				return true
			}
		}
	}
	return false
}

// change makes the next state, brings it about, and settles it.
func (h *history) change(edit func(*truth), apply func() error) error {
	h.mu.Lock()
	next := *h.states[len(h.states)-1]
	next.signers, next.gone, next.revoked, next.tags = copied(next.signers), copied(next.gone), copied(next.revoked), copied(next.tags)
	edit(&next)
	h.states = append(h.states, &next)
	h.mu.Unlock()
	err := apply()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = len(h.states) - 1
	return err
}

func copied[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// soak is one run.
type soak struct {
	*house
	history
	random  *rand.Rand // of the one goroutine that changes the world
	deleted sync.Map
	images  atomic.Pointer[[]string]
	bundles map[string]json.RawMessage
	direct  *registry.Client
	doors   []*api.Client // of the service and its replicas
	keys    int
	serial  int
	hostile map[string]bool

	asked, passed, failed, wrong, cached, badly atomic.Int64
}

// TestSoakVerify asks about good and hostile images while policies, keys,
// registries, tags and signatures change all the while, and holds each verdict
// against what the generator knows. A question that overlaps a change may be
// answered by either state; nothing else is forgiven.
func TestSoakVerify(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	s := newSoak(t, seed)
	until := time.Now().Add(*soakFor)
	var askers sync.WaitGroup
	for i := range soakAskers {
		askers.Go(func() { s.ask(rand.New(rand.NewPCG(seed, uint64(i)+1)), until) })
	}
	changes := 0
	for time.Now().Before(until) {
		s.disturb()
		changes++
		time.Sleep(soakChange)
	}
	askers.Wait()
	n := s.asked.Load()
	t.Logf("%d verdicts, %d passed, %d failed, %d from memory, %.0f %% on hostile material, %d changes, %d wrong",
		n, s.passed.Load(), s.failed.Load(), s.cached.Load(), 100*float64(s.badly.Load())/float64(n), changes, s.wrong.Load())
	if s.wrong.Load() > 0 || s.passed.Load() == 0 || s.failed.Load() == 0 || float64(s.badly.Load()) < 0.3*float64(n) {
		t.Error("wrong verdicts, or a load that shows nothing")
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	remembering := func(c *daemon.Config) { c.Verdicts.PassedTTL = soakPassedTTL }
	database := ""
	if *soakReplicas > 0 {
		database = storetest.PostgresSchema(t, storetest.Postgres(t))
	}
	h := open(t, remembering, func(c *daemon.Config) { c.Database = database })
	doors := []*api.Client{h.admin}
	for range *soakReplicas {
		doors = append(doors, h.replica(database, remembering))
	}
	s := &soak{house: h, doors: doors, random: rand.New(rand.NewPCG(seed, 0)), bundles: map[string]json.RawMessage{}, hostile: map[string]bool{}}
	s.states = []*truth{{wants: []string{"release"}, extra: true}}
	ctx := t.Context()
	var err error
	s.registry, err = localregistry.Start(ctx, localregistry.Options{Wrap: s.without})
	h.must(err)
	t.Cleanup(func() { _ = s.registry.Close() })
	s.direct = registry.New(registry.Config{Rules: s, Clock: clock.System{}})
	t.Cleanup(s.direct.Close)
	h.must(s.list(true))
	for _, key := range []string{"release", "second", "stranger"} {
		h.must(s.key(key))
	}
	h.must(s.require([]string{"release"}, false))
	s.populate()
	return s
}

// replica starts a verification replica of the house.
func (h *house) replica(database string, change func(*daemon.Config)) *api.Client {
	h.t.Helper()
	master, err := keys.OpenMaster(filepath.Join(h.dir, "master.key"))
	h.must(err)
	under, err := master.Replica()
	h.must(err)
	cfg := daemon.Config{PublicURL: h.url, Database: database}
	change(&cfg)
	r, err := daemon.OpenReplica(h.t.Context(), cfg, under)
	h.must(err)
	web := httptest.NewServer(r.Handler())
	h.t.Cleanup(func() {
		web.Close()
		if err := r.Close(context.Background()); err != nil {
			h.t.Errorf("closing a replica: %v", err)
		}
	})
	client, err := api.NewClient(web.URL, h.secret)
	h.must(err)
	return client
}

// Rule lists the registry for what the test itself attaches.
func (s *soak) Rule(_ context.Context, host string) (registry.Rule, error) {
	return registry.Rule{Host: host, Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true}, nil
}

// without is a registry from which images can be deleted.
func (s *soak) without(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, gone := s.deleted.Load(r.URL.Path); gone && r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *soak) list(extra bool) error {
	repositories := []string{"team/**", "other/**"}
	if extra {
		repositories = append(repositories, "extra/**")
	}
	_, err := s.admin.PutRegistry(s.t.Context(), s.registry.Host, api.RegistryRequest{Repositories: repositories, InsecureHTTP: true, AllowPrivateAddress: true}, s.current("registries", s.registry.Host))
	return err
}

// current replaces whatever is there.
func (s *soak) current(collection, name string) api.PutOptions {
	switch collection {
	case "registries":
		if r, err := s.admin.Registry(s.t.Context(), name); err == nil {
			return api.PutOptions{Revision: r.Revision}
		}
	case "policies":
		if p, err := s.admin.Policy(s.t.Context(), name); err == nil {
			return api.PutOptions{Revision: p.Revision}
		}
	}
	return api.PutOptions{}
}

func (s *soak) key(name string) error {
	if _, err := s.admin.CreateKey(s.t.Context(), api.KeyRequest{Name: name}); err != nil {
		return err
	}
	_, err := s.admin.PutGrant(s.t.Context(), "sign-"+name, api.GrantRequest{
		Issuer: "local", Subject: "admin", Keys: []string{name}, Actions: []string{"sign"}, Repositories: []string{s.registry.Host + "/**"},
	}, api.PutOptions{})
	return err
}

func (s *soak) require(keys []string, both bool) error {
	if keys == nil {
		return s.admin.Delete(s.t.Context(), "policies", "soak", s.current("policies", "soak"))
	}
	var authorities, rules []string
	for _, key := range keys {
		authorities = append(authorities, fmt.Sprintf("%q: {key: {name: %s}}", key, key))
		rules = append(rules, fmt.Sprintf("{signature: {by: %q}}", key))
	}
	how := "any"
	if both {
		how = "all"
	}
	document := fmt.Sprintf("apiVersion: countersign.dev/v1\nkind: TrustPolicy\nmetadata: {name: soak}\nspec:\n  match: {images: [%q, %q]}\n  mode: enforce\n  authorities: {%s}\n  require: {%s: [%s]}\n",
		s.registry.Host+"/team/**", s.registry.Host+"/extra/**", strings.Join(authorities, ", "), how, strings.Join(rules, ", "))
	_, err := s.admin.PutPolicy(s.t.Context(), "soak", []byte(document), s.current("policies", "soak"))
	return err
}

// image pushes a new one and offers it to the askers.
func (s *soak) image(repository string, hostile bool) string {
	s.serial++
	d, err := s.registry.PushImage(s.t.Context(), repository, "", fmt.Sprintf("soak %d", s.serial))
	s.must(err)
	image := s.registry.Image(repository, d)
	s.offer(image, hostile)
	return image
}

func (s *soak) offer(image string, hostile bool) {
	var now []string
	if p := s.images.Load(); p != nil {
		now = *p
	}
	now = append(now[:len(now):len(now)], image)
	s.mu.Lock()
	s.hostile[image] = hostile
	s.mu.Unlock()
	s.images.Store(&now)
}

// sign is a change: the image passes at the next question, if the key counts.
func (s *soak) sign(image, key string) {
	s.must(s.change(func(t *truth) {
		t.signers[image] = append(append([]string(nil), t.signers[image]...), key)
	}, func() error {
		made, _, err := s.admin.Sign(s.t.Context(), api.SignatureRequest{Image: image, Key: key}, api.SignOptions{})
		if err == nil {
			s.bundles[image] = made.Signatures[0].Bundle
		}
		return err
	}))
	if key != "stranger" && !strings.Contains(image, "/other/") {
		s.mu.Lock()
		s.hostile[image] = false
		s.mu.Unlock()
	}
}

// attach puts a bundle next to an image that it does not sign.
func (s *soak) attach(image string, bundle []byte) {
	ref, err := registry.ParseReference(image)
	s.must(err)
	m, err := s.direct.Resolve(s.t.Context(), ref)
	s.must(err)
	_, err = s.direct.AttachBundle(s.t.Context(), m, registry.BundleAttachment{Bundle: bundle, PredicateType: attest.PredicateCosignSign, Created: time.Now()})
	s.must(err)
}

// populate makes good images and every kind of hostile one.
func (s *soak) populate() {
	for i := range soakCandidates {
		good := s.image([]string{"team/app", "extra/app"}[i%2], false)
		s.sign(good, "release")
		if i%3 == 0 {
			s.sign(good, "second")
		}
		unsigned := s.image("team/app", true)
		s.sign(s.image("team/app", true), "stranger")
		s.sign(s.image("other/app", true), "release") // no policy covers it
		s.attach(s.image("team/app", true), s.bundles[good])
		s.attach(unsigned, s.tampered(s.bundles[good], i))
		s.offer(s.registry.Host+"/team/app@"+s.hash("never pushed %d", i), true)
	}
}

func (s *soak) hash(format string, i int) string {
	return attest.DigestOf(fmt.Appendf(nil, format, i)).String()
}

// tampered changes one character in the middle of a value, which stays base64.
func (s *soak) tampered(bundle []byte, i int) []byte {
	b := append([]byte(nil), bundle...)
	for at := (i*37 + len(b)/3) % len(b); ; at = (at + 1) % len(b) {
		switch c := b[at]; {
		case c >= 'a' && c < 'z', c >= 'A' && c < 'Z':
			b[at]++
			return b
		}
	}
}

// disturb makes one change.
func (s *soak) disturb() {
	s.mu.Lock()
	now := s.states[len(s.states)-1]
	s.mu.Unlock()
	images := *s.images.Load()
	pick := images[s.random.IntN(len(images))]
	switch s.random.IntN(8) {
	case 0, 1:
		variants := []truth{{wants: []string{"release"}}, {wants: []string{"second"}}, {wants: []string{"release", "second"}}, {wants: []string{"release", "second"}, both: true}, {}}
		v := variants[s.random.IntN(len(variants))]
		if v.wants == nil && now.wants == nil {
			return
		}
		s.must(s.change(func(t *truth) { t.wants, t.both = v.wants, v.both }, func() error { return s.require(v.wants, v.both) }))
	case 2:
		s.must(s.change(func(t *truth) { t.extra = !now.extra }, func() error { return s.list(!now.extra) }))
	case 3: // an image that FAILED is signed
		if _, covered := now.gone[pick]; !covered && strings.Contains(pick, "/team/") && s.pushed(pick) && len(now.signers[pick]) < 3 {
			s.sign(pick, []string{"release", "second"}[s.random.IntN(2)])
		}
	case 4:
		s.replaceKey()
	case 5: // deleted
		if len(now.signers[pick]) > 0 && len(now.gone) < len(images)/8 {
			_, path, _ := strings.Cut(pick, "/")
			path = "/v2/" + strings.Replace(path, "@", "/manifests/", 1)
			s.must(s.change(func(t *truth) { t.gone[pick] = time.Now() }, func() error { s.deleted.Store(path, true); return nil }))
		}
	case 6: // a tag moves
		s.retag()
	default:
		if len(images) < 40*soakCandidates {
			s.image("team/app", true)
		}
	}
}

func (s *soak) pushed(image string) bool {
	ref, err := registry.ParseReference(image)
	if err != nil || ref.Digest.IsZero() {
		return false
	}
	_, err = s.direct.Resolve(s.t.Context(), ref)
	return err == nil
}

// replaceKey trusts a key for a while and revokes it: what it signed passes and
// then fails, for good.
func (s *soak) replaceKey() {
	s.keys++
	name := fmt.Sprintf("brief-%d", s.keys)
	s.must(s.key(name))
	image := s.image("team/app", false)
	s.sign(image, name)
	s.must(s.change(func(t *truth) { t.wants, t.both = []string{name, "release"}, false }, func() error { return s.require([]string{name, "release"}, false) }))
	time.Sleep(3 * soakChange)
	s.must(s.change(func(t *truth) { t.revoked[name] = true }, func() error {
		_, err := s.admin.RevokeKey(s.t.Context(), name, api.RevokeRequest{Reason: "soak"})
		return err
	}))
	s.mu.Lock()
	s.hostile[image] = true
	s.mu.Unlock()
}

// retag lets one of a few tags name another image.
func (s *soak) retag() {
	s.serial++
	tag := fmt.Sprintf("moving-%d", s.serial%4)
	image := s.registry.Host + "/team/app:" + tag
	content := fmt.Sprintf("soak tagged %d", s.serial)
	d, err := s.registry.PushImage(s.t.Context(), "team/app", "", content)
	s.must(err)
	target := s.registry.Image("team/app", d)
	if s.serial%2 == 0 {
		s.sign(target, "release")
	}
	s.mu.Lock()
	_, known := s.states[len(s.states)-1].tags[image]
	s.mu.Unlock()
	s.must(s.change(func(t *truth) { t.tags[image] = target }, func() error {
		_, err := s.registry.PushImage(s.t.Context(), "team/app", tag, content)
		return err
	}))
	if !known {
		s.offer(image, false)
	}
}

// ask puts questions of one to eight images until the time is over.
func (s *soak) ask(random *rand.Rand, until time.Time) {
	for time.Now().Before(until) {
		images := *s.images.Load()
		var question []string
		for range 1 + random.IntN(8) {
			question = append(question, s.choose(random, images))
		}
		place := map[string]string{"namespace": fmt.Sprint(random.IntN(3))}
		from, began := s.begin(), time.Now()
		a, err := s.doors[random.IntN(len(s.doors))].Verify(s.t.Context(), api.VerifyRequest{Images: question, Context: place, Timeout: "30s"})
		ended := time.Now()
		if err != nil {
			s.t.Errorf("asking: %v", err)
			return
		}
		for _, r := range a.Results {
			s.hold(from, r, began, ended)
		}
	}
}

// choose takes hostile material about every third time.
func (s *soak) choose(random *rand.Rand, images []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		image := images[random.IntN(len(images))]
		if !s.hostile[image] || random.IntN(4) == 0 {
			return image
		}
	}
}

func (s *soak) hold(from int, r api.VerifyResult, began, ended time.Time) {
	s.asked.Add(1)
	s.mu.Lock()
	hostile := s.hostile[r.Image]
	s.mu.Unlock()
	if hostile {
		s.badly.Add(1)
	}
	if r.Cached {
		s.cached.Add(1)
	}
	passed := r.Verdict == policy.Passed
	if passed {
		s.passed.Add(1)
	} else {
		s.failed.Add(1)
	}
	if !s.judge(from, r.Image, began, ended, passed) {
		s.wrong.Add(1)
		s.t.Errorf("wrong: %s %s (cached %v), %v", r.Image, r.Verdict, r.Cached, r.Reasons)
	}
}
