package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Signature is what Sign made and which key made it.
type Signature struct {
	KeyName   string
	KeyID     string
	Version   int
	Algorithm Algorithm
	Public    crypto.PublicKey
	// Bytes is ASN.1 DER for ECDSA, raw otherwise.
	Bytes []byte
}

// slot is one key in memory.
type slot struct {
	// mu is held for reading while a signature is made and for writing while
	// the key changes, so that a change is never acknowledged with a signature
	// of the state before it still under way.
	mu sync.RWMutex
	// key and private are the key as of store revision seen; seen 0 is never.
	key     Key
	private digestSigner
	seen    int64
}

// forget makes the next use read the store. mu is held for writing.
func (s *slot) forget() { s.seen = 0 }

// Sign signs message with the current version in FormBundle. Only an active
// key with PurposeSign signs. Errors: ErrNotFound, ErrPurpose, ErrNotActive,
// ErrSealed, or the store's when its state could not be asked; of other back ends
// ErrUnavailable, ErrRefused, ErrForm, and ErrChanged when the key there is not
// the recorded one.
func (r *Ring) Sign(ctx context.Context, name string, message []byte) (Signature, error) {
	return r.sign(ctx, name, PurposeSign, FormBundle, message)
}

// SignLegacy is Sign in FormLegacy. ErrForm: the algorithm has none.
func (r *Ring) SignLegacy(ctx context.Context, name string, message []byte) (Signature, error) {
	return r.sign(ctx, name, PurposeSign, FormLegacy, message)
}

// SignSummary is Sign with a key of PurposeVSA, which Sign refuses, as this
// refuses every other. What message says is the service's own word: it must
// not be a caller's.
func (r *Ring) SignSummary(ctx context.Context, name string, message []byte) (Signature, error) {
	return r.sign(ctx, name, PurposeVSA, FormBundle, message)
}

func (r *Ring) sign(ctx context.Context, name, purpose string, form Form, message []byte) (Signature, error) {
	if err := ctx.Err(); err != nil {
		return Signature{}, err
	}
	s, err := r.fresh(ctx, name)
	if err != nil {
		return Signature{}, err
	}
	defer s.mu.RUnlock()
	if !slices.Contains(s.key.Purposes, purpose) {
		return Signature{}, fmt.Errorf("%w: %q is not for %q", ErrPurpose, name, purpose)
	}
	if s.key.State != Active {
		return Signature{}, fmt.Errorf("%w: %q is %s", ErrNotActive, name, s.key.State)
	}
	signature, err := signForm(ctx, s.private, s.key.Algorithm, form, r.rand, message)
	if err != nil {
		return Signature{}, fmt.Errorf("signing with key %q: %w", name, err)
	}
	v := s.key.CurrentVersion()
	return Signature{
		KeyName: name, KeyID: v.KeyID, Version: v.Version, Algorithm: s.key.Algorithm,
		Public: v.Public, Bytes: signature,
	}, nil
}

// fresh returns the key's slot locked for reading and no older than the last
// change made here, nor than Staleness for changes made elsewhere.
func (r *Ring) fresh(ctx context.Context, name string) (*slot, error) {
	for {
		s, err := r.slot(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := r.ask(ctx); err != nil {
			return nil, err
		}
		// Judged under the lock: waiting for it may have taken longer than the
		// answer is good for.
		s.mu.RLock()
		if a := r.asked.Load(); s.seen != 0 && r.recent(a) && s.seen >= a.revision {
			return s, nil
		}
		s.mu.RUnlock()
		if err := r.reload(ctx, s, name); err != nil {
			return nil, err
		}
	}
}

// slot returns the slot of a key that exists.
func (r *Ring) slot(ctx context.Context, name string) (*slot, error) {
	r.mu.Lock()
	s, ok := r.slots[name]
	r.mu.Unlock()
	if ok {
		return s, nil
	}
	if _, err := r.read(ctx, name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok = r.slots[name]; !ok {
		s = &slot{}
		r.slots[name] = s
	}
	return s, nil
}

// ask makes r.asked recent; the store is asked at most once per Staleness.
func (r *Ring) ask(ctx context.Context) error {
	if r.recent(r.asked.Load()) {
		return nil
	}
	r.asking.Lock()
	defer r.asking.Unlock()
	if r.recent(r.asked.Load()) {
		return nil
	}
	// The time is taken before the question: an answer is as old as its
	// question.
	at := r.clock.Now()
	revision, err := r.Revision(ctx)
	if err != nil {
		return err
	}
	r.asked.Store(&answer{revision: revision, at: at})
	return nil
}

func (r *Ring) recent(a *answer) bool {
	if a == nil {
		return false
	}
	age := r.clock.Now().Sub(a.at)
	return age >= 0 && age < Staleness // a clock set back makes an answer old
}

// reload reads the key anew. The private key is unsealed only when the row
// changed.
func (r *Ring) reload(ctx context.Context, s *slot, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision, err := r.Revision(ctx)
	if err != nil {
		return err
	}
	rec, err := r.read(ctx, name)
	if err != nil {
		s.private, s.seen = nil, 0
		return err
	}
	if s.private == nil || s.key.Revision != rec.Revision {
		if err := r.fill(s, &rec); err != nil {
			return err
		}
	}
	s.seen = max(revision, 1)
	return nil
}

func (r *Ring) fill(s *slot, rec *record) error {
	s.private, s.seen = nil, 0
	k, err := rec.key()
	if err != nil {
		return err
	}
	if k.State == Active {
		if s.private, err = r.private(rec, k.CurrentVersion()); err != nil {
			return err
		}
	}
	s.key = k
	return nil
}

// private is the current version's private half, or the way to it.
func (r *Ring) private(rec *record, v Version) (digestSigner, error) {
	if rec.Backend != BackendFile {
		b, err := r.backend(rec.Backend)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", rec.Name, err)
		}
		return &remoteKey{backend: b, ref: v.Ref, public: v.Public}, nil
	}
	at := rec.current()
	if at.Sealed == nil {
		return nil, fmt.Errorf("%w: key %q has no private half", ErrSealed, rec.Name)
	}
	private, err := r.master.open(at.Sealed, rec.place(at))
	if err != nil {
		return nil, err
	}
	return localKey{private}, nil
}

// Signer returns a signer for a service key's current version. The private key
// stays in this package. Such keys have no life cycle of their own: the
// signer is good for as long as the process lives. One whose key is in another
// back end asks for it at its first signature. ErrPurpose: the key is managed,
// so that it may be revoked at any time.
func (r *Ring) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	rec, err := r.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if managed(rec.Purposes) {
		return nil, fmt.Errorf("%w: %q is managed", ErrPurpose, name)
	}
	k, err := rec.key()
	if err != nil {
		return nil, err
	}
	if k.State != Active {
		return nil, fmt.Errorf("%w: %q is %s", ErrNotActive, name, k.State)
	}
	v := k.CurrentVersion()
	private, err := r.private(&rec, v)
	if err != nil {
		return nil, err
	}
	return &serviceSigner{private: private, public: v.Public}, nil
}

// serviceSigner hides the private key from type assertions and printing.
type serviceSigner struct {
	private digestSigner
	public  crypto.PublicKey
}

// Public is a copy of the public half.
func (s *serviceSigner) Public() crypto.PublicKey {
	if pub, ok := s.public.(ed25519.PublicKey); ok {
		return slices.Clone(pub)
	}
	return s.public
}

// Sign signs a digest with the hash that opts names; SHA-1 and shorter are
// refused.
func (s *serviceSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, errors.New("service keys sign with a named hash")
	}
	if _, pure := s.public.(ed25519.PublicKey); !pure {
		switch opts.HashFunc() {
		case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		default:
			return nil, errors.New("service keys sign SHA-256, SHA-384 or SHA-512 digests")
		}
	}
	if local, ok := s.private.(localKey); ok {
		return local.private.Sign(rand, digest, opts)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, fmt.Errorf("%w: RSA keys elsewhere sign PKCS #1 v1.5", ErrForm)
	}
	// crypto.Signer has no context; the call is bounded all the same.
	return s.private.signDigest(context.Background(), rand, digest, opts.HashFunc())
}

// String hides the private key.
func (s *serviceSigner) String() string { return "service signer" }

// GoString hides the private key.
func (s *serviceSigner) GoString() string { return s.String() }
