package testauthority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/fxamacker/cbor/v2"

	"github.com/countersign/countersign/attest"
)

// NotaryCA certifies signers of the Notary Project.
type NotaryCA struct {
	tb   testing.TB
	Root *x509.Certificate
	mid  *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewNotaryCA makes a root and an intermediate authority, valid from 2020 to
// 2040.
func NewNotaryCA(tb testing.TB, name string) *NotaryCA {
	tb.Helper()
	rootKey, key := NewECDSA(tb), NewECDSA(tb)
	template := func(common string, below int) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: serial(tb), Subject: pkix.Name{Organization: []string{name}, CommonName: common},
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: below, MaxPathLenZero: below == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	self := template("root", 1)
	root := issue(tb, self, self, rootKey.Public(), rootKey)
	return &NotaryCA{tb: tb, Root: root, mid: issue(tb, template("between", 0), root, key.Public(), rootKey), key: key}
}

// Issue certifies a key for code signing as C=US, ST=WA, O=acme, CN=release,
// from 2025 to 2027 unless change says otherwise, and returns the chain.
func (c *NotaryCA) Issue(public crypto.PublicKey, change func(*x509.Certificate)) []*x509.Certificate {
	c.tb.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(c.tb),
		Subject:      pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme"}, CommonName: "release"},
		NotBefore:    time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if change != nil {
		change(template)
	}
	return []*x509.Certificate{issue(c.tb, template, c.mid, public, c.key), c.mid, c.Root}
}

// NotaryDraft is an envelope of the Notary Project before it is made: whatever
// of it is changed is signed as it is.
type NotaryDraft struct {
	tb testing.TB
	// MediaType is application/jose+json or application/cose.
	MediaType string
	Payload   string
	Algorithm string
	Scheme    string
	At        time.Time
	Expiry    time.Time
	// Critical are critical attributes beside those that must be.
	Critical []string
	Key      crypto.Signer
	Chain    []*x509.Certificate
	// Signature replaces the one that the key makes, unless it is nil.
	Signature []byte
	// Stamp makes an RFC 3161 response over the signature; optional.
	Stamp func(signature []byte) []byte
}

// Notary drafts an envelope about a manifest, by a key of ES256.
func (c *NotaryCA) Notary(mediaType string, digest attest.Digest, size int, at time.Time) *NotaryDraft {
	c.tb.Helper()
	key := NewECDSA(c.tb)
	return &NotaryDraft{
		tb: c.tb, MediaType: mediaType, Algorithm: "ES256", Scheme: "notary.x509", At: at, Key: key, Chain: c.Issue(key.Public(), nil),
		Payload: fmt.Sprintf(`{"targetArtifact":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d}}`, digest, size),
	}
}

// Envelope makes the draft.
func (d *NotaryDraft) Envelope() []byte {
	d.tb.Helper()
	if d.MediaType == "application/cose" {
		return d.cose()
	}
	return d.jws()
}

// attributes are the signed ones but algorithm and content type; when makes a
// time of the form.
func (d *NotaryDraft) attributes(when func(time.Time) any) (values map[string]any, critical []string) {
	critical = []string{"io.cncf.notary.signingScheme"}
	values = map[string]any{"io.cncf.notary.signingScheme": d.Scheme}
	if d.Scheme == "notary.x509.signingAuthority" {
		values["io.cncf.notary.authenticSigningTime"] = when(d.At)
		critical = append(critical, "io.cncf.notary.authenticSigningTime")
	} else {
		values["io.cncf.notary.signingTime"] = when(d.At)
	}
	if !d.Expiry.IsZero() {
		values["io.cncf.notary.expiry"] = when(d.Expiry)
		critical = append(critical, "io.cncf.notary.expiry")
	}
	for _, name := range d.Critical {
		values[name] = "x"
	}
	return values, append(critical, d.Critical...)
}

func (d *NotaryDraft) jws() []byte {
	d.tb.Helper()
	values, critical := d.attributes(func(t time.Time) any { return t.Format(time.RFC3339) })
	values["alg"], values["cty"], values["crit"] = d.Algorithm, "application/vnd.cncf.notary.payload.v1+json", critical
	raw, err := json.Marshal(values)
	must(d.tb, err)
	protected, payload := base64.RawURLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString([]byte(d.Payload))
	signature := d.sign([]byte(protected + "." + payload))
	header := map[string]any{"x5c": d.chain()}
	if d.Stamp != nil {
		header["io.cncf.notary.timestampSignature"] = d.token(signature)
	}
	b, err := json.Marshal(map[string]any{
		"protected": protected, "payload": payload, "header": header, "signature": base64.RawURLEncoding.EncodeToString(signature),
	})
	must(d.tb, err)
	return b
}

func (d *NotaryDraft) cose() []byte {
	d.tb.Helper()
	values, critical := d.attributes(func(t time.Time) any { return cbor.Tag{Number: 1, Content: t.Unix()} })
	protected := map[any]any{
		1: map[string]int{"ES256": -7, "ES384": -35, "PS256": -37, "PS384": -38, "none": 0, "HS256": 5}[d.Algorithm],
		2: critical, 3: "application/vnd.cncf.notary.payload.v1+json",
	}
	for name, value := range values {
		protected[name] = value
	}
	raw, err := marshalCBOR(protected)
	must(d.tb, err)
	message, err := cbor.Marshal([]any{"Signature1", raw, []byte{}, []byte(d.Payload)})
	must(d.tb, err)
	signature := d.sign(message)
	header := map[any]any{33: d.chain()}
	if d.Stamp != nil {
		header["io.cncf.notary.timestampSignature"] = d.token(signature)
	}
	b, err := marshalCBOR(cbor.Tag{Number: 18, Content: []any{raw, header, []byte(d.Payload), signature}})
	must(d.tb, err)
	return b
}

func (d *NotaryDraft) chain() (out [][]byte) {
	for _, c := range d.Chain {
		out = append(out, c.Raw)
	}
	return out
}

func (d *NotaryDraft) token(signature []byte) []byte {
	d.tb.Helper()
	stamp, err := timestamp.ParseResponse(d.Stamp(signature))
	must(d.tb, err)
	return stamp.RawToken
}

// sign signs by the draft's key with SHA-256.
func (d *NotaryDraft) sign(message []byte) []byte {
	d.tb.Helper()
	if d.Signature != nil {
		return d.Signature
	}
	digest := sum256(message)
	if key, ok := d.Key.(*rsa.PrivateKey); ok {
		b, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		must(d.tb, err)
		return b
	}
	der, err := d.Key.Sign(rand.Reader, digest, crypto.SHA256)
	must(d.tb, err)
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		return der
	}
	raw := make([]byte, 64)
	v.R.FillBytes(raw[:32])
	v.S.FillBytes(raw[32:])
	return raw
}

func sum256(b []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(b)
	return h.Sum(nil)
}
