package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

const specFile = "openapi.json"

// TestOpenAPIIsCommitted keeps openapi.json at the root equal to the code.
func TestOpenAPIIsCommitted(t *testing.T) {
	h := open(t)
	served := h.ask(http.MethodGet, "/openapi.json", "", "")
	if served.status != http.StatusOK {
		t.Fatalf("status %d", served.status)
	}
	path := filepath.Join("..", specFile)
	if flag.Lookup("update").Value.String() == "true" {
		h.must(os.WriteFile(path, served.body, 0o644))
	}
	committed, err := os.ReadFile(path)
	h.must(err)
	if !bytes.Equal(committed, served.body) {
		t.Error("openapi.json differs from the code; run: go test ./server -run TestOpenAPIIsCommitted -update")
	}
	var document struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	h.must(json.Unmarshal(served.body, &document))
	if !strings.HasPrefix(document.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s, want 3.1", document.OpenAPI)
	}
}

// checked is a transport that holds every answer against openapi.json.
type checked struct {
	t    *testing.T
	next http.RoundTripper
	spec validator.Validator
	seen map[string]bool
}

func newChecked(t *testing.T, next http.RoundTripper) *checked {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", specFile))
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("openapi.json: %s: %s", p.Message, p.Reason)
		}
	}
	return &checked{t: t, next: next, spec: v, seen: map[string]bool{}}
}

// RoundTrip forwards and checks.
func (c *checked) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	resp.Body.Close()
	resp.Body = readCloser(body.Bytes())
	copied := *resp
	copied.Body = readCloser(body.Bytes())
	c.seen[req.Method+" "+req.URL.Path] = true
	if ok, problems := c.spec.ValidateHttpResponse(req, &copied); !ok {
		for _, p := range problems {
			c.t.Errorf("%s %s answered %d: %s: %s", req.Method, req.URL.Path, resp.StatusCode, p.Message, p.Reason)
			for _, s := range p.SchemaValidationErrors {
				c.t.Errorf("  %s at %s in %s", s.Reason, s.FieldPath, body.String())
			}
		}
	}
	return resp, nil
}

// TestSpecCheckNotices is the control of checked: an answer that does not fit
// is noticed.
func TestSpecCheckNotices(t *testing.T) {
	spec := newChecked(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/keys/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: readCloser([]byte(`{"name":7}`)), Request: req}
	if ok, _ := spec.spec.ValidateHttpResponse(req, resp); ok {
		t.Error("a key whose name is a number fits the spec")
	}
}
