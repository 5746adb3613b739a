package daemon_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

// TestAuthoritiesElsewhere: every key of the service lies in another back end
// that is away at a later start, which it does not hold up.
func TestAuthoritiesElsewhere(t *testing.T) {
	memory := keystest.NewMemory()
	dir := filepath.Join(t.TempDir(), "data")
	c := config(dir)
	c.Backends = map[string]keys.Backend{keys.BackendHashivault: memory}
	refs := daemon.AuthorityKeys{
		CARoot: "hashivault://ca-root", CA: "hashivault://ca", CT: "hashivault://ct",
		TSARoot: "hashivault://tsa-root", TSA: "hashivault://tsa", Log: "hashivault://log",
	}
	c.Authorities = refs
	for _, ref := range []string{refs.CARoot, refs.CA, refs.CT, refs.TSARoot, refs.TSA, refs.Log} {
		memory.Put(t, ref, keys.ECDSAP256)
	}
	d := open(t, c)
	client := admin(t, d, dir)
	if _, err := client.RotateAuthority(t.Context(), "ca"); err == nil {
		t.Fatal("rotated to the same key")
	}
	memory.Put(t, refs.CA, keys.ECDSAP256)
	if _, err := client.RotateAuthority(t.Context(), "ca"); err != nil {
		t.Fatalf("rotating to a new key: %v", err)
	}
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	memory.Down(true)
	d, err := daemon.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("a start while the back end is away: %v", err)
	}
	if err := d.Close(context.Background()); err != nil {
		t.Log("closing without the log's key:", err)
	}
}

func TestAuthorityKeysAreChecked(t *testing.T) {
	for name, a := range map[string]daemon.AuthorityKeys{
		"no back end":           {CA: "https://vault.example/ca"},
		"one key for two jobs":  {CA: "hashivault://x", CT: "hashivault://x"},
		"a PIN in the settings": {CA: "pkcs11:token=a;object=b?pin-value=1234"},
	} {
		c := config(filepath.Join(t.TempDir(), "data"))
		c.Authorities = a
		if _, err := daemon.Open(t.Context(), c); err == nil || strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
