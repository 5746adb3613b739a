//go:build kubernetes

package main

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const (
	helmPeer = "helm-v3.19.4"
	chart    = deployFolder + "/helm/countersign"
)

var writeManifests = flag.Bool("write-manifests", false, "write the plain manifests anew from the chart")

// helm runs the stock program without any repository or cluster.
func helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	// A helm of `go install` takes itself for one of an old Kubernetes.
	cmd := exec.Command(kubePeer(t, helmPeer), append(args, "--kube-version", "1.37.2")...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	return out.String() + complaints.String(), err
}

func render(t testing.TB, args ...string) string {
	t.Helper()
	out, err := helm(t, append([]string{"template", "countersign", chart, "--namespace", "countersign", "--skip-tests"}, args...)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, out)
	}
	return out
}

func chartValues(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	check(t, err)
	if len(files) < 4 {
		t.Fatalf("only %d files of values", len(files))
	}
	return files
}

// TestHelmChart: the chart passes helm's own lint and renders with every file of
// values; what the schema does not know, or what cannot work, is refused.
func TestHelmChart(t *testing.T) {
	for _, values := range append(chartValues(t), filepath.Join(chart, "values.yaml")) {
		if out, err := helm(t, "lint", "--strict", chart, "--values", values); err != nil {
			t.Errorf("%s: %v\n%s", values, err, out)
		}
		for _, object := range documents(t, []byte(render(t, "--values", values))) {
			hardened(t, values, object)
		}
	}
	for _, bad := range [][]string{
		{"--set", "replicas=2"},
		{"--set", "webhooks.failurePolicy=Maybe"},
		{"--set", "webhooks.timeoutSeconds=60"},
		{"--set", "image.digest=latest"},
		{"--set", "certificates.mode=secret"},
		{"--set", "certificates.mode=certManager"},
		{"--set", "webhooks.cluster=a?b"},
		{"--set", "webhooks.url=http://x"},
		{"--set", "webhooks.caBundle=nonsense"},
		{"--set", "publicUrl=countersign"},
		{"--set", withVerifiers + ",verifiers.replicas=-1"},
		{"--set", withVerifiers + ",verifiers.replicas=two"},
		{"--set", withVerifiers + ",verifiers.replica=2"},
	} {
		if out, err := helm(t, append([]string{"template", "x", chart}, bad...)...); err == nil {
			t.Errorf("%v was rendered:\n%s", bad, out)
		}
	}
}

// hardened holds what no values may take away: the pod runs as nobody, on a root
// file system that it cannot write, with no capability, and its account may do
// nothing that was not asked for. G8: namespaces are left out by name only.
func hardened(t *testing.T, values string, o object) {
	t.Helper()
	switch o["kind"] {
	case "StatefulSet", "Deployment":
		pod := field(t, o, "spec", "template", "spec")
		security := field(t, pod, "containers", "securityContext").(object)
		if security["readOnlyRootFilesystem"] != true || security["runAsNonRoot"] != true ||
			security["allowPrivilegeEscalation"] != false || !slices.Equal(stringsOf(t, field(t, security, "capabilities", "drop")), []string{"ALL"}) ||
			field(t, pod, "securityContext", "seccompProfile", "type") != "RuntimeDefault" || field(t, pod, "securityContext", "runAsNonRoot") != true {
			t.Errorf("%s: the pod is not hardened: %v", values, pod)
		}
		if o["kind"] == "StatefulSet" && field(t, o, "spec", "replicas") != float64(1) {
			t.Errorf("%s: more than one process on a data folder", values)
		}
		asked := strings.Contains(values, "webhooks-values") || strings.Contains(values, "verifiers-values")
		if pod.(object)["automountServiceAccountToken"] != asked {
			t.Errorf("%s: the pod's token is not as asked for", values)
		}
	case "ConfigMap":
		path := filepath.Join(t.TempDir(), "config.yaml")
		check(t, os.WriteFile(path, []byte(field(t, o, "data", "config.yaml").(string)), 0o600))
		flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		addSettings(flags)
		check(t, flags.Parse([]string{"--config", path, "--listen", "0.0.0.0:8181"}))
		if _, err := loadConfig(flags, func(string) string { return "" }); err != nil {
			t.Errorf("%s: serve refuses the configuration: %v", values, err)
		}
	case "ClusterRole":
		for _, rule := range field(t, o, "rules").([]any) {
			for _, list := range []string{"verbs", "resources", "apiGroups"} {
				if slices.Contains(stringsOf(t, field(t, rule, list)), "*") {
					t.Errorf("%s: a role with a wildcard: %v", values, rule)
				}
			}
		}
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
		for _, hook := range field(t, o, "webhooks").([]any) {
			expressions := field(t, hook, "namespaceSelector", "matchExpressions").([]any)
			if len(expressions) != 1 || field(t, expressions, "key") != "kubernetes.io/metadata.name" || field(t, expressions, "operator") != "NotIn" ||
				hook.(object)["objectSelector"] != nil {
				t.Errorf("%s: a label takes enforcement away: %v", values, hook)
			}
		}
	}
}

// TestHelmManifests: the plain manifests are what the chart renders.
func TestHelmManifests(t *testing.T) {
	header := "# Rendered from deploy/helm/countersign; `make manifests` writes it anew.\n"
	for name, args := range map[string][]string{
		"countersign.yaml": nil,
		"webhooks.yaml":    {"--set", "webhooks.enabled=true", "--set", "webhooks.mutating.enabled=false", "--show-only", "templates/webhooks.yaml"},
	} {
		path := filepath.Join(manifests, name)
		want := header + strings.ReplaceAll(render(t, args...), "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: manifests")
		if *writeManifests {
			check(t, os.WriteFile(path, []byte(want), 0o644))
		}
		got, err := os.ReadFile(path)
		check(t, err)
		if string(got) != want {
			t.Errorf("%s is not what the chart renders; run make manifests", path)
		}
	}
}

// TestKubernetesManifests: a real API server takes every manifest, what the chart
// renders and the kustomize base, and refuses none of their fields.
func TestKubernetesManifests(t *testing.T) {
	c := newCluster(t, "")
	c.mustKubectl("", "apply", "-f", filepath.Join(manifests, "namespace.yaml"))
	c.namespace("shop")
	accepted := func(what, document string) {
		t.Helper()
		out, ok := c.kubectl(document, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if !ok || strings.Contains(strings.ToLower(out), "warning") {
			t.Errorf("%s:\n%s", what, out)
		}
	}
	for _, name := range []string{"namespace.yaml", "countersign.yaml", "webhooks.yaml"} {
		raw, err := os.ReadFile(filepath.Join(manifests, name))
		check(t, err)
		accepted(name, string(raw))
	}
	placeholder := base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	for _, values := range chartValues(t) {
		var ours []string
		for _, document := range strings.Split(render(t, "--values", values), "\n---\n") {
			if !strings.Contains(document, "kind: Certificate\n") { // cert-manager's own kind
				ours = append(ours, document)
			}
		}
		accepted(values, strings.ReplaceAll(strings.Join(ours, "\n---\n"), placeholder, validBundle(t)))
	}
	accepted("kustomize", c.mustKubectl("", "kustomize", filepath.Join(deployFolder, "kustomize", "base")))
	for _, job := range []string{"argo-cd/presync.yaml", "flux/gate.yaml"} {
		raw, err := os.ReadFile(filepath.Join(examples, job))
		check(t, err)
		if out, ok := c.kubectl(string(raw), "--namespace=shop", "create", "--dry-run=server", "--validate=strict", "-f", "-"); !ok {
			t.Errorf("%s:\n%s", job, out)
		}
	}
	// A query in a webhook's URL is refused: the cluster has to be in the path.
	raw, err := os.ReadFile(filepath.Join(manifests, "webhooks.yaml"))
	check(t, err)
	if out, ok := c.kubectl(strings.Replace(string(raw), "/v1/admission/validate", "/v1/admission/validate?cluster=a", 1), "apply", "--dry-run=server", "-f", "-"); ok {
		t.Errorf("a query in a path is accepted now; say so in docs/kubernetes.md:\n%s", out)
	}
}
