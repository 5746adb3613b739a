package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// CheckImages is what a Kyverno policy asks of an external verifier.
type CheckImages struct {
	Images []Image
	// Policy is the one TrustPolicy to apply; empty applies every one that
	// matches.
	Policy    string
	Namespace string
}

type kyvernoRequest struct {
	// ImageReferences says for which images the policy was written. It never
	// narrows what is judged.
	ImageReferences []string      `json:"imageReferences"`
	Images          kyvernoImages `json:"images"`
	TrustPolicy     string        `json:"trustPolicy"`
	// Attestations would be conditions on attestations, which only a TrustPolicy
	// can state here: any are refused.
	Attestations []jsontext.Value `json:"attestations"`
	// Metadata is an annotation that claims earlier verification, by whoever
	// wrote the object. It counts for nothing.
	Metadata string `json:"metadata"`
	// Namespace is our own, for a policy that wants it in the context.
	Namespace string `json:"namespace"`
}

type kyvernoImages struct {
	Containers          map[string]jsontext.Value `json:"containers"`
	InitContainers      map[string]jsontext.Value `json:"initContainers"`
	EphemeralContainers map[string]jsontext.Value `json:"ephemeralContainers"`
}

type kyvernoImage struct {
	Registry string `json:"registry"`
	Path     string `json:"path"`
	Name     string `json:"name"`
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`
	Pointer  string `json:"jsonPointer"`
}

// reference puts together what Kyverno took apart.
func (i kyvernoImage) reference() string {
	var b strings.Builder
	if i.Registry != "" {
		b.WriteString(i.Registry + "/")
	}
	b.WriteString(cmp.Or(i.Path, i.Name))
	if i.Tag != "" {
		b.WriteString(":" + i.Tag)
	}
	if i.Digest != "" {
		b.WriteString("@" + i.Digest)
	}
	return b.String()
}

// ParseCheckImages reads such a request strictly: a restriction that is not
// known here must not be passed over.
func ParseCheckImages(body []byte) (CheckImages, error) {
	var wire kyvernoRequest
	if err := strictjson.Unmarshal(body, &wire); err != nil {
		return CheckImages{}, unreadable(err)
	}
	if len(wire.Attestations) > 0 {
		return CheckImages{}, fault("body.attestations", "require attestations in a TrustPolicy, and name it as trustPolicy")
	}
	out := CheckImages{Policy: wire.TrustPolicy, Namespace: wire.Namespace}
	for _, part := range []struct {
		sort   Sort
		field  string
		images map[string]jsontext.Value
	}{
		{Container, "containers", wire.Images.Containers},
		{InitContainer, "initContainers", wire.Images.InitContainers},
		{EphemeralContainer, "ephemeralContainers", wire.Images.EphemeralContainers},
	} {
		for _, name := range slices.Sorted(maps.Keys(part.images)) {
			image, err := parseKyvernoImage(part.sort, name, part.images[name])
			if err != nil {
				return CheckImages{}, within("body.images."+part.field, err)
			}
			out.Images = append(out.Images, image)
		}
	}
	if n := len(References(out.Images)); n == 0 || n > limits.Images {
		return CheckImages{}, fault("body.images", fmt.Sprintf("want 1 to %d images", limits.Images))
	}
	return out, nil
}

func parseKyvernoImage(sort Sort, name string, raw []byte) (Image, error) {
	var wire kyvernoImage
	if err := strictjson.UnmarshalOpen(raw, &wire); err != nil {
		return Image{}, unreadable(err)
	}
	if wire.Path == "" && wire.Name == "" {
		return Image{}, fault("path", "names no image")
	}
	if wire.Pointer != "" && !strings.HasPrefix(wire.Pointer, "/") {
		return Image{}, fault("jsonPointer", "want a JSON pointer")
	}
	return Image{Reference: wire.reference(), Sort: sort, Name: name, Pointer: wire.Pointer}, nil
}

// CheckedImages is what goes back; Results is a JSON patch, empty unless
// Verified.
type CheckedImages struct {
	Verified bool        `json:"verified"`
	Message  string      `json:"message,omitempty"`
	Results  []Operation `json:"results"`
}

// Checked answers by a verdict. What was named without a pointer is judged and
// not patched.
func Checked(c CheckImages, a verifier.Answer) (CheckedImages, error) {
	out := CheckedImages{Verified: a.Verdict == policy.Passed, Results: []Operation{}}
	if !out.Verified {
		out.Message = cut(plain(strings.Join(Failures(a), "; ")), maxMessage)
		return out, nil
	}
	placed := slices.DeleteFunc(slices.Clone(c.Images), func(i Image) bool { return i.Pointer == "" })
	patch, err := Patch(placed, digests(a))
	if err != nil {
		return CheckedImages{}, err
	}
	out.Results = append(out.Results, patch...)
	return out, nil
}

// NotChecked refuses a request that was not judged.
func NotChecked(code, message string) CheckedImages {
	return CheckedImages{Message: cut(plain(message+" ("+code+")"), maxMessage), Results: []Operation{}}
}
