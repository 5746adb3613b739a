package server

import (
	"fmt"
	"slices"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// What runs images in a Kubernetes object. Fields that are not listed are
// passed over; names are matched exactly as the API server does.

type podSpec struct {
	Containers          []container `json:"containers"`
	InitContainers      []container `json:"initContainers"`
	EphemeralContainers []container `json:"ephemeralContainers"`
	Volumes             []volume    `json:"volumes"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

type volume struct {
	Name  string       `json:"name"`
	Image *imageVolume `json:"image"`
}

type imageVolume struct {
	Reference string `json:"reference"`
}

type podTemplate struct {
	Spec *podSpec `json:"spec"`
}

// typeMeta says what an object is.
type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

type podObject struct {
	Spec *podSpec `json:"spec"`
}

type templateObject struct {
	Template *podTemplate `json:"template"`
}

type workloadObject struct {
	Spec struct {
		Template *podTemplate `json:"template"`
	} `json:"spec"`
}

type cronJobObject struct {
	Spec struct {
		JobTemplate struct {
			Spec struct {
				Template *podTemplate `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// specReader finds the pod specification in an object.
type specReader func(object []byte) (*podSpec, error)

// readerOf is the table of kinds whose images are known; nil for any other.
func readerOf(k groupKind) specReader {
	switch k {
	case groupKind{"", "v1", "Pod"}:
		return readPod
	case groupKind{"", "v1", "PodTemplate"}:
		return readTemplate
	case groupKind{"", "v1", "ReplicationController"},
		groupKind{"apps", "v1", "Deployment"}, groupKind{"apps", "v1", "ReplicaSet"},
		groupKind{"apps", "v1", "StatefulSet"}, groupKind{"apps", "v1", "DaemonSet"},
		groupKind{"batch", "v1", "Job"}:
		return readWorkload
	case groupKind{"batch", "v1", "CronJob"}:
		return readCronJob
	}
	return nil
}

func readPod(object []byte) (*podSpec, error) {
	var o podObject
	err := strictjson.UnmarshalOpen(object, &o)
	return o.Spec, err
}

func readTemplate(object []byte) (*podSpec, error) {
	var o templateObject
	err := strictjson.UnmarshalOpen(object, &o)
	return o.Template.spec(), err
}

func readWorkload(object []byte) (*podSpec, error) {
	var o workloadObject
	err := strictjson.UnmarshalOpen(object, &o)
	return o.Spec.Template.spec(), err
}

func readCronJob(object []byte) (*podSpec, error) {
	var o cronJobObject
	err := strictjson.UnmarshalOpen(object, &o)
	return o.Spec.JobTemplate.Spec.Template.spec(), err
}

func (t *podTemplate) spec() *podSpec {
	if t == nil {
		return nil
	}
	return t.Spec
}

// images lists every image of the request's object, each once. A kind that is
// not known may run images in ways that are not known, so it is refused, as is
// an object without any image: nothing to check is never success. Neither a
// deletionTimestamp nor any annotation exempts an object (CVE-2023-34091).
func (r *admissionRequest) images() ([]string, error) {
	if r.Operation != "CREATE" && r.Operation != "UPDATE" {
		return nil, badField("body.request.operation", "want CREATE, UPDATE or DELETE")
	}
	read := readerOf(r.Kind)
	if read == nil {
		return nil, badField("body.request.kind", "this kind is not known here; take it out of the webhook's rules")
	}
	var is typeMeta
	if err := strictjson.UnmarshalOpen(r.Object, &is); err != nil {
		return nil, err
	}
	if is.Kind != r.Kind.Kind || is.APIVersion != r.Kind.apiVersion() {
		return nil, badField("body.request.object", "is not of the kind that the request names")
	}
	spec, err := read(r.Object)
	if err != nil {
		return nil, err
	}
	return spec.images()
}

func (k groupKind) apiVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

func (p *podSpec) images() ([]string, error) {
	if p == nil || len(p.Containers) == 0 {
		return nil, badField("body.request.object", "has no containers")
	}
	var images []string
	for _, c := range slices.Concat(p.Containers, p.InitContainers, p.EphemeralContainers) {
		images = append(images, c.Image)
	}
	for _, v := range p.Volumes {
		if v.Image != nil {
			images = append(images, v.Image.Reference)
		}
	}
	if slices.Contains(images, "") {
		return nil, badField("body.request.object", "has a container or image volume without an image")
	}
	slices.Sort(images)
	images = slices.Compact(images)
	if len(images) > limits.Images {
		return nil, badField("body.request.object", fmt.Sprintf("has more than %d images", limits.Images))
	}
	return images, nil
}
