package verifier_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store/storetest"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// replica is a verifier with connections of its own to a shared database.
type replica struct {
	r        *real
	catalog  *catalog.Catalog
	ring     *keys.Ring
	archive  *archive.Archive
	verifier *verifier.Verifier
}

func newReplica(r *real, address string) *replica {
	t := r.tb
	t.Helper()
	db := storetest.ReopenPostgres(t, address)
	one := &replica{r: r, archive: archive.New(archive.Config{Bundles: db.Bundles(), Decisions: db.Decisions()})}
	var err error
	one.catalog, err = catalog.New(catalog.Config{Objects: db.Objects(), Sealer: r.master})
	r.must(err)
	one.ring, err = keys.Open(t.Context(), keys.Config{Objects: db.Objects(), Master: r.master, Clock: clock.System{}})
	r.must(err)
	root := r.authority.Root()
	one.verifier, err = verifier.New(verifier.Config{
		Registry: registry.New(registry.Config{Rules: one.catalog, Clock: clock.System{}}),
		Archive:  one.archive, Keys: one.ring, Policies: inForce{one.catalog}, Roots: one.catalog,
		Trust: func() trust.Root { return root }, NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	})
	r.must(err)
	return one
}

func (p *replica) want(ref registry.Reference, want policy.Code) verifier.Result {
	p.r.tb.Helper()
	a, err := p.verifier.Verify(p.r.tb.Context(), verifier.Request{Images: []string{ref.String()}})
	p.r.must(err)
	got := a.Results[0]
	if want == "" && got.Verdict != policy.Passed || want != "" && (got.Verdict != policy.Failed || got.Reasons[0].Code != want) {
		p.r.tb.Fatalf("%s %+v, want %q", got.Verdict, got.Reasons, want)
	}
	return got
}

// What is changed through one replica holds at the next question to another.
func TestInteropReplicas(t *testing.T) {
	address := storetest.PostgresSchema(t, storetest.Postgres(t))
	r := newReal(t)
	here, there := newReplica(r, address), newReplica(r, address)
	r.ring = here.ring
	_, err := here.ring.Create(t.Context(), keys.Spec{Name: "release"})
	r.must(err)
	list := func(pattern string, revision int64) int64 {
		draft, err := here.catalog.DraftRegistry(r.host, []byte(`{"repositories":["`+pattern+`"],"insecureHttp":true,"allowPrivateAddress":true}`))
		r.must(err)
		e, err := here.catalog.RegistryObjects().Put(t.Context(), draft, revision)
		r.must(err)
		return e.Revision
	}
	put := func() int64 {
		draft, err := here.catalog.DraftPolicy("production", []byte(strings.ReplaceAll(releasePolicy, host, r.host)))
		r.must(err)
		e, err := here.catalog.PolicyObjects().Put(t.Context(), draft, 0)
		r.must(err)
		return e.Revision
	}
	listed, inForce := list("team/**", 0), put()
	ref := r.push("team/app", "1")
	there.want(ref, policy.NoSignature)
	if !there.want(ref, policy.NoSignature).Cached {
		t.Error("FAILED was not remembered")
	}
	r.must(here.archive.Keep(t.Context(), archive.Item{Digest: ref.Digest, Repository: ref.Name(), Format: archive.FormatBundle, Bundle: r.bundle(ref.Digest)}))
	there.want(ref, "")
	if !there.want(ref, "").Cached {
		t.Error("PASSED was not remembered")
	}
	const questions = 500
	began := time.Now()
	for range questions {
		_, err := there.verifier.Verify(t.Context(), verifier.Request{Images: []string{ref.String()}, DryRun: true})
		r.must(err)
	}
	t.Logf("a remembered verdict without its record, with the trust epoch read from PostgreSQL: %s", time.Since(began)/questions)

	r.must(here.catalog.PolicyObjects().Delete(t.Context(), "production", inForce))
	there.want(ref, policy.NoPolicy)
	put()
	there.want(ref, "")
	listed = list("elsewhere/**", listed)
	there.want(ref, policy.RegistryNotTrusted)
	list("team/**", listed)
	there.want(ref, "")
	_, err = here.ring.Revoke(t.Context(), "release", "stolen laptop", nil)
	r.must(err)
	there.want(ref, policy.KeyRevoked)
}
