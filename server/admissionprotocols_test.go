package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/server/api"
)

// providerAnswer is a ProviderResponse as a caller reads it.
type providerAnswer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   struct {
		Idempotent  bool   `json:"idempotent"`
		SystemError string `json:"systemError"`
		Items       []struct {
			Key   string          `json:"key"`
			Value json.RawMessage `json:"value"`
			Error string          `json:"error"`
		} `json:"items"`
	} `json:"response"`
}

func (h *house) provided(path string, keys ...string) providerAnswer {
	h.t.Helper()
	list, err := json.Marshal(keys)
	h.must(err)
	got := h.ask("POST", path, h.secret, `{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":`+string(list)+`}}`)
	if got.status != http.StatusOK {
		h.t.Fatalf("status %d: %s", got.status, got.body)
	}
	return readProvider(h.t, got.body)
}

func readProvider(t testing.TB, body []byte) providerAnswer {
	t.Helper()
	var a providerAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	if a.APIVersion != "externaldata.gatekeeper.sh/v1beta1" || a.Kind != "ProviderResponse" || !a.Response.Idempotent || a.Response.Items == nil {
		t.Errorf("no ProviderResponse: %s", body)
	}
	return a
}

// allows reports whether an answer of a protocol lets everything in that was
// asked about, and checks that it is an answer of that protocol.
func allows(t testing.TB, path string, got answer) bool {
	t.Helper()
	var read struct {
		Response struct {
			UID     *string `json:"uid"`
			Allowed bool    `json:"allowed"`
			Status  struct {
				Message string `json:"message"`
			} `json:"status"`
			Patch, PatchType *string
		} `json:"response"`
		Status   any   `json:"status"`
		Verified *bool `json:"verified"`
	}
	if err := json.Unmarshal(got.body, &read); err != nil {
		t.Fatalf("no JSON: %.200s", got.body)
	}
	switch {
	case strings.Contains(path, "gatekeeper"):
		a := readProvider(t, got.body)
		for _, i := range a.Response.Items {
			if i.Error != "" || strings.Contains(string(i.Value), `"isSuccess":false`) || strings.Contains(string(i.Value), `"succeeded":false`) {
				return false
			}
		}
		return a.Response.SystemError == "" && len(a.Response.Items) > 0 && got.status == http.StatusOK
	case strings.Contains(path, "kyverno"):
		if read.Verified == nil {
			t.Errorf("no verdict: %s", got.body)
		}
		return read.Verified != nil && *read.Verified
	case strings.Contains(path, "image-review"):
		status, _ := read.Status.(map[string]any)
		allowed, said := status["allowed"].(bool)
		if !said {
			t.Errorf("no verdict: %s", got.body)
		}
		return allowed
	}
	if read.Response.UID == nil || !read.Response.Allowed && (read.Response.Status.Message == "" || read.Response.Patch != nil) {
		t.Errorf("no AdmissionReview: %s", got.body)
	}
	return read.Response.Allowed
}

var repeats = regexp.MustCompile(`(?s)@@(\d+) (.*?)@@`)

// repeated expands @@N text@@.
func repeated(s string) string {
	return repeats.ReplaceAllStringFunc(s, func(found string) string {
		m := repeats.FindStringSubmatch(found)
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return found
		}
		return strings.Repeat(m[2], n)
	})
}

// applied applies a base64 JSON patch as the API server does.
func applied(t testing.TB, object, patch string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(patch)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decoded.Apply([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		t.Fatal("no JSON")
	}
	return reflect.DeepEqual(x, y)
}

// TestForeignProtocols asks each protocol about a signed and an unsigned image.
func TestForeignProtocols(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	byTag, digest := h.tagged(builder, "1.4", "tagged")
	good, bad := h.signed(builder, "good"), h.push("bad")
	t.Run("gatekeeper", func(t *testing.T) {
		a := h.provided("/v1/admission/gatekeeper?cluster=c", good, "[shop]"+byTag, bad, "[shop]"+bad)
		if len(a.Response.Items) != 4 || a.Response.SystemError != "" {
			t.Fatalf("%+v", a)
		}
		for i, item := range a.Response.Items {
			if (item.Error == "") != (i < 2) || i < 2 && !strings.Contains(string(item.Value), `"verdict":"PASSED"`) || i >= 2 && !strings.Contains(item.Error, "no_signature") {
				t.Errorf("%+v", item)
			}
		}
	})
	for _, path := range []string{
		"/v1/admission/gatekeeper/mutate", "/v1/admission/ratify/gatekeeper/v1/mutate", "/v1/admission/ratify/gatekeeper/v2/mutate",
		"/ratify/gatekeeper/v1/mutate", "/ratify/gatekeeper/v2/mutate",
	} {
		t.Run(path, func(t *testing.T) {
			a := h.provided(path+"?timeout=10s", byTag, "[shop]"+byTag, good, bad)
			if len(a.Response.Items) != 4 {
				t.Fatalf("%+v", a)
			}
			for i, want := range []string{byTag + "@" + digest, byTag + "@" + digest, good, ""} {
				if item := a.Response.Items[i]; want == "" && item.Error == "" || want != "" && string(item.Value) != strconv.Quote(want) {
					t.Errorf("%+v", item)
				}
			}
		})
	}
	for path, field := range map[string]string{
		"/v1/admission/ratify/gatekeeper/v1/verify": "isSuccess", "/ratify/gatekeeper/v1/verify": "isSuccess",
		"/v1/admission/ratify/gatekeeper/v2/verify": "succeeded", "/ratify/gatekeeper/v2/verify": "succeeded",
	} {
		t.Run(path, func(t *testing.T) {
			a := h.provided(path, "[shop]"+good, bad, "no reference at all")
			if len(a.Response.Items) != 3 {
				t.Fatalf("%+v", a)
			}
			for i, want := range []bool{true, false, false} {
				var value map[string]any
				h.must(json.Unmarshal(a.Response.Items[i].Value, &value))
				if got, said := value[field].(bool); !said || got != want {
					t.Errorf("%s: %s", a.Response.Items[i].Key, a.Response.Items[i].Value)
				}
			}
		})
	}
	t.Run("image review", func(t *testing.T) {
		for image, allowed := range map[string]bool{good: true, byTag: true, bad: false} {
			got := h.ask("POST", "/v1/admission/image-review?cluster=c", h.secret, fmt.Sprintf(`{"kind":"ImageReview","apiVersion":"imagepolicy.k8s.io/v1alpha1","metadata":{"creationTimestamp":null},"spec":{"containers":[{"image":%q}],"namespace":"shop"},"status":{"allowed":false}}`, image))
			if allows(t, "image-review", got) != allowed || field(t, got.body, "kind") != "ImageReview" || field(t, got.body, "apiVersion") != "imagepolicy.k8s.io/v1alpha1" {
				t.Errorf("%s: %s", image, got.body)
			}
		}
		l, err := h.admin.Decisions(t.Context(), api.DecisionFilter{})
		h.must(err)
		if !slices.ContainsFunc(l.Items, func(d api.Decision) bool {
			return d.Image == bad && d.Context["namespace"] == "shop" && d.Context["cluster"] == "c"
		}) {
			t.Errorf("no decision with the context: %+v", l.Items)
		}
	})
	t.Run("kyverno", func(t *testing.T) {
		ask := func(tag, digest, policy string) (bool, []admission.Operation) {
			got := h.ask("POST", "/v1/admission/kyverno/checkimages", h.secret, fmt.Sprintf(`{"imageReferences":["other/*"],"trustPolicy":%q,"namespace":"shop","images":{"containers":{"a":{"registry":%q,"path":"team/app","name":"app","tag":%q,"digest":%q,"jsonPointer":"/spec/containers/0/image"}}}}`, policy, h.registry.Host, tag, digest))
			var a struct {
				Verified bool                  `json:"verified"`
				Results  []admission.Operation `json:"results"`
			}
			h.must(json.Unmarshal(got.body, &a))
			return a.Verified, a.Results
		}
		if ok, patch := ask("1.4", "", ""); !ok || len(patch) != 1 || patch[0] != (admission.Operation{Op: "replace", Path: "/spec/containers/0/image", Value: byTag + "@" + digest}) {
			t.Errorf("by tag: %v %+v", ok, patch)
		}
		if ok, patch := ask("1.4", digest, "production"); !ok || len(patch) != 0 {
			t.Errorf("by digest, one policy: %v %+v", ok, patch)
		}
		if ok, _ := ask("", strings.Split(bad, "@")[1], ""); ok {
			t.Error("unsigned, outside of imageReferences: verified")
		}
	})
}

// TestUndecidedIsNoItem: what a registry that is away leaves undecided is a
// systemError, which Gatekeeper does not remember; beside it stand the items
// that were decided.
func TestUndecidedIsNoItem(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	good, bad := h.signed(builder, "good"), h.push("bad")
	var away atomic.Bool
	moody, err := localregistry.Start(t.Context(), localregistry.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if away.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	h.must(err)
	t.Cleanup(func() { _ = moody.Close() })
	_, err = h.admin.PutRegistry(t.Context(), moody.Host, api.RegistryRequest{Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true}, api.PutOptions{})
	h.must(err)
	away.Store(true)
	lost := moody.Host + "/team/app:1"
	for _, path := range []string{"/v1/admission/gatekeeper", "/v1/admission/gatekeeper/mutate", "/v1/admission/ratify/gatekeeper/v1/verify", "/v1/admission/ratify/gatekeeper/v2/verify"} {
		a := h.provided(path+"?timeout=10s", good, bad, "[n]"+lost)
		if len(a.Response.Items) != 2 || !strings.Contains(a.Response.SystemError, "registry_unavailable") {
			t.Errorf("%s: %+v", path, a)
		}
		if a := h.provided(path+"?timeout=10s", good, bad); len(a.Response.Items) != 2 || a.Response.SystemError != "" {
			t.Errorf("%s, the control: %+v", path, a)
		}
	}
}

// TestAdmissionNeedsARole: every door is as closed as verification.
func TestAdmissionNeedsARole(t *testing.T) {
	closed, anyone := open(t), open(t, func(c *daemon.Config) { c.AnonymousVerify = true })
	_, signerOnly := closed.as("signer", "signer")
	_, allowed := closed.as("webhook", "verifier")
	for _, path := range []string{
		"/v1/admission/validate", "/v1/admission/mutate", "/v1/admission/image-review", "/v1/admission/gatekeeper", "/v1/admission/gatekeeper/mutate",
		"/v1/admission/ratify/gatekeeper/v1/verify", "/v1/admission/ratify/gatekeeper/v1/mutate", "/v1/admission/ratify/gatekeeper/v2/verify", "/v1/admission/ratify/gatekeeper/v2/mutate",
		"/ratify/gatekeeper/v1/verify", "/ratify/gatekeeper/v1/mutate", "/ratify/gatekeeper/v2/verify", "/ratify/gatekeeper/v2/mutate", "/v1/admission/kyverno/checkimages",
	} {
		for secret, want := range map[string]int{"": http.StatusUnauthorized, signerOnly: http.StatusForbidden} {
			if got := closed.ask("POST", path, secret, "{}"); got.status != want {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		}
		for _, got := range []answer{closed.ask("POST", path, allowed, "{}"), anyone.ask("POST", path, "", "{}")} {
			if got.status != http.StatusOK && got.status != http.StatusBadRequest || allows(t, path, got) {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		}
	}
}
