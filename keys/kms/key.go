package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/countersign/countersign/keys"
)

// client is what every sigstore client of a key does.
type client interface {
	PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error)
	SignMessage(io.Reader, ...signature.SignOption) ([]byte, error)
}

// service is one of the four.
type service struct {
	// valid checks a reference's form.
	valid func(ref string) error
	// load makes a client, which asks the service nothing yet.
	load func(ctx context.Context, ref string) (client, error)
	// refused reports whether an error is the service's own no, which asking
	// again does not change.
	refused func(error) bool
	// signs reports whether the service signs digests of a hash with a key.
	signs func(pub crypto.PublicKey, hash crypto.Hash) bool
	// reload says that a client reads its credentials once: after a refusal a
	// fresh one is made.
	reload bool
}

// Open implements keys.Backend. A client keeps the public half it has read for
// minutes, so each Open makes its own.
func (s service) Open(ctx context.Context, ref string) (keys.Remote, error) {
	if err := s.valid(ref); err != nil {
		return nil, fmt.Errorf("%w: %w", keys.ErrRef, err)
	}
	c, err := s.load(ctx, ref)
	if err != nil {
		return nil, s.judge("loading the client", err)
	}
	pub, err := c.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, s.judge("reading the public half", err)
	}
	return &key{service: s, ref: ref, public: pub, client: c}, nil
}

// judge tells a refusal from an outage.
func (s service) judge(doing string, err error) error {
	if s.refused(err) {
		return fmt.Errorf("%w: %s: %w", keys.ErrRefused, doing, err)
	}
	return fmt.Errorf("%w: %s: %w", keys.ErrUnavailable, doing, err)
}

// key is one opened key.
type key struct {
	service service
	ref     string
	public  crypto.PublicKey

	mu     sync.Mutex
	client client
}

// Public implements keys.Remote.
func (k *key) Public() crypto.PublicKey { return k.public }

// SignDigest implements keys.Remote.
func (k *key) SignDigest(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if !k.service.signs(k.public, hash) {
		return nil, fmt.Errorf("%w: the key management service does not sign %v digests with it", keys.ErrForm, hash)
	}
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	signed, err := c.SignMessage(nil, options.WithContext(ctx), options.WithDigest(digest), options.WithCryptoSignerOpts(hash))
	if err != nil {
		err = k.service.judge("signing", err)
		k.renew(ctx, err)
		return nil, err
	}
	return signed, nil
}

// renew lets the next signature be asked for with the credentials of now.
func (k *key) renew(ctx context.Context, err error) {
	if !k.service.reload || !errors.Is(err, keys.ErrRefused) {
		return
	}
	if c, err := k.service.load(ctx, k.ref); err == nil {
		k.mu.Lock()
		k.client = c
		k.mu.Unlock()
	}
}

// natural is one hash for each kind of key, as the clouds have it.
func natural(pub crypto.PublicKey, hash crypto.Hash) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() && hash == crypto.SHA256 || k.Curve == elliptic.P384() && hash == crypto.SHA384
	case *rsa.PublicKey:
		return hash == crypto.SHA256
	default:
		return false
	}
}
