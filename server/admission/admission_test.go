package admission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/server/admission"
)

func rules(t testing.TB, s admission.Settings) *admission.Rules {
	t.Helper()
	r, err := admission.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// spec is a pod specification with an image of each sort.
const spec = `{"volumes":[{"name":"d","emptyDir":{}},{"name":"v","image":{"reference":"r/v:1"}},{"name":"rbd","rbd":{"image":"no"}}],` +
	`"containers":[{"name":"a","image":"r/a:1"},{"image":"r/b@sha256:00","name":"b"}],` +
	`"initContainers":[{"name":"i","image":"r/i"}],"ephemeralContainers":[{"name":"e","image":"r/e:1","targetContainerName":"a"}]}`

// workloads are the built-in kinds, with the pointer of their pod specification.
func workloads() map[admission.Kind][2]string {
	template := [2]string{`"spec":{"replicas":1,"template":{"metadata":{},"spec":%s}}`, "/spec/template/spec"}
	return map[admission.Kind][2]string{
		{Version: "v1", Kind: "Pod"}:                        {`"spec":%s`, "/spec"},
		{Version: "v1", Kind: "PodTemplate"}:                {`"template":{"spec":%s}`, "/template/spec"},
		{Version: "v1", Kind: "ReplicationController"}:      template,
		{Group: "apps", Version: "v1", Kind: "Deployment"}:  template,
		{Group: "apps", Version: "v1", Kind: "ReplicaSet"}:  template,
		{Group: "apps", Version: "v1", Kind: "StatefulSet"}: template,
		{Group: "apps", Version: "v1", Kind: "DaemonSet"}:   template,
		{Group: "batch", Version: "v1", Kind: "Job"}:        template,
		{Group: "batch", Version: "v1", Kind: "CronJob"}:    {`"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":%s}}}}`, "/spec/jobTemplate/spec/template/spec"},
	}
}

func object(k admission.Kind, body string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"x"},%s}`, k.APIVersion(), k.Kind, body)
}

// TestFind: G1 and G2. Every sort of place in every kind, with its pointer.
func TestFind(t *testing.T) {
	r := rules(t, admission.Settings{})
	for kind, w := range workloads() {
		t.Run(kind.Kind, func(t *testing.T) {
			found, err := r.Find(kind, []byte(object(kind, fmt.Sprintf(w[0], spec))))
			if err != nil {
				t.Fatal(err)
			}
			want := []admission.Image{
				{Reference: "r/a:1", Sort: admission.Container, Name: "a", Pointer: w[1] + "/containers/0/image"},
				{Reference: "r/b@sha256:00", Sort: admission.Container, Name: "b", Pointer: w[1] + "/containers/1/image"},
				{Reference: "r/i", Sort: admission.InitContainer, Name: "i", Pointer: w[1] + "/initContainers/0/image"},
				{Reference: "r/e:1", Sort: admission.EphemeralContainer, Name: "e", Pointer: w[1] + "/ephemeralContainers/0/image"},
				{Reference: "r/v:1", Sort: admission.ImageVolume, Name: "v", Pointer: w[1] + "/volumes/1/image/reference"},
			}
			if diff := cmp.Diff(want, found.Images); diff != "" {
				t.Error(diff)
			}
			if len(found.Pods) != 1 || found.Pods[0].Pointer != w[1] || string(found.Pods[0].Spec) != spec {
				t.Errorf("pods: %+v", found.Pods)
			}
		})
	}
}

// TestFindRefuses what may hide an image, each beside the Pod that is read.
func TestFindRefuses(t *testing.T) {
	r := rules(t, admission.Settings{})
	pod := admission.Kind{Version: "v1", Kind: "Pod"}
	read := func(body string) error {
		_, err := r.Find(pod, []byte(object(pod, body)))
		return err
	}
	if err := read(`"spec":{"containers":[{"image":"a"}],"initContainers":null,"volumes":[{"name":"x","image":null}]}`); err != nil {
		t.Fatalf("the control: %v", err)
	}
	for name, body := range map[string]string{
		"no spec":                  `"x":1`,
		"null spec":                `"spec":null`,
		"a list for the spec":      `"spec":[]`,
		"no containers":            `"spec":{}`,
		"empty containers":         `"spec":{"containers":[]}`,
		"an object for containers": `"spec":{"containers":{"a":{"image":"a"}}}`,
		"null container":           `"spec":{"containers":[null]}`,
		"text for a container":     `"spec":{"containers":["a"]}`,
		"no image":                 `"spec":{"containers":[{"name":"a"}]}`,
		"empty image":              `"spec":{"containers":[{"image":""}]}`,
		"number for an image":      `"spec":{"containers":[{"image":7}]}`,
		"no init image":            `"spec":{"containers":[{"image":"a"}],"initContainers":[{"name":"i"}]}`,
		"only an init container":   `"spec":{"initContainers":[{"image":"a"}]}`,
		"volume without image":     `"spec":{"containers":[{"image":"a"}],"volumes":[{"image":{}}]}`,
		"text for an image volume": `"spec":{"containers":[{"image":"a"}],"volumes":[{"image":"a"}]}`,
		"other case, list":         `"spec":{"containers":[{"image":"a"}],"InitContainers":[{"image":"b"}]}`,
		"other case, image":        `"spec":{"containers":[{"image":"a","Image":"b"}]}`,
		"other punctuation":        `"spec":{"containers":[{"image":"a"}],"init_containers":[{"image":"b"}]}`,
		"other case, spec":         `"spec":{"containers":[{"image":"a"}]},"Spec":{}`,
		"duplicate containers":     `"spec":{"containers":[{"image":"a"}],"containers":[{"image":"b"}]}`,
		"duplicate far away":       `"spec":{"containers":[{"image":"a"}]},"metadata":{}`,
		"invalid UTF-8":            "\"spec\":{\"containers\":[{\"image\":\"a\xff\"}]}",
		"too many places":          `"spec":{"containers":[` + strings.Repeat(`{"image":"a"},`, 1000) + `{"image":"a"}]}`,
		"too deep":                 `"spec":{"containers":[{"image":"a"}],"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`,
	} {
		if err := read(body); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, kind := range map[string]admission.Kind{
		"unknown kind": {Group: "example.com", Version: "v1", Kind: "Pod"}, "old version": {Group: "apps", Version: "v1beta1", Kind: "Deployment"},
	} {
		if _, err := r.Find(kind, []byte(object(kind, `"spec":{"containers":[{"image":"a"}],"template":{"spec":{"containers":[{"image":"a"}]}}}`))); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deployment := admission.Kind{Group: "apps", Version: "v1", Kind: "Deployment"}
	if _, err := r.Find(deployment, []byte(object(pod, `"spec":{"containers":[{"image":"a"}]}`))); !errors.Is(err, admission.ErrInvalid) {
		t.Errorf("another kind inside: %v", err)
	}
}

// TestCustomResources: configured paths, with pointers that need escapes.
func TestCustomResources(t *testing.T) {
	thing := admission.Kind{Group: "example.com", Version: "v7", Kind: "Thing"}
	r := rules(t, admission.Settings{Resources: []admission.Resource{
		{Group: "example.com", Version: "*", Kind: "Thing", PodSpec: "spec.pods[*].spec", Paths: []string{"spec.tools[*]", "spec.a/b.image", "spec.matrix[*][*].image"}},
		{Group: "example.com", Version: "v1", Kind: "Free", Paths: []string{"image"}, Optional: true},
	}})
	found, err := r.Find(thing, []byte(object(thing, `"spec":{"pods":{"x/y":{"spec":{"containers":[{"image":"p"}]}}},"tools":{"a~b":"t1","c":"t2","d":null},"a/b":{"image":"s"},"matrix":[[{"image":"m"},{}],[]]}`)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range found.Images {
		got = append(got, i.Pointer+" "+i.Reference+" "+string(i.Sort))
	}
	want := []string{
		"/spec/a~1b/image s field", "/spec/matrix/0/0/image m field", "/spec/pods/x~1y/spec/containers/0/image p container",
		"/spec/tools/a~0b t1 field", "/spec/tools/c t2 field",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	free := admission.Kind{Group: "example.com", Version: "v1", Kind: "Free"}
	if found, err := r.Find(free, []byte(object(free, `"x":1`))); err != nil || len(found.Images) != 0 {
		t.Errorf("optional: %+v %v", found, err)
	}
	for name, body := range map[string]string{
		"nothing":         `"spec":{}`,
		"number":          `"spec":{"tools":[1]}`,
		"text for a list": `"spec":{"tools":"t"}`,
		"other case":      `"spec":{"tools":["t"],"Tools":["u"]}`,
		"no containers":   `"spec":{"tools":["t"],"pods":[{"spec":{}}]}`,
	} {
		if _, err := r.Find(thing, []byte(object(thing, body))); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettingsAreRefused(t *testing.T) {
	ok := admission.Resource{Group: "g", Version: "v1", Kind: "K", Paths: []string{"a.b"}}
	with := func(change func(*admission.Resource)) admission.Settings {
		r := ok
		change(&r)
		return admission.Settings{Resources: []admission.Resource{r}}
	}
	rules(t, with(func(*admission.Resource) {}))
	for name, s := range map[string]admission.Settings{
		"pin":             {Pin: "sometimes"},
		"tags":            {Tags: "no"},
		"hardening":       {Hardening: "deny"},
		"no group":        with(func(r *admission.Resource) { r.Group = "" }),
		"no version":      with(func(r *admission.Resource) { r.Version = "" }),
		"no kind":         with(func(r *admission.Resource) { r.Kind = "" }),
		"wildcard kind":   with(func(r *admission.Resource) { r.Kind = "*" }),
		"no paths":        with(func(r *admission.Resource) { r.Paths = nil }),
		"empty path":      with(func(r *admission.Resource) { r.Paths = []string{""} }),
		"dot at the end":  with(func(r *admission.Resource) { r.Paths = []string{"a."} }),
		"only a star":     with(func(r *admission.Resource) { r.Paths = []string{"[*]"} }),
		"index":           with(func(r *admission.Resource) { r.Paths = []string{"a[0]"} }),
		"text after star": with(func(r *admission.Resource) { r.Paths = []string{"a[*]b"} }),
		"twice":           with(func(r *admission.Resource) { r.Paths = []string{"a.b", "a.b"} }),
		"contradiction":   with(func(r *admission.Resource) { r.Paths = []string{"a", "a.b"} }),
		"list and object": with(func(r *admission.Resource) { r.Paths = []string{"a[*].b", "a.c"} }),
		"too many steps":  with(func(r *admission.Resource) { r.Paths = []string{strings.Repeat("a.", 16) + "a"} }),
		"built in":        {Resources: []admission.Resource{{Group: "apps", Version: "*", Kind: "Deployment", Paths: []string{"a"}}}},
		"same kind twice": {Resources: []admission.Resource{ok, {Group: "g", Version: "*", Kind: "K", Paths: []string{"c"}}}},
	} {
		if _, err := admission.New(s); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, file := range map[string]string{
		"empty": "", "no list": "resources: []", "unknown field": "resources: [{group: g, version: v1, kind: K, paths: [a], x: 1}]",
		"duplicate": "resources: []\nresources: []", "null": "resources: [{group: g, version: v1, kind: K, paths: [a], podSpec: null}]",
		"too large": "# " + strings.Repeat("x", 300<<10), "alias": "a: &a 1\nresources: *a",
	} {
		if _, err := admission.ParseResources([]byte(file)); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestShippedExamples: every file under deploy/examples/custom-resources, on an
// object of each of its kinds.
func TestShippedExamples(t *testing.T) {
	task := `{"steps":[{"name":"s","image":"r/step:1"}],"sidecars":[{"image":"r/sidecar:1"}],"stepTemplate":{"image":"r/template:1"}}`
	tasks := `{"tasks":[{"name":"t","taskSpec":` + task + `},{"taskRef":{"name":"x"}}],"finally":[{"taskSpec":` + task + `}]}`
	podded := `"spec":{"template":{"spec":{"containers":[{"image":"r/app:1"}]}}}`
	for file, kinds := range map[string][]struct {
		kind   admission.Kind
		body   string
		images int
	}{
		"knative.yaml": {
			{admission.Kind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}, podded, 1},
			{admission.Kind{Group: "serving.knative.dev", Version: "v1", Kind: "Configuration"}, podded, 1},
			{admission.Kind{Group: "serving.knative.dev", Version: "v1", Kind: "Revision"}, `"spec":{"containers":[{"image":"r/app:1"}],"initContainers":[{"image":"r/i"}]}`, 2},
		},
		"argo-rollouts.yaml": {
			{admission.Kind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}, podded, 1},
			{admission.Kind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}, `"spec":{"workloadRef":{"kind":"Deployment","name":"x"}}`, 0},
		},
		"tekton.yaml": {
			{admission.Kind{Group: "tekton.dev", Version: "v1", Kind: "Task"}, `"spec":` + task, 3},
			{admission.Kind{Group: "tekton.dev", Version: "v1beta1", Kind: "TaskRun"}, `"spec":{"taskSpec":` + task + `}`, 3},
			{admission.Kind{Group: "tekton.dev", Version: "v1", Kind: "TaskRun"}, `"spec":{"taskRef":{"name":"x"}}`, 0},
			{admission.Kind{Group: "tekton.dev", Version: "v1", Kind: "Pipeline"}, `"spec":` + tasks, 6},
			{admission.Kind{Group: "tekton.dev", Version: "v1", Kind: "PipelineRun"}, `"spec":{"pipelineSpec":` + tasks + `}`, 6},
		},
	} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "examples", "custom-resources", file))
		if err != nil {
			t.Fatal(err)
		}
		resources, err := admission.ParseResources(raw)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		r := rules(t, admission.Settings{Resources: resources})
		for _, k := range kinds {
			found, err := r.Find(k.kind, []byte(object(k.kind, k.body)))
			if err != nil || len(found.Images) != k.images {
				t.Errorf("%s: %v: %d images, want %d: %v", file, k.kind, len(found.Images), k.images, err)
			}
		}
	}
}

// TestDocumentedExample: what docs/admission.md shows is read.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "admission.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if resources, err := admission.ParseResources([]byte(example)); err != nil || !closed || len(resources) != 2 || !resources[1].Optional {
		t.Errorf("%+v %v", resources, err)
	}
}

// review is an AdmissionReview's text.
func review(kind admission.Kind, operation, sub, object, old string) []byte {
	raw := map[string]any{
		"uid": "u-1", "kind": kind, "resource": map[string]string{"group": kind.Group, "version": kind.Version, "resource": "x"},
		"subResource": sub, "namespace": "shop", "operation": operation, "userInfo": map[string]any{}, "dryRun": false,
		"object": json.RawMessage(object), "oldObject": json.RawMessage(old),
	}
	b, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": raw})
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// TestAsk is the table of what is judged when.
func TestAsk(t *testing.T) {
	pod := admission.Kind{Version: "v1", Kind: "Pod"}
	scale := admission.Kind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
	p := func(spec string) string { return object(pod, `"spec":`+spec) }
	one, two := p(`{"containers":[{"name":"a","image":"one"}]}`), p(`{"containers":[{"name":"a","image":"two"}]}`)
	both := p(`{"containers":[{"name":"b","image":"one"},{"name":"a","image":"two"}]}`)
	init := p(`{"containers":[{"name":"a","image":"one"}],"initContainers":[{"image":"one"}]}`)
	debug := p(`{"containers":[{"name":"a","image":"one"}],"ephemeralContainers":[{"image":"two"}]}`)
	going := strings.Replace(both, `"name":"x"`, `"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z","annotations":{"countersign.dev/verdict":"PASSED"}`, 1)
	for _, c := range []struct {
		name                     string
		kind                     admission.Kind
		operation, sub, obj, old string
		all                      bool
		pass                     admission.Pass
		images                   []string
		fails                    bool
	}{
		{"created", pod, "CREATE", "", one, "null", false, "", []string{"one"}, false},
		{"created with an old object", pod, "CREATE", "", one, one, false, "", []string{"one"}, false},
		{"image set", pod, "UPDATE", "", two, one, false, "", []string{"two"}, false},
		{"unchanged", pod, "UPDATE", "", one, one, false, admission.PassUnchanged, nil, false},
		{"unchanged, all judged", pod, "UPDATE", "", one, one, true, "", []string{"one"}, false},
		{"moved to another container", pod, "UPDATE", "", both, one, false, "", []string{"two"}, false},
		{"moved to another sort", pod, "UPDATE", "", init, one, false, "", []string{"one"}, false},
		{"no old object", pod, "UPDATE", "", one, "null", false, "", []string{"one"}, false},
		{"old object broken", pod, "UPDATE", "", one, `{"apiVersion":"v1","kind":"Pod"}`, false, "", []string{"one"}, false},
		{"old object of another kind", pod, "UPDATE", "", one, `{"apiVersion":"v1","kind":"X","spec":{"containers":[{"image":"one"}]}}`, false, "", []string{"one"}, false},
		{"G4 being deleted, finalizer removed", pod, "UPDATE", "", going, both, false, admission.PassUnchanged, nil, false},
		{"G4 being deleted, new image", pod, "UPDATE", "", going, one, false, "", []string{"two"}, false},
		{"G1 debug", pod, "UPDATE", "ephemeralcontainers", debug, one, false, "", []string{"two"}, false},
		{"resized", pod, "UPDATE", "resize", one, one, false, admission.PassUnchanged, nil, false},
		{"status", pod, "UPDATE", "status", two, one, false, admission.PassStatus, nil, false},
		{"scale", scale, "UPDATE", "scale", `{"apiVersion":"autoscaling/v1","kind":"Scale"}`, "null", false, admission.PassScale, nil, false},
		{"scale that is a Pod", pod, "UPDATE", "scale", one, one, false, admission.PassUnchanged, nil, false},
		{"Scale without subresource", scale, "UPDATE", "", `{"apiVersion":"autoscaling/v1","kind":"Scale"}`, "null", false, "", nil, true},
		{"deleted", pod, "DELETE", "", "null", one, false, admission.PassDeletion, nil, false},
		{"connected", pod, "CONNECT", "exec", one, "null", false, "", nil, true},
		{"no operation", pod, "", "", one, "null", false, "", nil, true},
		{"other case", pod, "create", "", one, "null", false, "", nil, true},
		{"no object", pod, "CREATE", "", "null", one, false, "", nil, true},
		{"eviction", admission.Kind{Group: "policy", Version: "v1", Kind: "Eviction"}, "CREATE", "eviction", `{"apiVersion":"policy/v1","kind":"Eviction"}`, "null", false, "", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			parsed, err := admission.ParseReview(review(c.kind, c.operation, c.sub, c.obj, c.old))
			if err != nil {
				t.Fatal(err)
			}
			q, err := rules(t, admission.Settings{JudgeUnchanged: c.all}).Ask(parsed)
			if (err != nil) != c.fails || q.Pass != c.pass || !cmp.Equal(admission.References(q.Images), c.images) {
				t.Errorf("pass %q, images %v, %v", q.Pass, admission.References(q.Images), err)
			}
		})
	}
}

func TestPins(t *testing.T) {
	pod, deployment := admission.Kind{Version: "v1", Kind: "Pod"}, admission.Kind{Group: "apps", Version: "v1", Kind: "Deployment"}
	for _, c := range []struct {
		setting         admission.PinMode
		asked           string
		pod, deployment bool
	}{
		{"", "", true, true},
		{"always", "true", true, true},
		{"always", "pods", true, false},
		{"always", "false", false, false},
		{"pods", "", true, false},
		{"pods", "always", true, false},
		{"never", "always", false, false},
		{"never", "", false, false},
	} {
		r := rules(t, admission.Settings{Pin: c.setting})
		gotPod, err1 := r.Pins(pod, c.asked)
		gotDeployment, err2 := r.Pins(deployment, c.asked)
		if gotPod != c.pod || gotDeployment != c.deployment || err1 != nil || err2 != nil {
			t.Errorf("%+v: %v %v %v %v", c, gotPod, gotDeployment, err1, err2)
		}
	}
	if _, err := rules(t, admission.Settings{}).Pins(pod, "maybe"); !errors.Is(err, admission.ErrInvalid) {
		t.Errorf("unknown mode: %v", err)
	}
}
