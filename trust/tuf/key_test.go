package tuf_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/trust/tuf"
)

// FuzzParsePublicKey: a key or ErrKey.
func FuzzParsePublicKey(f *testing.F) {
	f.Add(testauthority.PublicPEM(f, testauthority.NewECDSA(f).Public()))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := tuf.ParsePublicKey(text)
		if (key == nil) != (err != nil) || err != nil && !errors.Is(err, tuf.ErrKey) {
			t.Fatalf("%v, %v", key, err)
		}
	})
}
