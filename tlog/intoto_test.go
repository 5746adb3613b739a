package tlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
)

// Rekor v1's older entries of envelopes, in their one form.
func TestInTotoBodies(t *testing.T) {
	authority, key := testauthority.New(t), testauthority.NewECDSA(t)
	draft := authority.LegacyAttestation([]byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`), key, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	payload, envelope := sha256.Sum256(draft.Statement), sha256.Sum256(draft.Payload)
	for _, kind := range []string{"intoto 0.0.1", "intoto 0.0.2"} {
		draft.Kind = kind
		draft.Relog()
		got, err := tlog.ParseBody(draft.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kind+" "+got.Version != kind || !bytes.Equal(got.Digest, payload[:]) || !key.PublicKey.Equal(got.PublicKey) {
			t.Errorf("%s: %+v", kind, got)
		}
		if first := kind == "intoto 0.0.1"; first != bytes.Equal(got.EnvelopeDigest, envelope[:]) || first == bytes.Equal(got.Signature, draft.Signature) {
			t.Errorf("%s: %+v", kind, got)
		}
		text := string(draft.Body)
		for name, spoiled := range map[string]string{
			"white space":       strings.Replace(text, ":", ": ", 1),
			"unknown field":     strings.Replace(text, `"kind"`, `"king":1,"kind"`, 1),
			"unknown version":   strings.Replace(text, `"apiVersion":"0.0.`, `"apiVersion":"0.1.`, 1),
			"unknown algorithm": strings.ReplaceAll(text, `"algorithm":"sha256"`, `"algorithm":"sha1"`),
			"short digest":      strings.Replace(text, `"value":"`, `"value":"00`, 1),
			"no payload digest": strings.Replace(text, `"payloadHash"`, `"payloadHesh"`, 1),
			"no key":            strings.Replace(text, base64.StdEncoding.EncodeToString(testauthority.PublicPEM(t, key.Public())), "", 1),
			"signature in hex":  strings.Replace(text, base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(draft.Signature))), "", 1),
			"cut":               text[:len(text)-1],
		} {
			if spoiled == text {
				continue // a field of the other version
			}
			if _, err := tlog.ParseBody([]byte(spoiled)); !errors.Is(err, tlog.ErrBody) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
	var two map[string]any
	if err := json.Unmarshal(draft.Body, &two); err != nil {
		t.Fatal(err)
	}
	list := two["spec"].(map[string]any)["content"].(map[string]any)["envelope"].(map[string]any)
	list["signatures"] = append(list["signatures"].([]any), list["signatures"].([]any)[0])
	raw, err := json.Marshal(two)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.ParseBody(raw); !errors.Is(err, tlog.ErrBody) {
		t.Errorf("two signatures: %v", err)
	}
}
