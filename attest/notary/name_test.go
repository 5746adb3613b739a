package notary_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/countersign/countersign/attest/notary"
)

func subject(t testing.TB, relative ...pkix.RelativeDistinguishedNameSET) []byte {
	t.Helper()
	der, err := asn1.Marshal(pkix.RDNSequence(relative))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func one(last int, value any) pkix.RelativeDistinguishedNameSET {
	return pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}}
}

func TestNameWithin(t *testing.T) {
	whole := subject(t, one(6, "US"), one(8, "WA"), one(10, "acme, inc"), one(3, "release"))
	for text, want := range map[string]bool{
		`C=US, ST=WA, O=acme\, inc`:              true,
		`C=US,S=WA,O=acme\2c inc,CN=release`:     true,
		`cn=release`:                             true,
		`CN=releas`:                              false,
		`CN=Release`:                             false,
		`CN=release,OU=x`:                        false,
		`C=US, ST=WA, O=acme`:                    false,
		`O=acme\, inc\ `:                         false,
		`C=US, ST=WA, O=acme\, inc , CN=release`: true,
	} {
		n, err := notary.ParseName(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if n.Within(whole) != want {
			t.Errorf("%s: within is %v", text, !want)
		}
		again, err := notary.ParseName(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%s comes back as %s: %v", text, n, err)
		}
	}
}

// TestNameTricks: row H10: `=#` once made a parser take all memory.
func TestNameTricks(t *testing.T) {
	for _, text := range []string{
		``, `CN`, `CN=`, `CN= `, `=x`, `X=y`, `CN=#0c0141`, `CN=#`, `CN=a,CN=b`, `ST=a,S=b`, `CN=a+O=b`, `CN="a"`, `CN=a;O=b`,
		`CN=a\`, `CN=a\zz`, `CN=a\00`, "CN=a\x00", "CN=\xff", `CN=\ff`, `CN=a,`, `,CN=a`, `2.5.4.3=a`, `CN=*,`, `CN=<a>`,
	} {
		if n, err := notary.ParseName(text); !errors.Is(err, notary.ErrName) {
			t.Errorf("%q is read as %s: %v", text, n, err)
		}
	}
	n, err := notary.ParseName(`CN=release`)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"twice":         subject(t, one(3, "release"), one(3, "other")),
		"another twice": subject(t, one(3, "release"), one(10, "a"), one(10, "b")),
		"several":       subject(t, append(one(3, "release"), one(10, "acme")...)),
		"no text":       subject(t, one(3, "release"), one(10, 5)),
		"trailing":      append(subject(t, one(3, "release")), 0),
		"empty":         subject(t),
		"nothing":       nil,
	} {
		if n.Within(raw) {
			t.Errorf("%s: within", name)
		}
	}
	if !n.Within(subject(t, one(3, "release"))) {
		t.Error("the control is not within")
	}
	if (notary.Name{}).Within(subject(t, one(3, "release"))) {
		t.Error("the zero name is within")
	}
}
