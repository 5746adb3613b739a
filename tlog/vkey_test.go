package tlog_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/tlog"
)

// FuzzParseVerifierKey: what is read names its own origin and no other line.
func FuzzParseVerifierKey(f *testing.F) {
	f.Add("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
	f.Add("a+00000000+")
	f.Fuzz(func(t *testing.T, vkey string) {
		v, err := tlog.ParseVerifierKey(vkey)
		if err != nil {
			if v != nil {
				t.Fatal("a verifier beside an error")
			}
			return
		}
		if !strings.HasPrefix(vkey, v.Name()+"+") || strings.ContainsAny(v.Name(), "\n+ ") {
			t.Fatalf("%q is of %q", vkey, v.Name())
		}
	})
}
