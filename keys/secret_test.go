package keys

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
)

// TestSecretsOpenInTheirPlace: a sealed secret opens under its master key,
// purpose and name and no other.
func TestSecretsOpenInTheirPlace(t *testing.T) {
	master, err := OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := master.Seal("purpose", "name", []byte("secret"))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatalf("sealed: %q %v", sealed, err)
	}
	if plain, err := master.Open("purpose", "name", sealed); err != nil || string(plain) != "secret" {
		t.Fatalf("opened: %q %v", plain, err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another name":    func() ([]byte, error) { return master.Open("purpose", "nam", sealed) },
		"another purpose": func() ([]byte, error) { return master.Open("purposen", "ame", sealed) },
		"another master":  func() ([]byte, error) { return other.Open("purpose", "name", sealed) },
		"a flipped bit":   func() ([]byte, error) { return master.Open("purpose", "name", flipped) },
		"nothing":         func() ([]byte, error) { return master.Open("purpose", "name", nil) },
	} {
		if plain, err := open(); !errors.Is(err, ErrSealed) || plain != nil {
			t.Errorf("%s: %q %v", name, plain, err)
		}
	}
}
