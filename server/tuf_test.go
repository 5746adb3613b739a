package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
)

// TestTUFRepository: the client library that stock verifiers use gets both
// documents, and they are the ones of /v1/trust.
func TestTUFRepository(t *testing.T) {
	h := open(t)
	anchor := h.ask("GET", "/tuf/root.json", "", "")
	if anchor.status != http.StatusOK || anchor.header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("root.json: %d %v", anchor.status, anchor.header)
	}
	client, err := tuf.New(tuf.DefaultOptions().WithRoot(anchor.body).WithRepositoryBaseURL(h.url + "/tuf").WithCachePath(t.TempDir()))
	h.must(err)
	for target, path := range map[string]string{"trusted_root.json": "/v1/trust/trusted_root.json", "signing_config.v0.2.json": "/v1/trust/signing_config.json"} {
		got, err := client.GetTarget(target)
		h.must(err)
		if want := h.ask("GET", path, "", ""); string(got) != string(want.body) {
			t.Errorf("%s differs from %s:\n%s\n%s", target, path, got, want.body)
		}
	}
	document, err := client.GetTarget("trusted_root.json")
	h.must(err)
	_, err = root.NewTrustedRootFromJSON(document)
	h.must(err)
	if got := h.ask("GET", "/tuf/1.root.json", "", ""); !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
		t.Errorf("1.root.json: %v", got.header)
	}
	metrics := h.ask("GET", "/metrics", h.secret, "")
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		if !strings.Contains(string(metrics.body), `countersign_tuf_expiry_timestamp_seconds{role="`+role+`"}`) {
			t.Errorf("no expiry of %s in the metrics", role)
		}
	}
}

// I7: what is not a file of the repository is a 404 that says nothing, in
// whatever spelling; clients take it for the end of the chain of roots.
func TestTUFPaths(t *testing.T) {
	h := open(t)
	for _, path := range []string{
		"/tuf/", "/tuf/2.root.json", "/tuf/snapshot.json", "/tuf/work/online.json", "/tuf/work/lock", "/tuf/targets/", "/tuf/targets",
		"/tuf/../admin.token", "/tuf/%2e%2e/admin.token", "/tuf/..%2fadmin.token", "/tuf/targets/../../admin.token", "/tuf//root.json",
		"/tuf/root.json/", "/tuf/%72oot.json%00", "/tuf/targets%2f..%2froot.json", "/tuf/./root.json", "/tuf/1.root%2ejson", "/tuf/master.key",
		"/tuf/" + strings.Repeat("a", 4000),
	} {
		got := h.rawPath(path)
		if got.status != http.StatusNotFound || strings.Contains(string(got.body), h.dir) || strings.Contains(string(got.body), "cst_") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := h.rawPath("/tuf/root.json"); got.status != http.StatusOK { // positive control
		t.Errorf("root.json: %d %s", got.status, got.body)
	}
	if got := h.ask("PUT", "/tuf/root.json", h.secret, "{}"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", got.status)
	}
}
