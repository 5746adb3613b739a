package verifier_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

const (
	host       = "registry.example.com"
	repository = host + "/team/app"
)

// world is a verifier with everything around it in memory.
type world struct {
	t         testing.TB
	authority *testauthority.Authority
	key       *ecdsa.PrivateKey // the managed key "release"
	signedAt  time.Time

	registry *memoryRegistry
	archive  *memoryArchive
	keys     *memoryKeys
	policies *memoryPolicies
	root     atomic.Pointer[trust.Root]
	now      atomic.Pointer[time.Time]
	ids      atomic.Int64

	*verifier.Verifier
}

func newWorld(t testing.TB, change ...func(*verifier.Config)) *world {
	t.Helper()
	w := &world{
		t: t, authority: testauthority.New(t), key: testauthority.NewECDSA(t),
		signedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		registry: newMemoryRegistry(), archive: &memoryArchive{}, policies: &memoryPolicies{},
		keys: &memoryKeys{keys: map[string]keys.Key{}},
	}
	w.setNow(w.signedAt.Add(24 * time.Hour))
	root := w.authority.Root()
	w.root.Store(&root)
	w.keys.put(w.managed("release", w.key))
	w.policies.put(t, releasePolicy)
	config := verifier.Config{
		Registry: w.registry, Archive: w.archive, Keys: w.keys, Policies: w.policies,
		Trust: func() trust.Root { return *w.root.Load() },
		NewID: func() string { return fmt.Sprintf("decision-%d", w.ids.Add(1)) },
		Clock: clock.Func(func() time.Time { return *w.now.Load() }),
		// The clock stands still: a FAILED would be remembered for ever.
		FailedTTL: -1,
	}
	for _, f := range change {
		f(&config)
	}
	v, err := verifier.New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.Verifier = v
	return w
}

const releasePolicy = `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  mode: enforce
  authorities:
    release: {key: {name: release}}
  require:
    all:
      - signature: {by: release}
`

// pemPolicy trusts a key given as PEM; rule is its log rule or empty.
func pemPolicy(t testing.TB, key *ecdsa.PrivateKey, rule string) string {
	t.Helper()
	pem := strings.ReplaceAll(string(testauthority.PublicPEM(t, key.Public())), "\n", `\n`)
	extra := ""
	if rule != "" {
		extra = ", log: " + rule
	}
	return fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities:
    partner: {key: {pem: "%s"}%s}
  require: {signature: {by: partner}}
`, pem, extra)
}

// managed is a key in use since a month before signedAt.
func (w *world) managed(name string, key *ecdsa.PrivateKey) keys.Key {
	w.t.Helper()
	from := w.signedAt.AddDate(0, -1, 0)
	return keys.Key{
		Name: name, Algorithm: keys.ECDSAP256, Purposes: []string{keys.PurposeSign}, State: keys.Active, Current: 1,
		Versions: []keys.Version{{
			Version: 1, KeyID: testauthority.KeyID(w.t, key.Public()), Public: key.Public(),
			State: keys.Active, CreatedAt: from, ActivatedAt: &from,
		}},
	}
}

func (w *world) setNow(t time.Time) { w.now.Store(&t) }

// image makes an image that the registry serves, and its pinned reference.
func (w *world) image(content string) (attest.Digest, string) {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{},"layers":[],"annotations":{"content":%q}}`, content)
	digest := w.registry.serve(raw)
	return digest, repository + "@" + digest.String()
}

func (w *world) attachBundle(digest attest.Digest, bundles ...[]byte) {
	for _, b := range bundles {
		w.registry.attach(digest, registry.Attachment{Format: registry.FormatBundle, Bundle: b})
	}
}

func (w *world) attachLegacy(digest attest.Digest, d *testauthority.LegacyDraft) {
	w.registry.attach(digest, registry.Attachment{
		Format: registry.FormatLegacy,
		Legacy: &registry.Legacy{Payload: d.Payload, Annotations: d.Annotations()},
	})
}

func (w *world) verify(images ...string) verifier.Answer {
	w.t.Helper()
	answer, err := w.Verify(w.t.Context(), verifier.Request{Images: images, Caller: identity.Identity{Issuer: identity.Local, Subject: "test"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// wantPassed and wantFailed mark what they saw, for the table of attacks
// (internal/attacktable).
func (w *world) wantPassed(image string) verifier.Result {
	w.t.Helper()
	r := w.verify(image).Results[0]
	if r.Verdict != policy.Passed {
		w.t.Fatalf("verdict %s, reasons %v; want PASSED", r.Verdict, r.Reasons)
	}
	w.t.Attr("verdict", "PASSED")
	return r
}

func (w *world) wantFailed(image string, code policy.Code) verifier.Result {
	w.t.Helper()
	r := w.verify(image).Results[0]
	if r.Verdict != policy.Failed || len(r.Reasons) == 0 || r.Reasons[0].Code != code {
		w.t.Fatalf("verdict %s, reasons %v; want FAILED %s", r.Verdict, r.Reasons, code)
	}
	w.t.Attr("verdict", "FAILED "+string(code))
	return r
}

// memoryRegistry keeps the law of a Registry: what is not listed is not
// contacted, and Resolve counts each contact.
type memoryRegistry struct {
	mu        sync.Mutex
	manifests map[attest.Digest][]byte
	tags      map[string]attest.Digest
	attached  map[attest.Digest]registry.Found
	// lie makes Resolve answer a digest with the bytes of another.
	lie map[attest.Digest][]byte
	// indexes are the children of those that are.
	indexes map[attest.Digest][]registry.Child

	resolves, reads atomic.Int64
	// before runs in front of every contact.
	before func(ctx context.Context, ref registry.Reference) error
	// beforeRead runs in front of AttachmentsFor.
	beforeRead func(ctx context.Context, ref registry.Reference) error
}

func newMemoryRegistry() *memoryRegistry {
	return &memoryRegistry{
		manifests: map[attest.Digest][]byte{}, tags: map[string]attest.Digest{},
		attached: map[attest.Digest]registry.Found{}, lie: map[attest.Digest][]byte{},
	}
}

func (m *memoryRegistry) serve(raw []byte) attest.Digest {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := attest.DigestOf(raw)
	m.manifests[d] = raw
	return d
}

func (m *memoryRegistry) tag(name string, d attest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tags[name] = d
}

func (m *memoryRegistry) attach(d attest.Digest, a ...registry.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.attached[d]
	found.Attachments = append(found.Attachments, a...)
	m.attached[d] = found
}

func (m *memoryRegistry) change(d attest.Digest, f func(*registry.Found)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.attached[d]
	f(&found)
	m.attached[d] = found
}

func (m *memoryRegistry) detach(d attest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.attached, d)
}

func (m *memoryRegistry) Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	if !strings.HasSuffix(ref.Host, "example.com") {
		return registry.Manifest{}, registry.ErrNotListed
	}
	m.resolves.Add(1)
	if m.before != nil {
		if err := m.before(ctx, ref); err != nil {
			return registry.Manifest{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := ref.Digest
	if d.IsZero() {
		d = m.tags[ref.Tag]
	}
	raw, ok := m.manifests[d]
	if !ok {
		return registry.Manifest{}, registry.ErrNotFound
	}
	if lie, ok := m.lie[d]; ok {
		raw = lie
	}
	children, isIndex := m.indexes[d]
	return registry.Manifest{Reference: ref.WithDigest(d), Digest: d, Raw: raw, IsIndex: isIndex, Children: children}, nil
}

func (m *memoryRegistry) AttachmentsFor(ctx context.Context, ref registry.Reference, _ registry.Want) (registry.Found, error) {
	m.reads.Add(1)
	if m.beforeRead != nil {
		if err := m.beforeRead(ctx, ref); err != nil {
			return registry.Found{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached[ref.Digest], nil
}

// memoryArchive keeps items and decisions.
type memoryArchive struct {
	mu        sync.Mutex
	items     map[attest.Digest][]archive.Item
	decisions []archive.Decision
	// broken refuses decisions.
	broken atomic.Bool
}

func (m *memoryArchive) keep(i archive.Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items == nil {
		m.items = map[attest.Digest][]archive.Item{}
	}
	m.items[i.Digest] = append(m.items[i.Digest], i)
}

func (m *memoryArchive) BySubject(_ context.Context, d attest.Digest, want func(string) bool, limit int) ([]archive.Item, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var items []archive.Item
	for _, i := range slices.Backward(m.items[d]) {
		if want(i.PredicateType) {
			items = append(items, i)
		}
	}
	return items[:min(limit, len(items))], len(items) <= limit, nil
}

func (m *memoryArchive) Count(_ context.Context, d attest.Digest) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items[d]), nil
}

func (m *memoryArchive) Decide(ctx context.Context, ds ...archive.Decision) error {
	if m.broken.Load() {
		return errors.New("disk full")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decisions = append(m.decisions, ds...)
	return nil
}

func (m *memoryArchive) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.decisions)
}

type memoryKeys struct {
	mu       sync.Mutex
	keys     map[string]keys.Key
	revision int64
}

func (m *memoryKeys) put(k keys.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	m.keys[k.Name] = k
}

func (m *memoryKeys) Get(_ context.Context, name string) (keys.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[name]
	if !ok {
		return keys.Key{}, keys.ErrNotFound
	}
	k.Versions = append([]keys.Version(nil), k.Versions...)
	return k, nil
}

func (m *memoryKeys) Revision(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revision, nil
}

// version changes the only version of a key.
func (m *memoryKeys) version(name string, change func(*keys.Version)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	k := m.keys[name]
	k.Versions = append([]keys.Version(nil), k.Versions...)
	change(&k.Versions[0])
	m.keys[name] = k
}

type memoryPolicies struct {
	mu       sync.Mutex
	loaded   []verifier.Loaded
	revision int64
}

// put replaces the policy of the same name.
func (m *memoryPolicies) put(t testing.TB, text string) {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	var kept []verifier.Loaded
	for _, l := range m.loaded {
		if l.Policy.Name != p.Name {
			kept = append(kept, l)
		}
	}
	m.loaded = append(kept, verifier.Loaded{Policy: p, Revision: m.revision})
}

func (m *memoryPolicies) Policies(context.Context) ([]verifier.Loaded, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]verifier.Loaded(nil), m.loaded...), nil
}

func (m *memoryPolicies) Revision(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revision, nil
}

// sha512 of an image's manifest.
func (w *world) sha512(d attest.Digest) string {
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	return fmt.Sprintf("%x", sha512.Sum512(w.registry.manifests[d]))
}
