//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

// backend is closed with the test: the library keeps the folder it was loaded
// with until it is.
func backend(t *testing.T) *Backend {
	b := New()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestBackendSoftHSM runs the suite against the real SoftHSM. A token answers
// neither late nor wrongly and is part of the process, so these parts of the
// suite have nothing to take hold of.
func TestBackendSoftHSM(t *testing.T) {
	h := keystest.StartSoftHSM(t)
	h.Generate("foreign", "")
	made := 0
	keystest.Run(t, keystest.Peer{
		Name: keys.BackendPKCS11, Backend: backend(t),
		Algorithms: []keys.Algorithm{keys.ECDSAP256, keys.ECDSAP384, keys.RSA3072},
		Make: func(_ *testing.T, a keys.Algorithm) string {
			made++
			object := fmt.Sprintf("key-%d", made)
			h.Generate(object, a)
			return h.Ref(object)
		},
		Missing: h.Ref("nothing"), Foreign: h.Ref("foreign"),
		Replace: func(t *testing.T, ref string, a keys.Algorithm) {
			at, err := parse(ref)
			if err != nil {
				t.Fatal(err)
			}
			h.Remove(at.object)
			h.Generate(at.object, a)
		},
	})
}

// TestPIN is row K1 for PINs.
func TestPIN(t *testing.T) {
	h := keystest.StartSoftHSM(t)
	h.Generate("release", keys.ECDSAP256)
	open := func() error {
		b := New()
		_, err := b.Open(t.Context(), h.Ref("release"))
		if err != nil && strings.Contains(err.Error(), h.PIN) {
			t.Errorf("row K1: the error holds the PIN: %v", err)
		}
		return errors.Join(err, b.Close())
	}
	if err := open(); err != nil {
		t.Fatalf("positive control: %v", err)
	}
	for name, harm := range map[string]func() error{
		"readable by everybody": func() error { return os.Chmod(h.PINFile, 0o644) },
		"empty":                 func() error { return os.Truncate(h.PINFile, 0) },
		"two lines":             func() error { return os.WriteFile(h.PINFile, []byte(h.PIN+"\n"+h.PIN+"\n"), 0o600) },
		"absent":                func() error { return os.Remove(h.PINFile) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if err := open(); !errors.Is(err, keys.ErrRefused) {
			t.Errorf("a PIN file that is %s: %v", name, err)
		}
		if err := errors.Join(os.WriteFile(h.PINFile, []byte(h.PIN), 0o600), os.Chmod(h.PINFile, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrongPINIsSentOnce: tokens lock themselves after a few wrong PINs.
func TestWrongPINIsSentOnce(t *testing.T) {
	h := keystest.StartSoftHSM(t)
	h.Generate("release", keys.ECDSAP256)
	b := backend(t)
	const wrong = "wrong-pin-0000"
	if err := os.WriteFile(h.PINFile, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := b.Open(t.Context(), h.Ref("release"))
		if !errors.Is(err, keys.ErrRefused) || strings.Contains(err.Error(), wrong) {
			t.Fatal(err)
		}
	}
	if len(b.refused) != 1 {
		t.Fatal("the refused PIN was not remembered")
	}
	if err := os.WriteFile(h.PINFile, []byte(h.PIN), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), h.Ref("release")); err != nil {
		t.Fatalf("the right PIN: %v", err)
	}
}
