package verifier

import (
	"bytes"
	"testing"

	"github.com/digitorus/timestamp"

	"github.com/countersign/countersign/policy"
)

// A stamp counts the same with the authority's certificate in it and without,
// and is read without. What is changed in either is a fault, also in that of an
// authority that nobody here knows (rows D3 and D5).
func TestStampsWithCertificates(t *testing.T) {
	c, authority, bundle, _ := newCourt(t)
	prove := func(response []byte) (known bool, f *fault) {
		s := parseStamp(response)
		if f := bindTimestamp(s, bundle.Signature); f != nil {
			return true, f
		}
		at, known, f := c.signer.trusted.proveTimestamp(s, bundle.Signature)
		if known && f == nil && !at.Equal(bundle.At) {
			t.Errorf("proved %s, want %s", at, bundle.At)
		}
		return known, f
	}
	certified := authority.CertifiedStamp(bundle.Signature, bundle.At)
	s := parseStamp(certified)
	if len(s.carried) != 1 || len(s.bare) >= len(certified) || s.err != nil {
		t.Fatalf("%d certificates, %d of %d bytes, %v", len(s.carried), len(s.bare), len(certified), s.err)
	}
	whole, err := timestamp.ParseResponse(certified)
	if err != nil || !bytes.Equal(whole.HashedMessage, s.parsed.HashedMessage) || !whole.Time.Equal(s.parsed.Time) {
		t.Fatalf("%+v, want %+v (%v)", s.parsed, whole, err)
	}
	for name, response := range map[string][]byte{"certified": certified, "bare": s.bare, "plain": bundle.Timestamps[0]} {
		if known, f := prove(response); !known || f != nil {
			t.Errorf("%s: known %v, %v", name, known, f)
		}
		// The signature comes last.
		broken := bytes.Clone(response)
		broken[len(broken)-1] ^= 1
		if known, f := prove(broken); !known || f == nil || f.code != policy.TimestampInvalid {
			t.Errorf("%s with another signature: known %v, %v", name, known, f)
		}
	}
	// The certificate of another key under the same name helps nobody.
	pretended := bytes.Replace(certified, s.carried[0], forgedLeaf(s.carried[0]), 1)
	if known, f := prove(pretended); !known || f == nil || f.code != policy.TimestampInvalid {
		t.Errorf("another certificate of that name: known %v, %v", known, f)
	}
	foreign := authority.ForeignCertifiedStamp(bundle.Signature, bundle.At)
	if known, f := prove(foreign); known || f != nil {
		t.Errorf("foreign: known %v, %v", known, f)
	}
	foreign[len(foreign)-1] ^= 1
	if known, f := prove(foreign); !known || f == nil || f.code != policy.TimestampInvalid {
		t.Errorf("foreign with another signature: known %v, %v", known, f)
	}
}

// forgedLeaf is a certificate with another signature: the same name, not the same
// certificate.
func forgedLeaf(raw []byte) []byte {
	out := bytes.Clone(raw)
	out[len(out)-1] ^= 1
	return out
}
