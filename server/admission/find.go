package admission

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Sort is the sort of place at which an image stands.
type Sort string

// The sorts. A configured path of a custom resource is a Field.
const (
	Container          Sort = "container"
	InitContainer      Sort = "initContainer"
	EphemeralContainer Sort = "ephemeralContainer"
	ImageVolume        Sort = "imageVolume"
	Field              Sort = "field"
)

// Image is one place of an object that names an image.
type Image struct {
	// Reference is what stands there.
	Reference string
	Sort      Sort
	// Name is of the container or volume; empty for a Field.
	Name string
	// Pointer is the RFC 6901 pointer of the reference.
	Pointer string
}

// ByDigest reports whether the reference names a digest, so that nobody can
// move it.
func (i Image) ByDigest() bool { return strings.Contains(i.Reference, "@") }

// Pod is a pod specification within an object.
type Pod struct {
	Pointer string
	// Spec is its JSON.
	Spec []byte
}

// Object is what was found in an object.
type Object struct {
	Images []Image
	Pods   []Pod
}

// References are the images of a list, each once, in order of appearance.
func References(images []Image) []string {
	seen := make(map[string]bool, len(images))
	var out []string
	for _, i := range images {
		if !seen[i.Reference] {
			seen[i.Reference] = true
			out = append(out, i.Reference)
		}
	}
	return out
}

// Find lists the images of an object. It refuses an object of another kind, of
// a kind that is not known, and one that has no image where its kind must have
// one. The JSON must be strict: see the package.
func (r *Rules) Find(kind Kind, object []byte) (Object, error) {
	if err := strictjson.Check(object); err != nil {
		return Object{}, unreadable(err)
	}
	return r.find(kind, object)
}

// find is Find in JSON that was checked.
func (r *Rules) find(kind Kind, object []byte) (Object, error) {
	w, known := r.kinds.of(kind)
	if !known {
		return Object{}, fault("request.kind", "where this kind holds images is not known here: take it out of the webhook's rules, or say so in a file of admission.resources")
	}
	is, err := members(object, "object", "apiVersion", "kind")
	if err != nil {
		return Object{}, err
	}
	if text(is["kind"]) != kind.Kind || text(is["apiVersion"]) != kind.APIVersion() {
		return Object{}, fault("object", "is not of the kind that the request names")
	}
	f := &finding{}
	if err := f.walk(w.root, object, ""); err != nil {
		return Object{}, err
	}
	if len(f.Images) == 0 && !w.optional {
		return Object{}, fault("object", "has no containers or images where its kind has them")
	}
	return f.Object, nil
}

// finding collects what a walk finds.
type finding struct{ Object }

func (f *finding) walk(n *node, raw jsontext.Value, at string) error {
	switch {
	case n.leaf == leafPod:
		return f.pod(raw, at)
	case n.leaf == leafImage:
		return f.add(raw, Field, "", at)
	case n.every != nil:
		return each(raw, at, func(element jsontext.Value, at string) error { return f.walk(n.every, element, at) })
	}
	names := n.names()
	found, err := members(raw, at, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		if value, ok := found[name]; ok {
			if err := f.walk(n.members[name], value, below(at, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pod takes the images of a pod specification, which has a container.
func (f *finding) pod(raw jsontext.Value, at string) error {
	m, err := members(raw, at, "containers", "initContainers", "ephemeralContainers", "volumes")
	if err != nil {
		return err
	}
	before := len(f.Images)
	if err := f.containers(m["containers"], Container, below(at, "containers")); err != nil {
		return err
	}
	if len(f.Images) == before {
		return fault("object"+at, "has no containers")
	}
	if err := f.containers(m["initContainers"], InitContainer, below(at, "initContainers")); err != nil {
		return err
	}
	if err := f.containers(m["ephemeralContainers"], EphemeralContainer, below(at, "ephemeralContainers")); err != nil {
		return err
	}
	f.Pods = append(f.Pods, Pod{Pointer: at, Spec: raw})
	return f.volumes(m["volumes"], below(at, "volumes"))
}

func (f *finding) containers(raw jsontext.Value, sort Sort, at string) error {
	if raw == nil {
		return nil
	}
	return eachOf(raw, at, func(element jsontext.Value, at string) error {
		m, err := members(element, at, "name", "image")
		if err != nil {
			return err
		}
		return f.add(m["image"], sort, text(m["name"]), below(at, "image"))
	})
}

func (f *finding) volumes(raw jsontext.Value, at string) error {
	if raw == nil {
		return nil
	}
	return eachOf(raw, at, func(element jsontext.Value, at string) error {
		m, err := members(element, at, "name", "image")
		if err != nil || m["image"] == nil {
			return err
		}
		source, err := members(m["image"], below(at, "image"), "reference")
		if err != nil {
			return err
		}
		return f.add(source["reference"], ImageVolume, text(m["name"]), below(below(at, "image"), "reference"))
	})
}

func (f *finding) add(raw jsontext.Value, sort Sort, name, at string) error {
	reference := text(raw)
	if reference == "" {
		return fault("object"+at, "names no image")
	}
	if len(f.Images) == limits.AdmissionPlaces {
		return fault("object", fmt.Sprintf("names images in more than %d places", limits.AdmissionPlaces))
	}
	f.Images = append(f.Images, Image{Reference: reference, Sort: sort, Name: name, Pointer: at})
	return nil
}

// below is the pointer of a member.
func below(at, name string) string {
	return at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// text is a JSON string's value; anything else is empty.
func text(raw jsontext.Value) string {
	if raw.Kind() != jsontext.KindString {
		return ""
	}
	s, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return ""
	}
	return string(s)
}

// members are the wanted members of an object, in one pass over JSON that was
// checked. One that is null is absent. A name that a laxer reader would take
// for a wanted one is refused.
func members(raw jsontext.Value, at string, wanted ...string) (map[string]jsontext.Value, error) {
	found := make(map[string]jsontext.Value, len(wanted))
	if raw.Kind() != jsontext.KindBeginObject {
		return nil, fault(place(at), "want an object")
	}
	err := scan(raw, func(name string, value jsontext.Value) error {
		switch {
		case slices.Contains(wanted, name):
			if value.Kind() != jsontext.KindNull {
				found[name] = value
			}
		case slices.ContainsFunc(wanted, func(w string) bool { return sameButForCase(w, name) }):
			return fault(place(at), "a name differs from a known one only in case or punctuation")
		}
		return nil
	})
	return found, err
}

// place names a pointer for people.
func place(at string) string {
	if strings.HasPrefix(at, "/") {
		return "object" + at
	}
	if at == "" {
		return "object"
	}
	return at
}

func sameButForCase(a, b string) bool {
	bare := strings.NewReplacer("-", "", "_", "")
	return strings.EqualFold(a, b) || strings.EqualFold(bare.Replace(a), bare.Replace(b))
}

// each visits the elements of a list or the members of an object; nulls are
// absent.
func each(raw jsontext.Value, at string, visit func(value jsontext.Value, at string) error) error {
	switch raw.Kind() {
	case jsontext.KindBeginArray:
		return eachOf(raw, at, func(value jsontext.Value, at string) error {
			if value.Kind() == jsontext.KindNull {
				return nil
			}
			return visit(value, at)
		})
	case jsontext.KindBeginObject:
		return scan(raw, func(name string, value jsontext.Value) error {
			if value.Kind() == jsontext.KindNull {
				return nil
			}
			return visit(value, below(at, name))
		})
	}
	return fault(place(at), "want a list or an object")
}

// eachOf visits the elements of a list.
func eachOf(raw jsontext.Value, at string, visit func(value jsontext.Value, at string) error) error {
	if raw.Kind() != jsontext.KindBeginArray {
		return fault(place(at), "want a list")
	}
	n := 0
	return scan(raw, func(_ string, value jsontext.Value) error {
		n++
		return visit(value, at+"/"+strconv.Itoa(n-1))
	})
}

// scan visits the values of an object or a list in JSON that was checked. The
// values are parts of raw.
func scan(raw jsontext.Value, visit func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return unreadable(err)
	}
	object := raw.Kind() == jsontext.KindBeginObject
	for kind := dec.PeekKind(); kind != jsontext.KindEndObject && kind != jsontext.KindEndArray; kind = dec.PeekKind() {
		name := ""
		if object {
			token, err := dec.ReadToken()
			if err != nil {
				return unreadable(err)
			}
			name = token.String()
		}
		value, err := dec.ReadValue()
		if err != nil {
			return unreadable(err)
		}
		end := dec.InputOffset()
		if err := visit(name, raw[end-int64(len(value)):end:end]); err != nil {
			return err
		}
	}
	return nil
}
