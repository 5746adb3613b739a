package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/limits"
)

// Backend opens keys whose private halves are somewhere else: in a key
// management service or a security module. A ring bounds every call in time
// and number and hands it no secret: credentials are the process's own.
// Implementations are safe for concurrent use and return errors that wrap
// ErrRef, ErrRefused or ErrUnavailable; one that wraps none is an outage.
type Backend interface {
	// Open finds the key of a reference and reads its public half now, not out
	// of a cache: it is how a rotation notices a new key.
	Open(ctx context.Context, ref string) (Remote, error)
}

// Remote is one opened key. It recovers by itself from lost connections and
// renewed credentials.
type Remote interface {
	// Public is the public half that Open read.
	Public() crypto.PublicKey
	// SignDigest signs what hash made: ASN.1 DER for ECDSA, PKCS #1 v1.5 for
	// RSA. ErrForm: the key cannot sign digests of that hash.
	SignDigest(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error)
}

// bounded is a back end as a ring calls it.
type bounded struct {
	backend Backend
	timeout time.Duration
	turns   chan struct{}
}

func newBounded(b Backend, timeout time.Duration) *bounded {
	if timeout == 0 {
		timeout = limits.BackendCall
	}
	return &bounded{backend: b, timeout: timeout, turns: make(chan struct{}, limits.BackendCalls)}
}

type reply[T any] struct {
	value T
	err   error
}

// call makes one bounded call. The clients below do not all end when their
// context does; a call that was given up keeps its turn until it ends, so that
// a back end that hangs costs a fixed number of goroutines and refuses the rest
// at once or within the timeout.
func call[T any](ctx context.Context, b *bounded, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var none T
	select {
	case b.turns <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%w: too many calls wait for it: %w", ErrUnavailable, ctx.Err())
	}
	done := make(chan reply[T], 1)
	go func() {
		defer func() { <-b.turns }()
		done <- protect(ctx, f)
	}()
	select {
	case r := <-done:
		return r.value, judged(r.err)
	case <-ctx.Done():
		return none, fmt.Errorf("%w: it did not answer: %w", ErrUnavailable, ctx.Err())
	}
}

// protect keeps a client that trips over an answer it did not expect from
// ending the process.
func protect[T any](ctx context.Context, f func(context.Context) (T, error)) (r reply[T]) {
	defer func() {
		if recover() != nil {
			var none T
			r = reply[T]{none, fmt.Errorf("%w: its client failed on the answer", ErrUnavailable)}
		}
	}()
	value, err := f(ctx)
	return reply[T]{value, err}
}

func judged(err error) error {
	for _, known := range []error{nil, ErrRef, ErrRefused, ErrUnavailable, ErrForm, ErrBackend} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// digestSigner is a private half, wherever it is.
type digestSigner interface {
	signDigest(ctx context.Context, rand io.Reader, digest []byte, hash crypto.Hash) ([]byte, error)
}

// localKey is a private half in memory.
type localKey struct{ private crypto.Signer }

func (k localKey) signDigest(_ context.Context, rand io.Reader, digest []byte, hash crypto.Hash) ([]byte, error) {
	// For Ed25519 the option crypto.SHA512 with a digest selects Ed25519ph
	// (RFC 8032 §5.1).
	return k.private.Sign(rand, digest, hash)
}

// remoteKey is a recorded key whose private half is elsewhere. The back end is
// asked for it at the first signature, so that one that is away holds up
// neither the start nor any other key.
type remoteKey struct {
	backend *bounded
	ref     string
	// public is the recorded half: the only one that counts.
	public crypto.PublicKey

	mu     sync.Mutex
	opened Remote
}

// signDigest returns only what verifies with the recorded public half. A key
// that was exchanged behind its reference is ErrChanged, never believed.
func (k *remoteKey) signDigest(ctx context.Context, _ io.Reader, digest []byte, hash crypto.Hash) ([]byte, error) {
	remote, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := call(ctx, k.backend, func(ctx context.Context) ([]byte, error) {
		return remote.SignDigest(ctx, digest, hash)
	})
	if err != nil {
		return nil, err
	}
	if !verifyDigest(k.public, hash, digest, signature) {
		return nil, fmt.Errorf("%w: its signature does not verify", ErrChanged)
	}
	return signature, nil
}

func (k *remoteKey) open(ctx context.Context) (Remote, error) {
	k.mu.Lock()
	opened := k.opened
	k.mu.Unlock()
	if opened != nil {
		return opened, nil
	}
	// Not under the lock: whoever waits is bounded by the call, not by others.
	remote, err := call(ctx, k.backend, func(ctx context.Context) (Remote, error) { return k.backend.backend.Open(ctx, k.ref) })
	if err != nil {
		return nil, err
	}
	if !samePublic(remote.Public(), k.public) {
		return nil, ErrChanged
	}
	k.mu.Lock()
	k.opened = remote
	k.mu.Unlock()
	return remote, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	idA, errA := KeyID(a)
	idB, errB := KeyID(b)
	return errA == nil && errB == nil && idA == idB
}
