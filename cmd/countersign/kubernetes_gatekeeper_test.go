//go:build kubernetes

package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/server/api"
)

// ratifyModule has the templates that are handed out with Ratify.
const ratifyModule = "github.com/ratify-project/ratify@v1.4.0"

// gatekeeper is Gatekeeper's own policy engine and external data client beside a
// service that knows it by its client certificate.
type gatekeeper struct {
	guarded
	t                   testing.TB
	dir, provider       string
	acquainted, unknown *testauthority.ClientCA
}

func newGatekeeper(t testing.TB) *gatekeeper {
	t.Helper()
	k := &gatekeeper{guarded: guarded{images: map[string]image{}}, t: t, dir: t.TempDir()}
	k.registry, k.unlisted = startRegistry(t), startRegistry(t)
	k.service = newProcess(t, "--tls-client-certificates").secure()
	k.service.start()
	k.service.trustAll(k.registry, "release")
	k.furnish(t)
	k.acquainted, k.unknown = testauthority.NewClientCA(t, "gatekeeper"), testauthority.NewClientCA(t, "gatekeeper")
	_, err := k.service.admin.PutIssuer(t.Context(), "gatekeeper", api.IssuerRequest{Kind: "mtls", CABundle: k.acquainted.PEM(), Roles: []string{"verifier"}}, api.PutOptions{})
	check(t, err)
	return k
}

// provide takes our example's provider, under a name and a path.
func (k *gatekeeper) provide(name, path string) {
	k.t.Helper()
	raw, err := os.ReadFile(filepath.Join(examples, "gatekeeper/provider.yaml"))
	check(k.t, err)
	bundle, err := os.ReadFile(k.service.bundle())
	check(k.t, err)
	k.provider = filepath.Join(k.dir, name+".yaml")
	check(k.t, os.WriteFile(k.provider, []byte(strings.NewReplacer(
		"name: countersign\n", "name: "+name+"\n",
		"https://countersign.countersign.svc/v1/admission/gatekeeper", k.service.url+path,
		"REPLACE_WITH_BASE64_PEM", base64.StdEncoding.EncodeToString(bundle),
	).Replace(string(raw))), 0o600))
}

func (k *gatekeeper) credentials(name string, ca *testauthority.ClientCA) []string {
	k.t.Helper()
	certificate, key := testauthority.PairPEM(k.t, ca.Issue(nil))
	paths := []string{filepath.Join(k.dir, name+".pem"), filepath.Join(k.dir, name+".key")}
	check(k.t, os.WriteFile(paths[0], certificate, 0o600))
	check(k.t, os.WriteFile(paths[1], key, 0o600))
	return paths
}

// review evaluates a template and its constraint on a pod.
func (k *gatekeeper) review(who []string, template, constraint string, spec object) []string {
	k.t.Helper()
	pod := podOf("p", spec)
	pod["metadata"] = object{"name": "p", "namespace": "default"} // as the API server sends it
	document, err := sigsyaml.Marshal(pod)
	check(k.t, err)
	path := filepath.Join(k.dir, "pod.yaml")
	check(k.t, os.WriteFile(path, document, 0o600))
	cmd := exec.Command(kubePeer(k.t, gatekeeperClient), k.provider, who[0], who[1], template, constraint, path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	check(k.t, err)
	var violations []string
	check(k.t, json.Unmarshal(out, &violations))
	return violations
}

// TestKubernetesGatekeeper: Gatekeeper's own external data client asks, over TLS
// 1.3 and with its client certificate, by our example's provider.
func TestKubernetesGatekeeper(t *testing.T) {
	k := newGatekeeper(t)
	k.provide("countersign", "/v1/admission/gatekeeper")
	review := func(who []string, spec object) []string {
		t.Helper()
		return k.review(who, filepath.Join(examples, "gatekeeper/template.yaml"), filepath.Join(examples, "gatekeeper/constraint.yaml"), spec)
	}
	known := k.credentials("known", k.acquainted)
	signed := k.images["signed"].digest
	for _, place := range []string{"containers", "initContainers", "volumes"} {
		for state, want := range map[string]bool{"signed": true, "unsigned": false, "otherkey": false, "unlisted": false} {
			violations := review(known, specOf(place, k.images[state].digest, signed))
			if (len(violations) == 0) != want || !want && !strings.Contains(strings.Join(violations, " "), k.images[state].digest) {
				t.Errorf("%s %s: %v", place, state, violations)
			}
		}
	}
	if violations := review(k.credentials("stranger", k.unknown), specOf("containers", signed, signed)); len(violations) == 0 {
		t.Error("a stranger's certificate was answered")
	}
	if violations := review(known, object{"containers": []any{}}); len(violations) == 0 {
		t.Error("an object without images passes")
	}
	k.service.kill()
	if violations := review(known, specOf("containers", signed, signed)); len(violations) == 0 {
		t.Error("with us down an image passes")
	}
}

// TestKubernetesRatify: the templates that are handed out with Ratify decide
// rightly on our answers, without a change.
func TestKubernetesRatify(t *testing.T) {
	k := newGatekeeper(t)
	k.provide("ratify-provider", "/ratify/gatekeeper/v1/verify")
	known := k.credentials("known", k.acquainted)
	signed := k.images["signed"].digest
	library := filepath.Join(stockModule(t, ratifyModule), "library")
	for _, name := range []string{"default", "multi-tenancy-validation"} {
		template, constraint := filepath.Join(library, name, "template.yaml"), filepath.Join(library, name, "samples", "constraint.yaml")
		for _, place := range []string{"containers", "initContainers"} {
			for state, want := range map[string]bool{"signed": true, "unsigned": false, "otherkey": false, "unlisted": false} {
				violations := k.review(known, template, constraint, specOf(place, k.images[state].digest, signed))
				if (len(violations) == 0) != want {
					t.Errorf("%s, %s %s: %v", name, place, state, violations)
				}
			}
		}
		k.service.kill()
		if violations := k.review(known, template, constraint, specOf("containers", signed, signed)); len(violations) == 0 {
			t.Errorf("%s: with us down an image passes", name)
		}
		k.service.start()
	}
}

// stockModule is the folder of a module in the module cache.
func stockModule(t testing.TB, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Env = t.TempDir(), append(slices.Clone(os.Environ()), "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	check(t, err)
	var told struct{ Dir string }
	check(t, json.Unmarshal(out, &told))
	return told.Dir
}
