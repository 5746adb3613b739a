package authority

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/digitorus/timestamp"
)

// FuzzQuery: what is accepted is canonical, and another parser reads the same
// question out of it.
func FuzzQuery(f *testing.F) {
	for _, o := range []timestamp.RequestOptions{
		{},
		{Hash: crypto.SHA512, Certificates: true},
		{Hash: crypto.SHA384, Nonce: big.NewInt(-5)},
		{Nonce: new(big.Int).Lsh(big.NewInt(1), 160), TSAPolicyOID: PolicyOID()},
		{Hash: crypto.SHA1},
		{TSAPolicyOID: asn1.ObjectIdentifier{1, 2, 3}},
	} {
		der, err := timestamp.CreateRequest(strings.NewReader("seed"), &o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		q, hash, err := parseQuery(der)
		if err != nil {
			if !errors.Is(err, ErrQuery) || hash != 0 || q.Nonce != nil || q.Imprint.Hashed != nil {
				t.Errorf("a failed parse returns %v, %v", q, err)
			}
			return
		}
		again, err := asn1.Marshal(q)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("two spellings of one query: %x, %x", der, again)
		}
		other, err := timestamp.ParseRequest(der)
		if err != nil {
			t.Fatalf("another parser refuses: %v", err)
		}
		if other.HashAlgorithm != hash || !bytes.Equal(other.HashedMessage, q.Imprint.Hashed) || other.Certificates != q.CertReq {
			t.Errorf("another parser reads %+v", other)
		}
	})
}
