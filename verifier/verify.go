package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/trust"
)

// Verifier answers verification requests. It is safe for concurrent use.
type Verifier struct {
	registry Registry
	archive  Archive
	keys     Keys
	policies Policies
	trust    func() trust.Root
	roots    Roots
	// exceptions is nil without any.
	exceptions Exceptions
	// revocations is nil where nobody asks.
	revocations Revocations
	newID       func() string
	// referencing and references are of keys by reference.
	referencing References
	references  referenced
	// publicURL and version are as in Config.
	publicURL string
	version   string

	clock  clock.Clock
	log    *slog.Logger
	memory *memory
	large  room
	epochs epochs
	wards  wards
	own    atomic.Pointer[ownRoot]
	// unrecorded counts the verdicts that were answered without a record.
	unrecorded atomic.Uint64
}

// New makes a Verifier. It fails when a required part of c is missing.
func New(c Config) (*Verifier, error) {
	if c.Registry == nil || c.Archive == nil || c.Keys == nil || c.Policies == nil || c.Trust == nil || c.NewID == nil {
		return nil, errors.New("verifier: Registry, Archive, Keys, Policies, Trust and NewID are required")
	}
	v := &Verifier{
		registry: c.Registry, archive: c.Archive, keys: c.Keys, policies: c.Policies,
		trust: c.Trust, roots: c.Roots, exceptions: c.Exceptions, revocations: c.Revocations, newID: c.NewID, referencing: c.References, clock: c.Clock, log: c.Logger,
		large:     make(room, limits.LargeRounds),
		publicURL: c.PublicURL, version: c.Version,
	}
	if v.clock == nil {
		v.clock = clock.System{}
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.epochs.read = v.readEpoch
	var err error
	v.memory, err = newMemory(c, v.clock.Now)
	return v, err
}

// question is what all images of a request share.
type question struct {
	*epoch
	request Request
	// policies are those that were asked for.
	policies   []Loaded
	context    map[string]string
	contextKey [32]byte
	// registry reads with what credentials the question brings.
	registry Registry
	began    time.Time
	// blob: what is asked about is in no repository.
	blob bool
}

// key is what the verdict on a digest depends on.
func (q *question) key(ref registry.Reference) verdictKey {
	return verdictKey{digest: ref.Digest, repository: ref.Name(), policy: q.request.Policy, context: q.contextKey, epoch: q.sum, platform: q.request.Platform, lent: registry.Mark(q.request.Keychain, ref)}
}

// Verify judges every image of the request and journals each decision before
// it returns. An image that cannot be decided in time is FAILED with
// deadline_exceeded; the others keep their verdicts.
//
// Errors: ErrRequest, ErrPolicyNotFound, ErrPolicies, ErrJournal. With an
// error there is no answer. A journal whose storage is exhausted is no error:
// the results say that they are not recorded.
func (v *Verifier) Verify(ctx context.Context, request Request) (Answer, error) {
	q, err := v.question(ctx, request)
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Verdict: policy.Passed, Results: make([]Result, len(request.Images)), Warnings: []string{}}
	v.each(ctx, q, func(i int, result Result) { answer.Results[i] = result })
	if err := v.record(ctx, q, answer.Results); err != nil {
		return Answer{}, err
	}
	for _, result := range answer.Results {
		if result.Verdict != policy.Passed {
			answer.Verdict = policy.Failed
		}
		answer.Warnings = append(answer.Warnings, result.Warnings...)
	}
	return answer, nil
}

// Stream is Verify with each result handed to yield, one at a time, as soon as
// it is decided and journalled, in no particular order. An error of yield ends
// the stream and is returned.
func (v *Verifier) Stream(ctx context.Context, request Request, yield func(Result) error) error {
	q, err := v.question(ctx, request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first error
	v.each(ctx, q, func(_ int, result Result) {
		if first != nil {
			return
		}
		one := []Result{result}
		if first = v.record(ctx, q, one); first == nil {
			first = yield(one[0])
		}
		if first != nil {
			cancel()
		}
	})
	return first
}

// each judges the images, at most limits.VerifyParallel of one host at a time
// so that a host that hangs holds up only itself, and reports one result at a
// time.
func (v *Verifier) each(ctx context.Context, q *question, report func(int, Result)) {
	timeout := q.request.Timeout
	if timeout == 0 {
		timeout = limits.VerifyTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	turns := make(map[string]chan struct{})
	var mu sync.Mutex
	var done sync.WaitGroup
	for i, image := range q.request.Images {
		ref, err := registry.ParseReference(image)
		if turns[ref.Host] == nil {
			turns[ref.Host] = make(chan struct{}, limits.VerifyParallel)
		}
		turn := turns[ref.Host]
		done.Go(func() {
			result := v.inTurn(ctx, turn, q, image, ref, err)
			mu.Lock()
			defer mu.Unlock()
			report(i, result)
		})
	}
	done.Wait()
}

func (v *Verifier) inTurn(ctx context.Context, turn chan struct{}, q *question, image string, ref registry.Reference, err error) Result {
	result := Result{Image: image, Digest: ref.Digest.String()}
	if !ref.Digest.IsZero() {
		result.Pinned = ref.Pinned(ref.Digest)
	}
	if err != nil {
		return result.failed(err)
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return v.unanswered(ctx, q, result, ref, ctx.Err())
	}
	return v.image(ctx, q, result, ref)
}

// unanswered is the result of an image whose question got no answer in time.
func (v *Verifier) unanswered(ctx context.Context, q *question, result Result, ref registry.Reference, err error) Result {
	if !ref.Digest.IsZero() {
		key := q.key(ref)
		if old, ok := v.stale(ctx, key, q.began, err); ok {
			result.Cached, result.Stale = true, true
			return result.answer(old, ref, key)
		}
	}
	return result.failed(err)
}

// image resolves a tag, once, and asks for the verdict on the digest. A digest
// that is remembered costs the registry nothing.
func (v *Verifier) image(ctx context.Context, q *question, result Result, ref registry.Reference) Result {
	var manifest *registry.Manifest
	if ref.Digest.IsZero() {
		m, err := v.resolveTag(ctx, q, ref)
		if err != nil {
			return result.failed(err)
		}
		manifest, ref = m, ref.WithDigest(m.Digest)
		result.Digest, result.Pinned = m.Digest.String(), ref.Pinned(m.Digest)
	}
	key := q.key(ref)
	work := func(ctx context.Context, at kept) outcome { return v.work(ctx, q, ref, manifest, at) }
	if q.request.special() {
		return result.answer(work(ctx, unknownKept), ref, key)
	}
	out, cached, err := v.memory.ask(ctx, key, func() kept { return v.keptOf(ctx, key) }, work)
	if err != nil {
		if manifest != nil {
			return result.failed(err)
		}
		return v.unanswered(ctx, q, result, ref, err)
	}
	if out.unreached && manifest == nil {
		if old, ok := v.stale(ctx, key, q.began, nil); ok {
			out, cached, result.Stale = old, true, true
		}
	}
	result.Cached = cached
	return result.answer(out, ref, key)
}

func (v *Verifier) resolveTag(ctx context.Context, q *question, ref registry.Reference) (*registry.Manifest, error) {
	leave, err := v.wards.enter(ctx, ref.Host)
	if err != nil {
		return nil, err
	}
	defer leave()
	return v.resolve(ctx, q, ref)
}

// work is one round over one digest. The manifest is read here unless the tag
// already was.
func (v *Verifier) work(ctx context.Context, q *question, ref registry.Reference, manifest *registry.Manifest, at kept) (out outcome) {
	// A library that panics on a publisher's bytes must cost that image its
	// verdict, not every caller the service (row H7).
	defer func() {
		if cause := recover(); cause != nil {
			v.log.ErrorContext(ctx, "panic while verifying", "image", ref.String(), "cause", cause, "stack", string(debug.Stack()))
			out = undecided(policy.PolicyError, "the image could not be judged: an internal fault was recorded")
		}
	}()
	leave, err := v.wards.enter(ctx, ref.Host)
	if err != nil {
		return unread(err)
	}
	defer leave()
	var listing *ahead
	if manifest == nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // nobody wants the listing of what is not there
		listing = v.lookAhead(ctx, q, ref, at)
		if manifest, err = v.resolve(ctx, q, ref.WithDigest(ref.Digest)); err != nil {
			return unread(err)
		}
	}
	return v.judgeAll(ctx, q, ref, manifest, listing)
}

// unread is the outcome for a manifest that could not be read.
func unread(err error) outcome {
	f, _ := faultOf(err)
	out := undecided(f.code, f.text)
	out.unreached = unreached(err)
	return out
}

// imageOf is an image as policies name it.
func imageOf(ref registry.Reference) policy.Image {
	return policy.Image{Registry: ref.Host, Repository: ref.Repository, Digest: ref.Digest.String()}
}

// round is one over a manifest that was read.
func (v *Verifier) round(q *question, ref registry.Reference, manifest *registry.Manifest) *round {
	r := &round{
		Verifier: v, question: q, policies: q.policies, subject: ref.WithDigest(manifest.Digest),
		seen: make(map[[32]byte]bool), known: make(map[string]keys.Key),
		bench: bench{
			artifact:   artifact{digest: manifest.Digest, content: manifest.Raw},
			now:        q.now(v),
			signatures: make(map[signatureCheck]bool),
			tracing:    q.request.Explain,
		},
	}
	if q.request.Explain {
		r.explained = &Explanation{Evidence: []Considered{}}
	}
	return r
}

// now is when the question shall hold.
func (q *question) now(v *Verifier) time.Time {
	if !q.request.At.IsZero() {
		return q.request.At
	}
	return v.clock.Now()
}

// resolve reads a manifest and holds the registry to its contract: the bytes
// are what the digest names (row A1).
func (v *Verifier) resolve(ctx context.Context, q *question, ref registry.Reference) (*registry.Manifest, error) {
	m, err := q.registry.Resolve(ctx, ref)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v.log.InfoContext(ctx, "resolving image", "image", ref.String(), "error", err)
		return nil, err
	}
	if attest.DigestOf(m.Raw) != m.Digest || (!ref.Digest.IsZero() && ref.Digest != m.Digest) {
		return nil, registry.ErrDigestMismatch
	}
	return &m, nil
}

func (r Result) failed(err error) Result {
	f, _ := faultOf(err)
	r.Verdict, r.Reasons, r.Policies = policy.Failed, []policy.Reason{f.reason()}, []PolicyResult{}
	return r
}

// question checks the request and takes the epoch that holds for all of it.
func (v *Verifier) question(ctx context.Context, request Request) (*question, error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	q := &question{request: request, context: request.Context, contextKey: contextKey(request.Context), registry: v.registry, began: v.clock.Now()}
	if lender, ok := v.registry.(Lender); ok && request.Keychain != nil {
		q.registry = lender.Lend(request.Keychain)
	}
	var err error
	if q.epoch, err = v.epochs.now(ctx); err != nil {
		if !errors.Is(err, ErrPolicies) {
			err = fmt.Errorf("%w: %w", ErrPolicies, err)
		}
		return nil, err
	}
	q.policies = q.epoch.policies
	if request.Draft != nil {
		q.policies = withDraft(q.policies, request.Draft)
	}
	if request.Policy != "" {
		i := slices.IndexFunc(q.policies, func(l Loaded) bool { return l.Policy.Name == request.Policy })
		if i < 0 {
			return nil, ErrPolicyNotFound
		}
		q.policies = q.policies[i : i+1]
	}
	return q, nil
}

func (r Request) check() error {
	switch n := len(r.Images); {
	case n == 0:
		return &RequestError{Field: "images", Problem: "must name at least one image"}
	case n > limits.Images:
		return &RequestError{Field: "images", Problem: fmt.Sprintf("must name at most %d images", limits.Images)}
	case r.Platform != "" && !platformForm.MatchString(r.Platform):
		return &RequestError{Field: "platform", Problem: "must be OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT"}
	case r.Timeout < 0 || r.Timeout > limits.VerifyTimeoutMax:
		return &RequestError{Field: "timeout", Problem: fmt.Sprintf("must be between 0 and %s", limits.VerifyTimeoutMax)}
	}
	return nil
}

// journal gives each result its decision id and writes the decisions, all or
// none, before anybody sees a verdict.
func (v *Verifier) journal(ctx context.Context, q *question, results []Result) error {
	if q.request.dry() {
		return nil
	}
	decisions := make([]archive.Decision, len(results))
	now := v.clock.Now()
	for i := range results {
		r := &results[i]
		r.DecisionID = v.newID()
		kept := *r
		kept.Explanation = nil // what was decided is kept, not how often it was looked at
		raw, err := json.Marshal(kept)
		if err != nil {
			return fmt.Errorf("%w: encoding decision: %w", ErrJournal, err)
		}
		decisions[i] = archive.Decision{
			ID: r.DecisionID, Image: r.Image, Pinned: r.Pinned, Digest: r.Digest, Repository: repositoryOf(r.Image),
			Verdict: string(r.Verdict), Policy: q.request.Policy, Caller: q.request.Caller.String(),
			Context: q.context, Result: raw, CreatedAt: now,
		}
		if q.blob {
			decisions[i].Repository = ""
		}
	}
	if err := v.archive.Decide(ctx, decisions...); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	return nil
}

func repositoryOf(image string) string {
	ref, err := registry.ParseReference(image)
	if err != nil {
		return ""
	}
	return ref.Name()
}
