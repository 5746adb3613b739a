// Package testcluster answers as a Kubernetes API server does for the few objects
// that package cluster reads, over TLS and with a bearer token. It keeps what tests
// put into it and checks the contract: who asks without the token is refused, lists
// come in pages, and a patch of another version than the present one is a conflict.
//
// Its answers have the form of kube-apiserver v1.37; the tests of package cluster
// with the tag kubernetes hold the client against the real one.
package testcluster

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Object is a Kubernetes object as JSON.
type Object map[string]any

// Cluster is a running double.
type Cluster struct {
	tb     testing.TB
	server *httptest.Server
	token  string

	mu sync.Mutex
	// Guarded by mu. objects are by resource, then by NAMESPACE/NAME.
	objects   map[string]map[string]Object
	forbidden map[string]bool
	asked     []string
	version   int
	before    func(resource, name string)
}

// Start serves an empty cluster until the test ends.
func Start(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, objects: map[string]map[string]Object{}, forbidden: map[string]bool{}, token: random()}
	c.server = httptest.NewTLSServer(http.HandlerFunc(c.serve))
	tb.Cleanup(c.server.Close)
	return c
}

func random() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Kubeconfig writes a kubeconfig with the contexts "test" and, with a wrong token,
// "stranger" into a folder, and returns its path.
func (c *Cluster) Kubeconfig(tb testing.TB, dir string) string {
	tb.Helper()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw})
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: test, user: {token: %s}}, {name: stranger, user: {token: wrong}}]
contexts: [{name: test, context: {cluster: test, user: test}}, {name: stranger, context: {cluster: test, user: stranger}}]
current-context: test
`, c.server.URL, base64.StdEncoding.EncodeToString(authority), c.token)
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Put keeps a copy of an object, which must have a name, and a namespace unless it
// is of none.
func (c *Cluster) Put(resource string, o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(resource, plain(o))
}

// plain is an object as it comes out of its JSON.
func plain(o Object) (out Object) {
	document, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(document, &out)
	}
	if err != nil {
		return Object{} // it has no name, and whoever looks for it finds nothing
	}
	return out
}

func (c *Cluster) put(resource string, o Object) {
	c.version++
	meta := metaOf(o)
	meta["resourceVersion"] = strconv.Itoa(c.version)
	if c.objects[resource] == nil {
		c.objects[resource] = map[string]Object{}
	}
	c.objects[resource][text(meta, "namespace")+"/"+text(meta, "name")] = o
}

// Delete forgets an object.
func (c *Cluster) Delete(resource, namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects[resource], namespace+"/"+name)
}

// Get is an object as it is now, or nil.
func (c *Cluster) Get(resource, namespace, name string) (o Object) {
	c.mu.Lock()
	encoded, err := json.Marshal(c.objects[resource][namespace+"/"+name])
	c.mu.Unlock()
	if err == nil {
		err = json.Unmarshal(encoded, &o)
	}
	if err != nil {
		c.tb.Error(err)
	}
	return o
}

// Forbid has every request for a resource be refused.
func (c *Cluster) Forbid(resource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forbidden[resource] = true
}

// BeforePatch is called once, before the next patch is looked at.
func (c *Cluster) BeforePatch(f func(resource, name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}

// Asked are the requests so far: METHOD PATH.
func (c *Cluster) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

func metaOf(o Object) map[string]any {
	meta, ok := o["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		o["metadata"] = meta
	}
	return meta
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// place is what a path names.
type place struct{ namespace, resource, name string }

func placeOf(path string) (place, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return place{}, false
	}
	var p place
	if len(parts) > 2 && parts[0] == "namespaces" {
		p.namespace, parts = parts[1], parts[2:]
	}
	p.resource = parts[0]
	if len(parts) > 1 {
		p.name = parts[1]
	}
	return p, len(parts) < 3
}

func (c *Cluster) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Method+" "+r.URL.Path)
	p, ok := placeOf(r.URL.Path)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+c.token:
		status(w, http.StatusUnauthorized, "Unauthorized")
	case !ok:
		status(w, http.StatusNotFound, "NotFound")
	case c.forbidden[p.resource]:
		status(w, http.StatusForbidden, "Forbidden")
	case r.Method == http.MethodGet && p.name == "":
		c.list(w, r, p)
	case r.Method == http.MethodGet:
		c.get(w, p)
	case r.Method == http.MethodPatch:
		c.patch(w, r, p)
	default:
		status(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func (c *Cluster) get(w http.ResponseWriter, p place) {
	o, ok := c.objects[p.resource][p.namespace+"/"+p.name]
	if !ok {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	answer(w, http.StatusOK, o)
}

// list answers a page: the token is the number of what was told so far.
func (c *Cluster) list(w http.ResponseWriter, r *http.Request, p place) {
	var items []Object
	names := make([]string, 0, len(c.objects[p.resource]))
	for name := range c.objects[p.resource] {
		if p.namespace == "" || strings.HasPrefix(name, p.namespace+"/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if o := c.objects[p.resource][name]; !ended(o, r.URL.Query().Get("fieldSelector")) {
			items = append(items, o)
		}
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 {
		status(w, http.StatusBadRequest, "a list without a limit")
		return
	}
	meta := Object{"resourceVersion": strconv.Itoa(c.version)}
	items = items[min(from, len(items)):]
	if len(items) > limit {
		items = items[:limit]
		meta["continue"] = strconv.Itoa(from + limit)
	}
	kind := Object{"apiVersion": "v1", "kind": "PodList"}
	if strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
		kind = Object{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"}
	}
	answer(w, http.StatusOK, Object{"apiVersion": kind["apiVersion"], "kind": kind["kind"], "metadata": meta, "items": items})
}

// ended reports whether the selector of pods that have not ended leaves it out.
func ended(o Object, selector string) bool {
	state, _ := o["status"].(map[string]any)
	phase := text(state, "phase")
	return phase != "" && slices.Contains(strings.Split(selector, ","), "status.phase!="+phase)
}

// patch knows a JSON patch of the version and of bundles.
func (c *Cluster) patch(w http.ResponseWriter, r *http.Request, p place) {
	if before := c.before; before != nil {
		c.before = nil
		c.mu.Unlock()
		before(p.resource, p.name)
		c.mu.Lock()
	}
	o, ok := c.objects[p.resource]["/"+p.name]
	if !ok {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	var operations []struct {
		Op, Path, Value string
	}
	if r.Header.Get("Content-Type") != "application/json-patch+json" || json.NewDecoder(r.Body).Decode(&operations) != nil {
		status(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType")
		return
	}
	webhooks, _ := o["webhooks"].([]any)
	for _, op := range operations {
		if op.Path == "/metadata/resourceVersion" {
			if op.Value != text(metaOf(o), "resourceVersion") {
				status(w, http.StatusConflict, "Conflict")
				return
			}
			continue
		}
		var i int
		if _, err := fmt.Sscanf(op.Path, "/webhooks/%d/clientConfig/caBundle", &i); err != nil || i >= len(webhooks) {
			status(w, http.StatusUnprocessableEntity, "Invalid")
			return
		}
		webhook, _ := webhooks[i].(map[string]any)
		client, _ := webhook["clientConfig"].(map[string]any)
		client["caBundle"] = op.Value
	}
	c.put(p.resource, o)
	answer(w, http.StatusOK, o)
}

func status(w http.ResponseWriter, code int, reason string) {
	answer(w, code, Object{
		"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Failure",
		"message": "the double says " + reason, "reason": reason, "code": code,
	})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
