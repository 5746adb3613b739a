package keys_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/keys"
)

// TestSecretsOpenOnlyInTheirPlace: a registry's password moved to another
// registry's row does not open.
func TestSecretsOpenOnlyInTheirPlace(t *testing.T) {
	m, err := keys.OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := keys.OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("hunter2")
	sealed, err := m.Seal("registry", "a.example.com", secret)
	if err != nil || bytes.Contains(sealed, secret) {
		t.Fatalf("%v", err)
	}
	if got, err := m.Open("registry", "a.example.com", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("control: %q, %v", got, err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"another name":    func() ([]byte, error) { return m.Open("registry", "b.example.com", sealed) },
		"another purpose": func() ([]byte, error) { return m.Open("issuer", "a.example.com", sealed) },
		"shifted fields":  func() ([]byte, error) { return m.Open("registrya", ".example.com", sealed) },
		"another master":  func() ([]byte, error) { return other.Open("registry", "a.example.com", sealed) },
		"flipped":         func() ([]byte, error) { return m.Open("registry", "a.example.com", flipped) },
		"cut":             func() ([]byte, error) { return m.Open("registry", "a.example.com", sealed[:5]) },
		"nothing":         func() ([]byte, error) { return m.Open("registry", "a.example.com", nil) },
	} {
		if got, err := open(); !errors.Is(err, keys.ErrSealed) || got != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}
