package server_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/server/api"
)

// hashedRekord is a Rekor v2 create-entry request with a key of its own.
func hashedRekord(t *testing.T, content string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(content))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": digest[:],
		"signature": map[string]any{
			"content":  signature,
			"verifier": map[string]any{"publicKey": map[string]any{"rawBytes": der}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(request)
}

// TestLogInterface: Rekor v2's write side and the tlog-tiles read side.
func TestLogInterface(t *testing.T) {
	h := open(t)
	c, secret := h.as("writer", "signer")
	before := h.settled()
	request := hashedRekord(t, "one")
	made := h.ask("POST", "/api/v2/log/entries", secret, request)
	if made.status != http.StatusCreated || !strings.Contains(string(made.body), `"inclusionProof"`) {
		t.Fatalf("entry: %d %s", made.status, made.body)
	}
	again, err := c.AddLogEntry(t.Context(), []byte(request))
	h.must(err)
	for _, entry := range [][]byte{made.body, again} {
		var e struct {
			LogIndex string `json:"logIndex"`
		}
		h.must(json.Unmarshal(entry, &e))
		if e.LogIndex != strconv.Itoa(before) && (e.LogIndex != "" || before > 0) {
			t.Errorf("the repeated entry has index %q", e.LogIndex)
		}
	}
	note := h.ask("GET", "/api/v2/checkpoint", "", "")
	if note.header.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(string(note.body), fmt.Sprintf("127.0.0.1\n%d\n", before+1)) {
		t.Errorf("checkpoint: %v %s", note.header, note.body)
	}
	tile := h.ask("GET", "/api/v2/tile/0/000.p/1", "", "")
	if tile.status != http.StatusOK || len(tile.body) != 32 || strings.Contains(tile.header.Get("Cache-Control"), "immutable") {
		t.Errorf("partial tile: %d %d bytes %s", tile.status, len(tile.body), tile.header.Get("Cache-Control"))
	}
	if got := h.ask("GET", "/api/v2/tile/entries/000.p/1", "", ""); got.status != http.StatusOK {
		t.Errorf("entry bundle: %d", got.status)
	}
	for path, status := range map[string]int{"/api/v2/tile/0/001": 404, "/api/v2/tile/0/x": 400, "/api/v2/tile/": 404, "/api/v2/tile/checkpoint": 400, "/v1/log/entries/99": 404, "/v1/log/entries/x": 400, "/v1/log/entries/-1": 400} {
		if got := h.ask("GET", path, "", ""); got.status != status {
			t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
		}
	}
	forged := strings.Replace(request, `"digest":"`, `"digest":"AAAA`, 1)
	for _, bad := range []string{"", "{}", "null", `{"hashedRekordRequestV002":null}`, forged, `{"surprise":1}`, request + "{}"} {
		if got := h.ask("POST", "/api/v2/log/entries", secret, bad); got.status != http.StatusBadRequest {
			t.Errorf("bad request: %d %s", got.status, got.body)
		}
	}
}

func TestAnonymousLogWrites(t *testing.T) {
	h := open(t, func(c *daemon.Config) { c.AnonymousLogWrites, c.AnonymousVerify = true, true })
	if got := h.ask("POST", "/api/v2/log/entries", "", hashedRekord(t, "one")); got.status != http.StatusCreated {
		t.Errorf("anonymous entry: %d %s", got.status, got.body)
	}
	if got := h.ask("POST", "/v1/verify", "", `{"images":["r.example/a:1"]}`); got.status != http.StatusOK || !strings.Contains(string(got.body), "registry_not_trusted") {
		t.Errorf("anonymous verify: %d %s", got.status, got.body)
	}
	if got := h.ask("POST", "/v1/verify", "cst_wrong", `{"images":["r.example/a:1"]}`); got.status != http.StatusUnauthorized {
		t.Errorf("bad credentials where none are needed: %d", got.status)
	}
	if got := h.ask("GET", "/v1/keys", "", ""); got.status != http.StatusUnauthorized {
		t.Errorf("keys stay closed: %d", got.status)
	}
}

func TestTimestampInterface(t *testing.T) {
	h := open(t)
	query, err := timestamp.CreateRequest(strings.NewReader("x"), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true})
	h.must(err)
	reply, err := h.client("").Timestamp(t.Context(), query)
	h.must(err)
	stamp, err := timestamp.ParseResponse(reply)
	h.must(err)
	sum := sha256.Sum256([]byte("x"))
	if !bytes.Equal(stamp.HashedMessage, sum[:]) {
		t.Error("the stamp is of something else")
	}
	chain, err := h.client("").TimestampChain(t.Context())
	h.must(err)
	if block, _ := pem.Decode(chain); block == nil || block.Type != "CERTIFICATE" {
		t.Error("no certificate chain")
	}
	for _, bad := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"not DER", "application/timestamp-query", "nonsense", 400},
		{"too large", "application/timestamp-query", strings.Repeat("a", 5000), 413},
		{"other type", "application/json", "{}", 415},
	} {
		if got := h.ask("POST", "/api/v1/timestamp", "", bad.body, "Content-Type", bad.contentType); got.status != bad.status {
			t.Errorf("%s: %d %s", bad.name, got.status, got.body)
		}
	}
}

// TestTrustDocuments: sigstore-go accepts what is served.
func TestTrustDocuments(t *testing.T) {
	h := open(t)
	document, err := h.client("").TrustedRoot(t.Context())
	h.must(err)
	trusted, err := root.NewTrustedRootFromJSON(document)
	h.must(err)
	if len(trusted.RekorLogs()) != 1 || len(trusted.TimestampingAuthorities()) != 1 {
		t.Errorf("trusted root: %s", document)
	}
	config, err := h.client("").SigningConfig(t.Context())
	h.must(err)
	signing, err := root.NewSigningConfigFromJSON(config)
	h.must(err)
	if len(signing.RekorLogURLs()) != 1 || signing.RekorLogURLs()[0].URL != h.url {
		t.Errorf("signing config: %s", config)
	}
}

// TestRequestIDs: an id is always there, a harmless one is kept, another not.
func TestRequestIDs(t *testing.T) {
	h := open(t)
	if got := h.ask("GET", "/healthz", "", "", "X-Request-Id", "mine-1"); got.header.Get("X-Request-Id") != "mine-1" {
		t.Errorf("kept: %v", got.header)
	}
	for _, bad := range []string{"a b", strings.Repeat("a", 65), "<script>"} {
		if got := h.ask("GET", "/healthz", "", "", "X-Request-Id", bad); got.header.Get("X-Request-Id") == bad || len(got.header.Get("X-Request-Id")) != 36 {
			t.Errorf("%q gave %q", bad, got.header.Get("X-Request-Id"))
		}
	}
	trace := fmt.Sprintf("00-%s-%s-01", strings.Repeat("ab", 16), strings.Repeat("cd", 8))
	got := h.ask("GET", "/v1/nothing", h.secret, "", "Traceparent", trace)
	if got.header.Get("Traceparent") != trace || !strings.Contains(h.log.String(), strings.Repeat("ab", 16)) {
		t.Error("traceparent is not honoured")
	}
	var p api.Problem
	h.must(json.Unmarshal(got.body, &p))
	if p.Instance != got.header.Get("X-Request-Id") || p.Code != "no_such_route" {
		t.Errorf("problem: %+v", p)
	}
}
