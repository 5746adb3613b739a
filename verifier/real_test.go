package verifier_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// real is a verifier over a real registry on loopback, a real store and a real
// key ring.
type real struct {
	tb        testing.TB
	host      string
	authority *testauthority.Authority
	client    *registry.Client
	store     *store.DB
	archive   *archive.Archive
	ring      *keys.Ring
	master    *keys.Master
	policies  *memoryPolicies
	verifier  *verifier.Verifier

	mu    sync.Mutex
	trips []registry.RoundTrip
}

type listed struct{ host string }

func (l listed) Rule(_ context.Context, host string) (registry.Rule, error) {
	if host != l.host {
		return registry.Rule{}, registry.ErrNotListed
	}
	return registry.Rule{Host: host, Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true}, nil
}

func newReal(tb testing.TB) *real {
	tb.Helper()
	ctx, dir := tb.Context(), tb.TempDir()
	server := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	tb.Cleanup(server.Close)
	r := &real{tb: tb, host: strings.TrimPrefix(server.URL, "http://"), authority: testauthority.New(tb), policies: &memoryPolicies{}}
	r.client = registry.New(registry.Config{Rules: listed{r.host}, Clock: clock.System{}, Observe: r.observe})
	var err error
	r.store, err = store.OpenSQLite(ctx, filepath.Join(dir, "db"))
	r.must(err)
	tb.Cleanup(func() { _ = r.store.Close() })
	r.master, err = keys.OpenMaster(filepath.Join(dir, "master.key"))
	r.must(err)
	r.ring, err = keys.Open(ctx, keys.Config{Objects: r.store.Objects(), Master: r.master, Clock: clock.System{}})
	r.must(err)
	_, err = r.ring.Create(ctx, keys.Spec{Name: "release"})
	r.must(err)
	r.archive = archive.New(archive.Config{Bundles: r.store.Bundles(), Decisions: r.store.Decisions(), Clock: clock.System{}})
	r.policies.put(tb, strings.ReplaceAll(releasePolicy, host, r.host))
	root := r.authority.Root()
	r.verifier, err = verifier.New(verifier.Config{
		Registry: r.client, Archive: r.archive, Keys: r.ring, Policies: r.policies,
		Trust: func() trust.Root { return root },
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	})
	r.must(err)
	return r
}

func (r *real) observe(t registry.RoundTrip) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trips = append(r.trips, t)
}

func (r *real) take() []registry.RoundTrip {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.trips
	r.trips = nil
	return out
}

func (r *real) must(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatal(err)
	}
}

// push puts an image into the registry under a tag.
func (r *real) push(repository, tag string) registry.Reference {
	r.tb.Helper()
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.Annotations(image, map[string]string{"tag": tag}).(v1.Image)
	ref, err := name.ParseReference(r.host+"/"+repository+":"+tag, name.Insecure)
	r.must(err)
	r.must(remote.Write(ref, image))
	digest, err := image.Digest()
	r.must(err)
	d, err := attest.ParseDigest(digest.String())
	r.must(err)
	return registry.Reference{Host: r.host, Repository: repository, Digest: d}
}

// bundle signs with the managed key, logs and stamps.
func (r *real) bundle(d attest.Digest) []byte {
	r.tb.Helper()
	payload, err := attest.SignatureStatement("", d, nil)
	r.must(err)
	message := attest.PAE(attest.PayloadTypeInToto, payload)
	signature, err := r.ring.Sign(r.tb.Context(), "release", message)
	r.must(err)
	body, err := tlog.HashedRekordV002(signature.Public, message, signature.Bytes)
	r.must(err)
	raw, err := attest.NewBundle(attest.NewBundleInput{
		PayloadType: attest.PayloadTypeInToto, Payload: payload, Signature: signature.Bytes, KeyHint: signature.KeyID,
		Entry:     r.authority.Append("hashedrekord", "0.0.2", body),
		Timestamp: r.authority.Stamp(signature.Bytes, time.Now()),
	})
	r.must(err)
	r.must(r.verifier.CheckFresh(r.tb.Context(), verifier.Fresh{Digest: d, Format: "bundle", Bundle: raw, Public: signature.Public}))
	return raw
}

func (r *real) attach(ref registry.Reference, bundle []byte) {
	r.tb.Helper()
	manifest, err := r.client.Resolve(r.tb.Context(), ref)
	r.must(err)
	_, err = r.client.AttachBundle(r.tb.Context(), manifest, registry.BundleAttachment{
		Bundle: bundle, PredicateType: attest.PredicateCosignSign, Created: time.Now(),
	})
	r.must(err)
}

func (r *real) ask(image string) verifier.Result {
	r.tb.Helper()
	a, err := r.verifier.Verify(r.tb.Context(), verifier.Request{Images: []string{image}})
	r.must(err)
	return a.Results[0]
}

// The main job against real parts: what the ring signed and the registry keeps
// passes by tag and digest; the round trips of a cold and a warm question are
// counted.
func TestRealParts(t *testing.T) {
	r := newReal(t)
	ref := r.push("team/app", "1.4")
	r.attach(ref, r.bundle(ref.Digest))
	unsigned := r.push("team/app", "unsigned")
	r.take()

	cold := r.ask(ref.String())
	trips := r.take()
	if cold.Verdict != policy.Passed {
		t.Fatalf("%+v", cold.Reasons)
	}
	for _, trip := range trips {
		t.Logf("cold: %s %s %d", trip.Method, trip.Path, trip.Status)
	}
	// One for the manifest, the rest are the registry package's own business.
	if len(trips) > 6 {
		t.Errorf("%d round trips for a cold image", len(trips))
	}
	if warm := r.ask(ref.String()); !warm.Cached || len(r.take()) != 0 {
		t.Error("a warm digest was not answered from memory")
	}
	if byTag := r.ask(ref.Name() + ":1.4"); !byTag.Cached || byTag.Pinned != ref.String() || len(r.take()) != 1 {
		t.Errorf("a warm tag: %+v", byTag)
	}
	if got := r.ask(unsigned.String()); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.NoSignature {
		t.Errorf("unsigned: %+v", got.Reasons)
	}
	// A signature moved to another digest.
	r.attach(unsigned, r.bundle(ref.Digest))
	tampered := r.push("team/app", "tampered")
	r.attach(tampered, r.bundle(ref.Digest))
	if got := r.ask(tampered.String()); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.SubjectMismatch {
		t.Errorf("tampered: %+v", got.Reasons)
	}
	r.take()
	for _, image := range []string{"127.0.0.1:1/team/app@" + ref.Digest.String(), r.host + "/other/app@" + ref.Digest.String()} {
		if got := r.ask(image); got.Reasons[0].Code != policy.RegistryNotTrusted || len(r.take()) != 0 {
			t.Errorf("%s: %+v", image, got.Reasons)
		}
	}
	d, err := r.archive.Decision(t.Context(), cold.DecisionID)
	if err != nil || d.Verdict != "PASSED" || d.Pinned != ref.String() {
		t.Errorf("decision %+v, %v", d, err)
	}
	// The life cycle of the key decides at once.
	_, err = r.ring.Rotate(t.Context(), "release")
	r.must(err)
	if got := r.ask(ref.String()); got.Verdict != policy.Passed || got.Cached {
		t.Errorf("after rotation: %+v", got)
	}
	_, err = r.ring.Revoke(t.Context(), "release", "stolen laptop", nil)
	r.must(err)
	if got := r.ask(ref.String()); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.KeyRevoked {
		t.Errorf("after revocation: %+v", got)
	}
}

func BenchmarkVerifyWarm(b *testing.B) {
	r := newReal(b)
	ref := r.push("team/app", "1")
	r.attach(ref, r.bundle(ref.Digest))
	r.ask(ref.String())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a, err := r.verifier.Verify(b.Context(), verifier.Request{Images: []string{ref.String()}}); err != nil || a.Verdict != policy.Passed {
				b.Fatal(err, a.Verdict)
			}
		}
	})
}

// BenchmarkVerifyWarmUnrecorded leaves out the journal.
func BenchmarkVerifyWarmUnrecorded(b *testing.B) {
	r := newReal(b)
	ref := r.push("team/app", "1")
	r.attach(ref, r.bundle(ref.Digest))
	r.ask(ref.String())
	b.ReportAllocs()
	for b.Loop() {
		if a, err := r.verifier.Verify(b.Context(), verifier.Request{Images: []string{ref.String()}, DryRun: true}); err != nil || a.Verdict != policy.Passed {
			b.Fatal(err, a.Verdict)
		}
	}
}

func BenchmarkVerifyCold(b *testing.B) {
	r := newReal(b)
	ref := r.push("team/app", "1")
	r.attach(ref, r.bundle(ref.Digest))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a, err := r.verifier.Verify(b.Context(), verifier.Request{
			Images: []string{ref.String()}, Context: map[string]string{"run": fmt.Sprint(i)}, DryRun: true, // a new context is a new question
		})
		if err != nil || a.Verdict != policy.Passed || a.Results[0].Cached {
			b.Fatal(err, a.Results)
		}
	}
}
