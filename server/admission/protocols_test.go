package admission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/verifier"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func passed(image string) verifier.Result {
	return verifier.Result{
		Image: image, Pinned: strings.Split(image, ":")[0] + "@" + digest, Digest: digest, Verdict: policy.Passed, DecisionID: "d-" + image,
		Policies: []verifier.PolicyResult{{Name: "p", Verdict: policy.Passed}},
	}
}

func failed(image string, code policy.Code) verifier.Result {
	reason := policy.Reason{Code: code, Message: "it is so", Policy: "p"}
	return verifier.Result{
		Image: image, Verdict: policy.Failed, Reasons: []policy.Reason{reason},
		Policies: []verifier.PolicyResult{{Name: "p", Verdict: policy.Failed, Reasons: []policy.Reason{reason}}},
	}
}

func answer(results ...verifier.Result) verifier.Answer {
	a := verifier.Answer{Verdict: policy.Passed, Results: results}
	for _, r := range results {
		if r.Verdict != policy.Passed {
			a.Verdict = policy.Failed
		}
		a.Warnings = append(a.Warnings, r.Warnings...)
	}
	return a
}

// judged is the answer to the creation of an object of a kind, as JSON tells it.
func judged(t *testing.T, s admission.Settings, kind admission.Kind, body string, a verifier.Answer, pin bool) admission.Response {
	t.Helper()
	r := rules(t, s)
	parsed, err := admission.ParseReview(review(kind, "CREATE", "", object(kind, body), "null"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := r.Ask(parsed)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.Judged(parsed, q, a, pin)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// TestJudged: pinned, warned of, or denied; never a patch type without a patch.
func TestJudged(t *testing.T) {
	pod, deployment := admission.Kind{Version: "v1", Kind: "Pod"}, admission.Kind{Group: "apps", Version: "v1", Kind: "Deployment"}
	spec := `"spec":{"containers":[{"name":"a","image":"r/a:1"},{"name":"b","image":"r/b@` + digest + `"}]}`
	template := `"spec":{"template":{` + spec + `}}`
	good := answer(passed("r/a:1"), passed("r/b@"+digest))
	for _, c := range []struct {
		name             string
		settings         admission.Settings
		kind             admission.Kind
		body             string
		answer           verifier.Answer
		pin              bool
		allowed          bool
		patch, says, has string
	}{
		{"pinned", admission.Settings{}, pod, spec, good, true, true, `[{"op":"replace","path":"/spec/containers/0/image","value":"r/a:1@` + digest + `"}]`, "", ""},
		{"nothing to pin", admission.Settings{}, pod, `"spec":{"containers":[{"image":"r/b@` + digest + `"}]}`, answer(passed("r/b@" + digest)), true, true, "", "", ""},
		{"G7 by tag, warned", admission.Settings{}, pod, spec, good, false, true, "", "named by tag", ""},
		{"G7 by tag, denied", admission.Settings{Tags: "deny"}, pod, spec, good, false, false, "", "", "by digest"},
		{"G7 by tag, denied unless pinned", admission.Settings{Tags: "deny"}, pod, spec, good, true, true, "x", "", ""},
		{"by tag, allowed", admission.Settings{Tags: "allow"}, pod, spec, good, false, true, "", "", ""},
		{"a template by tag", admission.Settings{Tags: "deny"}, deployment, template, good, false, true, "", "", ""},
		{"denied", admission.Settings{}, pod, spec, answer(passed("r/a:1"), failed("r/b@"+digest, policy.NoSignature)), true, false, "", "", "no_signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := judged(t, c.settings, c.kind, c.body, c.answer, c.pin)
			if got.Allowed != c.allowed || (got.Status == nil) != c.allowed || (len(got.Patch) > 0) != (got.PatchType != "") || (c.patch != "") != (len(got.Patch) > 0) {
				t.Fatalf("%+v", got)
			}
			if len(c.patch) > 1 && string(got.Patch) != c.patch {
				t.Errorf("patch %s", got.Patch)
			}
			if c.says != "" != (len(got.Warnings) > 0) || !strings.Contains(strings.Join(got.Warnings, " "), c.says) {
				t.Errorf("warnings %q", got.Warnings)
			}
			if !c.allowed && !strings.Contains(got.Status.Message, c.has) {
				t.Errorf("message %q", got.Status.Message)
			}
			if want := map[bool]string{true: "PASSED", false: "FAILED"}[c.allowed]; got.AuditAnnotations["verdict"] != want {
				t.Errorf("annotations %v", got.AuditAnnotations)
			}
		})
	}
}

// TestNoDigestNoPatch: G5. Half a patch, or one to nothing, is an error.
func TestNoDigestNoPatch(t *testing.T) {
	images := []admission.Image{{Reference: "a:1", Pointer: "/a"}, {Reference: "b:1", Pointer: "/b"}}
	if patch, err := admission.Patch(images, map[string]string{"a:1": digest, "b:1": digest}); err != nil || len(patch) != 2 {
		t.Fatalf("the control: %v %v", patch, err)
	}
	if patch, err := admission.Patch(images, map[string]string{"a:1": digest}); !errors.Is(err, admission.ErrInvalid) || patch != nil {
		t.Errorf("%v %v", patch, err)
	}
}

func TestWarningsFitTheAPIServer(t *testing.T) {
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("%d \n\x00\xff %s", i, strings.Repeat("ü", 300)), "twice")
	}
	got, total := admission.Warnings(all), 0
	for _, w := range got {
		total += len(w)
		if len(w) > 256 || strings.ContainsAny(w, "\n\x00") || w != strings.ToValidUTF8(w, "") {
			t.Errorf("%q", w)
		}
	}
	if total > 4096 || len(got) < 10 {
		t.Errorf("%d warnings of %d bytes", len(got), total)
	}
}

// TestHardening is the table of how containers run.
func TestHardening(t *testing.T) {
	pod := admission.Kind{Version: "v1", Kind: "Pod"}
	safe := `{"runAsNonRoot":true,"readOnlyRootFilesystem":true}`
	for _, c := range []struct {
		name, pod, container string
		want                 []string
	}{
		{"nothing said", `{}`, `{}`, []string{"may run as root", "can write"}},
		{"safe", `{}`, safe, nil},
		{"the pod says non-root", `{"runAsNonRoot":true}`, `{"readOnlyRootFilesystem":true}`, nil},
		{"the container overrides", `{"runAsNonRoot":true}`, `{"runAsNonRoot":false,"readOnlyRootFilesystem":true}`, []string{"may run as root"}},
		{"the container's user overrides", `{"runAsUser":1000}`, `{"runAsUser":0,"readOnlyRootFilesystem":true}`, []string{"may run as root"}},
		{"the pod's user", `{"runAsUser":1000}`, `{"readOnlyRootFilesystem":true}`, nil},
		{"the pod's root user", `{"runAsUser":0,"runAsNonRoot":true}`, `{"readOnlyRootFilesystem":true}`, []string{"may run as root"}},
		{"the container saves it", `{"runAsUser":0}`, `{"runAsUser":7,"readOnlyRootFilesystem":true}`, nil},
		{"privileged", `{}`, `{"runAsNonRoot":true,"readOnlyRootFilesystem":true,"privileged":true}`, []string{"privileged"}},
		{"unreadable", `{}`, `{"runAsUser":"root"}`, []string{"cannot be read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
				lists := map[string]string{"containers": `{"name":"ok","image":"r/a@` + digest + `","securityContext":` + safe + `}`}
				lists[list] = `{"name":"the-one","image":"r/a@` + digest + `","securityContext":` + c.container + `}`
				body := `"spec":{"securityContext":` + c.pod
				for name, container := range lists {
					body += `,"` + name + `":[` + container + `]`
				}
				got := judged(t, admission.Settings{Hardening: "warn"}, pod, body+"}", answer(passed("r/a@"+digest)), false)
				told := strings.Join(got.Warnings, "\n")
				if !got.Allowed || strings.Contains(told, "the-one") != (c.want != nil && !strings.Contains(told, "cannot be read")) {
					t.Errorf("%s: %v %q", list, got.Allowed, told)
				}
				for _, want := range c.want {
					if !strings.Contains(told, want) {
						t.Errorf("%s: no %q in %q", list, want, told)
					}
				}
			}
			if got := judged(t, admission.Settings{}, pod, `"spec":{"containers":[{"image":"r/a@`+digest+`"}]}`, answer(passed("r/a@"+digest)), false); len(got.Warnings) != 0 {
				t.Errorf("off: %q", got.Warnings)
			}
		})
	}
	windows := `"spec":{"os":{"name":"windows"},"containers":[{"image":"r/a@` + digest + `"}]}`
	if got := judged(t, admission.Settings{Hardening: "warn"}, pod, windows, answer(passed("r/a@"+digest)), false); len(got.Warnings) != 0 {
		t.Errorf("windows: %q", got.Warnings)
	}
}

func TestParseReviewRefuses(t *testing.T) {
	pod := admission.Kind{Version: "v1", Kind: "Pod"}
	good := string(review(pod, "CREATE", "", "{}", "null"))
	if r, err := admission.ParseReview([]byte(good)); err != nil || r.UID != "u-1" || r.Namespace != "shop" || r.OldObject != nil {
		t.Fatalf("the control: %+v %v", r, err)
	}
	for name, c := range map[string]struct {
		body string
		uid  string
	}{
		"beta":            {strings.Replace(good, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), "u-1"},
		"other kind":      {strings.Replace(good, `"AdmissionReview"`, `"Review"`, 1), "u-1"},
		"unknown field":   {strings.Replace(good, `"dryRun"`, `"dryrun"`, 1), "u-1"},
		"number as uid":   {strings.Replace(good, `"u-1"`, `1`, 1), ""},
		"empty uid":       {strings.Replace(good, `"u-1"`, `""`, 1), ""},
		"long uid":        {strings.Replace(good, `"u-1"`, `"`+strings.Repeat("u", 200)+`"`, 1), ""},
		"duplicate uid":   {strings.Replace(good, `"uid"`, `"uid":"x","uid"`, 1), ""},
		"text for dryRun": {strings.Replace(good, `"dryRun":false`, `"dryRun":"false"`, 1), "u-1"},
		"list for kind":   {strings.Replace(good, `"kind":{`, `"kind":[{`, 1), ""},
		"nothing":         {"", ""},
		"null":            {"null", ""},
		"two":             {good + good, ""},
		"no request":      {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, ""},
		"request of null": {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`, ""},
	} {
		if r, err := admission.ParseReview([]byte(c.body)); !errors.Is(err, admission.ErrInvalid) || r.UID != c.uid {
			t.Errorf("%s: %q %v", name, r.UID, err)
		}
	}
}

func TestImageReview(t *testing.T) {
	const good = `{"apiVersion":"imagepolicy.k8s.io/v1alpha1","kind":"ImageReview","metadata":{"creationTimestamp":null},"spec":{"containers":[{"image":"a:1"},{"image":"b:1"},{"image":"a:1"}],"annotations":{"x.image-policy.k8s.io/break-glass":"yes"},"namespace":"shop"},"status":{"allowed":false}}`
	got, err := admission.ParseImageReview([]byte(good))
	if err != nil || got.Namespace != "shop" || !cmp.Equal(got.Images, []string{"a:1", "b:1"}) {
		t.Fatalf("%+v %v", got, err)
	}
	for name, body := range map[string]string{
		"no containers":  strings.Replace(good, `{"image":"a:1"},{"image":"b:1"},{"image":"a:1"}`, "", 1),
		"no image":       strings.Replace(good, `{"image":"b:1"}`, "{}", 1),
		"number":         strings.Replace(good, `"b:1"`, "1", 1),
		"other version":  strings.Replace(good, "v1alpha1", "v1", 1),
		"other kind":     strings.Replace(good, "ImageReview", "Pod", 1),
		"unknown in it":  strings.Replace(good, `"namespace"`, `"pullSecrets":[],"namespace"`, 1),
		"duplicate spec": strings.Replace(good, `"status"`, `"spec":{},"status"`, 1),
		"not JSON":       "{",
	} {
		if _, err := admission.ParseImageReview([]byte(body)); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a := admission.JudgedImages(answer(passed("a:1"))); !a.Status.Allowed || a.APIVersion != "imagepolicy.k8s.io/v1alpha1" || a.Kind != "ImageReview" {
		t.Errorf("%+v", a)
	}
	if a := admission.JudgedImages(answer(passed("a:1"), failed("b:1", policy.NoSignature))); a.Status.Allowed || !strings.Contains(a.Status.Reason, "no_signature") {
		t.Errorf("%+v", a)
	}
}

const providerRequest = `{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":%s}}`

func keys(t *testing.T, list string) []admission.Key {
	t.Helper()
	got, err := admission.ParseProviderRequest(fmt.Appendf(nil, providerRequest, list))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestProvider(t *testing.T) {
	got := keys(t, `["a:1","[shop]a:1","[shop]b:1","a:1","[][x]c"]`)
	want := []admission.Key{
		{Text: "a:1", Reference: "a:1"},
		{Text: "[shop]a:1", Namespace: "shop", Reference: "a:1"},
		{Text: "[shop]b:1", Namespace: "shop", Reference: "b:1"},
		{Text: "[][x]c", Reference: "[x]c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if groups := admission.Groups(got); len(groups) != 2 || len(groups[0]) != 2 || len(groups[1]) != 2 {
		t.Errorf("%v", groups)
	}
	for name, body := range map[string]string{
		"no keys":       fmt.Sprintf(providerRequest, "[]"),
		"null keys":     fmt.Sprintf(providerRequest, "null"),
		"open bracket":  fmt.Sprintf(providerRequest, `["[shop"]`),
		"number":        fmt.Sprintf(providerRequest, `[1]`),
		"too many":      fmt.Sprintf(providerRequest, `["`+strings.Join(many(201), `","`)+`"]`),
		"alpha":         strings.Replace(fmt.Sprintf(providerRequest, `["a"]`), "v1beta1", "v1alpha1", 1),
		"unknown field": strings.Replace(fmt.Sprintf(providerRequest, `["a"]`), `"keys"`, `"x":1,"keys"`, 1),
	} {
		if _, err := admission.ParseProviderRequest([]byte(body)); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("r/i", i)
	}
	return out
}

// TestProvidedSeparates what was decided from what was not: Gatekeeper would
// remember the latter as an item.
func TestProvidedSeparates(t *testing.T) {
	ks := keys(t, `["good:1","bad:1","away:1","late:1","[n]gone:1"]`)
	results := map[string]verifier.Result{
		"good:1": passed("good:1"), "bad:1": failed("bad:1", policy.NoSignature),
		"away:1": failed("away:1", policy.RegistryUnavailable), "late:1": failed("late:1", policy.DeadlineExceeded),
	}
	for name, render := range map[string]admission.Render{
		"gatekeeper": admission.ValueItem, "mutate": admission.PinItem, "ratify v1": admission.RatifyV1Items("t", time.Unix(0, 0)), "ratify v2": admission.RatifyV2Item,
	} {
		got := admission.Provided(ks, results, render)
		if len(got.Response.Items) != 2 || !got.Response.Idempotent {
			t.Fatalf("%s: %+v", name, got)
		}
		for _, part := range []string{"registry_unavailable", "deadline_exceeded", "[n]gone:1"} {
			if !strings.Contains(got.Response.SystemError, part) {
				t.Errorf("%s: no %s in %q", name, part, got.Response.SystemError)
			}
		}
		if whole := admission.Provided(ks[:2], results, render); whole.Response.SystemError != "" {
			t.Errorf("%s: %q", name, whole.Response.SystemError)
		}
	}
}

// TestProviderValues: isSuccess and succeeded are always there, mutation has
// texts.
func TestProviderValues(t *testing.T) {
	good, bad := admission.Key{Text: "[n]r/a:1", Namespace: "n", Reference: "r/a:1"}, admission.Key{Text: "r/b:1", Reference: "r/b:1"}
	show := func(i admission.Item) string {
		b, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	v1 := admission.RatifyV1Items("trace", time.Unix(0, 0))
	for _, c := range []struct {
		name, got string
		want      []string
	}{
		{"value", show(admission.ValueItem(good, passed("r/a:1"))), []string{`"key":"[n]r/a:1"`, `"verdict":"PASSED"`, `"pinned":"r/a:1@` + digest}},
		{"value of a denial", show(admission.ValueItem(bad, failed("r/b:1", policy.NoSignature))), []string{`"error":"r/b:1: it is so (no_signature)`}},
		{"pin", show(admission.PinItem(good, passed("r/a:1"))), []string{`"value":"r/a:1@` + digest + `"`}},
		{"pin of a denial", show(admission.PinItem(bad, failed("r/b:1", policy.NoSignature))), []string{`"error"`}},
		{"v1", show(v1(good, passed("r/a:1"))), []string{`"isSuccess":true`, `"version":"1.1.0"`, `"traceID":"trace"`, `"verifierReports":[{`}},
		{"v1 denial", show(v1(bad, failed("r/b:1", policy.NoSignature))), []string{`"value":{"version":"1.1.0","isSuccess":false`, `"errorReason":"no_signature"`}},
		{"v2", show(admission.RatifyV2Item(good, passed("r/a:1"))), []string{`"succeeded":true`, `"artifactReports":[{`}},
		{"v2 denial", show(admission.RatifyV2Item(bad, failed("r/b:1", policy.NoSignature))), []string{`"value":{"succeeded":false`, `"errorReason":"no_signature"`}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.got, want) {
				t.Errorf("%s: no %s in %s", c.name, want, c.got)
			}
		}
	}
}

func TestCheckImages(t *testing.T) {
	const good = `{"imageReferences":["*"],"trustPolicy":"production","metadata":"{\"a\":true}","attestations":[],"namespace":"shop","images":{` +
		`"containers":{"b":{"registry":"r.example","path":"team/app","name":"app","tag":"1","jsonPointer":"/spec/containers/0/image","reference":"r.example/team/app:1"},` +
		`"a":{"registry":"r.example","path":"x","tag":"2","digest":"` + digest + `","jsonPointer":"/spec/containers/1/image"}},` +
		`"initContainers":{"i":{"path":"library/init","tag":"3"}}}}`
	got, err := admission.ParseCheckImages([]byte(good))
	if err != nil || got.Policy != "production" || got.Namespace != "shop" {
		t.Fatalf("%+v %v", got, err)
	}
	want := []string{"r.example/x:2@" + digest, "r.example/team/app:1", "library/init:3"}
	if diff := cmp.Diff(want, admission.References(got.Images)); diff != "" {
		t.Error(diff)
	}
	checked, err := admission.Checked(got, answer(passed(want[0]), passed(want[1]), passed(want[2])))
	if err != nil || !checked.Verified || !cmp.Equal(checked.Results, []admission.Operation{{Op: "replace", Path: "/spec/containers/0/image", Value: want[1] + "@" + digest}}) {
		t.Errorf("%+v %v", checked, err)
	}
	if checked, err := admission.Checked(got, answer(passed(want[0]), failed(want[1], policy.NoSignature), passed(want[2]))); err != nil || checked.Verified || len(checked.Results) != 0 || checked.Results == nil {
		t.Errorf("%+v %v", checked, err)
	}
	for name, body := range map[string]string{
		"attestations":       strings.Replace(good, `"attestations":[]`, `"attestations":[{"imageReference":"*"}]`, 1),
		"unknown field":      strings.Replace(good, `"metadata"`, `"cosign":{},"metadata"`, 1),
		"unknown sort":       strings.Replace(good, `"initContainers"`, `"volumes"`, 1),
		"no path":            strings.Replace(good, `"path":"library/init"`, `"x":1`, 1),
		"pointer":            strings.Replace(good, `"/spec/containers/0/image"`, `"spec"`, 1),
		"number":             strings.Replace(good, `"tag":"3"`, `"tag":3`, 1),
		"no images":          `{"images":{}}`,
		"images of null":     `{"images":null}`,
		"text for images":    `{"images":"a:1"}`,
		"policy as a number": strings.Replace(good, `"production"`, `1`, 1),
	} {
		if _, err := admission.ParseCheckImages([]byte(body)); !errors.Is(err, admission.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
