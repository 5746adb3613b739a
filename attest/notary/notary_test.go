package notary_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
)

func payloadOf(t testing.TB) []byte {
	t.Helper()
	return []byte(`{"targetArtifact":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` +
		attest.DigestOf([]byte("image")).String() + `","size":5,"annotations":{"a":"b"}}}`)
}

func selfSigned(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme"}, CommonName: "release"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// reference signs with the project's own library.
func reference(t testing.TB, mediaType string, key crypto.Signer, change func(*signature.SignRequest)) []byte {
	t.Helper()
	signer, err := signature.NewLocalSigner([]*x509.Certificate{selfSigned(t, key)}, key)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := signature.NewEnvelope(mediaType)
	if err != nil {
		t.Fatal(err)
	}
	request := &signature.SignRequest{
		Payload: signature.Payload{ContentType: notary.MediaTypePayload, Content: payloadOf(t)}, Signer: signer,
		SigningTime: time.Now(), Expiry: time.Now().Add(time.Hour), SigningScheme: signature.SigningSchemeX509, SigningAgent: "reference",
	}
	if change != nil {
		change(request)
	}
	b, err := envelope.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ec(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestReferenceEnvelopesAreRead(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ES256": ec(t, elliptic.P256()), "ES384": ec(t, elliptic.P384()), "ES512": ec(t, elliptic.P521()), "PS256": rsaKey} {
		for _, mediaType := range []string{notary.MediaTypeJWS, notary.MediaTypeCOSE} {
			t.Run(name+mediaType, func(t *testing.T) {
				e, err := notary.Parse(mediaType, reference(t, mediaType, key, nil))
				if err != nil {
					t.Fatal(err)
				}
				if string(e.Algorithm) != name || e.Scheme != notary.SchemeX509 || e.Expiry.IsZero() || e.Target.Annotations["a"] != "b" || e.Target.Size != 5 {
					t.Errorf("read as %+v", e)
				}
				if !notary.Verify(key.Public(), e.Message, e.Signature) {
					t.Error("a good signature does not verify")
				}
				e.Message[3] ^= 1
				if notary.Verify(key.Public(), e.Message, e.Signature) {
					t.Error("a signature over another message verifies")
				}
			})
		}
	}
}

func TestSigningAuthority(t *testing.T) {
	for _, mediaType := range []string{notary.MediaTypeJWS, notary.MediaTypeCOSE} {
		b := reference(t, mediaType, ec(t, elliptic.P256()), func(r *signature.SignRequest) { r.SigningScheme = signature.SigningSchemeX509SigningAuthority })
		e, err := notary.Parse(mediaType, b)
		if err != nil || e.Scheme != notary.SchemeSigningAuthority || e.SigningTime.IsZero() {
			t.Errorf("%s: %+v, %v", mediaType, e, err)
		}
	}
}

// TestUnknownCriticalAttribute: what is critical and not understood refuses;
// the same attribute is read over when it is not critical.
func TestUnknownCriticalAttribute(t *testing.T) {
	for _, mediaType := range []string{notary.MediaTypeJWS, notary.MediaTypeCOSE} {
		for _, critical := range []bool{true, false} {
			b := reference(t, mediaType, ec(t, elliptic.P256()), func(r *signature.SignRequest) {
				r.ExtendedSignedAttributes = []signature.Attribute{{Key: "io.cncf.notary.verificationPlugin", Critical: critical, Value: "x"}}
			})
			if _, err := notary.Parse(mediaType, b); (err != nil) != critical {
				t.Errorf("%s critical %v: %v", mediaType, critical, err)
			}
		}
	}
}

func TestOwnEnvelopeSatisfiesReference(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key := ec(t, curve)
		algorithm, err := notary.AlgorithmOf(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		target := notary.Target{MediaType: "m", Digest: attest.DigestOf([]byte("image")), Size: 5, Annotations: map[string]string{"k": "<v>"}}
		message, err := notary.JWSMessage(target, algorithm, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		h := algorithm.Hash().New()
		h.Write(message)
		der, err := key.Sign(rand.Reader, h.Sum(nil), algorithm.Hash())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := notary.Raw(key.Public().(*ecdsa.PublicKey), der)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := notary.DER(key.Public().(*ecdsa.PublicKey), raw); err != nil || !bytes.Equal(back, der) {
			t.Errorf("signature does not come back: %v", err)
		}
		b, err := notary.NewJWS(notary.Signed{Message: message, Signature: raw, Chain: []*x509.Certificate{selfSigned(t, key)}, Agent: "test"})
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := signature.ParseEnvelope(notary.MediaTypeJWS, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := envelope.Verify(); err != nil {
			t.Errorf("the reference refuses our envelope: %v", err)
		}
	}
}

// rewrite changes a JWS envelope and its protected header.
func rewrite(t *testing.T, b []byte, envelope func(string) string, protected func(string) string) []byte {
	t.Helper()
	var wire map[string]json.RawMessage
	if err := json.Unmarshal(b, &wire); err != nil {
		t.Fatal(err)
	}
	var encoded string
	if err := json.Unmarshal(wire["protected"], &encoded); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if protected != nil {
		wire["protected"], _ = json.Marshal(base64.RawURLEncoding.EncodeToString([]byte(protected(string(raw)))))
	}
	out, err := json.Marshal(wire)
	if err != nil {
		t.Fatal(err)
	}
	if envelope != nil {
		out = []byte(envelope(string(out)))
	}
	return out
}

func replace(old, text string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, text, 1) }
}

// TestJWSHasOneReading: rows A3 and E7, and two signatures in one envelope.
func TestJWSHasOneReading(t *testing.T) {
	good := reference(t, notary.MediaTypeJWS, ec(t, elliptic.P256()), nil)
	if _, err := notary.Parse(notary.MediaTypeJWS, rewrite(t, good, nil, func(s string) string { return s })); err != nil {
		t.Fatalf("the control is refused: %v", err)
	}
	cases := map[string][]byte{
		"duplicate payload":       rewrite(t, good, replace(`{"`, `{"payload":"e30","`), nil),
		"payload in another case": rewrite(t, good, replace(`{"`, `{"Payload":"e30","`), nil),
		"two signatures":          rewrite(t, good, replace(`{"`, `{"signatures":[],"`), nil),
		"trailing bytes":          append(bytes.Clone(good), '{', '}'),
		"null header":             rewrite(t, good, replace(`"io.cncf.notary.signingAgent":"reference"`, `"io.cncf.notary.timestampSignature":null`), nil),
		"alg beside the header":   rewrite(t, good, replace(`"header":{`, `"header":{"alg":"ES256",`), nil),
		"duplicate alg":           rewrite(t, good, nil, replace(`{`, `{"alg":"none",`)),
		"alg in another case":     rewrite(t, good, nil, replace(`{`, `{"Alg":"none",`)),
		"alg none":                rewrite(t, good, nil, replace(`ES256`, `none`)),
		"alg HS256":               rewrite(t, good, nil, replace(`ES256`, `HS256`)),
		"alg RS256":               rewrite(t, good, nil, replace(`ES256`, `RS256`)),
		"b64":                     rewrite(t, good, nil, replace(`{`, `{"b64":false,`)),
		"no crit":                 rewrite(t, good, nil, replace(`"crit"`, `"crib"`)),
		"crit twice":              rewrite(t, good, nil, replace(`"crit":[`, `"crit":["io.cncf.notary.signingScheme",`)),
		"expiry not critical":     rewrite(t, good, nil, replace(`,"io.cncf.notary.expiry"]`, `]`)),
		"both times":              rewrite(t, good, nil, replace(`{`, `{"io.cncf.notary.authenticSigningTime":"2026-01-01T00:00:00Z",`)),
		"unknown scheme":          rewrite(t, good, nil, replace(`"notary.x509"`, `"notary.x510"`)),
		"another content type":    rewrite(t, good, nil, replace(`payload.v1+json`, `payload.v2+json`)),
		"expiry before": rewrite(t, good, nil, func(s string) string {
			return strings.Replace(s, `"io.cncf.notary.expiry":"2`, `"io.cncf.notary.expiry":"1`, 1)
		}),
		"padded":               rewrite(t, good, replace(`"payload":"`, `"payload":"=`), nil),
		"line break in base64": rewrite(t, good, replace(`"payload":"ey`, `"payload":"e\ny`), nil),
		"not an object":        []byte(`[]`),
		"empty":                nil,
	}
	for name, b := range cases {
		if _, err := notary.Parse(notary.MediaTypeJWS, b); !errors.Is(err, notary.ErrEnvelope) {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Equal(b, good) {
			t.Errorf("%s: nothing was changed", name)
		}
	}
	if _, err := notary.Parse("application/json", good); !errors.Is(err, notary.ErrEnvelope) {
		t.Errorf("another media type: %v", err)
	}
}

type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[any]any
	Payload     []byte
	Signature   []byte
}

// TestCOSEHasOneReading: rows A3 and E7.
func TestCOSEHasOneReading(t *testing.T) {
	good := reference(t, notary.MediaTypeCOSE, ec(t, elliptic.P256()), nil)
	remake := func(change func(*sign1, map[any]any)) []byte {
		var tag cbor.RawTag
		var m sign1
		protected := map[any]any{}
		if cbor.Unmarshal(good, &tag) != nil || cbor.Unmarshal(tag.Content, &m) != nil || cbor.Unmarshal(m.Protected, &protected) != nil {
			t.Fatal("cannot take the reference apart")
		}
		for _, name := range []string{"io.cncf.notary.signingTime", "io.cncf.notary.expiry"} {
			protected[name] = cbor.Tag{Number: 1, Content: protected[name].(time.Time).Unix()}
		}
		change(&m, protected)
		var err error
		if m.Protected, err = cbor.Marshal(protected); err != nil {
			t.Fatal(err)
		}
		b, err := cbor.Marshal(cbor.Tag{Number: 18, Content: m})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := notary.Parse(notary.MediaTypeCOSE, remake(func(*sign1, map[any]any) {})); err != nil {
		t.Fatalf("the control is refused: %v", err)
	}
	cases := map[string][]byte{
		"no tag":              good[1:],
		"trailing bytes":      append(bytes.Clone(good), 0),
		"alg in the other":    remake(func(m *sign1, _ map[any]any) { m.Unprotected[uint64(1)] = -7 }),
		"scheme in the other": remake(func(m *sign1, _ map[any]any) { m.Unprotected["io.cncf.notary.signingScheme"] = "notary.x509" }),
		"expiry in the other": remake(func(m *sign1, _ map[any]any) { m.Unprotected["io.cncf.notary.expiry"] = 1 }),
		"a label in both":     remake(func(m *sign1, p map[any]any) { m.Unprotected["x"], p["x"] = 1, 1 }),
		"alg EdDSA":           remake(func(_ *sign1, p map[any]any) { p[uint64(1)] = -8 }),
		"alg HMAC":            remake(func(_ *sign1, p map[any]any) { p[uint64(1)] = 5 }),
		"alg as text":         remake(func(_ *sign1, p map[any]any) { p[uint64(1)] = "ES256" }),
		"no alg":              remake(func(_ *sign1, p map[any]any) { delete(p, uint64(1)) }),
		"time without tag":    remake(func(_ *sign1, p map[any]any) { p["io.cncf.notary.signingTime"] = 1700000000 }),
		"time as a fraction":  remake(func(_ *sign1, p map[any]any) { p["io.cncf.notary.signingTime"] = cbor.Tag{Number: 1, Content: 1.5} }),
		"critical number": remake(func(_ *sign1, p map[any]any) {
			p[uint64(2)] = []any{"io.cncf.notary.signingScheme", "io.cncf.notary.expiry", 3}
		}),
		"expiry not critical":    remake(func(_ *sign1, p map[any]any) { p[uint64(2)] = []any{"io.cncf.notary.signingScheme"} }),
		"null attribute":         remake(func(_ *sign1, p map[any]any) { p["x"] = nil }),
		"detached payload":       remake(func(m *sign1, _ map[any]any) { m.Payload = nil }),
		"no signature":           remake(func(m *sign1, _ map[any]any) { m.Signature = nil }),
		"no chain":               remake(func(m *sign1, _ map[any]any) { delete(m.Unprotected, uint64(33)) }),
		"duplicate label":        bytes.Replace(good, []byte("x509"), []byte("x510"), 1),
		"indefinite length":      {0xd2, 0x9f, 0x41, 0xa0, 0xa0, 0x41, 0x00, 0x41, 0x00, 0xff},
		"nested beyond the rule": append([]byte{0xd2}, bytes.Repeat([]byte{0x81}, 100)...),
	}
	for name, b := range cases {
		if _, err := notary.Parse(notary.MediaTypeCOSE, b); !errors.Is(err, notary.ErrEnvelope) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPayloads(t *testing.T) {
	digest := attest.DigestOf(nil).String()
	for name, payload := range map[string]string{
		"no target":       `{}`,
		"null":            `{"targetArtifact":null}`,
		"no size":         `{"targetArtifact":{"mediaType":"m","digest":"` + digest + `"}}`,
		"negative size":   `{"targetArtifact":{"mediaType":"m","digest":"` + digest + `","size":-1}}`,
		"no media type":   `{"targetArtifact":{"digest":"` + digest + `","size":1}}`,
		"sha1":            `{"targetArtifact":{"mediaType":"m","digest":"sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709","size":1}}`,
		"duplicate":       `{"targetArtifact":{"mediaType":"m","digest":"` + digest + `","size":1,"size":2}}`,
		"second target":   `{"targetArtifact":{"mediaType":"m","digest":"` + digest + `","size":1},"TargetArtifact":{}}`,
		"null annotation": `{"targetArtifact":{"mediaType":"m","digest":"` + digest + `","size":1,"annotations":{"a":null}}}`,
	} {
		b := reference(t, notary.MediaTypeCOSE, ec(t, elliptic.P256()), func(r *signature.SignRequest) { r.Payload.Content = []byte(payload) })
		if _, err := notary.Parse(notary.MediaTypeCOSE, b); !errors.Is(err, notary.ErrEnvelope) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWeakKeys: row E7: a key has one algorithm, and weak keys have none.
func TestWeakKeys(t *testing.T) {
	for name, public := range map[string]crypto.PublicKey{
		"RSA 1024": &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537},
		"RSA 2056": &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2055), E: 65537},
		"P-224":    &ecdsa.PublicKey{Curve: elliptic.P224()},
		"nothing":  nil,
	} {
		if a, err := notary.AlgorithmOf(public); !errors.Is(err, notary.ErrKey) {
			t.Errorf("%s: %s, %v", name, a, err)
		}
		if notary.Verify(public, []byte("m"), []byte("s")) {
			t.Errorf("%s: verifies", name)
		}
	}
}
