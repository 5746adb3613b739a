package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   struct {
		UID     string `json:"uid"`
		Allowed bool   `json:"allowed"`
		Status  struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"status"`
		Patch            *string           `json:"patch"`
		PatchType        *string           `json:"patchType"`
		Warnings         []string          `json:"warnings"`
		AuditAnnotations map[string]string `json:"auditAnnotations"`
	} `json:"response"`
}

// admit sends an AdmissionReview for an object and returns the answer, which is
// an AdmissionReview whatever was sent.
func (h *house) admit(query, group, kind, operation, object string) review {
	h.t.Helper()
	gvk := fmt.Sprintf(`{"group":%q,"version":"v1","kind":%q}`, group, kind)
	return h.admitRaw(query, fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","kind":%s,"resource":{"group":%q,"version":"v1","resource":"x"},"namespace":"shop","operation":%q,"userInfo":{"username":"u"},"object":%s}}`,
		gvk, group, operation, object))
}

func (h *house) admitRaw(query, body string) review {
	h.t.Helper()
	got := h.ask("POST", "/v1/admission/validate"+query, h.secret, body)
	if got.status != http.StatusOK {
		h.t.Fatalf("status %d: %s", got.status, got.body)
	}
	var r review
	h.must(json.Unmarshal(got.body, &r))
	if r.APIVersion != "admission.k8s.io/v1" || r.Kind != "AdmissionReview" || r.Response.Patch != nil || r.Response.PatchType != nil {
		h.t.Errorf("not a validating AdmissionReview: %s", got.body)
	}
	return r
}

func pod(more string, images ...string) string {
	var containers []string
	for i, image := range images {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image))
	}
	return `"containers":[` + strings.Join(containers, ",") + `]` + more
}

func inPod(spec string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{` + spec + `}}`
}

// TestAdmissionCoversEveryImage: G1 and G2. A signed container does not hide an
// unsigned one of any other sort.
func TestAdmissionCoversEveryImage(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	good, bad := h.push("good"), h.push("bad")
	_, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: good, Key: "release"}, api.SignOptions{})
	h.must(err)
	places := map[string]func(string) string{
		"container":         func(i string) string { return pod("", good, i) },
		"G1 init container": func(i string) string { return pod(fmt.Sprintf(`,"initContainers":[{"name":"i","image":%q}]`, i), good) },
		"G1 ephemeral container": func(i string) string {
			return pod(fmt.Sprintf(`,"ephemeralContainers":[{"name":"e","image":%q,"targetContainerName":"c0"}]`, i), good)
		},
		"G2 image volume": func(i string) string {
			return pod(fmt.Sprintf(`,"volumes":[{"name":"d","emptyDir":{}},{"name":"v","image":{"reference":%q}}]`, i), good)
		},
	}
	for name, spec := range places {
		t.Run(name, func(t *testing.T) {
			if r := h.admit("?timeout=10s&cluster=prod", "", "Pod", "CREATE", inPod(spec(good))); !r.Response.Allowed || r.Response.UID != "u-1" ||
				r.Response.AuditAnnotations["verdict"] != "PASSED" || !strings.Contains(r.Response.AuditAnnotations["images"], "@sha256:") {
				t.Errorf("signed: %+v", r.Response)
			}
			t.Attr("verdict", "PASSED")
			r := h.admit("", "", "Pod", "UPDATE", inPod(spec(bad)))
			if r.Response.Allowed || r.Response.Status.Code != 403 || !strings.Contains(r.Response.Status.Message, "no_signature") {
				t.Errorf("unsigned: %+v", r.Response)
			}
			t.Attr("verdict", "FAILED no_signature")
		})
	}
	for name, metadata := range map[string]string{
		"G4 being deleted":   `"name":"p","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["x"]`,
		"G5 its own verdict": `"name":"p","annotations":{"countersign.dev/verdict":"PASSED"}`,
	} {
		t.Run(name, func(t *testing.T) {
			object := func(i string) string { return strings.Replace(inPod(pod("", i)), `"name":"p"`, metadata, 1) }
			if r := h.admit("", "", "Pod", "UPDATE", object(good)); !r.Response.Allowed {
				t.Errorf("signed: %+v", r.Response)
			}
			t.Attr("verdict", "PASSED")
			if r := h.admit("", "", "Pod", "UPDATE", object(bad)); r.Response.Allowed || !strings.Contains(r.Response.Status.Message, "no_signature") {
				t.Errorf("unsigned: %+v", r.Response)
			}
			t.Attr("verdict", "FAILED no_signature")
		})
	}
	checkWorkloads(t, h, good, bad)
}

func checkWorkloads(t *testing.T, h *house, good, bad string) {
	t.Helper()
	template := func(i string) string { return `{"metadata":{},"spec":{` + pod("", i) + `}}` }
	for _, w := range []struct{ group, kind, format string }{
		{"apps", "Deployment", `"spec":{"replicas":1,"template":%s}`},
		{"apps", "ReplicaSet", `"spec":{"template":%s}`},
		{"apps", "StatefulSet", `"spec":{"template":%s}`},
		{"apps", "DaemonSet", `"spec":{"template":%s}`},
		{"batch", "Job", `"spec":{"template":%s}`},
		{"batch", "CronJob", `"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":%s}}}`},
		{"", "ReplicationController", `"spec":{"template":%s}`},
		{"", "PodTemplate", `"template":%s`},
	} {
		version := "v1"
		if w.group != "" {
			version = w.group + "/v1"
		}
		object := func(i string) string {
			return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"w"},%s}`, version, w.kind, fmt.Sprintf(w.format, template(i)))
		}
		if r := h.admit("", w.group, w.kind, "CREATE", object(good)); !r.Response.Allowed {
			t.Errorf("%s signed: %+v", w.kind, r.Response)
		}
		if r := h.admit("", w.group, w.kind, "CREATE", object(bad)); r.Response.Allowed {
			t.Errorf("%s unsigned is allowed", w.kind)
		}
	}
}

// TestAdmissionFailsClosed: what cannot be read or is not known is denied in
// an AdmissionReview. A deletion is the control: it is allowed.
func TestAdmissionFailsClosed(t *testing.T) {
	h := open(t)
	h.furnish()
	if r := h.admit("", "", "Pod", "DELETE", "null"); !r.Response.Allowed {
		t.Fatalf("DELETE: %+v", r.Response)
	}
	good := inPod(pod("", h.push("x")))
	for name, r := range map[string]review{
		"unknown kind":        h.admit("", "example.com", "Thing", "CREATE", `{"apiVersion":"example.com/v1","kind":"Thing"}`),
		"known kind, group":   h.admit("", "extensions", "Deployment", "CREATE", good),
		"other kind inside":   h.admit("", "apps", "Deployment", "CREATE", good),
		"no containers":       h.admit("", "", "Pod", "CREATE", inPod(`"containers":[]`)),
		"no spec":             h.admit("", "", "Pod", "CREATE", `{"apiVersion":"v1","kind":"Pod"}`),
		"null spec":           h.admit("", "", "Pod", "CREATE", `{"apiVersion":"v1","kind":"Pod","spec":null}`),
		"no image":            h.admit("", "", "Pod", "CREATE", inPod(`"containers":[{"name":"a"}]`)),
		"null container":      h.admit("", "", "Pod", "CREATE", inPod(`"containers":[null]`)),
		"null object":         h.admit("", "", "Pod", "CREATE", `null`),
		"CONNECT":             h.admit("", "", "Pod", "CONNECT", good),
		"no operation":        h.admit("", "", "Pod", "", good),
		"duplicate name":      h.admit("", "", "Pod", "CREATE", inPod(pod(`,"containers":[]`, "a"))),
		"too many":            h.admit("", "", "Pod", "CREATE", inPod(pod("", manyImages()...))),
		"bad reference":       h.admit("", "", "Pod", "CREATE", inPod(pod("", "UPPER CASE"))),
		"not JSON":            h.admitRaw("", `{`),
		"no request":          h.admitRaw("", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`),
		"no uid":              h.admitRaw("", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}`),
		"old version":         h.admitRaw("", strings.Replace(`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}`, "", "", 1)),
		"deep":                h.admitRaw("", strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat("}", 10_000)),
		"too large":           h.admitRaw("", `{"a":"`+strings.Repeat("a", 5<<20)+`"}`),
		"other context":       h.admit("?cluster="+strings.Repeat("c", 300), "", "Pod", "CREATE", good),
		"finalizer (G4)":      h.admit("", "", "Pod", "UPDATE", strings.Replace(good, `"name":"p"`, `"name":"p","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["x"]`, 1)),
		"own annotation (G5)": h.admit("", "", "Pod", "CREATE", strings.Replace(good, `"name":"p"`, `"name":"p","annotations":{"countersign.dev/verdict":"PASSED"}`, 1)),
	} {
		if r.Response.Allowed || r.Response.Status.Message == "" || r.Response.AuditAnnotations["verdict"] != "FAILED" {
			t.Errorf("%s: %+v", name, r.Response)
		}
	}
}

func manyImages() []string {
	images := make([]string, 201)
	for i := range images {
		images[i] = fmt.Sprintf("r.example/a/b%d:1", i)
	}
	return images
}

// TestNoPolicyDenies: F7 at both doors. The image is signed; without a policy
// that matches it may not run.
func TestNoPolicyDenies(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("signed")
	_, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	if r := h.admit("", "", "Pod", "CREATE", inPod(pod("", image))); !r.Response.Allowed {
		t.Fatalf("the control: %+v", r.Response)
	}
	h.must(h.admin.Delete(t.Context(), "policies", "production", api.PutOptions{}))
	a, status, err := h.admin.VerifyOne(t.Context(), image, nil)
	h.must(err)
	if status != http.StatusForbidden || a.Results[0].Reasons[0].Code != "no_policy" {
		t.Errorf("verify: %d %+v", status, a)
	}
	if r := h.admit("", "", "Pod", "CREATE", inPod(pod("", image))); r.Response.Allowed || !strings.Contains(r.Response.Status.Message, "no_policy") {
		t.Errorf("admission: %+v", r.Response)
	}
}

// TestWarnModeWarns: the image is let in, with words.
func TestWarnModeWarns(t *testing.T) {
	h := open(t)
	h.furnish()
	p, err := h.admin.Policy(t.Context(), "production")
	h.must(err)
	warn := strings.ReplaceAll(releasePolicy, "%s", h.registry.Host) + "  mode: warn\n"
	_, err = h.admin.PutPolicy(t.Context(), "production", []byte(warn), api.PutOptions{Revision: p.Revision})
	h.must(err)
	r := h.admit("", "", "Pod", "CREATE", inPod(pod("", h.push("unsigned"))))
	if !r.Response.Allowed || len(r.Response.Warnings) == 0 || len(r.Response.Warnings[0]) > 256 {
		t.Errorf("warn: %+v", r.Response)
	}
}

// TestDryRunLeavesNothing: sideEffects None is true.
func TestDryRunLeavesNothing(t *testing.T) {
	h := open(t)
	h.furnish()
	object := inPod(pod("", h.push("dry")))
	body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","dryRun":%s,"object":` + object + `}}`
	count := func() int {
		l, err := h.admin.Decisions(t.Context(), api.DecisionFilter{})
		h.must(err)
		return len(l.Items)
	}
	h.admitRaw("", fmt.Sprintf(body, "true"))
	if n := count(); n != 0 {
		t.Errorf("a dry run left %d decisions", n)
	}
	h.admitRaw("", fmt.Sprintf(body, "false"))
	if n := count(); n != 1 {
		t.Errorf("the control left %d decisions, want 1", n)
	}
}

// TestTagIsResolvedOnce: G3. The registry answers a good manifest once and a
// bad one from then on; what was judged is what the answer names.
func TestTagIsResolvedOnce(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	ctx := t.Context()
	var resolved atomic.Int32
	var bad atomic.Pointer[string]
	moving, err := localregistry.Start(ctx, localregistry.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/manifests/moving") {
				if n := resolved.Add(1); n > 1 && bad.Load() != nil {
					r.URL.Path = strings.Replace(r.URL.Path, "moving", *bad.Load(), 1)
				}
			}
			next.ServeHTTP(w, r)
		})
	}})
	h.must(err)
	t.Cleanup(func() { _ = moving.Close() })
	h.registry = moving
	_, err = h.admin.PutRegistry(ctx, moving.Host, api.RegistryRequest{Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true}, api.PutOptions{})
	h.must(err)
	_, err = h.admin.PutGrant(ctx, "moving", api.GrantRequest{Issuer: "local", Subject: "builder", Repositories: []string{moving.Host + "/**"}, Keys: []string{"release"}, Actions: []string{"sign"}}, api.PutOptions{})
	h.must(err)
	moved := strings.Replace(strings.ReplaceAll(releasePolicy, "%s", moving.Host), "name: production", "name: moving", 1)
	_, err = h.admin.PutPolicy(ctx, "moving", []byte(moved), api.PutOptions{})
	h.must(err)
	digest, err := moving.PushImage(ctx, "team/app", "moving", "good")
	h.must(err)
	other, err := moving.PushImage(ctx, "team/app", "", "bad")
	h.must(err)
	_, _, err = builder.Sign(ctx, api.SignatureRequest{Image: moving.Image("team/app", digest), Key: "release"}, api.SignOptions{})
	h.must(err)
	reference := other.String()
	bad.Store(&reference)
	resolved.Store(0)
	r := h.admit("", "", "Pod", "CREATE", inPod(pod("", moving.Host+"/team/app:moving")))
	if !r.Response.Allowed || resolved.Load() != 1 || !strings.Contains(r.Response.AuditAnnotations["images"], digest.String()) {
		t.Errorf("resolved %d times: %+v", resolved.Load(), r.Response)
	}
	if r := h.admit("", "", "Pod", "CREATE", inPod(pod("", moving.Host+"/team/app:moving"))); r.Response.Allowed {
		t.Errorf("the moved tag is allowed: %+v", r.Response)
	}
}
