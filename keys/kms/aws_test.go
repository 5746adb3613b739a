package kms

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

// newAWS is the part of AWS KMS's JSON 1.1 protocol that the client uses. It
// checks that requests are signed, not the signatures.
func newAWS(t *testing.T) *shelf {
	t.Helper()
	s := newShelf(t)
	fault := func(w http.ResponseWriter, status int, kind string) {
		w.Header().Set("X-Amzn-Errortype", kind)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":"refused"}`, kind)
	}
	web := httptest.NewServer(s.faulty(func(w http.ResponseWriter, r *http.Request) {
		if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDTEST/") || !strings.Contains(auth, "/eu-west-1/kms/aws4_request") {
			t.Errorf("authorization %q", auth)
		}
		var body struct {
			KeyID       string `json:"KeyId"`
			Message     []byte
			MessageType string
			Algorithm   string `json:"SigningAlgorithm"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("body: %v", err)
		}
		private, _ := s.current(strings.TrimPrefix(body.KeyID, "alias/"))
		if private == nil {
			fault(w, http.StatusBadRequest, "NotFoundException")
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		algorithm, hash := awsAlgorithm(private)
		switch action := r.Header.Get("X-Amz-Target"); action {
		case "TrentService.GetPublicKey":
			_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": body.KeyID, "PublicKey": spki(t, private)})
		case "TrentService.DescribeKey":
			_ = json.NewEncoder(w).Encode(map[string]any{"KeyMetadata": map[string]any{"KeyId": body.KeyID, "SigningAlgorithms": []string{algorithm}}})
		case "TrentService.Sign":
			if body.MessageType != "DIGEST" {
				t.Errorf("message type %s", body.MessageType)
			}
			if body.Algorithm != algorithm {
				fault(w, http.StatusBadRequest, "InvalidKeyUsageException")
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": body.KeyID, "Signature": s.sign(private, body.Message, hash)})
		default:
			t.Errorf("action %q is none of the contract's", action)
		}
	}))
	t.Cleanup(web.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", web.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "eu-west-1")
	return s
}

func awsAlgorithm(private crypto.Signer) (string, crypto.Hash) {
	if k, ok := private.Public().(*ecdsa.PublicKey); ok {
		switch k.Curve.Params().BitSize {
		case 256:
			return "ECDSA_SHA_256", crypto.SHA256
		case 384:
			return "ECDSA_SHA_384", crypto.SHA384
		default:
			return "ECDSA_SHA_512", crypto.SHA512
		}
	}
	return "RSASSA_PKCS1_V1_5_SHA_256", crypto.SHA256
}

func TestBackendAWSDouble(t *testing.T) {
	t.Log("a double of AWS KMS; the service itself was not called")
	s := newAWS(t)
	const scheme = "awskms:///alias/"
	keystest.Run(t, s.peer(keys.BackendAWS, Backends()[keys.BackendAWS],
		func(key string) string { return scheme + key }, func(ref string) string { return strings.TrimPrefix(ref, scheme) }))
}
