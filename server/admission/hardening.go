package admission

import (
	"strings"

	"github.com/countersign/countersign/internal/strictjson"
)

type securityContext struct {
	RunAsNonRoot           *bool  `json:"runAsNonRoot"`
	RunAsUser              *int64 `json:"runAsUser"`
	Privileged             *bool  `json:"privileged"`
	ReadOnlyRootFilesystem *bool  `json:"readOnlyRootFilesystem"`
}

type hardenedPod struct {
	OS struct {
		Name string `json:"name"`
	} `json:"os"`
	SecurityContext     securityContext `json:"securityContext"`
	Containers          []hardened      `json:"containers"`
	InitContainers      []hardened      `json:"initContainers"`
	EphemeralContainers []hardened      `json:"ephemeralContainers"`
}

type hardened struct {
	Name            string          `json:"name"`
	SecurityContext securityContext `json:"securityContext"`
}

// Hardening reports how an object's containers run, where that is asked for:
// as root, privileged, or with a root file system that they can write to. It is
// advice and denies nothing.
func (r *Rules) Hardening(o Object) []string {
	if r.settings.Hardening != HardeningWarn {
		return nil
	}
	var warnings []string
	for _, pod := range o.Pods {
		warnings = append(warnings, harden(pod.Spec)...)
	}
	return warnings
}

func harden(spec []byte) []string {
	var pod hardenedPod
	if err := strictjson.UnmarshalOpen(spec, &pod); err != nil {
		return []string{"hardening: how the containers run cannot be read from their security contexts"}
	}
	var root, privileged, writable []string
	for _, list := range [][]hardened{pod.InitContainers, pod.Containers, pod.EphemeralContainers} {
		for _, c := range list {
			if isTrue(c.SecurityContext.Privileged) {
				privileged = append(privileged, c.Name)
			}
			if strings.EqualFold(pod.OS.Name, "windows") {
				continue // what follows has no meaning there
			}
			if mayBeRoot(pod.SecurityContext, c.SecurityContext) {
				root = append(root, c.Name)
			}
			if !isTrue(c.SecurityContext.ReadOnlyRootFilesystem) {
				writable = append(writable, c.Name)
			}
		}
	}
	var out []string
	for _, found := range []struct {
		what  string
		names []string
	}{
		{"privileged (privileged: true)", privileged},
		{"may run as root (set runAsNonRoot: true and a runAsUser that is not 0)", root},
		{"can write to the root file system (set readOnlyRootFilesystem: true)", writable},
	} {
		if len(found.names) > 0 {
			out = append(out, "hardening: "+found.what+": "+strings.Join(found.names, ", "))
		}
	}
	return out
}

// mayBeRoot: what the container says counts before what the pod says. A user
// that is named decides; without one, runAsNonRoot has the node refuse an image
// whose user is root.
func mayBeRoot(pod, container securityContext) bool {
	user, nonRoot := container.RunAsUser, container.RunAsNonRoot
	if user == nil {
		user = pod.RunAsUser
	}
	if nonRoot == nil {
		nonRoot = pod.RunAsNonRoot
	}
	if user != nil {
		return *user == 0
	}
	return !isTrue(nonRoot)
}

func isTrue(b *bool) bool { return b != nil && *b }
