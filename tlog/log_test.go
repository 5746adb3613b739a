package tlog_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
)

// The id of a log is what its key gives it, or what it is called.
func TestLogIDs(t *testing.T) {
	for name, key := range keysOfEveryType(t) {
		log, err := tlog.NewLog(origin, key.Public(), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, want, err := rekornote.KeyHash(origin, key.Public()); err != nil || !slices.Equal(log.ID(), want) {
			t.Errorf("%s: id %x, want %x, %v", name, log.ID(), want, err)
		}
		called := sha256.Sum256([]byte(name))
		if log, err = tlog.NewLog(origin, key.Public(), called[:]); err != nil || !slices.Equal(log.ID(), called[:]) {
			t.Errorf("%s: id %x, %v", name, log.ID(), err)
		}
	}
	ed := keysOfEveryType(t)["ed25519"].Public().(ed25519.PublicKey)
	want := sha256.Sum256(append([]byte(origin+"\n\x01"), ed...)) // C2SP signed-note
	if log, err := tlog.NewLog(origin, ed, nil); err != nil || !slices.Equal(log.ID(), want[:]) {
		t.Errorf("%v, %v", log, err)
	}
}

// What is written here is signed with P-256 alone, and no other log's promise
// is believed. E7
func TestLogKeysRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]crypto.PublicKey{
		"RSA of 1024 bits": weak.Public(), "P-224": small.Public(), "cut Ed25519": ed25519.PublicKey{1, 2}, "none": nil,
	} {
		if _, err := tlog.NewLog(origin, public, nil); !errors.Is(err, tlog.ErrLogKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tlog.NewLog(origin, newECDSA(t, elliptic.P256()).Public(), []byte{}); !errors.Is(err, tlog.ErrLogKey) {
		t.Errorf("empty id: %v", err)
	}
	for name, key := range keysOfEveryType(t) {
		_, err := tlog.NewCheckpointSigner(origin, key)
		if want := name != "ecdsa-p256"; errors.Is(err, tlog.ErrLogKey) != want {
			t.Errorf("signing with %s: %v", name, err)
		}
		now := time.Unix(1767225600, 0)
		authority := testauthority.NewWithLogKey(t, key)
		log, err := tlog.NewLog(testauthority.Origin, key.Public(), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = log.VerifySET([]byte("body"), now, 3, authority.LogID(), authority.SET([]byte("body"), now, 3))
		if name == "ecdsa-p256" && err != nil || name != "ecdsa-p256" && !errors.Is(err, tlog.ErrLogKey) {
			t.Errorf("promise of %s: %v", name, err)
		}
	}
}
