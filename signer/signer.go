package signer

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"sync"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// Registry reads manifests and writes signatures. It is *registry.Client.
type Registry interface {
	Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error)
	Child(ctx context.Context, parent registry.Reference, child registry.Child) (registry.Manifest, error)
	Attacher
}

// Attacher writes signatures. Repeating a call with the same arguments must
// leave one signature and answer the same digest.
type Attacher interface {
	AttachBundle(ctx context.Context, subject registry.Manifest, bundle registry.BundleAttachment) (attest.Digest, error)
	AttachLegacy(ctx context.Context, subject registry.Reference, payload []byte, annotations map[string]string) (attest.Digest, error)
	AttachNotation(ctx context.Context, subject registry.Manifest, envelope registry.NotationAttachment) (attest.Digest, error)
	AttachLegacyAttestation(ctx context.Context, subject registry.Reference, envelope []byte, annotations map[string]string) (attest.Digest, error)
}

// Rules says which registries and repositories are listed. It must answer
// registry.ErrNotListed for any other host.
type Rules interface {
	Rule(ctx context.Context, host string) (registry.Rule, error)
}

// Keys signs with managed keys. Sign must refuse every key that is not active
// and not meant for signing, and after a revocation was acknowledged must never
// sign with that version again. It is *keys.Ring.
type Keys interface {
	Get(ctx context.Context, name string) (keys.Key, error)
	Sign(ctx context.Context, name string, message []byte) (keys.Signature, error)
	SignLegacy(ctx context.Context, name string, message []byte) (keys.Signature, error)
	// SignSummary signs with the service's own key of verification summaries,
	// and refuses every other.
	SignSummary(ctx context.Context, name string, message []byte) (keys.Signature, error)
}

// Certificates is the certificate authority. Issue must bind the key to exactly
// this identity, log what it issues, and refuse an identity it cannot name. It
// is *authority.Issuer.
type Certificates interface {
	Issue(ctx context.Context, r authority.CertificateRequest) (authority.Certificate, error)
}

// Log is the transparency log. Append returns only when a published checkpoint
// covers the entry and its inclusion proof was verified, and answers a body
// that is in the log already with its first position. Promise is the signed
// entry timestamp of such an entry, by the key of the log that the entry names,
// and the time that it promises. It is *sequencer.Log.
type Log interface {
	Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error)
	Promise(ctx context.Context, entry *rekorpb.TransparencyLogEntry) (at time.Time, set []byte, err error)
	// ReadOnly reports whether an operator has the log take nothing new.
	ReadOnly() bool
}

// Timestamper answers a DER TimeStampResp over message.
type Timestamper interface {
	Stamp(ctx context.Context, message []byte) ([]byte, error)
}

// Archive keeps what was released; keeping the same item twice keeps it once.
type Archive interface {
	Keep(ctx context.Context, item archive.Item) error
}

// Journal is the audit journal. An error means that the record is not in it.
type Journal interface {
	Append(ctx context.Context, record audit.Record) (audit.Record, error)
}

// Fresh is a signature that was just made, as it is about to be released.
type Fresh struct {
	// Digest is the manifest it must speak of.
	Digest attest.Digest
	// Format is FormatBundle, FormatLegacy or FormatNotation.
	Format string
	// PredicateType is that of an attestation, which it must have, and empty
	// for a plain signature.
	PredicateType string
	// Bundle is the v0.3 JSON of format bundle.
	Bundle []byte
	// Payload and Annotations are the layer of format legacy: a simple signing
	// document, or the envelope of an attestation. Payload and LogEntry are the
	// envelope of format notation and the log's record of it.
	Payload     []byte
	Annotations map[string]string
	LogEntry    []byte
	// Public is the public half of the key it must be made with.
	Public crypto.PublicKey
	// Certificate is the DER of the certificate that carries Public; nil when a
	// managed key signed.
	Certificate []byte
}

// Checker is the verifier's judgement of a fresh signature: an error refuses
// its release. Errors of the context are passing, every other is final.
type Checker interface {
	CheckFresh(ctx context.Context, fresh Fresh) error
}

// CheckFunc makes a Checker of a function.
type CheckFunc func(ctx context.Context, fresh Fresh) error

// CheckFresh calls the function.
func (f CheckFunc) CheckFresh(ctx context.Context, fresh Fresh) error { return f(ctx, fresh) }

// Config is what a Signer is made of. All fields are required but those that
// name a default.
type Config struct {
	Registry Registry
	Rules    Rules
	Keys     Keys
	// Certificates lets callers sign with their own identity; optional.
	Certificates Certificates
	// Notary lets managed keys sign in the format notation; optional.
	Notary      Notary
	Log         Log
	Timestamper Timestamper
	Archive     Archive
	Operations  store.Operations
	Journal     Journal
	// SummaryKey names the key that signs verification summaries; optional,
	// without it there are none.
	SummaryKey string
	// ProvenanceRules are the operator's for an issuer's provenance; without it
	// there are none.
	ProvenanceRules func(ctx context.Context, issuer string) (provenance.Rules, error)
	// Grants are the grants in force now.
	Grants  func(ctx context.Context) ([]policy.Grant, error)
	Checker Checker
	Clock   clock.Clock
	// NewID makes a UUIDv7.
	NewID  func() string
	Logger *slog.Logger
	// Parallel bounds operations that run at the same time; default and
	// ceiling limits.SignParallel.
	Parallel int
	// RetryMin and RetryMax bound the pause before a pending operation is
	// tried again; defaults 1 s and 5 min. It doubles from one to the other.
	RetryMin, RetryMax time.Duration
}

// Signer runs signing operations. It is safe for concurrent use. Close it to
// wait for what runs.
type Signer struct {
	cfg      Config
	slots    chan struct{}
	subjects keyedLock
	retries  *retries
	wg       sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	closed  bool
	byID    map[string]*flight
	byRetry map[retryKey]*flight
	// predicates is the bytes of predicate of all flights together.
	predicates int
}

// retryKey is what a repeated request has in common with the first.
type retryKey struct{ scope, key string }

// New checks the configuration and returns a Signer at rest; call Resume once
// and Run in the background.
func New(cfg Config) (*Signer, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Signer{
		cfg:      cfg,
		slots:    make(chan struct{}, cfg.Parallel),
		subjects: keyedLock{held: map[string]*keyHolder{}},
		retries:  newRetries(cfg.RetryMin, cfg.RetryMax),
		byID:     map[string]*flight{},
		byRetry:  map[retryKey]*flight{},
	}, nil
}

func (c *Config) complete() error {
	for _, missing := range []bool{
		c.Registry == nil, c.Rules == nil, c.Keys == nil, c.Log == nil, c.Timestamper == nil,
		c.Archive == nil, c.Operations == nil, c.Journal == nil,
		c.Grants == nil, c.Checker == nil, c.Clock == nil, c.NewID == nil, c.Logger == nil,
	} {
		if missing {
			return errors.New("signer: a required part of the configuration is missing")
		}
	}
	if c.Parallel <= 0 || c.Parallel > limits.SignParallel {
		c.Parallel = limits.SignParallel
	}
	if c.RetryMin <= 0 {
		c.RetryMin = time.Second
	}
	if c.RetryMax < c.RetryMin {
		c.RetryMax = max(5*time.Minute, c.RetryMin)
	}
	return nil
}

// Close takes no more operations and waits for those that run. When ctx ends
// first it interrupts them: what has signatures stays pending and is resumed
// at the next start.
func (s *Signer) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for _, f := range s.byID {
		f.interrupt()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
