package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/server/api"
)

// TestRevisions: creating needs no If-Match, replacing does, and a stale one is
// told from a missing one.
func TestRevisions(t *testing.T) {
	h := open(t)
	const path, one = "/v1/registries/r.example", `{"repositories":["a/**"]}`
	made := h.ask("PUT", path, h.secret, one)
	tag := made.header.Get("ETag")
	if made.status != http.StatusCreated || made.header.Get("Location") != path || !strings.HasPrefix(tag, `"`) {
		t.Fatalf("create: %d %v %s", made.status, made.header, made.body)
	}
	for _, c := range []struct {
		name, method, header, value string
		status                      int
	}{
		{"replace without If-Match", "PUT", "X-None", "1", 428},
		{"replace a stale revision", "PUT", "If-Match", `"99"`, 412},
		{"replace by a weak tag", "PUT", "If-Match", "W/" + tag, 412},
		{"create only", "PUT", "If-None-Match", "*", 412},
		{"delete a stale revision", "DELETE", "If-Match", `"99"`, 412},
		{"get what is known", "GET", "If-None-Match", tag, 304},
		{"get what changed", "GET", "If-None-Match", `"99"`, 200},
	} {
		body := ""
		if c.method == "PUT" {
			body = one
		}
		if got := h.ask(c.method, path, h.secret, body, c.header, c.value); got.status != c.status || (c.status == 304) != (len(got.body) == 0) {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
	replaced := h.ask("PUT", path, h.secret, one, "If-Match", tag)
	if replaced.status != http.StatusOK || replaced.header.Get("ETag") == tag {
		t.Errorf("replace: %d %s", replaced.status, replaced.header.Get("ETag"))
	}
	if got := h.ask("PUT", "/v1/registries/none.example", h.secret, one, "If-Match", `"1"`); got.status != 412 {
		t.Errorf("If-Match on nothing: %d", got.status)
	}
	if got := h.ask("DELETE", path, h.secret, "", "If-Match", replaced.header.Get("ETag")); got.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	if got := h.ask("GET", path, h.secret, ""); got.status != http.StatusNotFound {
		t.Errorf("after delete: %d", got.status)
	}
}

// TestPages: cursors walk a list once, without totals.
func TestPages(t *testing.T) {
	h := open(t)
	for i := range 5 {
		_, err := h.admin.CreateKey(t.Context(), api.KeyRequest{Name: "k" + strconv.Itoa(i)})
		h.must(err)
	}
	seen := map[string]int{}
	cursor, pages := "", 0
	for {
		l, err := h.admin.Keys(t.Context(), api.ListOptions{Limit: 2, Cursor: cursor})
		h.must(err)
		for _, k := range l.Items {
			seen[k.Name]++
		}
		pages++
		if cursor = l.NextCursor; cursor == "" {
			break
		}
	}
	// The service's own key of summaries is the sixth.
	if len(seen) != 6 || seen["k3"] != 1 || pages < 3 {
		t.Errorf("%d pages: %v", pages, seen)
	}
	if got := h.ask("GET", "/v1/keys?limit=201", h.secret, ""); got.status != http.StatusBadRequest {
		t.Errorf("limit 201: %d", got.status)
	}
}

// TestPolicyDocuments: YAML and JSON, refused at load with the place (E1, C3),
// and named as the path says.
func TestPolicyDocuments(t *testing.T) {
	h := open(t)
	document := strings.ReplaceAll(releasePolicy, "%s", "r.example")
	if got := h.ask("PUT", "/v1/policies/production", h.secret, document, "Content-Type", "text/plain"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", got.status)
	}
	for name, bad := range map[string]string{
		"unknown field": document + "  surprise: 1\n",
		"empty list":    strings.Replace(document, `["r.example/**"]`, `[]`, 1),
		"threshold 0":   strings.Replace(document, "all: [{signature: {by: release}}]", "atLeast: {n: 0, of: [{signature: {by: release}}]}", 1),
		"threshold 2":   strings.Replace(document, "all: [{signature: {by: release}}]", "atLeast: {n: 2, of: [{signature: {by: release}}]}", 1),
		"no authority":  strings.Replace(document, "by: release", "by: nobody", 1),
		"regexp":        strings.Replace(document, "release: {key: {name: release}}", "release: {identity: {subjectRegExp: x}}", 1),
		"other name":    strings.Replace(document, "name: production", "name: staging", 1),
		"duplicate key": document + "kind: TrustPolicy\n",
	} {
		got := h.ask("PUT", "/v1/policies/production", h.secret, bad, "Content-Type", "application/yaml")
		if got.status != http.StatusBadRequest && got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	p, err := h.admin.PutPolicy(t.Context(), "production", []byte(document), api.PutOptions{})
	h.must(err)
	if got := h.ask("PUT", "/v1/policies/production", h.secret, string(p.Document), "If-Match", `"`+strconv.FormatInt(p.Revision, 10)+`"`); got.status != http.StatusOK {
		t.Errorf("its own JSON: %d %s", got.status, got.body)
	}
}

// TestServiceKeysAreNotThere: the log's and the timestamp authority's keys
// cannot be read or changed under /v1/keys, nor made.
func TestServiceKeysAreNotThere(t *testing.T) {
	h := open(t)
	for _, name := range []string{"countersign-log", "countersign-tsa"} {
		for _, verb := range []string{"GET /v1/keys/", "GET /v1/keys/%/public", "POST /v1/keys/%/rotate", "POST /v1/keys/%/retire"} {
			method, path, _ := strings.Cut(verb, " ")
			if !strings.Contains(path, "%") {
				path += "%"
			}
			if got := h.ask(method, strings.Replace(path, "%", name, 1), h.secret, ""); got.status != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", verb, name, got.status, got.body)
			}
		}
	}
	_, err := h.admin.CreateKey(t.Context(), api.KeyRequest{Name: "mine", Purposes: []string{"log"}})
	wantProblem(t, err, http.StatusUnprocessableEntity, "unsupported")
	l, err := h.admin.Keys(t.Context(), api.ListOptions{})
	h.must(err)
	if len(l.Items) != 1 || l.Items[0].Name != "countersign-vsa" {
		t.Errorf("a fresh service lists %d keys", len(l.Items))
	}
}
