package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/internal/testcluster"
)

// scriptCluster is the Kubernetes cluster of a script.
type scriptCluster struct {
	*testcluster.Cluster
	pods int
}

// cleaningTB is scriptTB whose clean-ups wait for the end of the script.
type cleaningTB struct{ scriptTB }

func (t cleaningTB) Cleanup(f func()) { t.ts.Defer(f) }

// startCluster starts an API server and writes its kubeconfig.
func startCluster(ts *testscript.TestScript, _ bool, _ []string) {
	var tb testing.TB = cleaningTB{scriptTB{TB: nil, ts: ts}}
	c := clusterOf(ts)
	c.Cluster = testcluster.Start(tb)
	c.Kubeconfig(tb, ts.MkAbs("."))
}

func clusterOf(ts *testscript.TestScript) *scriptCluster {
	c, ok := ts.Value(scriptCluster{}).(*scriptCluster)
	if !ok {
		ts.Fatalf("the script has no cluster")
	}
	return c
}

// runningPod NAMESPACE NAME KIND IMAGE adds a pod of a workload that runs what the
// image's tag names now.
func runningPod(ts *testscript.TestScript, _ bool, args []string) {
	c := clusterOf(ts)
	namespace, name, kind, image := args[0], args[1], args[2], args[3]
	c.pods++
	owner := map[string]any{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}
	if kind == "Deployment" {
		set := map[string]any{"namespace": namespace, "name": name + "-5d4", "ownerReferences": []any{owner}}
		c.Put("replicasets", testcluster.Object{"metadata": set})
		owner = map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name + "-5d4", "uid": "u", "controller": true}
	}
	host, rest, _ := strings.Cut(image, "/")
	repository, tag, _ := strings.Cut(rest, ":")
	resp, err := http.Head("http://" + host + "/v2/" + repository + "/manifests/" + tag)
	ts.Check(err)
	resp.Body.Close()
	c.Put("pods", testcluster.Object{
		"metadata": map[string]any{"namespace": namespace, "name": fmt.Sprintf("%s-%d", name, c.pods), "ownerReferences": []any{owner}},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": image}}},
		"status": map[string]any{
			"phase":             "Running",
			"containerStatuses": []any{map[string]any{"name": "c", "imageID": host + "/" + repository + "@" + resp.Header.Get("Docker-Content-Digest")}},
		},
	})
}
