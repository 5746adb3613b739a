package pkcs11

import (
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/keys"
)

const query = "?module-path=/usr/lib/hsm.so&pin-source=file:/run/pin"

func TestParse(t *testing.T) {
	at, err := parse("pkcs11:token=prod%20one;object=release;id=%01%00" + query)
	if err != nil {
		t.Fatal(err)
	}
	if at.token != "prod one" || at.object != "release" || string(at.id) != "\x01\x00" || at.module != "/usr/lib/hsm.so" || at.pin != "/run/pin" {
		t.Fatalf("%+v", at)
	}
	for name, ref := range map[string]string{
		"PIN in the reference (row K1)": "pkcs11:token=a;object=b" + query + "&pin-value=1234",
		"no token":                      "pkcs11:object=b" + query,
		"no key":                        "pkcs11:token=a" + query,
		"no library":                    "pkcs11:token=a;object=b?pin-source=file:/run/pin",
		"no PIN file":                   "pkcs11:token=a;object=b?module-path=/x",
		"relative library":              "pkcs11:token=a;object=b?module-path=x.so&pin-source=file:/run/pin",
		"library above":                 "pkcs11:token=a;object=b?module-path=/a/../x.so&pin-source=file:/run/pin",
		"PIN command":                   "pkcs11:token=a;object=b?module-path=/x&pin-source=|/bin/echo",
		"twice":                         "pkcs11:token=a;token=c;object=b" + query,
		"empty value":                   "pkcs11:token=;object=b" + query,
		"unknown attribute":             "pkcs11:token=a;object=b;x-evil=1" + query,
		"NUL in a label":                "pkcs11:token=a%00b;object=b" + query,
		"bad escape":                    "pkcs11:token=a%zz;object=b" + query,
		"scheme":                        "PKCS11:token=a;object=b" + query,
	} {
		if _, err := parse(ref); !errors.Is(err, keys.ErrRef) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: the error holds what the reference held: %v", name, err)
		}
	}
}

// FuzzParse holds every accepted reference to its law: nothing is empty, and
// paths are absolute in their one form.
func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=a;object=b" + query)
	f.Add("pkcs11:token=a;id=%01" + query)
	f.Fuzz(func(t *testing.T, ref string) {
		at, err := parse(ref)
		if err != nil {
			if !errors.Is(err, keys.ErrRef) || at.token != "" && at.check() == nil {
				t.Fatalf("%q: %v with %+v", ref, err, at)
			}
			return
		}
		if at.token == "" || at.object == "" && len(at.id) == 0 || !exact(at.module) || !exact(at.pin) {
			t.Fatalf("%q was read as %+v", ref, at)
		}
	})
}
