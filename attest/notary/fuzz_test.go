package notary_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/notaryproject/notation-core-go/signature"

	"github.com/countersign/countersign/attest/notary"
)

// checkAgainstReference: what we read, the project's own library reads as the
// same; it may read more.
func checkAgainstReference(t *testing.T, mediaType string, b []byte) {
	t.Helper()
	e, err := notary.Parse(mediaType, b)
	if err != nil {
		if e != nil {
			t.Fatal("an envelope beside an error")
		}
		return
	}
	other, err := signature.ParseEnvelope(mediaType, b)
	if err != nil {
		t.Fatalf("the reference reads nothing: %v", err)
	}
	content, err := other.Content()
	if err != nil {
		return // it also judges the chain, which is not ours to do here
	}
	if string(content.Payload.Content) != string(e.Payload) || string(content.SignerInfo.Signature) != string(e.Signature) ||
		!content.SignerInfo.CertificateChain[0].Equal(e.Chain[0]) || !content.SignerInfo.SignedAttributes.Expiry.Equal(e.Expiry) {
		t.Fatal("two readings of one envelope")
	}
	_, err = other.Verify()
	if good := notary.Verify(e.Chain[0].PublicKey, e.Message, e.Signature); good != (err == nil) {
		t.Fatalf("good is %v, the reference says %v", good, err)
	}
}

func FuzzJWS(f *testing.F) {
	f.Add(reference(f, notary.MediaTypeJWS, ec(f, elliptic.P256()), nil))
	f.Add([]byte(`{"payload":"e30","protected":"e30","header":{"x5c":[]},"signature":"AA"}`))
	f.Fuzz(func(t *testing.T, b []byte) { checkAgainstReference(t, notary.MediaTypeJWS, b) })
}

func FuzzCOSE(f *testing.F) {
	f.Add(reference(f, notary.MediaTypeCOSE, ec(f, elliptic.P256()), nil))
	f.Add([]byte{0xd2, 0x84, 0x41, 0xa0, 0xa0, 0x41, 0x00, 0x41, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) { checkAgainstReference(t, notary.MediaTypeCOSE, b) })
}

func FuzzName(f *testing.F) {
	f.Add(`C=US, ST=WA, O=acme\, inc`)
	f.Add(`CN=#0c0141`)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := notary.ParseName(text)
		if err != nil {
			return
		}
		again, err := notary.ParseName(n.String())
		if err != nil || again.String() != n.String() {
			t.Fatalf("%q becomes %q: %v", text, n, err)
		}
	})
}
