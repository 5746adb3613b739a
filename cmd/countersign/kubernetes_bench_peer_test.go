//go:build kubernetes

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/localregistry"
)

const (
	policyController       = "policy-webhook-v0.14.0"
	policyControllerModule = "github.com/sigstore/policy-controller@v0.14.0"
	// policyControllerURL is where it listens: it passes its port's flag over.
	policyControllerURL = "https://127.0.0.1:8443"
)

// policyPeer is stock policy-controller.
type policyPeer struct {
	url    string
	client *http.Client
}

// newPolicyController starts stock policy-controller in a real cluster, configured
// by its own manifests, with a policy that our service's key signs the registry's
// images. It has no other source of trust. ok is false where it was not built.
func newPolicyController(b *testing.B, p *process, registry *localregistry.Registry) (peer policyPeer, ok bool) {
	b.Helper()
	path := filepath.Join(os.Getenv("COUNTERSIGN_PEERS"), policyController)
	if _, err := os.Stat(path); err != nil {
		fmt.Fprintln(os.Stderr, "NOT RUN: policy-controller's webhook (make peers-large)")
		return policyPeer{}, false
	}
	c := newCluster(b, "")
	config := filepath.Join(stockModule(b, policyControllerModule), "config")
	c.mustKubectl("", "apply", "--server-side", "-k", config)
	c.namespace("shop")
	kubeconfig := c.write("kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, c.url, clusterToken))
	for name, value := range map[string]string{
		"SYSTEM_NAMESPACE": "cosign-system", "CONFIG_LOGGING_NAME": "config-logging", "METRICS_DOMAIN": "sigstore.dev/policy",
		"WEBHOOK_NAME": "webhook", "POD_NAME": "webhook-0", "HOME": c.dir, "KUBECONFIG": kubeconfig,
	} {
		b.Setenv(name, value)
	}
	webhook := c.run(path, "policy-controller.log", "--disable-tuf")
	b.Cleanup(func() {
		_ = webhook.Process.Kill()
		_ = webhook.Wait()
	})
	key, err := p.admin.PublicKey(b.Context(), "release")
	check(b, err)
	c.admitByKey(registry, string(key))
	peer = policyPeer{url: policyControllerURL, client: &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
	return peer, true
}

// admitByKey gives policy-controller its policy and waits until it has read it.
func (c *testCluster) admitByKey(registry *localregistry.Registry, key string) {
	c.t.Helper()
	// The API server reaches no Service here, and could not have the policy looked at.
	c.mustKubectl("", "delete", "mutatingwebhookconfiguration/defaulting.clusterimagepolicy.sigstore.dev",
		"validatingwebhookconfiguration/validating.clusterimagepolicy.sigstore.dev")
	policy, err := json.Marshal(object{
		"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "ClusterImagePolicy", "metadata": object{"name": "signed"},
		"spec": object{
			"mode": "enforce", "images": []any{object{"glob": registry.Host + "/**"}},
			"authorities": []any{object{"name": "release", "key": object{"data": key, "hashAlgorithm": "sha256"}}},
		},
	})
	check(c.t, err)
	c.mustKubectl(string(policy), "apply", "--server-side", "-f", "-")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		compiled := c.ask(http.MethodGet, "/api/v1/namespaces/cosign-system/configmaps/config-image-policies", "application/json", nil)
		if text, _ := json.Marshal(compiled.object["data"]); strings.Contains(string(text), `"signed"`) {
			return
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(filepath.Join(c.dir, "policy-controller.log"))
			c.t.Fatalf("policy-controller does not read its policy:\n%s", said[max(0, len(said)-4000):])
		}
	}
}
