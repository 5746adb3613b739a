package admission_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/countersign/countersign/server/admission"
)

// FuzzReview: what is parsed and asked about never has a question without an
// image, and every image is where its pointer says.
func FuzzReview(f *testing.F) {
	pod := admission.Kind{Version: "v1", Kind: "Pod"}
	f.Add(review(pod, "CREATE", "", object(pod, `"spec":`+spec), "null"))
	f.Add(review(pod, "UPDATE", "ephemeralcontainers", object(pod, `"spec":`+spec), object(pod, `"spec":{"containers":[{"image":"r/a:1"}]}`)))
	f.Add(review(pod, "DELETE", "", "null", "null"))
	thing := admission.Kind{Group: "example.com", Version: "v1", Kind: "Thing"}
	f.Add(review(thing, "CREATE", "", object(thing, `"spec":{"x/y":["a"],"~":{"image":"b"}}`), "null"))
	r := rules(f, admission.Settings{Resources: []admission.Resource{{Group: "example.com", Version: "*", Kind: "Thing", Paths: []string{"spec[*][*]"}}}})
	f.Fuzz(func(t *testing.T, body []byte) {
		parsed, err := admission.ParseReview(body)
		if err != nil {
			return
		}
		q, err := r.Ask(parsed)
		if err != nil {
			return
		}
		if parsed.UID == "" || (q.Pass == "") != (len(q.Images) > 0) {
			t.Fatalf("%q: %+v", parsed.UID, q)
		}
		var document any
		if len(q.Images) > 0 && json.Unmarshal(parsed.Object, &document) != nil {
			t.Fatal("an image was found in what is no JSON")
		}
		for _, i := range q.Images {
			if at, ok := look(document, i.Pointer).(string); !ok || at != i.Reference || at == "" {
				t.Fatalf("%s is not %q", i.Pointer, i.Reference)
			}
		}
	})
}

// FuzzObject: no object panics, what is accepted has an image, and nothing is
// left beside an error.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"a"}]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[null],"volumes":[{"image":null}]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"a"}],"containers":[]}}`))
	r := rules(f, admission.Settings{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for kind := range workloads() {
			found, err := r.Find(kind, raw)
			if (err == nil) != (len(found.Images) > 0) {
				t.Fatalf("%v: %+v %v", kind, found, err)
			}
		}
	})
}

// look follows an RFC 6901 pointer.
func look(v any, pointer string) any {
	for _, name := range strings.Split(pointer, "/")[1:] {
		name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			n := 0
			for _, digit := range name {
				n = n*10 + int(digit-'0')
			}
			if n >= len(at) {
				return nil
			}
			v = at[n]
		default:
			return nil
		}
	}
	return v
}

// FuzzResources: what is accepted makes rules that find what its paths say, and
// nothing that fails is kept.
func FuzzResources(f *testing.F) {
	f.Add([]byte("resources: [{group: g, version: '*', kind: K, podSpec: a.b, paths: ['c[*].d', e]}]"))
	f.Add([]byte(`{"resources":[{"group":"g","version":"v1","kind":"K","paths":["a[*][*]"],"optional":true}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		resources, err := admission.ParseResources(raw)
		if err != nil {
			return
		}
		if _, err := admission.New(admission.Settings{Resources: resources}); err != nil {
			t.Fatalf("a file that is accepted makes no rules: %v", err)
		}
	})
}

func FuzzImageReview(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"imagepolicy.k8s.io/v1alpha1","kind":"ImageReview","spec":{"containers":[{"image":"a"}],"namespace":"n"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got, err := admission.ParseImageReview(body); (err == nil) != (len(got.Images) > 0) {
			t.Fatalf("%+v %v", got, err)
		}
	})
}

func FuzzProviderRequest(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":["a:1","[n]b"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := admission.ParseProviderRequest(body)
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%+v %v", got, err)
		}
		for _, k := range got {
			if k.Text != k.Reference && k.Text != "["+k.Namespace+"]"+k.Reference {
				t.Fatalf("%+v", k)
			}
		}
	})
}

func FuzzCheckImages(f *testing.F) {
	f.Add([]byte(`{"images":{"containers":{"a":{"registry":"r","path":"p","tag":"1","jsonPointer":"/x"}}},"trustPolicy":"p"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := admission.ParseCheckImages(body)
		if (err == nil) != (len(got.Images) > 0) {
			t.Fatalf("%+v %v", got, err)
		}
		for _, i := range got.Images {
			if i.Reference == "" || i.Pointer != "" && i.Pointer[0] != '/' {
				t.Fatalf("%+v", i)
			}
		}
	})
}
