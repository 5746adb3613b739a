package signer_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

const origin = "log.example.com"

// world is what all signers of a test share: the log, the authorities, the
// keys and a registry, all real.
type world struct {
	db       *store.DB
	dir      string
	ring     *keys.Ring
	log      *sequencer.Sequencer
	logKey   crypto.Signer
	tsa      *authority.Timestamper
	local    *localregistry.Registry
	client   *registry.Client
	verifier *verifier.Verifier
	ca       *testauthority.CA
	root     trust.Root
	rules    rules
	// down makes the registry answer 503 while it is true.
	down atomic.Bool
	// requests counts what reached the registry.
	requests atomic.Int64
}

type rules map[string]registry.Rule

func (r rules) Rule(_ context.Context, host string) (registry.Rule, error) {
	if rule, ok := r[host]; ok {
		return rule, nil
	}
	return registry.Rule{}, registry.ErrNotListed
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type worldOption func(*localregistry.Options)

func withoutReferrers(o *localregistry.Options) { o.WithoutReferrers = true }

func newWorld(t testing.TB, options ...worldOption) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{dir: t.TempDir(), ca: testauthority.NewCA(t, testauthority.CAOptions{})}
	w.db = openDB(t, filepath.Join(w.dir, "world.db"))
	w.openRegistry(t, options)
	master := must[*keys.Master](t)(keys.OpenMaster(filepath.Join(w.dir, "master.key")))
	w.ring = must[*keys.Ring](t)(keys.Open(ctx, keys.Config{Objects: w.db.Objects(), Master: master, Clock: clock.System{}}))
	for _, purpose := range []string{"log", "tsa", "tsa-root"} {
		must[keys.Key](t)(w.ring.Ensure(ctx, keys.Spec{Name: purpose, Purposes: []string{purpose}}))
	}
	service := func(name string) crypto.Signer { return must[crypto.Signer](t)(w.ring.Signer(ctx, name)) }
	w.logKey = service("log")
	w.tsa = must[*authority.Timestamper](t)(authority.OpenTimestamper(ctx, authority.TimestampConfig{
		Root: service("tsa-root"), Leaf: service("tsa"), Objects: w.db.Objects(), Clock: clock.System{},
	}))
	w.log = must[*sequencer.Sequencer](t)(sequencer.Open(ctx, sequencer.Config{
		Dir: filepath.Join(w.dir, "log"), Origin: origin, Signer: w.logKey, Leaves: w.db.Leaves(),
		CheckpointInterval: 100 * time.Millisecond, Clock: clock.System{},
	}))
	t.Cleanup(func() { _ = w.log.Close(context.Background()) })
	w.openVerifier(t)
	must[keys.Key](t)(w.ring.Create(ctx, keys.Spec{Name: "release"}))
	return w
}

func openDB(t testing.TB, path string) *store.DB {
	t.Helper()
	db := must[*store.DB](t)(store.OpenSQLite(t.Context(), path))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *world) openRegistry(t testing.TB, options []worldOption) {
	t.Helper()
	o := localregistry.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.requests.Add(1)
			if w.down.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}}
	for _, option := range options {
		option(&o)
	}
	w.local = must[*localregistry.Registry](t)(localregistry.Start(t.Context(), o))
	t.Cleanup(func() { _ = w.local.Close() })
	w.rules = rules{w.local.Host: {
		Host: w.local.Host, Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}}
	w.client = registry.New(registry.Config{Rules: w.rules, Clock: clock.System{}})
}

func (w *world) openVerifier(t testing.TB) {
	t.Helper()
	start := time.Now().Add(-time.Hour)
	root := trust.Root{
		Logs: []trust.Log{{BaseURL: "https://" + origin, Origin: origin, Public: w.logKey.Public(), Start: start}},
		TimestampAuthorities: []trust.TimestampAuthority{{
			URI: "https://" + origin + "/api/v1/timestamp", Chain: w.tsa.Chain(), Start: start,
		}},
	}
	w.root = w.ca.Trust(root)
	w.verifier = must[*verifier.Verifier](t)(verifier.New(verifier.Config{
		Registry: w.client, Keys: w.ring, Policies: w,
		Archive: archive.New(archive.Config{Bundles: w.db.Bundles(), Decisions: w.db.Decisions()}),
		Trust:   func() trust.Root { return w.root }, NewID: newID, Clock: clock.System{},
	}))
}

// Policies is one policy over everything: signed by release, and logged.
func (w *world) Policies(context.Context) ([]verifier.Loaded, error) {
	p, err := policy.Parse([]byte(fmt.Sprintf(`{
		"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": {"name": "all"},
		"spec": {"match": {"images": [%q]}, "mode": "enforce",
			"authorities": {"release": {"key": {"name": "release"}}},
			"require": {"all": [{"signature": {"by": "release"}}]}}}`, w.local.Host+"/**")))
	return []verifier.Loaded{{Policy: p, Revision: 1}}, err
}

func (w *world) Revision(context.Context) (int64, error) { return 1, nil }

// push makes an image and returns its reference by tag and by digest.
func (w *world) push(t testing.TB, content string) (tagged, pinned string) {
	t.Helper()
	d, err := w.local.PushImage(t.Context(), "team/app", "t-"+newID(), content)
	if err != nil {
		t.Fatal(err)
	}
	pinned = w.local.Image("team/app", d)
	return pinned, pinned
}

// found is what the registry holds for a subject.
func (w *world) found(t testing.TB, pinned string) []registry.Attachment {
	t.Helper()
	ref := must[registry.Reference](t)(registry.ParseReference(pinned))
	found, err := w.client.Attachments(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Problems) != 0 || found.Truncated {
		t.Fatalf("reading attachments: %+v", found.Problems)
	}
	return found.Attachments
}

// verdict asks the real verifier about what the registry holds.
func (w *world) verdict(t testing.TB, image string) verifier.Answer {
	t.Helper()
	answer, err := w.verifier.Verify(t.Context(), verifier.Request{Images: []string{image}, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// site is one deployment: its own database, and the signers that run on it one
// after another.
type site struct {
	*world
	db      *store.DB
	journal *audit.Journal
	archive *archive.Archive
	grants  []policy.Grant
}

func newSite(t testing.TB, w *world) *site {
	t.Helper()
	db := openDB(t, filepath.Join(t.TempDir(), "site.db"))
	return &site{
		world: w, db: db,
		journal: audit.New(audit.Config{Chain: db.Chain(), Clock: clock.System{}}),
		archive: archive.New(archive.Config{Bundles: db.Bundles(), Decisions: db.Decisions()}),
		grants: []policy.Grant{w.grant(t, `{"issuer":"local","subject":"ci","repositories":["`+
			w.local.Host+`/team/**"],"keys":["release","missing","p384","ed25519","log"],"actions":["sign"]}`)},
	}
}

func (w *world) grant(t testing.TB, doc string) policy.Grant {
	t.Helper()
	g, err := policy.ParseGrant([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	g.Name = "ci-team"
	return *g
}

// config is the configuration of a signer over real parts.
func (s *site) config() signer.Config {
	return signer.Config{
		Registry: s.client, Rules: s.rules, Keys: s.ring, Log: s.log, Timestamper: s.tsa,
		Archive: s.archive, Operations: s.db.Operations(), Journal: s.journal,
		Grants:  func(context.Context) ([]policy.Grant, error) { return s.grants, nil },
		Checker: signer.CheckFunc(s.checkFresh), Clock: clock.System{}, NewID: newID,
		Logger: slog.New(slog.DiscardHandler), RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	}
}

func (w *world) checkFresh(ctx context.Context, f signer.Fresh) error {
	fresh := verifier.Fresh{
		Digest: f.Digest, Format: f.Format, PredicateType: f.PredicateType, Bundle: f.Bundle,
		Public: f.Public, Certificate: f.Certificate,
	}
	if f.Format == signer.FormatNotation {
		fresh.Envelope, fresh.LogEntry = &registry.Envelope{MediaType: "application/jose+json", Content: f.Payload}, f.LogEntry
	}
	if f.Format == signer.FormatLegacy && f.PredicateType != "" {
		fresh.Format = registry.FormatLegacyAttestation
	}
	if f.Format == signer.FormatLegacy {
		fresh.Legacy = &registry.Legacy{Payload: f.Payload, Annotations: f.Annotations}
	}
	return w.verifier.CheckFresh(ctx, fresh)
}

func start(t testing.TB, cfg signer.Config) *signer.Signer {
	t.Helper()
	s := must[*signer.Signer](t)(signer.New(cfg))
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *signer.Signer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// background runs the retry loop until the test ends.
func background(t testing.TB, s *signer.Signer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func ci() identity.Identity {
	return identity.Identity{Issuer: identity.Local, Subject: "ci", Roles: []identity.Role{identity.Signer}}
}

// outcomes lists what the journal says of signing, oldest first.
func (s *site) outcomes(t testing.TB) []string {
	t.Helper()
	records, _, err := s.journal.List(t.Context(), store.Page{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i := len(records) - 1; i >= 0; i-- {
		out = append(out, records[i].Outcome)
	}
	return out
}

// archived counts what is kept of a digest.
func (s *site) archived(t testing.TB, digest string) int {
	t.Helper()
	d := must[attest.Digest](t)(attest.ParseDigest(digest))
	items, err := s.archive.Overview(t.Context(), d, 100)
	if err != nil {
		t.Fatal(err)
	}
	return len(items)
}
