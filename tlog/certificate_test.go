package tlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
)

// An entry of a certificate's signature names the certificate and nothing else,
// byte for byte as written by hand.
func TestHashedRekordCertificate(t *testing.T) {
	key := testauthority.NewECDSA(t)
	cert := testauthority.NewCA(t, testauthority.CAOptions{}).Issue(key.Public(), testauthority.CertificateRequest{
		Issuer: "https://issuer.example", Subject: "https://s.example/x", At: time.Now(),
	})
	message := []byte("message")
	signature := testauthority.SignP256(t, key, message)
	v2, err := tlog.HashedRekordV002Certificate(cert, message, signature)
	if err != nil {
		t.Fatal(err)
	}
	v1, err := tlog.HashedRekordV001Certificate(cert, message, signature)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message)
	b64 := base64.StdEncoding.EncodeToString
	wantV2 := fmt.Sprintf(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%q},"signature":{"content":%q,"verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":%q}}}}}}`,
		b64(digest[:]), b64(signature), b64(cert.Raw))
	wantV1 := fmt.Sprintf(`{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":%q}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`,
		hex.EncodeToString(digest[:]), b64(signature), b64(testauthority.CertificatePEM(cert)))
	for _, c := range []struct{ got, want string }{{string(v2), wantV2}, {string(v1), wantV1}} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
		body, err := tlog.ParseBody([]byte(c.got))
		if err != nil || !cert.Equal(body.Certificate) || !key.PublicKey.Equal(body.PublicKey) || !bytes.Equal(body.Digest, digest[:]) {
			t.Errorf("parsed %+v, %v", body, err)
		}
	}
	if _, err := tlog.HashedRekordV002Certificate(cert, []byte("other"), signature); !errors.Is(err, tlog.ErrSignature) {
		t.Errorf("signature of another message: %v", err)
	}
	if _, err := tlog.HashedRekordV001Certificate(cert, message, nil); !errors.Is(err, tlog.ErrSignature) {
		t.Errorf("D7 empty signature: %v", err)
	}
}

// Rekor v1's entry of an envelope is read in its canonical form only.
func TestParseDSSE(t *testing.T) {
	key := testauthority.NewECDSA(t)
	payload := []byte("payload")
	digest := sha256.Sum256(payload)
	signature := testauthority.SignP256(t, key, payload)
	b64 := base64.StdEncoding.EncodeToString
	sig := fmt.Sprintf(`{"signature":%q,"verifier":%q}`, b64(signature), b64(testauthority.PublicPEM(t, key.Public())))
	good := fmt.Sprintf(`{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":%q},"payloadHash":{"algorithm":"sha256","value":%q},"signatures":[%s]}}`,
		strings.Repeat("ab", 32), hex.EncodeToString(digest[:]), sig)
	body, err := tlog.ParseBody([]byte(good))
	if err != nil || body.Kind != tlog.KindDSSE || body.Version != "0.0.1" || !bytes.Equal(body.Digest, digest[:]) ||
		!bytes.Equal(body.Signature, signature) || !key.PublicKey.Equal(body.PublicKey) {
		t.Fatalf("%+v, %v", body, err)
	}
	for name, edit := range map[string][2]string{
		"another version":   {`"0.0.1"`, `"0.0.2"`},
		"unknown field":     {`"spec":{`, `"spec":{"x":1,`},
		"white space":       {`"kind":`, `"kind": `},
		"no signature":      {sig, ``},
		"two signatures":    {sig, sig + "," + sig},
		"weak digest":       {`"payloadHash":{"algorithm":"sha256"`, `"payloadHash":{"algorithm":"sha1"`},
		"short digest":      {hex.EncodeToString(digest[:]), hex.EncodeToString(digest[:31])},
		"D7 empty":          {b64(signature), ``},
		"verifier of text":  {b64(testauthority.PublicPEM(t, key.Public())), b64([]byte("key"))},
		"proposal's fields": {`"envelopeHash"`, `"proposedContent":{},"envelopeHash"`},
	} {
		if body, err := tlog.ParseBody([]byte(strings.Replace(good, edit[0], edit[1], 1))); !errors.Is(err, tlog.ErrBody) {
			t.Errorf("%s: %+v, %v", name, body, err)
		}
	}
}
