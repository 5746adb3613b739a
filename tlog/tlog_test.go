package tlog_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv2 "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgtlog "github.com/sigstore/sigstore-go/pkg/tlog"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

const origin = "log.example.com"

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs message as the log wants it for that key.
func sign(t testing.TB, key crypto.Signer, message []byte) []byte {
	t.Helper()
	var digest []byte
	var opts crypto.SignerOpts = crypto.SHA256
	switch k := key.(type) {
	case ed25519.PrivateKey:
		sum := sha512.Sum512(message)
		digest, opts = sum[:], &ed25519.Options{Hash: crypto.SHA512}
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P384() {
			sum := sha512.Sum384(message)
			digest, opts = sum[:], crypto.SHA384
			break
		}
		sum := sha256.Sum256(message)
		digest = sum[:]
	default:
		sum := sha256.Sum256(message)
		digest = sum[:]
	}
	sig, err := key.Sign(rand.Reader, digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// signLegacy signs as the legacy cosign format wants it: SHA-256 for every
// ECDSA key.
func signLegacy(t testing.TB, key crypto.Signer, message []byte) []byte {
	t.Helper()
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		return sign(t, key, message)
	}
	digest := sha256.Sum256(message)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func keysOfEveryType(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"ecdsa-p256": newECDSA(t, elliptic.P256()), "ecdsa-p384": newECDSA(t, elliptic.P384()),
		"rsa-3072": rsaKey, "ed25519": ed,
	}
}

// What is built parses back to what went in, for every key type, and the
// stock library computes the same leaf hash from digest and signature.
func TestHashedRekord(t *testing.T) {
	message := []byte("DSSEv1 the signed bytes")
	for name, key := range keysOfEveryType(t) {
		t.Run(name, func(t *testing.T) {
			sig := sign(t, key, message)
			v2, err := tlog.HashedRekordV002(key.Public(), message, sig)
			if err != nil {
				t.Fatal(err)
			}
			body, err := tlog.ParseBody(v2)
			if err != nil {
				t.Fatal(err)
			}
			if body.Version != "0.0.2" || !bytes.Equal(body.Signature, sig) || !sameKey(body.PublicKey, key.Public()) {
				t.Errorf("parsed %+v", body)
			}
			compareWithStock(t, v2, body, key.Public())
			legacy := signLegacy(t, key, message)
			v1, err := tlog.HashedRekordV001(key.Public(), message, legacy)
			if err != nil {
				t.Fatal(err)
			}
			old, err := tlog.ParseBody(v1)
			if err != nil {
				t.Fatal(err)
			}
			if old.Version != "0.0.1" || !bytes.Equal(old.Signature, legacy) || !sameKey(old.PublicKey, key.Public()) {
				t.Errorf("parsed %+v", old)
			}
			for _, build := range []func(crypto.PublicKey, []byte, []byte) ([]byte, error){tlog.HashedRekordV002, tlog.HashedRekordV001} {
				if _, err := build(key.Public(), []byte("other"), sig); !errors.Is(err, tlog.ErrSignature) {
					t.Errorf("signature of another message: %v", err)
				}
				if _, err := build(key.Public(), message, nil); !errors.Is(err, tlog.ErrSignature) {
					t.Errorf("empty signature (D7): %v", err)
				}
			}
		})
	}
	if _, err := tlog.HashedRekordV002("no key", message, []byte("x")); !errors.Is(err, tlog.ErrKeyType) {
		t.Errorf("no key: %v", err)
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func compareWithStock(t *testing.T, raw []byte, body tlog.Body, pub crypto.PublicKey) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	details := map[string]commonpb.PublicKeyDetails{
		"SHA-256": commonpb.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		"SHA-384": commonpb.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384,
		"SHA-512": commonpb.PublicKeyDetails_PKIX_ED25519_PH,
	}[body.DigestAlgorithm.String()]
	if _, isRSA := pub.(*rsa.PublicKey); isRSA {
		details = commonpb.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256
	}
	want, err := hashedrekord.ToEntryHash(body.Digest, &rekorv2.Signature{
		Content: body.Signature,
		Verifier: &rekorv2.Verifier{
			KeyDetails: details,
			Verifier:   &rekorv2.Verifier_PublicKey{PublicKey: &rekorv2.PublicKey{RawBytes: spki}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, tlog.LeafHash(raw)) {
		t.Error("stock library computes another leaf hash")
	}
}

func TestParseBodyRefuses(t *testing.T) {
	key := newECDSA(t, elliptic.P256())
	good, err := tlog.HashedRekordV002(key.Public(), []byte("m"), sign(t, key, []byte("m")))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte { return []byte(strings.Replace(string(good), old, new, 1)) }
	for name, body := range map[string][]byte{
		"empty":           nil,
		"no object":       []byte("[]"),
		"white space":     edit(`{"api`, `{ "api`),
		"unknown field":   edit(`"kind":`, `"extra":1,"kind":`),
		"duplicate field": edit(`"kind":`, `"kind":"hashedrekord","kind":`),
		"other kind":      edit(`"hashedrekord"`, `"dsse"`),
		"other version":   edit(`"0.0.2"`, `"0.0.3"`),
		"other details":   edit(`PKIX_ECDSA_P256_SHA_256`, `PKIX_ECDSA_P384_SHA_384`),
		"other digest":    edit(`SHA2_256`, `SHA2_384`),
		"null spec":       []byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":null}`),
		"no spec":         []byte(`{"apiVersion":"0.0.2","kind":"hashedrekord"}`),
		"trailing data":   append(bytes.Clone(good), '{', '}'),
		"too large":       make([]byte, limits.LogEntry+1),
	} {
		if _, err := tlog.ParseBody(body); !errors.Is(err, tlog.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tlog.ParseBody(good); err != nil {
		t.Errorf("control: %v", err)
	}
}

func request(t testing.TB, key crypto.Signer, message []byte) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sign(t, key, message)), b64(spki))
}

func dsseRequest(t testing.TB, key crypto.Signer, payload []byte) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	const payloadType = "application/vnd.in-toto+json"
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"dsseRequestV002":{"envelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]},"verifiers":[{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}]}}`,
		b64(payload), payloadType, b64(sign(t, key, pae)), b64(spki))
}

func TestHashedRekordFromRequest(t *testing.T) {
	key := newECDSA(t, elliptic.P256())
	good := request(t, key, []byte("artifact"))
	body, err := tlog.HashedRekordV002FromRequest([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := tlog.ParseBody(body); err != nil || !sameKey(parsed.PublicKey, key.Public()) {
		t.Errorf("control: %+v, %v", parsed, err)
	}
	// The retired DSSE request is logged as hashedrekord over the PAE.
	body, err = tlog.HashedRekordV002FromRequest([]byte(dsseRequest(t, key, []byte("{}"))))
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := tlog.ParseBody(body); err != nil || parsed.Kind != "hashedrekord" {
		t.Errorf("dsse request: %+v, %v", parsed, err)
	}
	other := newECDSA(t, elliptic.P256())
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, bad := range map[string]string{
		"empty":            "",
		"empty object":     "{}",
		"null":             `{"hashedRekordRequestV002":null}`,
		"null signature":   `{"hashedRekordRequestV002":{"digest":"AA==","signature":null}}`,
		"null verifier":    `{"hashedRekordRequestV002":{"digest":"AA==","signature":{"content":"AA==","verifier":null}}}`,
		"unknown field":    edit(`{"digest"`, `{"extra":1,"digest"`),
		"duplicate field":  edit(`{"digest"`, `{"digest":"AA==","digest"`),
		"key details E7":   edit("PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519"),
		"no key details":   edit(`,"keyDetails":"PKIX_ECDSA_P256_SHA_256"`, ""),
		"key of another":   strings.Replace(good, keyField(t, key), keyField(t, other), 1),
		"two dsse signers": strings.Replace(dsseRequest(t, key, []byte("{}")), `"signatures":[`, `"signatures":[{"sig":"AA=="},`, 1),
		"trailing data":    good + "{}",
		"too large":        `{"x":"` + strings.Repeat("a", limits.LogEntryBody) + `"}`,
	} {
		if _, err := tlog.HashedRekordV002FromRequest([]byte(bad)); !errors.Is(err, tlog.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func keyField(t testing.TB, key crypto.Signer) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(spki)
}

// B1, B6: a signed entry timestamp speaks of one body, time, index and log.
func TestSET(t *testing.T) {
	key, now := newECDSA(t, elliptic.P256()), time.Unix(1_790_000_000, 0)
	pub := key.Public()
	signer := newECDSA(t, elliptic.P256())
	body, err := tlog.HashedRekordV001(signer.Public(), []byte("m"), sign(t, signer, []byte("m")))
	if err != nil {
		t.Fatal(err)
	}
	set, err := tlog.SignSET(key, body, now, 7)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := tlog.LogID(pub)
	if err := tlog.VerifySET(pub, body, now, 7, id, set); err != nil {
		t.Fatalf("control: %v", err)
	}
	// Control with the stock library.
	entry, err := sgtlog.NewEntry(body, now.Unix(), 7, id, set, nil) //nolint:staticcheck // the reader of the legacy format
	if err != nil {
		t.Fatal(err)
	}
	logs := map[string]*root.TransparencyLog{hex.EncodeToString(id): {
		ID: id, PublicKey: pub, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256, ValidityPeriodStart: now.Add(-time.Hour),
	}}
	if err := sgtlog.VerifySET(entry, logs); err != nil {
		t.Errorf("stock library: %v", err)
	}
	other := newECDSA(t, elliptic.P256())
	otherID, _ := tlog.LogID(other.Public())
	for name, err := range map[string]error{
		"B1 other body":   tlog.VerifySET(pub, append(bytes.Clone(body), ' '), now, 7, id, set),
		"B6 other time":   tlog.VerifySET(pub, body, now.Add(time.Second), 7, id, set),
		"other index":     tlog.VerifySET(pub, body, now, 8, id, set),
		"negative index":  tlog.VerifySET(pub, body, now, -7, id, set),
		"other log id":    tlog.VerifySET(pub, body, now, 7, otherID, set),
		"B4 other key":    tlog.VerifySET(other.Public(), body, now, 7, otherID, set),
		"D7 no signature": tlog.VerifySET(pub, body, now, 7, id, nil),
	} {
		if !errors.Is(err, tlog.ErrSET) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckOrigin(t *testing.T) {
	for _, good := range []string{"log.example.com", "localhost", "127.0.0.1"} {
		if err := tlog.CheckOrigin(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "log.example.com:443", "https://log", "log/2026", "a b", "rekor - 123", "a+b", "a\nb"} {
		if err := tlog.CheckOrigin(bad); !errors.Is(err, tlog.ErrOrigin) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTilePath(t *testing.T) {
	for path, want := range map[string]tlog.Tile{
		"tile/0/000":                 {Width: 256},
		"tile/1/067.p/8":             {Level: 1, Index: 67, Width: 8},
		"tile/0/x001/x234/067.p/255": {Index: 1234067, Width: 255},
		"tile/entries/x001/000":      {Entries: true, Index: 1000, Width: 256},
	} {
		got, err := tlog.ParseTilePath(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	// I7: no spelling leaves the layout.
	for _, path := range []string{
		"", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/8/000", "tile/-1/000", "tile/0/+00",
		"tile/0/x000/001", "tile/0/001/002", "tile/0/x001/x002", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/08", "tile/0/000.p/",
		"tile/0/000.p", "/tile/0/000", "tile/0/000/", "tile//000", "tile/0/../000", "tile/entries/../../.state/treeState",
		"tile/0/x001/../000", "checkpoint", "tile/data/000", "tile/0/000.p/1/2", "tile/0/%30%30%30", "tile/0/x1/000",
		"tile/0/x999/x999/x999/x999/x999/x999/000",
	} {
		if _, err := tlog.ParseTilePath(path); !errors.Is(err, tlog.ErrPath) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestTileWidth(t *testing.T) {
	for _, test := range []struct {
		tile tlog.Tile
		size uint64
		want int
	}{
		{tlog.Tile{}, 0, 0},
		{tlog.Tile{}, 1, 1},
		{tlog.Tile{}, 256, 256},
		{tlog.Tile{Index: 1}, 256, 0},
		{tlog.Tile{Index: 1}, 300, 44},
		{tlog.Tile{Level: 1}, 255, 0},
		{tlog.Tile{Level: 1}, 256, 1},
		{tlog.Tile{Level: 1}, 1 << 16, 256},
	} {
		if got := test.tile.WidthAt(test.size); got != test.want {
			t.Errorf("%+v at %d: %d, want %d", test.tile, test.size, got, test.want)
		}
	}
}

// TestDSSEV001: the entry of an envelope parses back to its payload's digest,
// signature and key, for every key that the legacy format knows.
func TestDSSEV001(t *testing.T) {
	payload := []byte(`{"_type":"https://in-toto.io/Statement/v1"}`)
	const payloadType = "application/vnd.in-toto+json"
	message := dsse.PAE(payloadType, payload)
	for name, key := range keysOfEveryType(t) {
		e := tlog.Envelope{Document: []byte("the envelope"), PayloadType: payloadType, Payload: payload, Signature: signLegacy(t, key, message)}
		raw, err := tlog.DSSEV001(key.Public(), e)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, err := tlog.ParseBody(raw)
		digest := sha256.Sum256(payload)
		if err != nil || body.Kind != tlog.KindDSSE || body.Version != "0.0.1" || !bytes.Equal(body.Digest, digest[:]) ||
			!bytes.Equal(body.Signature, e.Signature) || !sameKey(body.PublicKey, key.Public()) {
			t.Errorf("%s: %+v, %v", name, body, err)
		}
		envelope := sha256.Sum256(e.Document)
		if !bytes.Contains(raw, []byte(`"envelopeHash":{"algorithm":"sha256","value":"`+hex.EncodeToString(envelope[:])+`"}`)) {
			t.Errorf("%s: %s", name, raw)
		}
		for change, broken := range map[string]tlog.Envelope{
			"payload":   {Document: e.Document, PayloadType: payloadType, Payload: []byte("{}"), Signature: e.Signature},
			"type":      {Document: e.Document, PayloadType: "text/plain", Payload: payload, Signature: e.Signature},
			"signature": {Document: e.Document, PayloadType: payloadType, Payload: payload, Signature: []byte("sig")},
		} {
			if _, err := tlog.DSSEV001(key.Public(), broken); !errors.Is(err, tlog.ErrSignature) {
				t.Errorf("%s: another %s: %v", name, change, err)
			}
		}
	}
}
