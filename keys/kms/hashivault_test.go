package kms

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

const vaultToken = "hvs.this-is-the-token-of-a-test"

// newTransit is the transit engine's contract: GET keys/NAME and PUT
// sign/NAME/HASH, both with the token.
func newTransit(t *testing.T) *shelf {
	t.Helper()
	s := newShelf(t)
	answer := func(w http.ResponseWriter, status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	web := httptest.NewServer(s.faulty(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != vaultToken {
			answer(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
			return
		}
		part := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/")
		if !strings.HasPrefix(r.URL.Path, "/v1/transit/") || len(part) < 2 {
			t.Errorf("path %s", r.URL.Path)
			return
		}
		private, version := s.current(part[1])
		switch {
		case private == nil:
			answer(w, http.StatusNotFound, map[string]any{"errors": []string{}})
		case part[0] == "keys" && r.Method == http.MethodGet && len(part) == 2:
			answer(w, http.StatusOK, map[string]any{"data": map[string]any{
				"latest_version": version, "keys": map[string]any{fmt.Sprint(version): map[string]any{"name": "x", "public_key": publicPEM(t, private)}},
			}})
		case part[0] == "sign" && r.Method == http.MethodPut && len(part) == 3:
			signature := s.transitSign(r, private, part[2])
			answer(w, http.StatusOK, map[string]any{"data": map[string]any{
				"signature": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(signature)),
			}})
		default:
			t.Errorf("%s %s is none of the contract's", r.Method, r.URL.Path)
		}
	}))
	t.Cleanup(web.Close)
	t.Setenv("VAULT_ADDR", web.URL)
	t.Setenv("VAULT_TOKEN", vaultToken)
	t.Setenv("TRANSIT_SECRET_ENGINE_PATH", "")
	return s
}

func (s *shelf) transitSign(r *http.Request, private crypto.Signer, hash string) []byte {
	var body struct {
		Input     []byte `json:"input"`
		Prehashed bool   `json:"prehashed"`
		Algorithm string `json:"signature_algorithm"`
		Marshal   string `json:"marshaling_algorithm"`
		Version   string `json:"key_version"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		s.t.Error(err)
	}
	if !body.Prehashed || body.Algorithm != "pkcs1v15" || body.Marshal != "" && body.Marshal != "asn1" || body.Version != "0" {
		s.t.Errorf("sign was asked for %+v", body)
	}
	hashes := map[string]crypto.Hash{"sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384}
	if hashes[hash] == 0 {
		s.t.Errorf("hash %s", hash)
		return nil
	}
	return s.sign(private, body.Input, hashes[hash])
}

func TestBackendHashivaultDouble(t *testing.T) {
	t.Log("a double of the transit engine; HashiCorp Vault itself was not run")
	s := newTransit(t)
	const scheme = "hashivault://"
	keystest.Run(t, s.peer(keys.BackendHashivault, Backends()[keys.BackendHashivault],
		func(key string) string { return scheme + key }, func(ref string) string { return strings.TrimPrefix(ref, scheme) }))
}

// TestVaultToken is row K1 for tokens, and shows that a renewed one is used.
func TestVaultToken(t *testing.T) {
	s := newTransit(t)
	s.put("release", keys.ECDSAP256)
	backend := Backends()[keys.BackendHashivault]
	opened, err := backend.Open(t.Context(), "hashivault://release")
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New().Sum(nil)
	const wrong = "hvs.another-token"
	t.Setenv("VAULT_TOKEN", wrong)
	_, err = backend.Open(t.Context(), "hashivault://release")
	if !errors.Is(err, keys.ErrRefused) || strings.Contains(err.Error(), wrong) {
		t.Fatalf("a token that Vault refuses: %v", err)
	}
	remote, ok := opened.(*key)
	if !ok {
		t.Fatal("not a key of this package")
	}
	if remote.client, err = remote.service.load(t.Context(), remote.ref); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_TOKEN", vaultToken)
	if _, err := opened.SignDigest(t.Context(), digest, crypto.SHA256); !errors.Is(err, keys.ErrRefused) {
		t.Fatalf("with the old token: %v", err)
	}
	if _, err := opened.SignDigest(t.Context(), digest, crypto.SHA256); err != nil {
		t.Fatalf("with the renewed token: %v", err)
	}
}
