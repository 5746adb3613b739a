package attest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
)

func TestDigest(t *testing.T) {
	d := appDigest(t)
	if d.String() != "sha256:"+appHex || d.Hex() != appHex || len(d.Bytes()) != 32 || d.IsZero() {
		t.Errorf("%s", d)
	}
	d.Bytes()[0] = 0xff
	if d.Hex() != appHex {
		t.Error("Bytes shares memory")
	}
	var zero attest.Digest
	if !zero.IsZero() || zero.String() != "" || zero == attest.DigestOf(nil) {
		t.Errorf("zero is %q", zero)
	}
	if got := attest.DigestOf([]byte("hello world")).Hex(); got != "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9" {
		t.Errorf("DigestOf = %s", got)
	}
}

func TestParseDigestRefuses(t *testing.T) {
	for _, s := range []string{
		"", "sha256:", appHex, "sha256:" + appHex[1:], "sha256:" + appHex + "0", "sha256:" + strings.ToUpper(appHex),
		"SHA256:" + appHex, "sha512:" + appHex + appHex, "sha256:" + appHex[:63] + "g", " sha256:" + appHex, "sha256:" + appHex + "\n",
	} {
		if d, err := attest.ParseDigest(s); !errors.Is(err, attest.ErrDigest) || !d.IsZero() {
			t.Errorf("%q: %s, %v", s, d, err)
		}
	}
}

func TestDigestText(t *testing.T) {
	type holder struct{ D attest.Digest }
	for _, want := range []holder{{appDigest(t)}, {}} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := holder{attest.DigestOf(nil)}
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	kept := holder{appDigest(t)}
	if err := json.Unmarshal([]byte(`{"D":"sha256:00"}`), &kept); err == nil || kept.D != appDigest(t) {
		t.Errorf("%v, %v", kept, err)
	}
}

// What parses is written back as it was.
func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + appHex)
	f.Add("sha256:" + strings.ToUpper(appHex))
	f.Fuzz(func(t *testing.T, s string) {
		d, err := attest.ParseDigest(s)
		if (err == nil) == d.IsZero() || (err == nil && d.String() != s) {
			t.Fatalf("%q: %q, %v", s, d, err)
		}
	})
}
