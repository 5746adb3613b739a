package server_test

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/server/admission"
)

const anyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// drawnContainer names images where they count and where they do not.
type drawnContainer struct{ name, image, elsewhere string }

type drawnPod struct {
	containers, initContainers, ephemeralContainers []drawnContainer
	volume                                          string
}

// drawn is a custom resource with pods and single images, by names that need
// escapes in a pointer.
type drawn struct {
	pods   map[string]drawnPod
	images map[string]string
}

// object is the resource with something done to each image that counts.
func (d drawn) object(to func(string) string) []byte {
	containers := func(list []drawnContainer) []any {
		out := []any{}
		for _, c := range list {
			out = append(out, map[string]any{
				"name": c.name, "image": to(c.image), "args": []any{"image", c.elsewhere}, "env": map[string]any{"x": map[string]any{"image": c.elsewhere}},
			})
		}
		return out
	}
	pods, images := map[string]any{}, map[string]any{}
	for name, p := range d.pods {
		pods[name] = map[string]any{
			"containers": containers(p.containers), "initContainers": containers(p.initContainers), "ephemeralContainers": containers(p.ephemeralContainers),
			"volumes": []any{
				map[string]any{"name": "v", "image": map[string]any{"reference": to(p.volume), "pullPolicy": "Always"}},
				map[string]any{"name": "r", "rbd": map[string]any{"image": "r.example/a:1"}},
			},
			"other": map[string]any{"image": "r.example/a:1"},
		}
	}
	for name, image := range d.images {
		images[name] = to(image)
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "example.com/v1", "kind": "Thing",
		"spec": map[string]any{"pods": pods, "images": images, "image": "r.example/a:1", "pods/0": "r.example/a:1"},
	})
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

func draw(t *rapid.T) drawn {
	name := rapid.StringMatching(`[a-z~/0-9 "\\é.-]{0,6}`)
	image := rapid.SampledFrom([]string{"r.example/a", "r.example/a:1", "r.example/b:2", "r.example/c:3@" + anyDigest, "r.example/d@" + anyDigest})
	container := rapid.Custom(func(t *rapid.T) drawnContainer {
		return drawnContainer{name.Draw(t, "name"), image.Draw(t, "image"), image.Draw(t, "elsewhere")}
	})
	pod := rapid.Custom(func(t *rapid.T) drawnPod {
		return drawnPod{
			rapid.SliceOfN(container, 1, 3).Draw(t, "containers"), rapid.SliceOfN(container, 0, 2).Draw(t, "init"),
			rapid.SliceOfN(container, 0, 2).Draw(t, "ephemeral"), image.Draw(t, "volume"),
		}
	})
	return drawn{rapid.MapOfN(name, pod, 1, 3).Draw(t, "pods"), rapid.MapOfN(name, image, 0, 3).Draw(t, "images")}
}

// TestPatchChangesOnlyImages: whatever the object, applying the patch with a
// library that is not ours gives the same object with its tags pinned.
func TestPatchChangesOnlyImages(t *testing.T) {
	thing := admission.Kind{Group: "example.com", Version: "v1", Kind: "Thing"}
	rules, err := admission.New(admission.Settings{Resources: []admission.Resource{
		{Group: thing.Group, Version: thing.Version, Kind: thing.Kind, PodSpec: "spec.pods[*]", Paths: []string{"spec.images[*]"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		digests := map[string]string{}
		object := d.object(func(image string) string {
			digests[image] = anyDigest
			return image
		})
		found, err := rules.Find(thing, object)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := admission.Patch(found.Images, digests)
		if err != nil {
			t.Fatal(err)
		}
		got := object
		if patch != nil {
			raw, err := json.Marshal(patch)
			if err != nil {
				t.Fatal(err)
			}
			decoded, err := jsonpatch.DecodePatch(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = decoded.Apply(object); err != nil {
				t.Fatal(err)
			}
		}
		want := d.object(func(image string) string { return admission.Pinned(image, anyDigest) })
		if !jsonpatch.Equal(got, want) {
			t.Fatalf("patched to\n%s\nwant\n%s", got, want)
		}
	})
}
