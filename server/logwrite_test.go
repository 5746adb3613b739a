package server_test

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/tlog"
)

// writer is a client of Rekor v2 with a key of its own.
type writer struct {
	t   *testing.T
	key *ecdsa.PrivateKey
}

func newWriter(t *testing.T) writer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writer{t, key}
}

func (w writer) sign(message []byte) []byte {
	w.t.Helper()
	digest := sha256.Sum256(message)
	signature, err := w.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		w.t.Fatal(err)
	}
	return signature
}

func (w writer) verifier() map[string]any {
	w.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(w.key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]any{"publicKey": map[string]any{"rawBytes": der}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
}

// certificate is a verifier whose certificate has an extension of that size.
func (w writer) certificate(extension int) map[string]any {
	w.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, extension)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, w.key.Public(), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]any{"x509Certificate": map[string]any{"rawBytes": der}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
}

func (w writer) marshal(v any) string {
	w.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

func (w writer) hashed(message, signature []byte, verifier map[string]any) string {
	digest := sha256.Sum256(message)
	return w.marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": digest[:], "signature": map[string]any{"content": signature, "verifier": verifier},
	}})
}

func (w writer) enveloped(payloadType string, payload, signature []byte) string {
	return w.marshal(map[string]any{"dsseRequestV002": map[string]any{
		"envelope":  map[string]any{"payload": payload, "payloadType": payloadType, "signatures": []any{map[string]any{"sig": signature}}},
		"verifiers": []any{w.verifier()},
	}})
}

// entry is what the tests look at in an answer.
type entry struct {
	LogIndex       string `json:"logIndex"`
	InclusionProof struct {
		TreeSize string `json:"treeSize"`
	} `json:"inclusionProof"`
	KindVersion struct {
		Kind    string `json:"kind"`
		Version string `json:"version"`
	} `json:"kindVersion"`
	CanonicalizedBody []byte `json:"canonicalizedBody"`
	InclusionPromise  any    `json:"inclusionPromise"`
}

func (h *house) logs(request string) entry {
	h.t.Helper()
	got := h.ask("POST", "/api/v2/log/entries", h.secret, request)
	if got.status != http.StatusCreated {
		h.t.Fatalf("%d %s", got.status, got.body)
	}
	var e entry
	h.must(json.Unmarshal(got.body, &e))
	_, err := tlog.UnmarshalEntry(got.body)
	h.must(err)
	return e
}

// TestLogTakesEnvelopes: the retired request of older clients becomes the entry
// that every verifier reads, and the same one that newer clients make of the
// same signature; a repetition has the same place and a fresh proof.
func TestLogTakesEnvelopes(t *testing.T) {
	h, w := open(t), newWriter(t)
	before := h.settled()
	const payloadType = "application/vnd.in-toto+json"
	payload := []byte(`{"_type":"https://in-toto.io/Statement/v1"}`)
	pae := attest.PAE(payloadType, payload)
	signature := w.sign(pae)
	first := h.logs(w.enveloped(payloadType, payload, signature))
	body, err := tlog.ParseBody(first.CanonicalizedBody)
	h.must(err)
	digest := sha256.Sum256(pae)
	if first.KindVersion.Kind != "hashedrekord" || first.KindVersion.Version != "0.0.2" || !bytes.Equal(body.Digest, digest[:]) || first.InclusionPromise != nil {
		t.Errorf("%+v", first)
	}
	h.logs(hashedRekord(t, "another"))
	for name, request := range map[string]string{
		"the same":               w.enveloped(payloadType, payload, signature),
		"as newer clients do it": w.hashed(pae, signature, w.verifier()),
	} {
		if again := h.logs(request); again.LogIndex != first.LogIndex || again.InclusionProof.TreeSize != strconv.Itoa(before+2) {
			t.Errorf("%s: %+v, first %+v", name, again, first)
		}
	}
}

// TestLogRefusesRequests: nothing is logged that a reader could take for more
// than what its signer said. Each is one change of a request that is taken.
func TestLogRefusesRequests(t *testing.T) {
	h, w := open(t), newWriter(t)
	before := h.settled()
	message, payload := []byte("message"), []byte("{}")
	hashed := w.hashed(message, w.sign(message), w.verifier())
	enveloped := w.enveloped("t", payload, w.sign(attest.PAE("t", payload)))
	certified := w.hashed(message, w.sign(message), w.certificate(100))
	for _, good := range []string{hashed, enveloped, certified} {
		h.logs(good)
	}
	other := base64.StdEncoding.EncodeToString(newWriter(t).sign(message))
	both := strings.TrimSuffix(hashed, "}") + "," + strings.TrimPrefix(enveloped, "{")
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"unknown field":            {strings.Replace(hashed, `{`, `{"surprise":1,`, 1), 400},
		"unknown nested field":     {strings.Replace(hashed, `"verifier":{`, `"verifier":{"surprise":1,`, 1), 400},
		"duplicate field":          {strings.Replace(hashed, `"digest"`, `"digest":"AAAA","digest"`, 1), 400},
		"two spellings":            {strings.Replace(hashed, `"keyDetails"`, `"key_details":"PKIX_ECDSA_P256_SHA_256","keyDetails"`, 1), 400},
		"two requests":             {both, 400},
		"trailing data":            {hashed + " {}", 400},
		"details of another curve": {strings.Replace(hashed, "PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", 1), 400},
		"details of another type":  {strings.Replace(hashed, "PKIX_ECDSA_P256_SHA_256", "PKIX_RSA_PSS_3072_SHA256", 1), 400},
		"no details":               {strings.Replace(hashed, `"keyDetails":"PKIX_ECDSA_P256_SHA_256",`, "", 1), 400},
		"digest too long":          {strings.Replace(hashed, `"digest":"`, `"digest":"AAAA`, 1), 400},
		"another's signature":      {replaceField(t, hashed, "content", other), 400},
		"no signature":             {replaceField(t, hashed, "content", ""), 400},
		"envelope: other payload":  {replaceField(t, enveloped, "payload", "e30K"), 400},
		"envelope: other type":     {replaceField(t, enveloped, "payloadType", "u"), 400},
		"envelope: two signatures": {strings.Replace(enveloped, `"signatures":[`, `"signatures":[{"sig":"AAAA"},`, 1), 400},
		"envelope: no verifier":    {strings.Replace(enveloped, `"verifiers":[`, `"verifiers":[],"x":[`, 1), 400},
		"entry too large":          {w.hashed(message, w.sign(message), w.certificate(50_000)), 413},
		"body too large":           {strings.Replace(hashed, "{", "{"+strings.Repeat(" ", 1<<20), 1), 413},
	} {
		got := h.ask("POST", "/api/v2/log/entries", h.secret, c.request)
		if got.status != c.status || !strings.HasPrefix(got.header.Get("Content-Type"), "application/problem+json") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if now := h.settled(); now != before+3 {
		t.Errorf("something else was logged: %d entries, want %d", now, before+3)
	}
	if got := h.ask("POST", "/api/v2/log/entries", "", hashed); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", got.status)
	}
}

func replaceField(t *testing.T, document, name, value string) string {
	t.Helper()
	before, after, found := strings.Cut(document, `"`+name+`":"`)
	_, rest, closed := strings.Cut(after, `"`)
	if !found || !closed {
		t.Fatalf("no %s", name)
	}
	return before + `"` + name + `":"` + value + `"` + rest
}

// TestLogIsCacheable: what never changes says so, what changes is asked for
// again, entry bundles are compressed for who can read it (C2SP tlog-tiles).
func TestLogIsCacheable(t *testing.T) {
	h := open(t)
	var writing errgroup.Group
	writing.SetLimit(32)
	for i := range 257 {
		request := hashedRekord(t, fmt.Sprint("artifact ", i))
		writing.Go(func() error {
			_, err := h.admin.AddLogEntry(t.Context(), []byte(request))
			return err
		})
	}
	h.must(writing.Wait())
	const forever = "public, max-age=31536000, immutable"
	for path, want := range map[string]struct {
		cache, vary, encoding string
	}{
		"checkpoint":             {"no-cache", "", ""},
		"tile/0/000":             {forever, "", ""},
		"tile/1/000.p/1":         {"public, max-age=60", "", ""},
		"tile/entries/000":       {forever, "Accept-Encoding", "gzip"},
		"tile/entries/001.p/1":   {"public, max-age=60", "Accept-Encoding", "gzip"},
		"tile/entries/000.p/100": {"public, max-age=60", "Accept-Encoding", "gzip"},
	} {
		path = "/api/v2/" + path
		plain := h.ask("GET", path, "", "", "Accept-Encoding", "br, gzip;q=0")
		packed := h.ask("GET", path, "", "", "Accept-Encoding", "br;q=1, gzip;q=0.5")
		if plain.status != 200 || plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != want.vary || plain.header.Get("Cache-Control") != want.cache {
			t.Errorf("%s: %d %v", path, plain.status, plain.header)
		}
		if packed.header.Get("Content-Encoding") != want.encoding || packed.header.Get("ETag") != plain.header.Get("ETag") {
			t.Errorf("%s, compressed: %v", path, packed.header)
		}
		content := packed.body
		if want.encoding == "gzip" {
			r, err := gzip.NewReader(bytes.NewReader(packed.body))
			h.must(err)
			content, err = io.ReadAll(r)
			h.must(err)
			if len(packed.body) >= len(content) {
				t.Errorf("%s: %d bytes became %d", path, len(content), len(packed.body))
			}
		}
		if !bytes.Equal(content, plain.body) {
			t.Errorf("%s: the compressed content differs", path)
		}
		again := h.ask("GET", path, "", "", "If-None-Match", `"other", `+plain.header.Get("ETag"))
		if again.status != http.StatusNotModified || len(again.body) > 0 || again.header.Get("Cache-Control") != want.cache {
			t.Errorf("%s, had already: %d %v", path, again.status, again.header)
		}
		if got := h.ask("GET", path, "", "", "If-None-Match", `"other"`); got.status != 200 || !bytes.Equal(got.body, plain.body) {
			t.Errorf("%s, had another: %d", path, got.status)
		}
	}
	if got := h.ask("GET", "/api/v2/tile/0/001", "", "", "If-None-Match", "*"); got.status != http.StatusNotFound || got.header.Get("ETag") != "" || strings.Contains(got.header.Get("Cache-Control"), "public") {
		t.Errorf("what is not there: %d %v", got.status, got.header)
	}
}
