package admission

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// Kind names a kind of objects as Kubernetes does; the core group is empty.
type Kind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

// APIVersion is the apiVersion of objects of the kind.
func (k Kind) APIVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// IsPod reports whether it is what the node runs.
func (k Kind) IsPod() bool { return k == Kind{"", "v1", "Pod"} }

// isScale: every kind that can be scaled has its scale subresource as one of
// these.
func (k Kind) isScale() bool { return k.Group == "autoscaling" && k.Kind == "Scale" }

// Resource says where a custom resource holds images. Paths are dotted names
// from the object's root; `[*]` after a name stands for every element of a
// list or every member of an object.
type Resource struct {
	Group string `json:"group"`
	// Version may be "*": every version has them at the same places.
	Version string `json:"version"`
	Kind    string `json:"kind"`
	// PodSpec is where a whole pod specification stands, Paths where single
	// image references do. At least one is required.
	PodSpec string   `json:"podSpec,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	// Optional lets an object pass that has no image at any of them. Without it
	// such an object is refused.
	Optional bool `json:"optional,omitempty"`
}

// anyVersion stands for every version in the table of kinds.
const anyVersion = "*"

// where says where the images of a kind are.
type where struct {
	root     *node
	optional bool
}

// kinds is the table of kinds whose images are known.
type kinds map[Kind]where

// builtIn are the kinds of Kubernetes itself that hold a pod specification.
func builtIn() []Resource {
	const template = "spec.template.spec"
	return []Resource{
		{Group: "", Version: "v1", Kind: "Pod", PodSpec: "spec"},
		{Group: "", Version: "v1", Kind: "PodTemplate", PodSpec: "template.spec"},
		{Group: "", Version: "v1", Kind: "ReplicationController", PodSpec: template},
		{Group: "apps", Version: "v1", Kind: "Deployment", PodSpec: template},
		{Group: "apps", Version: "v1", Kind: "ReplicaSet", PodSpec: template},
		{Group: "apps", Version: "v1", Kind: "StatefulSet", PodSpec: template},
		{Group: "apps", Version: "v1", Kind: "DaemonSet", PodSpec: template},
		{Group: "batch", Version: "v1", Kind: "Job", PodSpec: template},
		{Group: "batch", Version: "v1", Kind: "CronJob", PodSpec: "spec.jobTemplate.spec.template.spec"},
	}
}

// newKinds is the table of the built-in kinds and the configured ones.
func newKinds(configured []Resource) (kinds, error) {
	if len(configured) > limits.AdmissionResources {
		return nil, fault("resources", fmt.Sprintf("at most %d", limits.AdmissionResources))
	}
	table := kinds{}
	for _, r := range builtIn() {
		if err := table.add(r); err != nil {
			return nil, err
		}
	}
	for i, r := range configured {
		if err := table.configure(r); err != nil {
			return nil, fmt.Errorf("resources[%d]: %w", i, err)
		}
	}
	return table, nil
}

// configure adds what an operator names, who may not change what is built in.
func (t kinds) configure(r Resource) error {
	switch {
	case r.Kind == "" || r.Version == "" || r.Group == "":
		return fault("kind", "group, version (or *) and kind are required")
	case strings.ContainsAny(r.Group+r.Kind+r.Version, "/ ") || r.Version != anyVersion && strings.Contains(r.Version, "*") || strings.Contains(r.Group+r.Kind, "*"):
		return fault("kind", "want names as in apiVersion and kind; only version may be *")
	case r.PodSpec == "" && len(r.Paths) == 0:
		return fault("paths", "want podSpec or paths: where does it hold images?")
	case len(r.Paths) > limits.AdmissionPaths:
		return fault("paths", fmt.Sprintf("at most %d", limits.AdmissionPaths))
	}
	for k := range t {
		if k.Group == r.Group && k.Kind == r.Kind && (k.Version == r.Version || k.Version == anyVersion || r.Version == anyVersion) {
			return fault("kind", "is known already: name each kind once, with * for all of its versions")
		}
	}
	return t.add(r)
}

func (t kinds) add(r Resource) error {
	w := where{root: &node{}, optional: r.Optional}
	if r.PodSpec != "" {
		if err := w.root.plant(r.PodSpec, leafPod); err != nil {
			return fmt.Errorf("podSpec: %w", err)
		}
	}
	for i, path := range r.Paths {
		if err := w.root.plant(path, leafImage); err != nil {
			return fmt.Errorf("paths[%d]: %w", i, err)
		}
	}
	t[Kind{r.Group, r.Version, r.Kind}] = w
	return nil
}

func (t kinds) of(k Kind) (where, bool) {
	if w, ok := t[k]; ok {
		return w, true
	}
	w, ok := t[Kind{k.Group, anyVersion, k.Kind}]
	return w, ok
}
