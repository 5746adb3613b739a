package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/server/api"
)

// signed pushes an image and signs it with the key that the policy wants.
func (h *house) signed(builder *api.Client, content string) string {
	h.t.Helper()
	image := h.push(content)
	_, _, err := builder.Sign(h.t.Context(), api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	return image
}

// tagged pushes a signed image under a tag; the digest is as in name@digest.
func (h *house) tagged(builder *api.Client, tag, content string) (byTag, digest string) {
	h.t.Helper()
	d, err := h.registry.PushImage(h.t.Context(), "team/app", tag, content)
	h.must(err)
	_, _, err = builder.Sign(h.t.Context(), api.SignatureRequest{Image: h.registry.Image("team/app", d), Key: "release"}, api.SignOptions{})
	h.must(err)
	return h.registry.Host + "/team/app:" + tag, d.String()
}

// asked is a review's request; empty fields are left out.
type asked struct {
	group, kind, sub, operation string
	object, old                 string
	dryRun                      bool
}

func (a asked) body() string {
	version := `"v1"`
	if a.object == "" {
		a.object = "null"
	}
	if a.old == "" {
		a.old = "null"
	}
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","kind":{"group":%q,"version":%s,"kind":%q},"resource":{"group":%q,"version":"v1","resource":"x"},"subResource":%q,"namespace":"shop","operation":%q,"userInfo":{"username":"u"},"dryRun":%v,"object":%s,"oldObject":%s}}`,
		a.group, version, a.kind, a.group, a.sub, a.operation, a.dryRun, a.object, a.old)
}

// reviewed sends a review to a door, and checks that the answer is one of its
// kind: an AdmissionReview of that uid, with a patch type if there is a patch.
func (h *house) reviewed(path string, a asked) review {
	h.t.Helper()
	got := h.ask("POST", path, h.secret, a.body())
	if got.status != http.StatusOK {
		h.t.Fatalf("status %d: %s", got.status, got.body)
	}
	var r review
	h.must(json.Unmarshal(got.body, &r))
	if r.APIVersion != "admission.k8s.io/v1" || r.Kind != "AdmissionReview" || r.Response.UID != "u-1" || (r.Response.Patch == nil) != (r.Response.PatchType == nil) {
		h.t.Errorf("no AdmissionReview: %s", got.body)
	}
	return r
}

// kindsOfPods are the kinds that hold a pod specification, with the text around
// it.
func kindsOfPods() []struct{ group, kind, format string } {
	return []struct{ group, kind, format string }{
		{"", "Pod", `"spec":%s`},
		{"", "PodTemplate", `"template":{"spec":%s}`},
		{"", "ReplicationController", `"spec":{"template":{"spec":%s}}`},
		{"apps", "Deployment", `"spec":{"template":{"spec":%s}}`},
		{"apps", "ReplicaSet", `"spec":{"template":{"spec":%s}}`},
		{"apps", "StatefulSet", `"spec":{"template":{"spec":%s}}`},
		{"apps", "DaemonSet", `"spec":{"template":{"spec":%s}}`},
		{"batch", "Job", `"spec":{"template":{"spec":%s}}`},
		{"batch", "CronJob", `"spec":{"jobTemplate":{"spec":{"template":{"spec":%s}}}}`},
	}
}

func objectOf(group, kind, format, spec string) string {
	version := "v1"
	if group != "" {
		version = group + "/v1"
	}
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"w"},%s}`, version, kind, fmt.Sprintf(format, spec))
}

// TestEveryKindSortAndOperation: G1 and G2, over kinds, sorts of places and
// operations. An image that is not signed is denied wherever it is new, and lets
// everything else through.
func TestEveryKindSortAndOperation(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	good, bad := h.signed(builder, "good"), h.push("bad")
	sorts := map[string]string{
		"containers":          `{"containers":[{"name":"a","image":%q},{"name":"b","image":%q}]}`,
		"initContainers":      `{"containers":[{"name":"a","image":%q}],"initContainers":[{"name":"b","image":%q}]}`,
		"ephemeralContainers": `{"containers":[{"name":"a","image":%q}],"ephemeralContainers":[{"name":"b","image":%q}]}`,
		"image volume":        `{"containers":[{"name":"a","image":%q}],"volumes":[{"name":"b","image":{"reference":%q}}]}`,
	}
	for _, k := range kindsOfPods() {
		for sort, spec := range sorts {
			t.Run(k.kind+" "+sort, func(t *testing.T) {
				of := func(image string) string { return objectOf(k.group, k.kind, k.format, fmt.Sprintf(spec, good, image)) }
				ephemeral := ""
				if k.kind == "Pod" && sort == "ephemeralContainers" {
					ephemeral = "ephemeralcontainers"
				}
				for _, c := range []struct {
					name, sub, operation, object, old string
					allowed                           bool
				}{
					{"created signed", "", "CREATE", of(good), "", true},
					{"created unsigned", "", "CREATE", of(bad), "", false},
					{"updated to signed", ephemeral, "UPDATE", of(good), of(bad), true},
					{"updated to unsigned", ephemeral, "UPDATE", of(bad), of(good), false},
					{"unchanged", ephemeral, "UPDATE", of(bad), of(bad), true},
					{"status", "status", "UPDATE", of(bad), of(good), true},
					{"deleted", "", "DELETE", "", of(bad), true},
					{"connected", "exec", "CONNECT", of(good), "", false},
				} {
					for _, path := range []string{"/v1/admission/validate", "/v1/admission/mutate"} {
						r := h.reviewed(path, asked{group: k.group, kind: k.kind, sub: c.sub, operation: c.operation, object: c.object, old: c.old})
						if r.Response.Allowed != c.allowed || !c.allowed && r.Response.Status.Message == "" {
							t.Errorf("%s at %s: %+v", c.name, path, r.Response)
						}
					}
				}
			})
		}
	}
	scale := asked{group: "autoscaling", kind: "Scale", sub: "scale", operation: "UPDATE", object: `{"apiVersion":"autoscaling/v1","kind":"Scale","spec":{"replicas":3}}`}
	if r := h.reviewed("/v1/admission/validate", scale); !r.Response.Allowed || r.Response.AuditAnnotations["rule"] != "scale" {
		t.Errorf("scale: %+v", r.Response)
	}
}

// TestUnchangedImagesAreNotJudgedAgain: an update must not fail for an image
// that ran already and has been revoked since, unless the operator says so.
func TestUnchangedImagesAreNotJudgedAgain(t *testing.T) {
	for _, all := range []bool{false, true} {
		h := open(t, func(c *daemon.Config) { c.Admission.JudgeUnchanged = all })
		builder := h.furnish()
		image := h.signed(builder, "x")
		object := objectOf("", "Pod", `"spec":%s`, fmt.Sprintf(`{"containers":[{"name":"a","image":%q}]}`, image))
		if r := h.reviewed("/v1/admission/validate", asked{kind: "Pod", operation: "CREATE", object: object}); !r.Response.Allowed {
			t.Fatalf("the control: %+v", r.Response)
		}
		_, err := h.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "leaked"})
		h.must(err)
		if r := h.reviewed("/v1/admission/validate", asked{kind: "Pod", operation: "CREATE", object: object}); r.Response.Allowed {
			t.Fatalf("revoked and created: %+v", r.Response)
		}
		going := strings.Replace(object, `"name":"w"`, `"name":"w","deletionTimestamp":"2026-01-01T00:00:00Z"`, 1)
		if r := h.reviewed("/v1/admission/validate", asked{kind: "Pod", operation: "UPDATE", object: going, old: object}); r.Response.Allowed == all {
			t.Errorf("judge all %v: %+v", all, r.Response)
		}
	}
}

// TestMutatePinsWhatWasJudged: G3 and G7. The patch names the digest of the
// verdict at exactly the tags, and a second time there is nothing to do.
func TestMutatePinsWhatWasJudged(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	byTag, digest := h.tagged(builder, "1.4", "tagged")
	byDigest := h.signed(builder, "pinned")
	spec := `{"containers":[{"name":"a","image":%q},{"name":"b","image":%q}],"initContainers":[{"name":"i","image":%q}],"volumes":[{"name":"v","image":{"reference":%q}}]}`
	object := objectOf("apps", "Deployment", `"spec":{"template":{"spec":%s}}`, fmt.Sprintf(spec, byTag, byDigest, byTag, byTag))
	deployment := asked{group: "apps", kind: "Deployment", operation: "CREATE", object: object}
	r := h.reviewed("/v1/admission/mutate", deployment)
	if !r.Response.Allowed || r.Response.Patch == nil || *r.Response.PatchType != "JSONPatch" {
		t.Fatalf("%+v", r.Response)
	}
	pinned := byTag + "@" + digest
	wanted := objectOf("apps", "Deployment", `"spec":{"template":{"spec":%s}}`, fmt.Sprintf(spec, pinned, byDigest, pinned, pinned))
	deployment.object = applied(t, object, *r.Response.Patch)
	if !sameJSON(t, deployment.object, wanted) {
		t.Errorf("patched to %s", deployment.object)
	}
	for _, path := range []string{"/v1/admission/mutate", "/v1/admission/validate"} {
		if again := h.reviewed(path, deployment); !again.Response.Allowed || again.Response.Patch != nil || len(again.Response.Warnings) != 0 {
			t.Errorf("again at %s: %+v", path, again.Response)
		}
	}
	deployment.object = object
	for _, query := range []string{"?pin=false", "?pin=pods"} {
		if r := h.reviewed("/v1/admission/mutate"+query, deployment); !r.Response.Allowed || r.Response.Patch != nil {
			t.Errorf("%s: %+v", query, r.Response)
		}
	}
	pod := objectOf("", "Pod", `"spec":%s`, fmt.Sprintf(`{"containers":[{"name":"a","image":%q}]}`, byTag))
	if r := h.reviewed("/v1/admission/mutate?pin=pods", asked{kind: "Pod", operation: "CREATE", object: pod}); r.Response.Patch == nil {
		t.Errorf("a pod: %+v", r.Response)
	}
	if r := h.reviewed("/v1/admission/validate", asked{kind: "Pod", operation: "CREATE", object: pod}); !r.Response.Allowed || !strings.Contains(strings.Join(r.Response.Warnings, ""), digest) {
		t.Errorf("a pod by tag: %+v", r.Response)
	}
}

// TestAdmissionSettings: pinning never, tags denied, hardening advised, custom
// resources known.
func TestAdmissionSettings(t *testing.T) {
	h := open(t, func(c *daemon.Config) {
		c.Admission = admission.Settings{
			Pin: admission.PinNever, Tags: admission.TagsDeny, Hardening: admission.HardeningWarn,
			Resources: []admission.Resource{{Group: "example.com", Version: "*", Kind: "Thing", Paths: []string{"spec.images[*]"}}},
		}
	})
	builder := h.furnish()
	byTag, _ := h.tagged(builder, "1.4", "tagged")
	good, bad := h.signed(builder, "good"), h.push("bad")
	pod := func(image string) asked {
		return asked{kind: "Pod", operation: "CREATE", object: objectOf("", "Pod", `"spec":%s`, fmt.Sprintf(`{"containers":[{"name":"web","image":%q}]}`, image))}
	}
	if r := h.reviewed("/v1/admission/mutate?pin=always", pod(byTag)); r.Response.Allowed || r.Response.Patch != nil || r.Response.AuditAnnotations["rule"] != "tag" {
		t.Errorf("by tag: %+v", r.Response)
	}
	r := h.reviewed("/v1/admission/validate", pod(good))
	if told := strings.Join(r.Response.Warnings, "\n"); !r.Response.Allowed || !strings.Contains(told, "may run as root") || !strings.Contains(told, "web") {
		t.Errorf("hardening: %+v", r.Response)
	}
	thing := func(image string) asked {
		return asked{group: "example.com", kind: "Thing", operation: "CREATE", object: fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Thing","spec":{"images":{"a/b":%q}}}`, image)}
	}
	if r := h.reviewed("/v1/admission/validate", thing(good)); !r.Response.Allowed {
		t.Errorf("signed thing: %+v", r.Response)
	}
	if r := h.reviewed("/v1/admission/validate", thing(bad)); r.Response.Allowed {
		t.Errorf("unsigned thing: %+v", r.Response)
	}
}

// TestContextOfAdmission: namespace and cluster reach the policy, from the
// request and the URL and not from the object. E1, E2, E3: a pattern is whole.
func TestContextOfAdmission(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.signed(builder, "x")
	p, err := h.admin.Policy(t.Context(), "production")
	h.must(err)
	only := strings.Replace(strings.ReplaceAll(releasePolicy, "%s", h.registry.Host), `match: {images: ["`+h.registry.Host+`/**"]}`,
		`match: {images: ["`+h.registry.Host+`/**"], context: {cluster: ["prod-*"], namespace: ["shop"]}}`, 1)
	_, err = h.admin.PutPolicy(t.Context(), "production", []byte(only), api.PutOptions{Revision: p.Revision})
	h.must(err)
	object := objectOf("", "Pod", `"spec":%s`, fmt.Sprintf(`{"containers":[{"name":"a","image":%q}]}`, image))
	for query, allowed := range map[string]bool{"?cluster=prod-1": true, "": false, "?cluster=test": false, "?cluster=x-prod-1": false} {
		if r := h.reviewed("/v1/admission/validate"+query, asked{kind: "Pod", operation: "CREATE", object: object}); r.Response.Allowed != allowed {
			t.Errorf("%q: %+v", query, r.Response)
		}
	}
	forged := strings.Replace(object, `"name":"w"`, `"name":"w","namespace":"shop"`, 1)
	elsewhere := strings.Replace(asked{kind: "Pod", operation: "CREATE", object: forged}.body(), `"namespace":"shop","operation"`, `"namespace":"other","operation"`, 1)
	if r := h.admitRaw("?cluster=prod-1", elsewhere); r.Response.Allowed {
		t.Errorf("the object's own namespace counted: %+v", r.Response)
	}
}

// TestDryRunLeavesNothingAtMutate: as at validate.
func TestDryRunLeavesNothingAtMutate(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.signed(builder, "x")
	object := objectOf("", "Pod", `"spec":%s`, fmt.Sprintf(`{"containers":[{"name":"a","image":%q}]}`, image))
	for i, dry := range []bool{true, false} {
		if r := h.reviewed("/v1/admission/mutate", asked{kind: "Pod", operation: "CREATE", object: object, dryRun: dry}); !r.Response.Allowed {
			t.Errorf("%+v", r.Response)
		}
		l, err := h.admin.Decisions(t.Context(), api.DecisionFilter{})
		h.must(err)
		if len(l.Items) != i {
			t.Errorf("dry run %v: %d decisions", dry, len(l.Items))
		}
	}
}

// TestTenantsCannotExempt: G6 and G8. Nothing that whoever deploys can write
// changes what is judged: no label, annotation or name of the object, no
// exception, and no route of this service for a caller without a role.
func TestTenantsCannotExempt(t *testing.T) {
	h := open(t)
	h.furnish()
	bad := h.push("bad")
	for _, metadata := range []string{
		`"name":"p","labels":{"policy.sigstore.dev/include":"false","countersign.dev/exempt":"true","admission":"off"}`,
		`"name":"countersign","namespace":"countersign"`,
		`"name":"p","annotations":{"kyverno.io/verify-images":"{\"x\":true}","image-policy.k8s.io/break-glass":"true"}`,
		`"name":"p","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u","controller":true}]`,
	} {
		object := strings.Replace(inPod(pod("", bad)), `"name":"p"`, metadata, 1)
		if r := h.reviewed("/v1/admission/validate", asked{kind: "Pod", operation: "CREATE", object: object}); r.Response.Allowed {
			t.Errorf("%s: %+v", metadata, r.Response)
		}
	}
	_, verifierOnly := h.as("webhook", "verifier")
	exception := `{"images":["` + bad + `"],"policy":"production","reason":"x","expiresAt":"2099-01-01T00:00:00Z"}`
	for _, secret := range []string{"", verifierOnly} {
		if got := h.ask("PUT", "/v1/exceptions/mine", secret, exception); got.status != http.StatusForbidden && got.status != http.StatusUnauthorized {
			t.Errorf("an exception by a tenant: %d %s", got.status, got.body)
		}
	}
}

// TestHostileReviews: every recorded hostile request, at the door it names, is
// denied in an answer of its protocol, or is a 400. The valid ones beside them
// are the control, before and after. Among them are G1 to G5, E2 and E3 (hosts
// that look like the trusted one, repositories beyond its pattern), H7 and H9.
//
// A file is a path, a line `allowed` or `denied` with a text that the answer
// has, and the body, in which @@N text@@ stands for N times the text.
func TestHostileReviews(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	good, bad := h.signed(builder, "good"), h.push("bad")
	fill := func(s string) string {
		_, goodDigest, _ := strings.Cut(good, "@")
		_, badDigest, _ := strings.Cut(bad, "@")
		return strings.NewReplacer("GOOD", good, "BADDIGEST", badDigest, "BAD", bad, "DIGEST", goodDigest, "HOST", h.registry.Host).Replace(s)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "admission", "hostile", "*.txt"))
	h.must(err)
	controls := map[string]bool{}
	ask := func(t *testing.T, file string) bool {
		t.Helper()
		raw, err := os.ReadFile(file)
		h.must(err)
		path, rest, _ := strings.Cut(string(raw), "\n")
		want, body, _ := strings.Cut(rest, "\n")
		verdict, has, _ := strings.Cut(want, " ")
		got := h.ask("POST", path, h.secret, fill(repeated(body)))
		if got.status >= 500 && got.status != http.StatusServiceUnavailable || got.status < 400 && got.status != http.StatusOK {
			t.Errorf("status %d: %.300s", got.status, got.body)
		}
		allowed := allows(t, path, got)
		if allowed != (verdict == "allowed") || !strings.Contains(string(got.body), has) {
			t.Errorf("want %s: %d %.600s", want, got.status, got.body)
		}
		return allowed
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) { controls[name] = ask(t, file) })
	}
	hostile, valid := 0, 0
	for name, allowed := range controls {
		if !allowed {
			hostile++
			continue
		}
		valid++
		ask(t, filepath.Join("testdata", "admission", "hostile", name+".txt"))
	}
	if hostile < 30 || valid < 7 {
		t.Errorf("%d hostile requests beside %d valid ones", hostile, valid)
	}
}
