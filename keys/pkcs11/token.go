//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/ThalesGroup/crypto11"
	cryptoki "github.com/miekg/pkcs11"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
)

// Backend opens tokens and keeps them open. It is safe for concurrent use.
type Backend struct {
	// mu guards tokens and refused, and lets one login happen at a time.
	mu     sync.Mutex
	tokens map[door]*crypto11.Context
	// refused are the digests of the PINs that a token did not take.
	refused map[door][sha256.Size]byte
	// closing are the tokens that are being closed.
	closing sync.WaitGroup
}

// door is one login to one token.
type door struct{ module, token, pin string }

// New returns a back end with no token open.
func New() *Backend {
	return &Backend{tokens: map[door]*crypto11.Context{}, refused: map[door][sha256.Size]byte{}}
}

// Open implements keys.Backend.
func (b *Backend) Open(_ context.Context, ref string) (keys.Remote, error) {
	at, err := parse(ref)
	if err != nil {
		return nil, err
	}
	signer, err := b.find(at)
	if err != nil {
		return nil, err
	}
	return &key{backend: b, at: at, public: signer.Public(), signer: signer}, nil
}

// find returns the one key pair of a location.
func (b *Backend) find(at location) (crypto.Signer, error) {
	token, err := b.enter(at.door())
	if err != nil {
		return nil, err
	}
	var label []byte
	if at.object != "" {
		label = []byte(at.object)
	}
	pairs, err := token.FindKeyPairs(at.id, label)
	if err != nil {
		b.leave(at.door(), token, err)
		return nil, fmt.Errorf("%w: looking for the key pair: %w", keys.ErrUnavailable, err)
	}
	if len(pairs) != 1 {
		return nil, fmt.Errorf("%w: the token has %d key pairs of that object and id", keys.ErrRefused, len(pairs))
	}
	return pairs[0], nil
}

func (l location) door() door { return door{module: l.module, token: l.token, pin: l.pin} }

// enter logs in, or returns the login there is.
func (b *Backend) enter(d door) (*crypto11.Context, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if token, ok := b.tokens[d]; ok {
		return token, nil
	}
	pin, err := readPIN(d.pin)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(pin))
	if known, ok := b.refused[d]; ok && known == digest {
		return nil, fmt.Errorf("%w: the token refused the PIN in the file before; it is not sent again", keys.ErrRefused)
	}
	token, err := crypto11.Configure(&crypto11.Config{
		Path: d.module, TokenLabel: d.token, Pin: pin,
		MaxSessions: limits.BackendCalls, PoolWaitTimeout: limits.BackendCall,
	})
	if err != nil {
		return nil, b.judge(d, digest, err)
	}
	delete(b.refused, d)
	b.tokens[d] = token
	return token, nil
}

// judge remembers a PIN that was refused. mu is held.
func (b *Backend) judge(d door, pin [sha256.Size]byte, err error) error {
	var code cryptoki.Error
	if errors.As(err, &code) {
		switch uint(code) {
		case cryptoki.CKR_PIN_INCORRECT, cryptoki.CKR_PIN_LOCKED, cryptoki.CKR_PIN_INVALID, cryptoki.CKR_PIN_LEN_RANGE, cryptoki.CKR_PIN_EXPIRED:
			b.refused[d] = pin
			return fmt.Errorf("%w: logging in to the token: %w", keys.ErrRefused, err)
		}
	}
	return fmt.Errorf("%w: opening the token: %w", keys.ErrUnavailable, err)
}

// leave closes a token whose sessions are gone, so that the next use logs in
// anew. Keys that were opened through it find it closed and do the same.
func (b *Backend) leave(d door, token *crypto11.Context, err error) {
	if !gone(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens[d] != token {
		return
	}
	delete(b.tokens, d)
	b.closing.Go(func() { _ = token.Close() }) // waits for calls under way; nothing is left to be told
}

// Close logs out of every token. Calls under way are finished.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for d, token := range b.tokens {
		errs = append(errs, token.Close())
		delete(b.tokens, d)
	}
	b.closing.Wait()
	return errors.Join(errs...)
}

// gone reports whether an error says that sessions or handles are no more.
func gone(err error) bool {
	var code cryptoki.Error
	if !errors.As(err, &code) {
		return false
	}
	switch uint(code) {
	case cryptoki.CKR_DEVICE_ERROR, cryptoki.CKR_DEVICE_REMOVED, cryptoki.CKR_TOKEN_NOT_PRESENT,
		cryptoki.CKR_SESSION_HANDLE_INVALID, cryptoki.CKR_SESSION_CLOSED, cryptoki.CKR_USER_NOT_LOGGED_IN,
		cryptoki.CKR_KEY_HANDLE_INVALID, cryptoki.CKR_OBJECT_HANDLE_INVALID, cryptoki.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	default:
		return false
	}
}

// key is one opened key.
type key struct {
	backend *Backend
	at      location
	public  crypto.PublicKey

	// mu guards signer, which is nil after a failure.
	mu     sync.Mutex
	signer crypto.Signer
}

// Public implements keys.Remote.
func (k *key) Public() crypto.PublicKey { return k.public }

// SignDigest implements keys.Remote. The token's library knows no context; the
// caller bounds the call.
func (k *key) SignDigest(_ context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	for range 2 { // once more with fresh handles
		signer, err := k.current()
		if err != nil {
			return nil, err
		}
		signature, err := signer.Sign(nil, digest, hash)
		if err == nil {
			return signature, nil
		}
		k.forget(err)
		if !gone(err) {
			return nil, fmt.Errorf("%w: signing: %w", keys.ErrUnavailable, err)
		}
	}
	return nil, fmt.Errorf("%w: the token loses its sessions", keys.ErrUnavailable)
}

func (k *key) forget(err error) {
	k.mu.Lock()
	k.signer = nil
	k.mu.Unlock()
	d := k.at.door()
	k.backend.mu.Lock()
	token := k.backend.tokens[d]
	k.backend.mu.Unlock()
	k.backend.leave(d, token, err)
}

func (k *key) current() (crypto.Signer, error) {
	k.mu.Lock()
	signer := k.signer
	k.mu.Unlock()
	if signer != nil {
		return signer, nil
	}
	signer, err := k.backend.find(k.at)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.signer = signer
	k.mu.Unlock()
	return signer, nil
}

// readPIN reads a file that only its owner may read. The checks are on the
// opened file, so that it cannot be exchanged between check and use.
func readPIN(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: opening the PIN file: %w", keys.ErrRefused, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%w: examining the PIN file: %w", keys.ErrRefused, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&^fs.FileMode(0o600) != 0 {
		return "", fmt.Errorf("%w: the PIN file must be a regular file of mode 0600 or less", keys.ErrRefused)
	}
	content, err := io.ReadAll(io.LimitReader(f, limits.PIN+1))
	if err != nil {
		return "", fmt.Errorf("%w: reading the PIN file: %w", keys.ErrRefused, err)
	}
	pin := strings.TrimSuffix(string(content), "\n")
	if pin == "" || len(content) > limits.PIN || strings.ContainsAny(pin, "\n\x00") {
		return "", fmt.Errorf("%w: the PIN file must hold one line", keys.ErrRefused)
	}
	return pin, nil
}
