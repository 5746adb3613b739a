package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

func TestSign(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options []worldOption
		formats []string
		want    []string
	}{
		"the default is a bundle":            {want: []string{"bundle"}},
		"legacy":                             {formats: []string{"legacy"}, want: []string{"legacy"}},
		"both":                               {formats: []string{"legacy", "bundle"}, want: []string{"bundle", "legacy"}},
		"both, registry without referrers":   {options: []worldOption{withoutReferrers}, formats: []string{"bundle", "legacy"}, want: []string{"bundle", "legacy"}},
		"a format named twice is made once":  {formats: []string{"bundle", "bundle"}, want: []string{"bundle"}},
		"bundle, registry without referrers": {options: []worldOption{withoutReferrers}, want: []string{"bundle"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, newWorld(t, tt.options...))
			_, image := s.push(t, name)
			result, replayed, err := start(t, s.config()).Sign(t.Context(), ci(), signer.Request{
				Image: image, Key: "release", Formats: tt.formats, Annotations: map[string]string{"git.sha": "abc<&>"},
			})
			if err != nil || replayed {
				t.Fatalf("Sign: replayed %v, %v", replayed, err)
			}
			checkResult(t, s, image, result, tt.want)
			if got := s.outcomes(t); !slices.Equal(got, []string{audit.Allowed, audit.Done}) {
				t.Errorf("journal says %v", got)
			}
			if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
				t.Errorf("the verifier says %+v", answer)
			}
		})
	}
}

// checkResult compares an answer with what is in the registry and the archive.
func checkResult(t *testing.T, s *site, image string, result signer.Result, formats []string) {
	t.Helper()
	if result.Image != image || !strings.HasSuffix(image, result.Digest) || result.Signer.Key != "release" || len(result.Signer.KeyID) != 64 {
		t.Errorf("answer names %s, %s, %+v", result.Image, result.Digest, result.Signer)
	}
	var got []string
	for _, signature := range result.Signatures {
		got = append(got, signature.Format)
		if signature.Digest != result.Digest || signature.Referrer == "" || signature.LogEntry.LogID == "" || !strings.HasPrefix(signature.LogEntry.Checkpoint, origin+"\n") {
			t.Errorf("signature says %+v", signature)
		}
	}
	if !slices.Equal(got, formats) {
		t.Errorf("formats %v, want %v", got, formats)
	}
	found := s.found(t, image)
	if len(found) != len(formats) {
		t.Fatalf("the registry holds %d signatures, want %d", len(found), len(formats))
	}
	for _, attachment := range found {
		i := slices.IndexFunc(result.Signatures, func(x signer.Signature) bool { return x.Format == attachment.Format })
		checkSame(t, result.Signatures[i], attachment)
	}
	if n := s.archived(t, result.Digest); n != len(formats) {
		t.Errorf("the archive keeps %d, want %d", n, len(formats))
	}
}

func checkSame(t *testing.T, answered signer.Signature, attached registry.Attachment) {
	t.Helper()
	if attached.Format == signer.FormatBundle {
		if !bytes.Equal(answered.Bundle, attached.Bundle) {
			t.Errorf("the answer's bundle is not the one in the registry")
		}
		return
	}
	if !bytes.Equal(answered.Legacy.Payload, attached.Legacy.Payload) || !cmp.Equal(answered.Legacy.Annotations, attached.Legacy.Annotations) {
		t.Errorf("the answer's layer is not the one in the registry")
	}
}

func TestAnnotationsAreSigned(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	_, image := s.push(t, "annotated")
	result, _, err := start(t, s.config()).Sign(t.Context(), ci(), signer.Request{
		Image: image, Key: "release", Formats: []string{"bundle", "legacy"}, Annotations: map[string]string{"git.sha": "abc"},
	})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := attest.ParseBundle(result.Signatures[0].Bundle)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := attest.ParseStatement(bundle.Envelope.Payload)
	if err != nil || !strings.Contains(string(bundle.Envelope.Payload), `"git.sha":"abc"`) {
		t.Errorf("statement %+v, %v", statement, err)
	}
	simple, err := attest.ParseSimpleSigning(result.Signatures[1].Legacy.Payload)
	if err != nil || string(simple.Optional["git.sha"]) != `"abc"` {
		t.Errorf("payload %+v, %v", simple, err)
	}
}

func TestTagIsResolvedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	d, err := s.local.PushImage(t.Context(), "team/app", "1.4", "tagged")
	if err != nil {
		t.Fatal(err)
	}
	result, _, err := start(t, s.config()).Sign(t.Context(), ci(), signer.Request{Image: s.local.Host + "/team/app:1.4", Key: "release"})
	if err != nil {
		t.Fatal(err)
	}
	if result.Image != s.local.Image("team/app", d) {
		t.Errorf("answer names %s", result.Image)
	}
}

func TestRecursive(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	index, err := s.local.PushIndex(t.Context(), "team/app", "multi", "recursive", "amd64", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	image := s.local.Image("team/app", index)
	sg := start(t, s.config())

	alone, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"})
	if err != nil || len(alone.Signatures) != 1 {
		t.Fatalf("without recursive: %d signatures, %v", len(alone.Signatures), err)
	}
	result, _, err := sg.Sign(t.Context(), ci(), signer.Request{
		Image: image, Key: "release", Recursive: true, Formats: []string{"bundle", "legacy"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range result.Signatures {
		got = append(got, x.Platform+" "+x.Format)
		if answer := s.verdict(t, s.local.Host+"/team/app@"+x.Digest); answer.Verdict != policy.Passed {
			t.Errorf("%s is not verified: %+v", x.Digest, answer)
		}
	}
	want := []string{" bundle", " legacy", "linux/amd64 bundle", "linux/amd64 legacy", "linux/arm64 bundle", "linux/arm64 legacy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if result.Signatures[0].Digest != index.String() {
		t.Errorf("the index is not first")
	}
}

func TestRecursiveIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	for n, want := range map[int]error{limits.IndexChildren + 1: signer.ErrLimit, 3: nil} {
		image := s.pushWideIndex(t, n)
		_, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", Recursive: true})
		if !errors.Is(err, want) {
			t.Errorf("an index of %d children: %v, want %v", n, err, want)
		}
	}
}

func (w *world) pushWideIndex(t *testing.T, children int) string {
	t.Helper()
	architectures := make([]string, children)
	for i := range architectures {
		architectures[i] = fmt.Sprintf("arch%d", i)
	}
	d, err := w.local.PushIndex(t.Context(), "team/app", "", fmt.Sprintf("wide %d", children), architectures...)
	if err != nil {
		t.Fatal(err)
	}
	return w.local.Image("team/app", d)
}

// TestRefused has one wrong thing in each row; the control is the last.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, spec := range []keys.Spec{{Name: "other"}, {Name: "p384", Algorithm: keys.ECDSAP384}, {Name: "ed25519", Algorithm: keys.Ed25519}} {
		must[keys.Key](t)(w.ring.Create(t.Context(), spec))
	}
	_, image := w.push(t, "refused")
	absent := w.local.Host + "/team/app@" + attest.DigestOf([]byte("absent")).String()
	signing := func(change func(*signer.Request)) signer.Request {
		r := signer.Request{Image: image, Key: "release"}
		change(&r)
		return r
	}
	stranger := identity.Identity{Issuer: identity.Local, Subject: "stranger", Roles: []identity.Role{identity.Signer}}
	for name, tt := range map[string]struct {
		caller  identity.Identity
		request signer.Request
		want    error
		code    string
		// journal is what the journal must say, contacted whether the registry
		// may have been asked.
		journal   []string
		contacted bool
	}{
		"not a reference":     {ci(), signing(func(r *signer.Request) { r.Image = "UPPER/case" }), signer.ErrRequest, "invalid_request", nil, false},
		"unknown format":      {ci(), signing(func(r *signer.Request) { r.Formats = []string{"jar"} }), signer.ErrRequest, "invalid_request", nil, false},
		"no key":              {ci(), signing(func(r *signer.Request) { r.Key = "" }), signer.ErrIdentityKey, "identity_required", nil, false},
		"identity key":        {ci(), signing(func(r *signer.Request) { r.Key = "identity" }), signer.ErrIdentityKey, "identity_required", nil, false},
		"bad idempotency key": {ci(), signing(func(r *signer.Request) { r.IdempotencyKey = "a b" }), signer.ErrRequest, "invalid_request", nil, false},
		"too many annotations": {ci(), signing(func(r *signer.Request) {
			r.Annotations = map[string]string{"a": strings.Repeat("x", limits.AnnotationBytes)}
		}), signer.ErrRequest, "invalid_request", nil, false},
		"unlisted host":              {ci(), signing(func(r *signer.Request) { r.Image = "127.0.0.1:1/team/app:1" }), signer.ErrRegistryNotListed, "registry_not_trusted", []string{audit.Denied}, false},
		"unlisted repository":        {ci(), signing(func(r *signer.Request) { r.Image = w.local.Host + "/other/app:1" }), signer.ErrRegistryNotListed, "registry_not_trusted", []string{audit.Denied}, false},
		"no grant":                   {stranger, signing(func(*signer.Request) {}), signer.ErrForbidden, "forbidden", []string{audit.Denied}, false},
		"nobody":                     {identity.Identity{}, signing(func(*signer.Request) {}), signer.ErrForbidden, "forbidden", []string{audit.Denied}, false},
		"no role":                    {identity.Identity{Issuer: identity.Local, Subject: "ci"}, signing(func(*signer.Request) {}), signer.ErrForbidden, "forbidden", []string{audit.Denied}, false},
		"key not granted, existing":  {ci(), signing(func(r *signer.Request) { r.Key = "other" }), signer.ErrForbidden, "forbidden", []string{audit.Denied}, false},
		"key not granted, missing":   {ci(), signing(func(r *signer.Request) { r.Key = "nothing" }), signer.ErrForbidden, "forbidden", []string{audit.Denied}, false},
		"key granted, missing":       {ci(), signing(func(r *signer.Request) { r.Key = "missing" }), signer.ErrKeyNotFound, "key_not_found", []string{audit.Allowed}, false},
		"a key of the service":       {ci(), signing(func(r *signer.Request) { r.Key = "log" }), signer.ErrKeyNotFound, "key_not_found", []string{audit.Allowed}, false},
		"legacy with ed25519":        {ci(), signing(func(r *signer.Request) { r.Key, r.Formats = "ed25519", []string{"legacy"} }), signer.ErrRequest, "invalid_request", []string{audit.Allowed}, false},
		"missing manifest":           {ci(), signing(func(r *signer.Request) { r.Image = absent }), signer.ErrManifestNotFound, "image_not_found", []string{audit.Allowed}, true},
		"control":                    {ci(), signing(func(*signer.Request) {}), nil, "", []string{audit.Allowed, audit.Done}, true},
		"control: bundle by ed25519": {ci(), signing(func(r *signer.Request) { r.Key = "ed25519" }), nil, "", []string{audit.Allowed, audit.Done}, true},
		"control: bundle by p384":    {ci(), signing(func(r *signer.Request) { r.Key = "p384" }), nil, "", []string{audit.Allowed, audit.Done}, true},
		"control: legacy by p384":    {ci(), signing(func(r *signer.Request) { r.Key, r.Formats = "p384", []string{"legacy"} }), nil, "", []string{audit.Allowed, audit.Done}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, w)
			before := w.requests.Load()
			_, _, err := start(t, s.config()).Sign(t.Context(), tt.caller, tt.request)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && signer.Code(err) != tt.code {
				t.Errorf("code %s, want %s", signer.Code(err), tt.code)
			}
			if got := s.outcomes(t); !slices.Equal(got, tt.journal) {
				t.Errorf("journal says %v, want %v", got, tt.journal)
			}
			if contacted := w.requests.Load() != before; contacted != tt.contacted {
				t.Errorf("registry contacted: %v, want %v", contacted, tt.contacted)
			}
			ops, _, err := s.db.Operations().List(t.Context(), store.OperationFilter{}, store.Page{Limit: 10})
			if err != nil || (len(ops) > 0) != (tt.want == nil) {
				t.Errorf("%d operations kept, %v", len(ops), err)
			}
		})
	}
}

// A1: a registry that answers other bytes for a digest gets no signature.
func TestSignRefusesForeignBytes(t *testing.T) {
	t.Parallel()
	lie := map[string]string{}
	s := newSite(t, newWorld(t, func(o *localregistry.Options) { o.Wrap = swap(lie, o.Wrap) }))
	asked, err := s.local.PushImage(t.Context(), "team/app", "", "the right one")
	if err != nil {
		t.Fatal(err)
	}
	served, err := s.local.PushImage(t.Context(), "team/app", "", "the other one")
	if err != nil {
		t.Fatal(err)
	}
	sg := start(t, s.config())
	lie[asked.String()] = served.String()
	_, _, err = sg.Sign(t.Context(), ci(), signer.Request{Image: s.local.Image("team/app", asked), Key: "release"})
	if !errors.Is(err, signer.ErrDigestMismatch) {
		t.Errorf("a lying registry: %v", err)
	}
	if size, err := s.log.Size(t.Context()); err != nil || size != 0 {
		t.Errorf("the log has %d entries, %v", size, err)
	}
	// The control: the same registry, asked for what it does not lie about.
	if _, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: s.local.Image("team/app", served), Key: "release"}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, image := w.push(t, "journal")
	stranger := identity.Identity{Issuer: identity.Local, Subject: "stranger", Roles: []identity.Role{identity.Signer}}
	for name, caller := range map[string]identity.Identity{"allowed": ci(), "denied": stranger} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, w)
			cfg := s.config()
			cfg.Journal = brokenJournal{}
			before := w.requests.Load()
			_, _, err := start(t, cfg).Sign(t.Context(), caller, signer.Request{Image: image, Key: "release"})
			if !errors.Is(err, signer.ErrJournal) {
				t.Errorf("got %v", err)
			}
			if w.requests.Load() != before {
				t.Error("the registry was contacted")
			}
		})
	}
}

type brokenJournal struct{}

func (brokenJournal) Append(context.Context, audit.Record) (audit.Record, error) {
	return audit.Record{}, errors.New("disk full")
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	_, image := s.push(t, "idempotent")
	request := signer.Request{Image: image, Key: "release", IdempotencyKey: "job-1"}
	first, replayed, err := sg.Sign(t.Context(), ci(), request)
	if err != nil || replayed {
		t.Fatalf("replayed %v, %v", replayed, err)
	}
	same := request
	same.Formats = []string{"bundle"} // the default, spelled out
	for _, r := range []signer.Request{request, same} {
		again, replayed, err := sg.Sign(t.Context(), ci(), r)
		if err != nil || !replayed || !bytes.Equal(first.Body(), again.Body()) {
			t.Errorf("replayed %v, same %v, %v", replayed, bytes.Equal(first.Body(), again.Body()), err)
		}
	}
	other := request
	other.Annotations = map[string]string{"a": "b"}
	if _, _, err := sg.Sign(t.Context(), ci(), other); !errors.Is(err, signer.ErrIdempotencyReused) {
		t.Errorf("another body: %v", err)
	}
	if n := len(s.found(t, image)); n != 1 {
		t.Errorf("%d signatures in the registry", n)
	}
	// Another caller's key of the same spelling is another key: here it is
	// decided anew, and refused.
	stranger := identity.Identity{Issuer: identity.Local, Subject: "stranger", Roles: []identity.Role{identity.Signer}}
	if _, _, err := sg.Sign(t.Context(), stranger, request); !errors.Is(err, signer.ErrForbidden) {
		t.Errorf("another caller: %v", err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(first.Body(), &decoded); err != nil || decoded["id"] != first.ID {
		t.Errorf("the kept body is not the answer: %v", err)
	}
}

func TestConcurrentCallsJoin(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	_, image := s.push(t, "joined")
	const callers = 20
	bodies, fresh := make([][]byte, callers), make([]bool, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			result, replayed, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", IdempotencyKey: "same"})
			if err != nil {
				t.Error(err)
			}
			bodies[i], fresh[i] = result.Body(), !replayed
		})
	}
	group.Wait()
	firsts := 0
	for i := range callers {
		if fresh[i] {
			firsts++
		}
		if !bytes.Equal(bodies[i], bodies[0]) {
			t.Errorf("caller %d got another answer", i)
		}
	}
	if firsts != 1 || len(s.found(t, image)) != 1 {
		t.Errorf("%d calls signed, %d signatures", firsts, len(s.found(t, image)))
	}
}

// TestManyAtOnce is 200 concurrent calls of different digests: all succeed,
// and entries share checkpoints.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	const n = 200
	images := make([]string, n)
	for i := range images {
		_, images[i] = s.push(t, fmt.Sprintf("many %d", i))
	}
	checkpoints, indexes := sync.Map{}, sync.Map{}
	var group sync.WaitGroup
	for _, image := range images {
		group.Go(func() {
			result, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"})
			if err != nil {
				t.Error(err)
				return
			}
			entry := result.Signatures[0].LogEntry
			checkpoints.Store(entry.Checkpoint, true)
			if _, twice := indexes.LoadOrStore(entry.Index, true); twice {
				t.Errorf("log index %d twice", entry.Index)
			}
		})
	}
	group.Wait()
	count := 0
	checkpoints.Range(func(any, any) bool { count++; return true })
	if count >= n/2 {
		t.Errorf("%d checkpoints for %d entries", count, n)
	}
	for _, image := range []string{images[0], images[n-1]} {
		if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
			t.Errorf("%+v", answer)
		}
	}
	if err := s.journal.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// swap answers a request for some manifests with the bytes of others.
func swap(lie map[string]string, outer func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return outer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, asked, _ := strings.Cut(r.URL.Path, "/manifests/")
			if served, ok := lie[asked]; ok {
				r.URL.Path = path + "/manifests/" + served
			}
			next.ServeHTTP(w, r)
		}))
	}
}

// TestRecursiveDescends: an index in an index is followed, and a manifest that
// is named twice is signed once.
func TestRecursiveDescends(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	inner, err := s.local.PushIndex(t.Context(), "team/app", "", "inner", "amd64", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	ref := must[registry.Reference](t)(registry.ParseReference(s.local.Image("team/app", inner)))
	m := must[registry.Manifest](t)(s.client.Resolve(t.Context(), ref))
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.MediaType, m.Digest, len(m.Raw))
	child := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.Children[0].MediaType, m.Children[0].Digest, m.Children[0].Size)
	outer, err := s.local.PushManifest(t.Context(), "team/app", "outer", m.MediaType, []byte(
		`{"schemaVersion":2,"mediaType":"`+m.MediaType+`","manifests":[`+child+`,`+entry+`,`+child+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	result, _, err := start(t, s.config()).Sign(t.Context(), ci(), signer.Request{
		Image: s.local.Image("team/app", outer), Key: "release", Recursive: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range result.Signatures {
		got = append(got, x.Digest)
	}
	want := []string{outer.String(), m.Children[0].Digest.String(), inner.String(), m.Children[1].Digest.String()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
