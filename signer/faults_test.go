package signer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

// mode is what happens at a fault point.
type mode int

const (
	// errorBefore: the call has no effect and says so.
	errorBefore mode = iota
	// errorAfter: the call has its effect and says it failed.
	errorAfter
	// killBefore, killAfter: the process dies before or after the effect;
	// nothing it calls afterwards has an effect.
	killBefore
	killAfter
)

func (m mode) String() string {
	return [...]string{"error", "error but persisted", "kill before", "kill after"}[m]
}

var errInjected = errors.New("injected fault")

// injector stands between one signer and its parts and fails at one point.
type injector struct {
	point string
	mode  mode

	mu   sync.Mutex
	hits map[string]int
	dead bool
	// bodies are the distinct log bodies that were appended.
	bodies map[string]bool
}

func newInjector(point string, m mode) *injector {
	return &injector{point: point, mode: m, hits: map[string]int{}, bodies: map[string]bool{}}
}

// call runs one call of a part. Each point fails the first time it is reached.
func call[T any](ctx context.Context, in *injector, point string, do func() (T, error)) (T, error) {
	var zero T
	at, dead := in.reach(point)
	switch {
	case dead:
		return zero, errInjected
	case ctx.Err() != nil:
		return zero, ctx.Err()
	case !at:
		return do()
	case in.mode == errorBefore:
		return zero, errInjected
	case in.mode == killBefore:
		in.die()
		return zero, errInjected
	}
	if _, err := do(); err != nil {
		return zero, err
	}
	if in.mode == killAfter {
		in.die()
	}
	return zero, errInjected
}

func (in *injector) reach(point string) (at, dead bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.hits[point]++
	return point == in.point && in.hits[point] == 1, in.dead
}

func (in *injector) die() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dead = true
}

func (in *injector) count(point string) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.hits[point]++
	return in.hits[point]
}

func (in *injector) fired() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.hits[in.point] > 0
}

// into puts the injector between a signer and every part of its configuration.
func (in *injector) into(c signer.Config) signer.Config {
	inner := c
	c.Registry = faultyRegistry{inner.Registry, in}
	c.Rules = faultyRules{inner.Rules, in}
	c.Keys = faultyKeys{inner.Keys, in}
	c.Log = faultyLog{inner.Log, in}
	c.Timestamper = faultyStamper{inner.Timestamper, in}
	c.Archive = faultyArchive{inner.Archive, in}
	c.Operations = faultyOperations{inner.Operations, in}
	c.Journal = faultyJournal{inner.Journal, in}
	c.Grants = func(ctx context.Context) ([]policy.Grant, error) {
		return call(ctx, in, "grants", func() ([]policy.Grant, error) { return inner.Grants(ctx) })
	}
	c.Checker = signer.CheckFunc(func(ctx context.Context, f signer.Fresh) error {
		return in.error(ctx, "check", func() error { return inner.Checker.CheckFresh(ctx, f) })
	})
	return c
}

func (in *injector) error(ctx context.Context, point string, do func() error) error {
	_, err := call(ctx, in, point, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

type faultyRegistry struct {
	signer.Registry
	in *injector
}

func (r faultyRegistry) Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	return call(ctx, r.in, "resolve", func() (registry.Manifest, error) { return r.Registry.Resolve(ctx, ref) })
}

func (r faultyRegistry) Child(ctx context.Context, ref registry.Reference, c registry.Child) (registry.Manifest, error) {
	return call(ctx, r.in, "child", func() (registry.Manifest, error) { return r.Registry.Child(ctx, ref, c) })
}

func (r faultyRegistry) AttachBundle(ctx context.Context, m registry.Manifest, b registry.BundleAttachment) (attest.Digest, error) {
	return call(ctx, r.in, "attach bundle", func() (attest.Digest, error) { return r.Registry.AttachBundle(ctx, m, b) })
}

func (r faultyRegistry) AttachLegacy(ctx context.Context, ref registry.Reference, payload []byte, annotations map[string]string) (attest.Digest, error) {
	return call(ctx, r.in, "attach legacy", func() (attest.Digest, error) {
		return r.Registry.AttachLegacy(ctx, ref, payload, annotations)
	})
}

func (r faultyRegistry) AttachLegacyAttestation(ctx context.Context, ref registry.Reference, envelope []byte, annotations map[string]string) (attest.Digest, error) {
	return call(ctx, r.in, "attach attestation", func() (attest.Digest, error) {
		return r.Registry.AttachLegacyAttestation(ctx, ref, envelope, annotations)
	})
}

type faultyRules struct {
	signer.Rules
	in *injector
}

func (r faultyRules) Rule(ctx context.Context, host string) (registry.Rule, error) {
	return call(ctx, r.in, "rules", func() (registry.Rule, error) { return r.Rules.Rule(ctx, host) })
}

type faultyKeys struct {
	signer.Keys
	in *injector
}

func (k faultyKeys) Get(ctx context.Context, name string) (keys.Key, error) {
	point := fmt.Sprintf("key get %d", k.in.count("get"))
	return call(ctx, k.in, point, func() (keys.Key, error) { return k.Keys.Get(ctx, name) })
}

func (k faultyKeys) Sign(ctx context.Context, name string, message []byte) (keys.Signature, error) {
	return call(ctx, k.in, "key sign", func() (keys.Signature, error) { return k.Keys.Sign(ctx, name, message) })
}

func (k faultyKeys) SignLegacy(ctx context.Context, name string, message []byte) (keys.Signature, error) {
	return call(ctx, k.in, "key sign legacy", func() (keys.Signature, error) { return k.Keys.SignLegacy(ctx, name, message) })
}

func (k faultyKeys) SignSummary(ctx context.Context, name string, message []byte) (keys.Signature, error) {
	return call(ctx, k.in, "key sign summary", func() (keys.Signature, error) { return k.Keys.SignSummary(ctx, name, message) })
}

type faultyLog struct {
	signer.Log
	in *injector
}

func (l faultyLog) Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	return call(ctx, l.in, "log", func() (*rekorpb.TransparencyLogEntry, error) {
		l.in.mu.Lock()
		l.in.bodies[string(body)] = true
		l.in.mu.Unlock()
		return l.Log.Append(ctx, body)
	})
}

func (l faultyLog) Promise(ctx context.Context, entry *rekorpb.TransparencyLogEntry) (at time.Time, set []byte, err error) {
	err = l.in.error(ctx, "promise", func() error {
		at, set, err = l.Log.Promise(ctx, entry)
		return err
	})
	return at, set, err
}

type faultyStamper struct {
	signer.Timestamper
	in *injector
}

func (s faultyStamper) Stamp(ctx context.Context, message []byte) ([]byte, error) {
	return call(ctx, s.in, "stamp", func() ([]byte, error) { return s.Timestamper.Stamp(ctx, message) })
}

type faultyArchive struct {
	signer.Archive
	in *injector
}

func (a faultyArchive) Keep(ctx context.Context, item archive.Item) error {
	return a.in.error(ctx, "archive", func() error { return a.Archive.Keep(ctx, item) })
}

type faultyJournal struct {
	signer.Journal
	in *injector
}

func (j faultyJournal) Append(ctx context.Context, r audit.Record) (audit.Record, error) {
	return call(ctx, j.in, "journal "+r.Outcome, func() (audit.Record, error) { return j.Journal.Append(ctx, r) })
}

type faultyOperations struct {
	store.Operations
	in *injector
}

type begun struct {
	op      store.Operation
	existed bool
}

func (o faultyOperations) Begin(ctx context.Context, op store.Operation) (store.Operation, bool, error) {
	b, err := call(ctx, o.in, "begin", func() (begun, error) {
		stored, existed, err := o.Operations.Begin(ctx, op)
		return begun{stored, existed}, err
	})
	return b.op, b.existed, err
}

// Update is told apart by what it is for: keeping the assembled bundles, the
// end, or a note about a failed attempt.
func (o faultyOperations) Update(ctx context.Context, op store.Operation) error {
	point := "update " + op.State
	return o.in.error(ctx, point, func() error { return o.Operations.Update(ctx, op) })
}

func (o faultyOperations) Find(ctx context.Context, scope, key string) (store.Operation, error) {
	return call(ctx, o.in, "find", func() (store.Operation, error) { return o.Operations.Find(ctx, scope, key) })
}

func (o faultyOperations) Get(ctx context.Context, id string) (store.Operation, error) {
	return call(ctx, o.in, "get", func() (store.Operation, error) { return o.Operations.Get(ctx, id) })
}
