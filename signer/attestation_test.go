package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

const customType = "https://example.com/review/v1"

// spaced is a predicate in a spelling of its own, which must survive.
const spaced = "{ \"z\": 1.0,\n \"a\": [null, 9007199254740993, \"<\\u00e9>\"] }"

// newAttestSite lets the caller attest types under example.com.
func newAttestSite(t testing.TB, w *world) *site {
	t.Helper()
	s := newSite(t, w)
	s.grants = append(s.grants, w.grant(t, `{"issuer":"local","subject":"ci","repositories":["`+w.local.Host+
		`/team/**"],"keys":["release","missing","p384","ed25519"],"actions":["attest"],"predicateTypes":["https://example.com/**","https://spdx.dev/Document"]}`))
	return s
}

func attestation(image, document string, formats ...string) signer.Request {
	return signer.Request{
		Action: policy.ActionAttest, Image: image, Key: "release", Formats: formats,
		PredicateType: customType, Predicate: []byte(document),
	}
}

// statementOf is the statement in an answered attestation.
func statementOf(t testing.TB, x signer.Signature) attest.Statement {
	t.Helper()
	var payload []byte
	if x.Format == signer.FormatBundle {
		payload = must[*attest.Bundle](t)(attest.ParseBundle(x.Bundle)).Envelope.Payload
	} else {
		payload = must[attest.Envelope](t)(attest.ParseEnvelope(x.Legacy.Payload)).Payload
	}
	return must[attest.Statement](t)(attest.ParseStatement(payload))
}

// TestAttest: the caller's bytes are what is signed, in both formats; they are
// attached, archived and listed as attestations and not as signatures.
func TestAttest(t *testing.T) {
	t.Parallel()
	s := newAttestSite(t, newWorld(t))
	_, image := s.push(t, "attested")
	sg := start(t, s.config())
	result, _, err := sg.Sign(t.Context(), ci(), attestation(image, spaced, "legacy", "bundle"))
	if err != nil {
		t.Fatal(err)
	}
	if result.PredicateType != customType || len(result.Signatures) != 2 {
		t.Fatalf("%+v", result)
	}
	for _, x := range result.Signatures {
		statement := statementOf(t, x)
		if string(statement.Predicate) != spaced || statement.PredicateType != customType || statement.Type != attest.StatementType {
			t.Errorf("%s: %+v", x.Format, statement)
		}
		subject := statement.Subjects[0]
		if len(statement.Subjects) != 1 || subject.Name != s.local.Host+"/team/app" || "sha256:"+subject.Digest["sha256"] != result.Digest {
			t.Errorf("%s is about %+v", x.Format, statement.Subjects)
		}
	}
	checkAttached(t, s, image, result)
	if answer := s.verdict(t, image); answer.Verdict != policy.Failed {
		t.Error("an attestation counts as a signature")
	}
	checkLists(t, sg, result)
}

// checkAttached compares registry and archive with the answer.
func checkAttached(t *testing.T, s *site, image string, result signer.Result) {
	t.Helper()
	found := s.found(t, image)
	if len(found) != len(result.Signatures) {
		t.Errorf("the registry holds %d attestations", len(found))
	}
	for _, attachment := range found {
		if attachment.Format == registry.FormatLegacyAttestation {
			attachment.Format = signer.FormatLegacy
		}
		i := slices.IndexFunc(result.Signatures, func(x signer.Signature) bool { return x.Format == attachment.Format })
		checkSame(t, result.Signatures[i], attachment)
	}
	items, _, err := s.archive.BySubject(t.Context(), must[attest.Digest](t)(attest.ParseDigest(result.Digest)), nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	var formats []string
	for _, i := range items {
		formats = append(formats, i.Format)
		if i.PredicateType != customType || i.Signer != "release" || i.LogIndex == nil {
			t.Errorf("archived %+v", i)
		}
	}
	if slices.Sort(formats); !slices.Equal(formats, []string{archive.FormatBundle, archive.FormatLegacyAttestation}) {
		t.Errorf("archived %v", formats)
	}
}

func checkLists(t *testing.T, sg *signer.Signer, result signer.Result) {
	t.Helper()
	for _, c := range []struct {
		filter signer.Filter
		n      int
	}{
		{signer.Filter{}, 1},
		{signer.Filter{Digest: result.Digest, PredicateType: customType, Signer: "release"}, 1},
		{signer.Filter{PredicateType: "https://example.com/review/v2"}, 0},
		{signer.Filter{Signer: "another"}, 0},
	} {
		list, _, err := sg.Attestations(t.Context(), c.filter, store.Page{})
		if err != nil || len(list) != c.n {
			t.Fatalf("%+v: %d, %v", c.filter, len(list), err)
		}
		if c.n == 0 {
			continue
		}
		line := list[0]
		if line.ID != result.ID || line.Image != result.Image || line.PredicateType != customType || line.Signer != result.Signer ||
			line.Signatures[1].LogEntry.Index != result.Signatures[1].LogEntry.Index || line.Signatures[0].Bundle != nil {
			t.Errorf("line %+v", line)
		}
	}
	if list, _, err := sg.Signatures(t.Context(), signer.Filter{}, store.Page{}); err != nil || len(list) != 0 {
		t.Errorf("%d signatures, %v", len(list), err)
	}
	if _, err := sg.Signature(t.Context(), result.ID); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("an attestation as a signature: %v", err)
	}
	got, err := sg.Attestation(t.Context(), result.ID)
	if err != nil || !bytes.Equal(got.Body(), result.Body()) {
		t.Errorf("attestation: %v", err)
	}
}

func TestAttestShortName(t *testing.T) {
	t.Parallel()
	s := newAttestSite(t, newWorld(t))
	_, image := s.push(t, "short name")
	request := attestation(image, `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"a","documentNamespace":"https://example.com/a","creationInfo":{"created":"2026-01-01T00:00:00Z","creators":["Tool: a"]}}`)
	request.PredicateType, request.IdempotencyKey = "spdxjson", "job"
	sg := start(t, s.config())
	result, _, err := sg.Sign(t.Context(), ci(), request)
	if err != nil || result.PredicateType != predicate.SPDX {
		t.Fatalf("%+v, %v", result, err)
	}
	// The URI spelled out is the same request.
	request.PredicateType = predicate.SPDX
	if _, replayed, err := sg.Sign(t.Context(), ci(), request); err != nil || !replayed {
		t.Errorf("replayed %v, %v", replayed, err)
	}
}

// TestAttestIdempotency: the same key and request replay, another predicate
// under it is refused, and each route has its own keys.
func TestAttestIdempotency(t *testing.T) {
	t.Parallel()
	s := newAttestSite(t, newWorld(t))
	_, image := s.push(t, "idempotent")
	sg := start(t, s.config())
	request := attestation(image, `{"a":1}`)
	request.IdempotencyKey = "job"
	first, _, err := sg.Sign(t.Context(), ci(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, replayed, err := sg.Sign(t.Context(), ci(), request)
	if err != nil || !replayed || !bytes.Equal(first.Body(), again.Body()) {
		t.Errorf("replayed %v, %v", replayed, err)
	}
	other := request
	other.Predicate = []byte(`{"a": 1}`)
	if _, _, err := sg.Sign(t.Context(), ci(), other); !errors.Is(err, signer.ErrIdempotencyReused) {
		t.Errorf("another spelling of the predicate: %v", err)
	}
	if _, replayed, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", IdempotencyKey: "job"}); err != nil || replayed {
		t.Errorf("the key on another route: replayed %v, %v", replayed, err)
	}
}

// TestAttestRefused: what is wrong with an attestation is found before anything
// is contacted, and each of grant, type and key is asked about.
func TestAttestRefused(t *testing.T) {
	t.Parallel()
	s := newAttestSite(t, newWorld(t))
	_, image := s.push(t, "refused")
	sg := start(t, s.config())
	for name, c := range map[string]struct {
		change func(*signer.Request)
		want   error
		field  string
	}{
		"no type":            {func(r *signer.Request) { r.PredicateType = "" }, signer.ErrRequest, "/predicateType"},
		"no URI":             {func(r *signer.Request) { r.PredicateType = "review" }, signer.ErrRequest, "/predicateType"},
		"no predicate":       {func(r *signer.Request) { r.Predicate = nil }, signer.ErrRequest, "/predicate"},
		"not an object":      {func(r *signer.Request) { r.Predicate = []byte(`[]`) }, signer.ErrRequest, "/predicate"},
		"repeated name":      {func(r *signer.Request) { r.Predicate = []byte(`{"a":1,"a":2}`) }, signer.ErrRequest, "/predicate/a"},
		"too large":          {func(r *signer.Request) { r.Predicate = large(limits.Predicate + 1) }, signer.ErrRequest, "/predicate"},
		"annotations":        {func(r *signer.Request) { r.Annotations = map[string]string{"a": "b"} }, signer.ErrRequest, "/annotations"},
		"predicate to sign":  {func(r *signer.Request) { r.Action = policy.ActionSign }, signer.ErrRequest, "/predicate"},
		"type not granted":   {func(r *signer.Request) { r.PredicateType = "https://example.org/t" }, signer.ErrForbidden, ""},
		"key not granted":    {func(r *signer.Request) { r.Key = "log" }, signer.ErrForbidden, ""},
		"format of the key":  {func(r *signer.Request) { r.Key, r.Formats = "missing", []string{"legacy"} }, signer.ErrKeyNotFound, ""},
		"another repository": {func(r *signer.Request) { r.Image = s.local.Host + "/other/app:1" }, signer.ErrRegistryNotListed, ""},
	} {
		before := s.requests.Load()
		request := attestation(image, `{"a":1}`)
		c.change(&request)
		_, _, err := sg.Sign(t.Context(), ci(), request)
		var field *signer.RequestError
		if !errors.Is(err, c.want) || errors.As(err, &field) && field.Field != c.field {
			t.Errorf("%s: %v", name, err)
		}
		if s.requests.Load() != before {
			t.Errorf("%s: the registry was asked", name)
		}
	}
	// Positive control, and the other direction: who may attest may not sign.
	if _, _, err := sg.Sign(t.Context(), ci(), attestation(image, `{"a":1}`)); err != nil {
		t.Error(err)
	}
	s.grants = s.grants[1:]
	if _, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"}); !errors.Is(err, signer.ErrForbidden) {
		t.Errorf("signing with a grant to attest: %v", err)
	}
}

// large is a predicate of n bytes.
func large(n int) []byte {
	const around = len(`{"a":""}`)
	return []byte(`{"a":"` + strings.Repeat("x", n-around) + `"}`)
}

// TestAttestRecursive: each manifest of an index has a statement of its own.
func TestAttestRecursive(t *testing.T) {
	t.Parallel()
	s := newAttestSite(t, newWorld(t))
	index, err := s.local.PushIndex(t.Context(), "team/app", "", "attested", "amd64", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	request := attestation(s.local.Image("team/app", index), `{"a":1}`, "bundle", "legacy")
	request.Recursive = true
	result, _, err := start(t, s.config()).Sign(t.Context(), ci(), request)
	if err != nil || len(result.Signatures) != 6 {
		t.Fatalf("%d attestations, %v", len(result.Signatures), err)
	}
	for _, x := range result.Signatures {
		if got := "sha256:" + statementOf(t, x).Subjects[0].Digest["sha256"]; got != x.Digest {
			t.Errorf("the statement for %s is about %s", x.Digest, got)
		}
	}
	request.Predicate = large(limits.AttestedBytes/6 + 1)
	if _, _, err := start(t, s.config()).Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrLimit) {
		t.Errorf("predicates beyond the limit: %v", err)
	}
}

// TestAttestWithIdentity: a certificate of the caller signs both formats.
func TestAttestWithIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ca := newIdentitySite(t, w)
	s.grants = append(s.grants, w.grant(t, `{"issuer":"`+jobIssuer+`","subject":"repo:acme/*:ref:refs/heads/main","repositories":["`+
		w.local.Host+`/team/**"],"keys":["identity"],"actions":["attest"]}`))
	cfg := s.config()
	cfg.Certificates = ca
	sg := start(t, cfg)
	_, image := s.push(t, "by identity")
	request := attestation(image, `{"a":1}`, "bundle", "legacy")
	request.Key = ""
	result, _, err := sg.Sign(t.Context(), job(), request)
	if err != nil || result.Signer.Identity == nil || result.Signer.Identity.Subject != jobSubject {
		t.Fatalf("%+v, %v", result.Signer, err)
	}
	if _, has := result.Signatures[1].Legacy.Annotations["dev.sigstore.cosign/certificate"]; !has {
		t.Error("the .att layer has no certificate")
	}
	for subject, n := range map[string]int{jobSubject: 1, "https://github.com/acme/other": 0} {
		list, _, err := sg.Attestations(t.Context(), signer.Filter{Signer: subject}, store.Page{})
		if err != nil || len(list) != n {
			t.Errorf("%s: %d attestations, %v", subject, len(list), err)
		}
	}
}

// TestAttestFaults is the matrix of TestFaultAtEveryStep for attestations.
func TestAttestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("faults", func(t *testing.T) {
		for _, point := range []string{
			"key sign", "key sign legacy", "begin", "log", "stamp", "update pending", "check", "attach bundle", "attach attestation", "archive", "journal done", "update done",
		} {
			for _, m := range modes() {
				t.Run(point+"/"+m.String(), func(t *testing.T) {
					t.Parallel()
					attestFaultAt(t, w, point, m)
				})
			}
		}
	})
	auditLog(t, w)
}

func attestFaultAt(t *testing.T, w *world, point string, m mode) {
	s := newAttestSite(t, w)
	_, image := w.push(t, t.Name())
	request := attestation(image, spaced, "bundle", "legacy")
	request.IdempotencyKey = "job"
	in := newInjector(point, m)
	sg := start(t, in.into(s.config()))
	first, _, err := sg.Sign(t.Context(), ci(), request)
	if !in.fired() {
		t.Fatal("the point was not reached")
	}
	var acknowledged []byte
	if err == nil {
		acknowledged = first.Body()
	}
	stop(t, sg)

	fresh := start(t, s.config())
	if err := fresh.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, _, err := fresh.Sign(t.Context(), ci(), request)
	if err != nil {
		t.Fatalf("after the fault: %v", err)
	}
	sameAnswer(t, acknowledged, result.Body())
	checkAttached(t, s, image, result)
	if n := w.layers(t, image, ".att"); n != 1 {
		t.Errorf("%d layers under the .att tag", n)
	}
	for _, x := range result.Signatures {
		if string(statementOf(t, x).Predicate) != spaced {
			t.Errorf("%s is over other bytes", x.Format)
		}
	}
}

// layers counts what is under a legacy tag of an image.
func (w *world) layers(t testing.TB, image, suffix string) int {
	t.Helper()
	ref := must[registry.Reference](t)(registry.ParseReference(image))
	tag := must[registry.Reference](t)(registry.ParseReference(ref.Name() + ":sha256-" + ref.Digest.Hex() + suffix))
	manifest := must[registry.Manifest](t)(w.client.Resolve(t.Context(), tag))
	var document struct{ Layers []json.RawMessage }
	if err := json.Unmarshal(manifest.Raw, &document); err != nil {
		t.Fatal(err)
	}
	return len(document.Layers)
}

// TestAttestManyAtOnce: a hundred attestations of one digest at the same time
// are all there afterwards, also where both formats rewrite one document.
func TestAttestManyAtOnce(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]worldOption{"referrers": nil, "fallback tag": withoutReferrers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []worldOption
			if option != nil {
				options = append(options, option)
			}
			manyAtOnce(t, newWorld(t, options...))
		})
	}
}

func manyAtOnce(t *testing.T, w *world) {
	n := 100
	if testing.Short() {
		n = 30 // under the race detector all of them would be at their deadline
	}
	s := newAttestSite(t, w)
	_, image := w.push(t, t.Name())
	sg := start(t, s.config())
	referrers := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			result, _, err := sg.Sign(t.Context(), ci(), attestation(image, fmt.Sprintf(`{"n":%d}`, i), "bundle", "legacy"))
			if err != nil {
				t.Error(err)
				return
			}
			referrers[i] = result.Signatures[0].Referrer
		})
	}
	wg.Wait()
	if got := w.layers(t, image, ".att"); got != n {
		t.Errorf("%d layers under the .att tag", got)
	}
	listed := w.listed(t, image)
	for _, referrer := range referrers {
		if !listed[referrer] {
			t.Errorf("referrer %s is lost", referrer)
		}
	}
}

// TestAttestLarge: a bill of materials of 5 MB goes through every step, is kept
// once while the operation is pending, and costs a bounded sum of memory.
func TestAttestLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs at once, and short runs look for races")
	}
	const size = 5 << 20
	s := newAttestSite(t, newWorld(t))
	_, image := s.push(t, "large")
	var kept int
	cfg := s.config()
	cfg.Operations = watchedOperations{cfg.Operations, &kept}
	sg := start(t, cfg)
	document := large(size)
	var result signer.Result
	peak := peakOf(func() {
		var err error
		if result, _, err = sg.Sign(t.Context(), ci(), attestation(image, string(document), "bundle", "legacy")); err != nil {
			t.Fatal(err)
		}
	})
	if kept > size*4/3+64<<10 {
		t.Errorf("the pending operation holds %d bytes for a predicate of %d", kept, size)
	}
	t.Logf("peak of the live heap: %d MiB", peak>>20)
	if peak > 160<<20 {
		t.Errorf("%d MiB of memory for %d MiB", peak>>20, size>>20)
	}
	for _, x := range result.Signatures {
		if !bytes.Equal(statementOf(t, x).Predicate, document) {
			t.Errorf("%s is over other bytes", x.Format)
		}
	}
	stored := must[store.Operation](t)(s.db.Operations().Get(t.Context(), result.ID))
	if len(stored.Body) > 16<<10 {
		t.Errorf("the finished operation's document has %d bytes", len(stored.Body))
	}
}

// peakOf is how far the bytes that are reachable grow above their present sum
// while do runs. Garbage does not count: how much of it waits depends on the
// machine and on the tests before, so the collector runs often meanwhile.
func peakOf(do func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	live := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before := live()
	done := make(chan struct{})
	peak := make(chan uint64)
	go func() {
		highest := before
		for {
			highest = max(highest, live())
			select {
			case <-done:
				peak <- highest
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	do()
	close(done)
	return <-peak - before
}

// watchedOperations notes the largest document of a pending operation.
type watchedOperations struct {
	store.Operations
	largest *int
}

func (o watchedOperations) Begin(ctx context.Context, op store.Operation) (store.Operation, bool, error) {
	*o.largest = max(*o.largest, len(op.Body))
	return o.Operations.Begin(ctx, op)
}

func (o watchedOperations) Update(ctx context.Context, op store.Operation) error {
	if op.State == signer.StatePending {
		*o.largest = max(*o.largest, len(op.Body)+len(op.Result))
	}
	return o.Operations.Update(ctx, op)
}

// listed is the referrers that the registry or its fallback tag lists.
func (w *world) listed(t testing.TB, image string) map[string]bool {
	t.Helper()
	ref := must[registry.Reference](t)(registry.ParseReference(image))
	get := func(path string) []byte {
		resp := must[*http.Response](t)(http.Get("http://" + w.local.Host + "/v2/team/app/" + path))
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil
		}
		return must[[]byte](t)(io.ReadAll(resp.Body))
	}
	raw := get("referrers/" + ref.Digest.String())
	if raw == nil {
		raw = get("manifests/sha256-" + ref.Digest.Hex())
	}
	var index struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range index.Manifests {
		out[m.Digest] = true
	}
	return out
}

// builder is the identity of a job whose token says what was built.
func builder(run string) identity.Identity {
	id := job()
	for name, value := range testissuer.GitHubClaims() {
		id.Claims[name] = fmt.Sprint(value)
	}
	id.Claims["run_id"] = run
	return id
}

func newProvenanceSite(t testing.TB, w *world) (*site, signer.Config) {
	t.Helper()
	s, ca := newIdentitySite(t, w)
	s.grants = append(s.grants, w.grant(t, `{"issuer":"`+jobIssuer+`","subject":"repo:acme/*:ref:refs/heads/main","repositories":["`+
		w.local.Host+`/team/**"],"keys":["identity","release"],"actions":["provenance"]}`))
	cfg := s.config()
	cfg.Certificates = ca
	return s, cfg
}

// TestProvenanceSurvivesDeath: the claims are those of the request. A process
// that dies before it signed leaves an operation that the next one completes
// without a token, with the run that asked for it.
func TestProvenanceSurvivesDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, cfg := newProvenanceSite(t, w)
	_, image := s.push(t, "built")
	request := signer.Request{Action: policy.ActionProvenance, Image: image, Key: "release", IdempotencyKey: "job"}
	in := newInjector("resolve", killBefore)
	dying := start(t, in.into(cfg))
	op, err := dying.Start(t.Context(), builder("1001"), request)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, dying)
	fresh := start(t, cfg)
	if err := fresh.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, err := fresh.Attestation(t.Context(), op.ID)
	if err != nil || result.SLSA == nil || !strings.Contains(string(statementOf(t, result.Signatures[0]).Predicate), "/runs/1001/") {
		t.Errorf("%+v, %v", result, err)
	}
	// Another run repeats the call under the same key: the answer is the first's.
	again, replayed, err := fresh.Sign(t.Context(), builder("2002"), request)
	if err != nil || !replayed || !bytes.Equal(again.Body(), result.Body()) {
		t.Errorf("replayed %v, %v", replayed, err)
	}
}

// TestProvenanceIsOfWhoIsCertified: while nothing is signed, a repeated request
// of another run gets provenance of its own claims, never the certificate of
// one run over the claims of another.
func TestProvenanceIsOfWhoIsCertified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, cfg := newProvenanceSite(t, w)
	_, image := s.push(t, "built")
	request := signer.Request{Action: policy.ActionProvenance, Image: image, IdempotencyKey: "job"}
	in := newInjector("resolve", killBefore)
	dying := start(t, in.into(cfg))
	if _, err := dying.Start(t.Context(), builder("1001"), request); err != nil {
		t.Fatal(err)
	}
	stop(t, dying)
	result, _, err := start(t, cfg).Sign(t.Context(), builder("2002"), request)
	if err != nil {
		t.Fatal(err)
	}
	signed := string(statementOf(t, result.Signatures[0]).Predicate)
	if !strings.Contains(signed, "/runs/2002/") || strings.Contains(signed, "/runs/1001/") {
		t.Errorf("%s", signed)
	}
}
