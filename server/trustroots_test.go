package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
)

// TestTrustRoots: the public Sigstore instance's file is kept, answered as it
// was given, and replaced and deleted like every managed object.
func TestTrustRoots(t *testing.T) {
	h := open(t)
	public, err := os.ReadFile(filepath.Join("..", "verifier", "testdata", "sigstore", "public-good.json"))
	h.must(err)
	made, err := h.admin.PutTrustRoot(t.Context(), "sigstore", public, api.PutOptions{})
	h.must(err)
	if made.Name != "sigstore" || made.Revision == 0 || len(made.CertificateAuthorities) == 0 || len(made.Logs) == 0 || len(made.CTLogs) == 0 {
		t.Errorf("made %+v", made)
	}
	got, err := h.admin.TrustRoot(t.Context(), "sigstore")
	h.must(err)
	want, err := trust.ParseTrustedRoot(public)
	h.must(err)
	kept, err := trust.ParseTrustedRoot(got.TrustedRoot)
	h.must(err)
	if len(kept.Logs) != len(want.Logs) || len(kept.CertificateAuthorities) != len(want.CertificateAuthorities) || len(kept.CTLogs) != len(want.CTLogs) {
		t.Errorf("kept %s", got.TrustedRoot)
	}
	list, err := h.admin.TrustRoots(t.Context(), api.ListOptions{})
	h.must(err)
	if len(list.Items) != 1 || list.Items[0].Name != "sigstore" {
		t.Errorf("list %+v", list)
	}
	if refused := h.ask("PUT", "/v1/trust-roots/sigstore", h.secret, string(public)); refused.status != http.StatusPreconditionRequired {
		t.Errorf("replacing without If-Match: %d", refused.status)
	}
	_, err = h.admin.PutTrustRoot(t.Context(), "sigstore", public, api.PutOptions{Revision: made.Revision})
	h.must(err)
	h.must(h.admin.Delete(t.Context(), "trust-roots", "sigstore", api.PutOptions{}))
	if gone := h.ask("GET", "/v1/trust-roots/sigstore", h.secret, ""); gone.status != http.StatusNotFound {
		t.Errorf("after delete: %d", gone.status)
	}
}

func TestOwnTrustRoot(t *testing.T) {
	h := open(t)
	own, err := h.admin.TrustRoot(t.Context(), "self")
	h.must(err)
	document, err := h.admin.TrustedRoot(t.Context())
	h.must(err)
	if own.Revision != 0 || string(own.TrustedRoot) != string(document) {
		t.Errorf("self is %s, want %s", own.TrustedRoot, document)
	}
	if refused := h.ask("PUT", "/v1/trust-roots/self", h.secret, string(document)); refused.status != http.StatusBadRequest {
		t.Errorf("self was replaced: %d %s", refused.status, refused.body)
	}
	if refused := h.ask("DELETE", "/v1/trust-roots/self", h.secret, ""); refused.status != http.StatusNotFound {
		t.Errorf("self was deleted: %d", refused.status)
	}
}

func TestTrustRootRefused(t *testing.T) {
	h := open(t)
	raw, err := os.ReadFile(filepath.Join("..", "verifier", "testdata", "sigstore", "public-good.json"))
	h.must(err)
	public := string(raw)
	const path = "/v1/trust-roots/other"
	for name, document := range map[string]string{
		"empty":             "",
		"not JSON":          "x",
		"null":              "null",
		"trusts nobody":     `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`,
		"no media type":     `{}`,
		"unknown field":     strings.Replace(public, "{", `{"extra":1,`, 1),
		"duplicate field":   strings.Replace(public, "{", `{"tlogs":[],`, 1),
		"key cut short":     strings.Replace(public, `"rawBytes": "MFkw`, `"rawBytes": "MFkx`, 1),
		"another mediaType": strings.Replace(public, "version=0.1", "version=9", 1),
	} {
		if got := h.ask("PUT", path, h.secret, document); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := h.ask("PUT", path, h.secret, public, "Content-Type", "application/yaml"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("another media type: %d", got.status)
	}
	if got := h.ask("PUT", path, h.secret, public); got.status != http.StatusCreated {
		t.Errorf("control: %d %s", got.status, got.body)
	}
}
