package keys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/countersign/countersign/keys"
)

// TestSignForms checks every algorithm with the verifiers that stock clients
// use: the default of the key with Ed25519ph for bundles, SHA-256 for legacy
// tags.
func TestSignForms(t *testing.T) {
	ctx, b := t.Context(), open(t)
	message := []byte("DSSEv1 4 type 7 payload")
	for _, algorithm := range keys.Algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			k := b.create(t, string(algorithm), algorithm)
			s, err := b.Sign(ctx, k.Name, message)
			if err != nil {
				t.Fatal(err)
			}
			if s.KeyName != k.Name || s.KeyID != k.CurrentVersion().KeyID || s.Version != 1 || s.Algorithm != algorithm {
				t.Errorf("%+v", s)
			}
			stock, err := signature.LoadDefaultVerifier(s.Public, options.WithED25519ph())
			if err != nil {
				t.Fatal(err)
			}
			if err := stock.VerifySignature(bytes.NewReader(s.Bytes), bytes.NewReader(message)); err != nil {
				t.Errorf("the stock verifier refuses: %v", err)
			}
			checkForm(t, s.Public, keys.FormBundle, message, s.Bytes)

			legacy, err := b.SignLegacy(ctx, k.Name, message)
			if algorithm == keys.Ed25519 {
				if !errors.Is(err, keys.ErrForm) {
					t.Errorf("legacy: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if stock, err = signature.LoadVerifier(s.Public, crypto.SHA256); err != nil {
				t.Fatal(err)
			}
			if err := stock.VerifySignature(bytes.NewReader(legacy.Bytes), bytes.NewReader(message)); err != nil {
				t.Errorf("the stock legacy verifier refuses: %v", err)
			}
			checkForm(t, s.Public, keys.FormLegacy, message, legacy.Bytes)
		})
	}
}

func checkForm(t *testing.T, pub crypto.PublicKey, form keys.Form, message, sig []byte) {
	t.Helper()
	if err := keys.Verify(pub, form, message, sig); err != nil {
		t.Errorf("control: %v", err)
	}
	flipped := bytes.Clone(sig)
	flipped[len(flipped)-1] ^= 1
	for name, bad := range map[string][]byte{"flipped": flipped, "empty": {}, "nil": nil, "zero": make([]byte, len(sig))} { // D7
		if err := keys.Verify(pub, form, message, bad); !errors.Is(err, keys.ErrSignature) {
			t.Errorf("%s signature: %v", name, err)
		}
	}
	if err := keys.Verify(pub, form, append(bytes.Clone(message), 'x'), sig); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("another message: %v", err)
	}
}

// TestKeyConfusion: the algorithm is the key's; nothing a signature or message
// says changes it. E7
func TestKeyConfusion(t *testing.T) {
	ctx, b := t.Context(), open(t)
	message := []byte("m")
	made := map[keys.Algorithm]keys.Signature{}
	for _, a := range keys.Algorithms() {
		b.create(t, string(a), a)
		s, err := b.Sign(ctx, string(a), message)
		if err != nil {
			t.Fatal(err)
		}
		made[a] = s
	}
	for a, s := range made {
		for other, key := range made {
			err := keys.Verify(key.Public, keys.FormBundle, message, s.Bytes)
			if (err == nil) != (a == other) || (err != nil && !errors.Is(err, keys.ErrSignature)) {
				t.Errorf("signature of %s under key of %s: %v", a, other, err)
			}
		}
	}

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message)
	good, err := private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || keys.Verify(private.Public(), keys.FormBundle, message, good) != nil {
		t.Fatalf("control: %v", err)
	}
	h := crypto.SHA1.New()
	h.Write(message)
	weak, err := private.Sign(rand.Reader, h.Sum(nil), crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Verify(private.Public(), keys.FormBundle, message, weak); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("SHA-1: %v", err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Verify(edPublic, keys.FormBundle, message, ed25519.Sign(edPrivate, message)); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("pure Ed25519 as Ed25519ph: %v", err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]crypto.PublicKey{
		"rsa-2048": small.Public(), "p-224": p224.Public(), "nil": nil, "secret": []byte("hmac"),
		"exponent 3": &rsa.PublicKey{N: made[keys.RSA3072].Public.(*rsa.PublicKey).N, E: 3},
	} {
		if err := keys.Verify(pub, keys.FormBundle, message, good); !errors.Is(err, keys.ErrAlgorithm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServiceSigner(t *testing.T) {
	ctx, b := t.Context(), open(t)
	k, err := b.Ensure(ctx, keys.Spec{Name: "tsa", Purposes: []string{"tsa"}})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := b.Signer(ctx, "tsa")
	if err != nil {
		t.Fatal(err)
	}
	if !k.CurrentVersion().Public.(*ecdsa.PublicKey).Equal(signer.Public()) {
		t.Error("another public half")
	}
	digest := sha256.Sum256([]byte("m"))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || keys.Verify(signer.Public(), keys.FormBundle, []byte("m"), sig) != nil {
		t.Errorf("%v", err)
	}
	if _, err := signer.Sign(rand.Reader, digest[:20], crypto.SHA1); err == nil {
		t.Error("signs SHA-1")
	}
	if _, err := signer.Sign(rand.Reader, digest[:], nil); err == nil {
		t.Error("signs without a named hash")
	}
	if text := fmt.Sprintf("%v %+v %#v %s", signer, signer, signer, signer); text != "service signer service signer service signer service signer" {
		t.Errorf("prints %s", text)
	}
}

// TestSignDoesNotAskTheStore: what a signature costs is the signature.
func TestSignDoesNotAskTheStore(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Fatal(err)
	}
	before := b.objects.reads.Load()
	for range 500 {
		if _, err := b.Sign(ctx, "release", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.objects.reads.Load() - before; n != 0 {
		t.Errorf("%d reads for 500 signatures", n)
	}
	b.clock.advance(keys.Staleness)
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Fatal(err)
	}
	if n := b.objects.reads.Load() - before; n != 1 {
		t.Errorf("%d reads after the bound with nothing changed, want 1", n)
	}
}

// TestRevokedElsewhere: another process's revocation stops this one within
// Staleness, and not by luck before it.
func TestRevokedElsewhere(t *testing.T) {
	ctx, b := t.Context(), open(t)
	other := b.another(t)
	b.create(t, "release", "")
	for name, stop := range map[string]func(string) error{
		"revoked":   func(n string) error { _, err := other.Revoke(ctx, n, "lost", nil); return err },
		"suspended": func(n string) error { _, err := other.Suspend(ctx, n); return err },
		"retired":   func(n string) error { _, err := other.Retire(ctx, n); return err },
	} {
		b.create(t, name, "")
		if _, err := b.Sign(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
		if err := stop(name); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Sign(ctx, name, nil); !errors.Is(err, keys.ErrNotActive) {
			t.Errorf("%s: the process that did it still signs: %v", name, err)
		}
		b.clock.advance(keys.Staleness)
		if _, err := b.Sign(ctx, name, nil); !errors.Is(err, keys.ErrNotActive) {
			t.Errorf("%s elsewhere: %v", name, err)
		}
		if _, err := b.Sign(ctx, "release", nil); err != nil {
			t.Errorf("control: %v", err)
		}
	}
}

func TestRotatedElsewhere(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.another(t).Rotate(ctx, "release"); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(keys.Staleness)
	if s, err := b.Sign(ctx, "release", nil); err != nil || s.Version != 2 {
		t.Errorf("version %d, %v", s.Version, err)
	}
}

// TestStoreDown: an answer that cannot be renewed is not stretched.
func TestStoreDown(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Fatal(err)
	}
	down := errors.New("no connection")
	b.objects.down.Store(&down)
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	b.clock.advance(keys.Staleness)
	if _, err := b.Sign(ctx, "release", nil); !errors.Is(err, down) {
		t.Errorf("beyond the bound: %v", err)
	}
	b.objects.down.Store(nil)
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Errorf("after: %v", err)
	}
	b.objects.down.Store(&down)
	b.clock.advance(-time.Hour)
	if _, err := b.Sign(ctx, "release", nil); !errors.Is(err, down) {
		t.Errorf("a clock set back makes an old answer young: %v", err)
	}
}

// TestRevokeWithoutAnswer: the write happened although its answer was lost. The
// caller is told of the error, and no signature follows.
func TestRevokeWithoutAnswer(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	if _, err := b.Sign(ctx, "release", nil); err != nil {
		t.Fatal(err)
	}
	fault := context.DeadlineExceeded
	b.objects.putError.Store(&fault)
	if _, err := b.Revoke(ctx, "release", "lost", nil); !errors.Is(err, fault) {
		t.Fatalf("%v", err)
	}
	if _, err := b.Sign(ctx, "release", nil); !errors.Is(err, keys.ErrNotActive) {
		t.Errorf("signs: %v", err)
	}
}

// TestNoSignatureAfterRevoke signs from many goroutines while the key is
// rotated and then revoked: not one signature begins after the revocation was
// acknowledged, and not one is of a version that was not current.
func TestNoSignatureAfterRevoke(t *testing.T) {
	ctx, b := t.Context(), open(t)
	for round := range 8 {
		name := fmt.Sprintf("key-%d", round)
		b.create(t, name, keys.ECDSAP256)
		var revoked atomic.Bool
		var signed, late, stale atomic.Int64
		var minVersion atomic.Int64
		minVersion.Store(1)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					after, floor := revoked.Load(), minVersion.Load()
					s, err := b.Sign(ctx, name, []byte("m"))
					switch {
					case err == nil && after:
						late.Add(1)
						return
					case err == nil && int64(s.Version) < floor:
						stale.Add(1)
					case err == nil:
						signed.Add(1)
					case after && errors.Is(err, keys.ErrNotActive):
						return
					case !errors.Is(err, keys.ErrNotActive):
						t.Errorf("signing: %v", err)
						return
					}
				}
			})
		}
		for range 5 {
			k, err := b.Rotate(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			minVersion.Store(int64(k.Current))
		}
		for signed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if _, err := b.Revoke(ctx, name, "lost", nil); err != nil {
			t.Fatal(err)
		}
		revoked.Store(true)
		wg.Wait()
		if late.Load() != 0 || stale.Load() != 0 {
			t.Errorf("%d signatures after the revocation, %d by an old version; %d good", late.Load(), stale.Load(), signed.Load())
		}
	}
}

func TestSignHonoursContext(t *testing.T) {
	b := open(t)
	b.create(t, "release", "")
	if _, err := b.Sign(t.Context(), "release", nil); err != nil {
		t.Fatalf("control: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Sign(ctx, "release", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestNothingPrints: no way of printing what this package returns shows the
// master secret. K1
func TestNothingPrints(t *testing.T) {
	ctx, b := t.Context(), open(t)
	k := b.create(t, "release", "")
	s, err := b.Sign(ctx, "release", nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(b.masterPath)
	if err != nil {
		t.Fatal(err)
	}
	encoded := strings.TrimSpace(strings.TrimPrefix(string(content), "COUNTERSIGN-MASTER-KEY-1 "))
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(secret) != 32 {
		t.Fatalf("control: %d bytes, %v", len(secret), err)
	}
	text := fmt.Sprintf("%+v %#v %+v %+v %+v %#v %s %+v %#v", k, k, s, b.Ring, b.master, b.master, b.master, *b.master, *b.master)
	for _, form := range []string{encoded, "mac:", hex.EncodeToString(secret), strings.Trim(fmt.Sprintf("%d", secret), "[]")} {
		if strings.Contains(text, form) {
			t.Error("prints the master secret")
		}
	}
	if _, err := keys.OpenMaster(b.masterPath + "/x"); err == nil || strings.Contains(err.Error(), encoded) {
		t.Errorf("%v", err)
	}
}

func BenchmarkSign(b *testing.B) {
	for _, algorithm := range keys.Algorithms() {
		b.Run(string(algorithm), func(b *testing.B) {
			ring := open(b)
			ring.create(b, "k", algorithm)
			message := make([]byte, 400)
			if _, err := ring.Sign(b.Context(), "k", message); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := ring.Sign(b.Context(), "k", message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What the ring adds is the difference to this.
	b.Run("bare ecdsa-p256", func(b *testing.B) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		message := make([]byte, 400)
		for b.Loop() {
			digest := sha256.Sum256(message)
			if _, err := private.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSignParallel(b *testing.B) {
	ring := open(b)
	ring.create(b, "k", keys.ECDSAP256)
	message := make([]byte, 400)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := ring.Sign(b.Context(), "k", message); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
