//go:build kubernetes

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// workload is a kind that runs images.
type workload struct {
	kind, path string
	// wrap puts a pod's specification into an object of the kind.
	wrap func(name string, spec object) object
	// frozen: its pod specification cannot be replaced at all, or not its volumes.
	frozen, frozenVolumes bool
}

// workloads are the kinds of our rules.
func workloads() []workload {
	labels := object{"app": "matrix"}
	template := func(spec object) object { return object{"metadata": object{"labels": labels}, "spec": spec} }
	of := func(version, kind string, more object) func(string, object) object {
		return func(name string, spec object) object {
			inner := object{"selector": object{"matchLabels": labels}, "template": template(spec)}
			for k, v := range more {
				inner[k] = v
			}
			return object{"apiVersion": version, "kind": kind, "metadata": object{"name": name}, "spec": inner}
		}
	}
	never := func(spec object) object { spec["restartPolicy"] = "Never"; return template(spec) }
	const apps, batch, core = "/apis/apps/v1/namespaces/shop/", "/apis/batch/v1/namespaces/shop/", "/api/v1/namespaces/shop/"
	return []workload{
		{kind: "Pod", path: core + "pods", wrap: podOf, frozenVolumes: true},
		{kind: "Deployment", path: apps + "deployments", wrap: of("apps/v1", "Deployment", nil)},
		{kind: "ReplicaSet", path: apps + "replicasets", wrap: of("apps/v1", "ReplicaSet", nil)},
		{kind: "StatefulSet", path: apps + "statefulsets", wrap: of("apps/v1", "StatefulSet", object{"serviceName": "x"})},
		{kind: "DaemonSet", path: apps + "daemonsets", wrap: of("apps/v1", "DaemonSet", nil)},
		{kind: "ReplicationController", path: core + "replicationcontrollers", wrap: func(name string, spec object) object {
			return object{"apiVersion": "v1", "kind": "ReplicationController", "metadata": object{"name": name}, "spec": object{"selector": labels, "template": template(spec)}}
		}},
		{kind: "PodTemplate", path: core + "podtemplates", wrap: func(name string, spec object) object {
			return object{"apiVersion": "v1", "kind": "PodTemplate", "metadata": object{"name": name}, "template": template(spec)}
		}},
		{kind: "Job", path: batch + "jobs", frozen: true, wrap: func(name string, spec object) object {
			return object{"apiVersion": "batch/v1", "kind": "Job", "metadata": object{"name": name}, "spec": object{"template": never(spec)}}
		}},
		{kind: "CronJob", path: batch + "cronjobs", wrap: func(name string, spec object) object {
			return object{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": object{"name": name}, "spec": object{
				"schedule": "0 0 1 1 *", "jobTemplate": object{"spec": object{"template": never(spec)}},
			}}
		}},
	}
}

// TestKubernetesMatrix: G1, G2 and G7. Every kind × place of an image × operation
// × image, by tag and by digest, through a real API server and our own
// registration: what is signed is admitted, nothing else is.
func TestKubernetesMatrix(t *testing.T) {
	g := newGuarded(t)
	asked, gaps := 0, 0
	judge := func(what string, a answer, state string, frozen bool) {
		asked++
		admissible := state == "signed"
		switch {
		case a.ok() && admissible, !a.ok() && !admissible && (a.status == http.StatusForbidden || frozen):
		case !a.ok() && admissible && frozen && a.status == http.StatusUnprocessableEntity:
		default:
			gaps++
			t.Errorf("%s: %d %s", what, a.status, a.message)
		}
		if !admissible && a.status == http.StatusForbidden && !strings.Contains(a.message, "countersign") {
			t.Errorf("%s: somebody else refused: %s", what, a.message)
		}
	}
	for _, w := range workloads() {
		for _, place := range []string{"containers", "initContainers", "volumes"} {
			for _, state := range []string{"signed", "unsigned", "otherkey", "unlisted"} {
				for form, image := range map[string]string{"tag": g.images[state].tag, "digest": g.images[state].digest} {
					name := strings.ToLower(fmt.Sprintf("%s-%s-%s-%s", w.kind, place, state, form))
					what := strings.Join([]string{w.kind, place, state, form}, " ")
					judge(what+" CREATE", g.create(w.path, w.wrap(name, specOf(place, image, g.images["signed"].digest))), state, false)
					g.replace(w, place, name+"-u", image, func(a answer, frozen bool) { judge(what+" UPDATE", a, state, frozen) })
				}
			}
		}
	}
	for _, state := range []string{"signed", "unsigned", "otherkey", "unlisted"} {
		for form, image := range map[string]string{"tag": g.images[state].tag, "digest": g.images[state].digest} {
			judge("Pod ephemeralContainers "+state+" "+form, g.debug("pod-containers-signed-digest", state+"-"+form, image), state, false)
		}
	}
	if asked != 9*3*8*2+8 {
		t.Errorf("%d questions were asked, want %d", asked, 9*3*8*2+8)
	}
	fmt.Fprintf(os.Stderr, "matrix: %d admissions asked of the API server, %d gaps\n", asked, gaps)
}

// replace makes an object with signed images only and replaces the one in the
// place, as kubectl replace does.
func (g *guarded) replace(w workload, place, name, image string, judge func(answer, bool)) {
	g.t.Helper()
	good := g.images["second"].digest
	if a := g.create(w.path, w.wrap(name, specOf(place, good, g.images["signed"].digest))); !a.ok() {
		g.t.Fatalf("%s %s: %d %s", w.kind, name, a.status, a.message)
	}
	current := g.ask(http.MethodGet, w.path+"/"+name, "application/json", nil).object
	replacement := exchanged(current, good, image)
	judge(g.ask(http.MethodPut, w.path+"/"+name, "application/json", replacement), w.frozen || w.frozenVolumes && place == "volumes")
}

// exchanged is a value with one string in the place of another.
func exchanged(v any, from, to string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			out[k] = exchanged(inner, from, to)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = exchanged(inner, from, to)
		}
		return out
	case string:
		if v == from {
			return to
		}
	}
	return v
}

// debug adds an ephemeral container, as kubectl debug does.
func (g *guarded) debug(pod, name, image string) answer {
	g.t.Helper()
	return g.ask(http.MethodPatch, "/api/v1/namespaces/shop/pods/"+pod+"/ephemeralcontainers", "application/strategic-merge-patch+json", object{
		"spec": object{"ephemeralContainers": []any{object{"name": name, "image": image}}},
	})
}
