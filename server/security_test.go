package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/server/api"
)

// served lists every route that openapi.json names, with parameters filled in.
func served(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", specFile))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	var routes []string
	for path, methods := range document.Paths {
		path = strings.NewReplacer("{index}", "0", "{path}", "0/000", "{digest}", "sha256:"+strings.Repeat("0", 64)).Replace(path)
		path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "x")
		for method := range methods {
			routes = append(routes, strings.ToUpper(method)+" "+path)
		}
	}
	if len(routes) < 50 {
		t.Fatalf("only %d routes in openapi.json", len(routes))
	}
	return routes
}

// anonymous is what API.md lets anybody ask.
func anonymous(route string) bool {
	for _, open := range []string{
		"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /api/v2/checkpoint", "GET /api/v2/tile/", "GET /v1/log/",
		"GET /v1/trust/", "GET /api/v1/timestamp/certchain", "POST /api/v1/timestamp", "GET /tuf/",
		"GET /api/v2/trustBundle", "GET /api/v2/configuration", "GET /shards/", "POST /shards/",
	} {
		if strings.HasPrefix(route, open) && route != "GET /v1/log/mode" {
			return true
		}
	}
	return false
}

// authenticatesItself is a protocol whose credentials are part of its request;
// its own tests refuse it everything.
func authenticatesItself(route string) bool { return strings.HasSuffix(route, "/signingCert") }

// may is what each role alone may call, written down apart from the role table
// so that a slip there shows here.
func may(role, route string) bool {
	reads := func(names ...string) bool {
		for _, n := range names {
			if route == "GET /v1/"+n || strings.HasPrefix(route, "GET /v1/"+n+"/") {
				return true
			}
		}
		return false
	}
	switch {
	case anonymous(route), route == "GET /v1/me", route == "GET /v1/log/mode":
		return true
	case role == "admin":
		return true
	}
	auditor := reads("signatures", "attestations", "operations", "keys", "registries", "policies", "exceptions", "forecast", "grants", "issuers", "trust-roots", "authorities", "tokens", "artifacts", "decisions", "audit") ||
		route == "POST /v1/grants/check" || route == "GET /metrics"
	switch role {
	case "verifier":
		return reads("verify", "signatures", "attestations", "keys", "policies", "exceptions", "artifacts") || strings.HasPrefix(route, "GET /v1/decisions/") ||
			route == "POST /v1/verify" || route == "POST /v1/verify/blob" ||
			strings.HasPrefix(route, "POST /v1/admission/") || strings.HasPrefix(route, "POST /ratify/gatekeeper/")
	case "signer":
		return reads("signatures", "attestations", "operations", "keys", "artifacts") || route == "POST /v1/signatures" ||
			route == "POST /v1/attestations" || strings.HasSuffix(route, "/ingest") || route == "POST /v1/provenance" || route == "POST /api/v2/log/entries"
	case "auditor":
		return auditor
	case "security":
		changes := !strings.HasPrefix(route, "GET ") && (strings.Contains(route, "/v1/keys") || strings.Contains(route, "/v1/registries") ||
			strings.Contains(route, "/v1/policies") || strings.Contains(route, "/v1/grants") || strings.Contains(route, "/v1/issuers") ||
			strings.Contains(route, "/v1/trust-roots") || strings.Contains(route, "/v1/exceptions") || strings.Contains(route, "/ingest"))
		return auditor || changes
	}
	return false
}

// TestEveryRouteTakesItsRole asks every route without, with a wrong and with
// each low token (K3). Its positive control is that a permitted role gets past
// the door, to whatever the route then answers.
func TestEveryRouteTakesItsRole(t *testing.T) {
	h := open(t)
	secrets := map[string]string{"admin": h.secret}
	for _, role := range []string{"verifier", "signer", "auditor", "security"} {
		_, secrets[role] = h.as(role, role)
	}
	for _, route := range served(t) {
		if authenticatesItself(route) {
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		wrong := h.ask(method, path, "cst_"+strings.Repeat("A", 43), "")
		if wrong.status != http.StatusUnauthorized {
			t.Errorf("%s with an unknown token: %d, want 401", route, wrong.status)
		}
		without := h.ask(method, path, "", "")
		if (without.status == http.StatusUnauthorized) == anonymous(route) {
			t.Errorf("%s without a token: %d", route, without.status)
		}
		for role, secret := range secrets {
			got := h.ask(method, path, secret, "")
			refused := got.status == http.StatusForbidden && strings.Contains(string(got.body), `"code":"forbidden"`)
			if refused == may(role, route) || got.status == http.StatusUnauthorized {
				t.Errorf("%s as %s: %d %s", route, role, got.status, got.body)
			}
		}
	}
}

// TestOtherMethodsAreNotServed is the other half of K3: what is not a route
// does nothing for anybody.
func TestOtherMethodsAreNotServed(t *testing.T) {
	h := open(t)
	known := map[string]bool{}
	paths := map[string]bool{}
	for _, route := range served(t) {
		known[route] = true
		_, path, _ := strings.Cut(route, " ")
		paths[path] = true
	}
	for path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
			// A literal last segment can also be the name of an object.
			if known[method+" "+path] || known[method+" "+path[:strings.LastIndex(path, "/")]+"/x"] {
				continue
			}
			if got := h.ask(method, path, h.secret, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Content-Type") != api.ProblemType {
				t.Errorf("%s %s: %d", method, path, got.status)
			}
		}
	}
}

// TestNoDefaultCredential: K2. Nothing but the token of the data folder opens
// a fresh service, and no near miss of it.
func TestNoDefaultCredential(t *testing.T) {
	h := open(t)
	if got := h.ask("GET", "/v1/me", h.secret, ""); got.status != http.StatusOK {
		t.Fatalf("the admin token: %d", got.status)
	}
	for _, header := range []string{
		"Bearer ", "Bearer admin", "Bearer cst_", "Basic YWRtaW46YWRtaW4=", "Bearer " + h.secret[:len(h.secret)-1],
		"Bearer " + h.secret + "A", "Bearer " + strings.ToUpper(h.secret), h.secret, "Bearer  " + h.secret, "Bearer " + strings.Repeat("a", 1<<15),
	} {
		got := h.ask("GET", "/v1/me", "", "", "Authorization", header)
		if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("Authorization of %d bytes: %d", len(header), got.status)
		}
	}
	crossSite := h.ask("POST", "/v1/keys", h.secret, `{"name":"x"}`, "Sec-Fetch-Site", "cross-site")
	if crossSite.status != http.StatusForbidden || !strings.Contains(string(crossSite.body), "cross_origin") {
		t.Errorf("a cross-site POST: %d %s", crossSite.status, crossSite.body)
	}
}

// TestRevokedTokenFailsAtOnce: J4 at the door.
func TestRevokedTokenFailsAtOnce(t *testing.T) {
	h := open(t)
	c, _ := h.as("brief", "auditor")
	if _, err := c.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.must(h.admin.Delete(t.Context(), "tokens", "brief", api.PutOptions{}))
	_, err := c.Me(t.Context())
	wantProblem(t, err, http.StatusUnauthorized, "unauthenticated")
}

// TestOneSpellingPerPath: K4. No second spelling reaches a handler, and none
// is redirected.
func TestOneSpellingPerPath(t *testing.T) {
	h := open(t)
	if got := h.ask("GET", "/v1/keys", h.secret, ""); got.status != http.StatusOK {
		t.Fatalf("the one spelling: %d", got.status)
	}
	for _, path := range []string{
		"//v1/keys", "/v1//keys", "/v1/keys/", "/v1/keys//", "/v1/keys.", "/v1/./keys", "/v1/x/../keys", "/V1/keys", "/v1/KEYS",
		"/v1/%6beys/%2e%2e", "/v1/keys/%2e%2e/keys", "/v1%2fkeys", "/v1/keys%2f", "/v1/keys%00", "/v1/keys;x=1", "/v1/keys%3b", "/v1\\keys", "/v1/keys/a%2fpublic",
		"/v1/keys/a%252fpublic", "//healthz", "/healthz/", "/api/v2/tile//0/000", "/api/v2/tile/0/../0/000",
	} {
		got := h.rawPath(path)
		if got.status != http.StatusNotFound || got.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", path, got.status, got.header.Get("Location"))
		}
	}
}

// TestHostileJSON: H9, H7 and the strict decoding of the contract.
func TestHostileJSON(t *testing.T) {
	h := open(t)
	_, signer := h.as("signer", "signer")
	if got := h.ask("POST", "/v1/signatures", signer, `{"image":"x.example/a:1","key":"k"}`); got.status != http.StatusForbidden {
		t.Fatalf("the control: %d %s", got.status, got.body)
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	var many strings.Builder
	many.WriteString(`{"image":"x.example/a:1","annotations":{`)
	for i := range 50_000 {
		fmt.Fprintf(&many, `"k%d":"",`, i)
	}
	many.WriteString(`"z":""}}`)
	for name, body := range map[string]string{
		"deep":           deep,
		"deep in a list": `{"formats":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
		"unknown field":  `{"image":"x.example/a:1","key":"k","surprise":1}`,
		"duplicate":      `{"image":"x.example/a:1","image":"y.example/a:1","key":"k"}`,
		"other case":     `{"Image":"x.example/a:1","key":"k"}`,
		"trailing":       `{"image":"x.example/a:1","key":"k"} {}`,
		"null body":      `null`,
		"null field":     `{"image":"x.example/a:1","key":null}`,
		"null list":      `{"image":"x.example/a:1","key":"k","formats":null}`,
		"null item":      `{"image":"x.example/a:1","key":"k","formats":[null]}`,
		"null map":       `{"image":"x.example/a:1","key":"k","annotations":null}`,
		"null value":     `{"image":"x.example/a:1","key":"k","annotations":{"a":null}}`,
		"wrong type":     `{"image":7,"key":"k"}`,
		"list":           `[]`,
		"empty":          ` `,
		"bad UTF-8":      "{\"image\":\"\xff\",\"key\":\"k\"}",
		"not JSON":       `{`,
	} {
		got := h.ask("POST", "/v1/signatures", signer, body)
		if got.status != http.StatusBadRequest || !strings.Contains(string(got.body), `"code":"invalid_request"`) {
			t.Errorf("%s: %d %.300s", name, got.status, got.body)
		}
		if unauthenticated := h.ask("POST", "/v1/signatures", "", body); unauthenticated.status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", name, unauthenticated.status)
		}
	}
	if got := h.ask("POST", "/v1/signatures", signer, many.String()); got.status/100 != 4 || len(got.body) > 8<<10 {
		t.Errorf("many members: %d, %d bytes of answer", got.status, len(got.body))
	}
	large := h.ask("POST", "/v1/signatures", signer, `{"image":"`+strings.Repeat("a", 2<<20)+`"}`)
	if large.status != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB: %d", large.status)
	}
	if got := h.ask("POST", "/v1/signatures", signer, `{}`, "Content-Type", "application/xml"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("XML: %d", got.status)
	}
	if got := h.ask("GET", "/v1/keys?limit=5&surprise=1", h.secret, ""); got.status != http.StatusBadRequest {
		t.Errorf("unknown query parameter: %d", got.status)
	}
}

// TestEveryFieldNull: H7 over every request that has a body.
func TestEveryFieldNull(t *testing.T) {
	h := open(t)
	bodies := map[string][]string{
		"POST /v1/signatures":         {"image", "key", "annotations", "recursive", "formats"},
		"POST /v1/attestations":       {"image", "key", "predicateType", "predicate", "recursive", "formats"},
		"POST /v1/provenance":         {"image", "key", "externalParameters", "resolvedDependencies", "byproducts", "recursive", "formats"},
		"POST /v1/artifacts/x/ingest": {"image"},
		"POST /v1/verify":             {"images", "context", "policy", "timeout"},
		"POST /v1/verify/blob":        {"digest", "artifact", "bundle", "name", "policy", "authority", "predicateType", "context", "timeout"},
		"POST /v1/keys":               {"name", "algorithm", "backend", "ref", "purposes"},
		"POST /v1/keys/x/revoke":      {"reason", "compromisedAt"},
		"PUT /v1/registries/x":        {"repositories", "insecureHttp", "caBundle", "credentials", "mirrors", "allowPrivateAddress"},
		"POST /v1/registries/x/check": {"repository"},
		"PUT /v1/grants/x":            {"issuer", "subject", "claims", "repositories", "keys", "actions", "predicateTypes"},
		"POST /v1/grants/check":       {"issuer", "subject", "claims", "repository", "key", "action", "predicateType"},
		"POST /v1/tokens":             {"name", "roles", "expiresAt"},
	}
	for route, fields := range bodies {
		method, path, _ := strings.Cut(route, " ")
		for _, field := range fields {
			got := h.ask(method, path, h.secret, `{"`+field+`":null}`)
			if got.status != http.StatusBadRequest {
				t.Errorf("%s with %s null: %d %s", route, field, got.status, got.body)
			}
		}
	}
	for _, body := range []string{`null`, `{"metadata":null}`, `{"apiVersion":"countersign.dev/v1","kind":"TrustPolicy","metadata":{"name":"x"},"spec":null}`} {
		if got := h.ask("PUT", "/v1/policies/x", h.secret, body); got.status != http.StatusBadRequest {
			t.Errorf("policy %s: %d %s", body, got.status, got.body)
		}
	}
}

// TestMetricLabelsAreBounded: H6. Random paths and methods make no series.
func TestMetricLabelsAreBounded(t *testing.T) {
	h := open(t)
	series := func() int {
		return strings.Count(string(h.ask("GET", "/metrics", h.secret, "").body), "countersign_http_requests_total{")
	}
	h.ask("GET", "/nothing/0", h.secret, "")
	h.ask("BREW0", "/v1/keys", h.secret, "")
	h.ask("GET", "/v1/keys/k0", h.secret, "")
	series()
	before := series()
	for i := range 300 {
		h.ask("GET", fmt.Sprintf("/nothing/%d", i), h.secret, "")
		h.ask(fmt.Sprintf("BREW%d", i), "/v1/keys", h.secret, "")
		h.ask("GET", fmt.Sprintf("/v1/keys/k%d", i), h.secret, "")
	}
	if after := series(); before == 0 || after != before {
		t.Errorf("%d series before, %d after", before, after)
	}
}

// TestSecretsStayIn: K1. A canary in every field that can hold a secret, then
// a search through answers, log and journal. The control is that the harmless
// canary beside it is found.
func TestSecretsStayIn(t *testing.T) {
	h := open(t)
	h.furnish()
	const canary, harmless = "CANARYsecret", "harmless-canary"
	var answers strings.Builder
	put := func(method, path, secret, body string, header ...string) {
		got := h.ask(method, path, secret, body, header...)
		answers.Write(got.body)
		fmt.Fprintln(&answers, got.header)
	}
	rule := `{"repositories":["` + harmless + `"],"credentials":{"username":"` + canary + `","password":"` + canary + `"}}`
	put("PUT", "/v1/registries/secret.example", h.secret, rule)
	put("PUT", "/v1/registries/token.example", h.secret, `{"repositories":["a"],"credentials":{"token":"`+canary+`"}}`)
	put("PUT", "/v1/registries/bad.example", h.secret, `{"repositories":["a"],"credentials":{"token":"`+canary+`","username":"`+canary+`"}}`)
	put("PUT", "/v1/registries/bad.example", h.secret, `{"repositories":["a"],"credentials":{"surprise":"`+canary+`"}}`)
	put("PUT", "/v1/registries/bad.example", h.secret, `{"repositories":"`+canary+`"}`)
	put("PUT", "/v1/registries/bad.example", h.secret, `{"credentials":`+canary+`}`)
	put("GET", "/v1/registries", h.secret, "")
	put("GET", "/v1/registries/secret.example", h.secret, "")
	put("POST", "/v1/signatures", h.secret, `{"image":"`+canary+` `+canary+`","key":"`+canary+`","formats":["`+canary+`"]}`)
	put("POST", "/v1/verify", h.secret, `{"images":["a"],"timeout":"`+canary+`"}`)
	put("POST", "/v1/tokens", h.secret, `{"name":"a","roles":["`+canary+`"]}`)
	put("GET", "/v1/keys?limit="+canary, h.secret, "")
	put("GET", "/v1/keys?cursor="+canary, h.secret, "")
	put("GET", "/v1/me", "cst_"+canary, "")
	put("GET", "/v1/me", "", "", "Authorization", "Bearer "+canary)
	put("GET", "/v1/me", "", "", "Authorization", canary)
	put("GET", "/v1/audit?limit=200", h.secret, "")
	put("PUT", "/v1/policies/x", h.secret, "apiVersion: "+canary, "Content-Type", "application/yaml")
	put("POST", "/v1/admission/validate", h.secret, `{"request":`+canary+`}`)
	put("POST", "/v1/admission/gatekeeper", h.secret, `{"request":{"keys":[`+canary+`]}}`)
	put("POST", "/v1/admission/kyverno/checkimages", h.secret, `{"cosign":`+canary+`}`)
	_, made := h.as("seen-once", "auditor")
	for place, text := range map[string]string{"answers": answers.String(), "log": h.log.String(), "audit": string(h.ask("GET", "/v1/audit?limit=200", h.secret, "").body)} {
		for name, secret := range map[string]string{"canary": canary, "admin token": h.secret, "made token": made} {
			if strings.Contains(text, secret) {
				i := strings.Index(text, secret)
				t.Errorf("the %s is in the %s: …%s…", name, place, text[max(0, i-120):min(len(text), i+60)])
			}
		}
	}
	if !strings.Contains(answers.String(), harmless) || !strings.Contains(h.log.String(), "/v1/registries/:host") {
		t.Error("the control is missing: the test does not look at the answers")
	}
	checkFilesHoldNo(t, h.dir, canary)
}

// checkFilesHoldNo looks for a secret in everything the data folder holds.
func checkFilesHoldNo(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(content), secret) {
			t.Errorf("%s holds a secret in the clear", filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
