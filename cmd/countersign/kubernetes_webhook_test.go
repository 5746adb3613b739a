//go:build kubernetes

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/server/api"
)

// manifests is the folder of the plain manifests that are handed out.
const manifests = deployFolder + "/manifests"

// guarded is a cluster whose admission is ours: a service with TLS of its own
// making, which knows the API server by its client certificate and answers
// nobody without credentials, and the webhook configuration that is handed out.
type guarded struct {
	*testCluster
	service  *process
	registry *localregistry.Registry
	// unlisted is a registry that the service was not told of.
	unlisted *localregistry.Registry
	// images by what is true of them; each has a tag and a digest.
	images map[string]image
}

type image struct{ tag, digest string }

// newGuarded starts all of it.
func newGuarded(t testing.TB, args ...string) *guarded {
	t.Helper()
	g := &guarded{images: map[string]image{}}
	g.registry, g.unlisted = startRegistry(t), startRegistry(t)
	g.service = newProcess(t, append([]string{"--tls-client-certificates"}, args...)...).secure()
	g.service.start()
	g.service.trustAll(g.registry, "release")
	g.furnish(t)
	farm := testauthority.NewClientCA(t, "control-plane")
	_, err := g.service.admin.PutIssuer(t.Context(), "control-plane", api.IssuerRequest{
		Kind: "mtls", CABundle: farm.PEM(), Roles: []string{"verifier"},
	}, api.PutOptions{})
	check(t, err)
	g.testCluster = newCluster(t, webhookCredentials(t, farm))
	g.namespace("countersign")
	g.namespace("shop")
	g.register(t, g.service.url)
	return g
}

// furnish pushes images: signed ones, and those that must not run.
func (g *guarded) furnish(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	_, err := g.service.admin.CreateKey(ctx, api.KeyRequest{Name: "other"})
	check(t, err)
	_, err = g.service.admin.PutGrant(ctx, "other", api.GrantRequest{
		Issuer: "local", Subject: "admin", Keys: []string{"other"}, Actions: []string{"sign"}, Repositories: []string{g.registry.Host + "/**"},
	}, api.PutOptions{})
	check(t, err)
	for name, key := range map[string]string{"signed": "release", "second": "release", "otherkey": "other", "unsigned": ""} {
		g.images[name] = g.push(t, g.registry, name)
		if key != "" {
			_, _, err := g.service.admin.Sign(ctx, api.SignatureRequest{Image: g.images[name].digest, Key: key}, api.SignOptions{})
			check(t, err)
		}
	}
	g.images["unlisted"] = g.push(t, g.unlisted, "unlisted")
}

func (g *guarded) push(t testing.TB, registry *localregistry.Registry, name string) image {
	t.Helper()
	d, err := registry.PushImage(context.Background(), "team/"+name, "v1", name)
	check(t, err)
	return image{tag: registry.Host + "/team/" + name + ":v1", digest: registry.Image("team/"+name, d)}
}

// webhookCredentials is the API server's configuration to show a client
// certificate to every webhook, and nothing else.
func webhookCredentials(t testing.TB, farm *testauthority.ClientCA) string {
	t.Helper()
	dir := t.TempDir()
	certificate, key := testauthority.PairPEM(t, farm.Issue(nil))
	check(t, os.WriteFile(filepath.Join(dir, "client.pem"), certificate, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "client.key"), key, 0o600))
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
users:
  - name: '*'
    user: {client-certificate: %s/client.pem, client-key: %s/client.key}
`, dir, dir)
	check(t, os.WriteFile(filepath.Join(dir, "kubeconfig"), []byte(kubeconfig), 0o600))
	plugin := func(name string) string {
		return fmt.Sprintf(`  - name: %s
    configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %s/kubeconfig}
`, name, dir)
	}
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n" +
		plugin("ValidatingAdmissionWebhook") + plugin("MutatingAdmissionWebhook")
}

// register applies our own manifest, changed only in where the service is: a
// URL on loopback in place of a Service, which nobody routes here.
func (g *guarded) register(t testing.TB, url string) {
	t.Helper()
	bundle, err := os.ReadFile(g.service.bundle())
	check(t, err)
	for _, object := range readDocuments(t, filepath.Join(manifests, "webhooks.yaml")) {
		for _, hook := range object["webhooks"].([]any) {
			config := hook.(map[string]any)["clientConfig"].(map[string]any)
			path := config["service"].(map[string]any)["path"].(string)
			delete(config, "service")
			config["url"], config["caBundle"] = url+path, base64.StdEncoding.EncodeToString(bundle)
		}
		document, err := sigsyaml.Marshal(object)
		check(t, err)
		g.mustKubectl(string(document), "apply", "--server-side", "--force-conflicts", "-f", "-")
	}
	g.enforced(t)
}

// enforced waits until the API server asks us: it reads webhook configurations
// with a delay.
func (g *guarded) enforced(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		a := g.create("/api/v1/namespaces/shop/pods?dryRun=All", podOf("probe", specOf("containers", g.images["unsigned"].digest, g.images["signed"].digest)))
		if a.status == http.StatusForbidden && strings.Contains(a.message, "no_signature") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the webhook is not asked: %d %s", a.status, a.message)
		}
	}
}

// specOf is a pod's specification with an image in one place, and a signed image
// beside it.
func specOf(place, image, beside string) object {
	spec := object{"containers": []any{object{"name": "main", "image": beside}}}
	switch place {
	case "containers":
		spec["containers"] = []any{object{"name": "main", "image": beside}, object{"name": "second", "image": image}}
	case "initContainers":
		spec["initContainers"] = []any{object{"name": "init", "image": image}}
	case "volumes":
		spec["volumes"] = []any{object{"name": "data", "image": object{"reference": image, "pullPolicy": "IfNotPresent"}}}
	}
	return spec
}

func podOf(name string, spec object) object {
	return object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name}, "spec": spec}
}

// freeListener is a listener on loopback.
func freeListener(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener
}
