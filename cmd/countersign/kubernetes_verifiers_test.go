//go:build kubernetes

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// withVerifiers are the least values with which there are verification replicas.
const withVerifiers = "verifiers.replicas=2,verifiers.keySecretName=countersign-replica,database.secretName=countersign-database"

// rendered are the objects of the chart by kind and name.
func rendered(t testing.TB, args ...string) map[string]object {
	t.Helper()
	objects := map[string]object{}
	for _, o := range documents(t, []byte(render(t, args...))) {
		key := o["kind"].(string) + "/" + field(t, o, "metadata", "name").(string)
		if objects[key] != nil {
			t.Errorf("%s is rendered twice", key)
		}
		objects[key] = o
	}
	return objects
}

// TestHelmVerifiers: the replicas come with everything that the service has and
// without what is not theirs.
func TestHelmVerifiers(t *testing.T) {
	objects := rendered(t, "--values", filepath.Join(chart, "ci", "verifiers-values.yaml"))
	for _, kind := range []string{
		"Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "ClusterRole", "ClusterRoleBinding",
	} {
		if objects[kind+"/countersign-verify"] == nil {
			t.Fatalf("there is no %s of the replicas", kind)
		}
	}
	selectors(t, objects)
	replicaPod(t, objects)
	for name, want := range map[string]string{"": "countersign-database", "of-the-replicas": "of-the-replicas"} {
		objects := rendered(t, "--set", withVerifiers, "--set", "verifiers.databaseSecretName="+name)
		for kind, want := range map[string]string{"StatefulSet/countersign": "countersign-database", "Deployment/countersign-verify": want} {
			container := field(t, objects[kind], "spec", "template", "spec", "containers").([]any)[0].(object)
			if env := container["env"].([]any); field(t, env[len(env)-1], "valueFrom", "secretKeyRef", "name") != want {
				t.Errorf("the database of %s: %v, want %s", kind, env, want)
			}
		}
	}
	replicaRights(t, objects)
	if host := field(t, objects["ValidatingWebhookConfiguration/countersign"], "webhooks", "clientConfig", "service", "name"); host != "countersign-verify" {
		t.Errorf("the webhook calls %v", host)
	}
	if config := field(t, objects["ConfigMap/countersign"], "data", "config.yaml").(string); !strings.Contains(config,
		"tls-names: countersign.countersign.svc,countersign.countersign.svc.cluster.local,countersign-verify.countersign.svc,countersign-verify.countersign.svc.cluster.local,localhost,127.0.0.1\n") {
		t.Errorf("the names in the certificate:\n%s", config)
	}
}

// replicaPod holds that a replica is what the service is, but for data and keys.
func replicaPod(t *testing.T, objects map[string]object) {
	t.Helper()
	spec := field(t, objects["Deployment/countersign-verify"], "spec")
	pod := field(t, spec, "template", "spec").(object)
	container := field(t, pod, "containers").([]any)[0].(object)
	if field(t, spec, "replicas") != float64(2) || field(t, spec, "strategy", "rollingUpdate", "maxUnavailable") != float64(0) ||
		pod["serviceAccountName"] != "countersign-verify" || field(t, pod, "securityContext", "fsGroup") != float64(65532) ||
		field(t, pod, "topologySpreadConstraints", "topologyKey") != "kubernetes.io/hostname" ||
		field(t, container, "resources", "limits", "memory") != "1Gi" {
		t.Errorf("the Deployment: %v", spec)
	}
	if config := replicaConfig(t, objects); config.listen != "0.0.0.0:8181" || !config.daemon.Kubernetes.InCluster {
		t.Errorf("the configuration of a replica: %+v", config)
	}
	main := field(t, objects["StatefulSet/countersign"], "spec", "template", "spec", "containers").([]any)[0].(object)
	for _, same := range []string{"image", "env", "ports", "startupProbe", "livenessProbe", "readinessProbe", "securityContext"} {
		if !reflect.DeepEqual(container[same], main[same]) {
			t.Errorf("%s: %v of a replica is not the service's, %v", same, container[same], main[same])
		}
	}
	key := field(t, pod, "volumes").([]any)[0]
	if field(t, key, "secret", "secretName") != "countersign-replica" || field(t, key, "secret", "defaultMode") != float64(0o440) {
		t.Errorf("the replica key: %v", key)
	}
}

// replicaConfig is what `serve` makes of a replica's arguments, environment and
// configuration file.
func replicaConfig(t *testing.T, objects map[string]object) serveConfig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	check(t, os.WriteFile(path, []byte(field(t, objects["ConfigMap/countersign"], "data", "config.yaml").(string)), 0o600))
	container := field(t, objects["Deployment/countersign-verify"], "spec", "template", "spec", "containers").([]any)[0].(object)
	arguments := stringsOf(t, container["args"])
	arguments[slices.Index(arguments, "--config")+1] = path
	environment := map[string]string{}
	for _, variable := range container["env"].([]any) {
		environment[field(t, variable, "name").(string)] = "postgres://database"
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	addSettings(flags)
	check(t, flags.Parse(arguments[1:]))
	config, err := loadConfig(flags, func(name string) string { return environment[name] })
	if err != nil || config.role != roleVerify || config.replicaKey != "/etc/countersign/replica/replica.key" {
		t.Errorf("serve makes of %v: %v, %+v", arguments, err, config)
	}
	return config
}

// replicaRights holds that a replica may do in the cluster what admission needs,
// and is reached and let out as the service is.
func replicaRights(t *testing.T, objects map[string]object) {
	t.Helper()
	rules := field(t, objects["ClusterRole/countersign-verify"], "rules").([]any)
	if len(rules) != 1 || !slices.Equal(stringsOf(t, field(t, rules, "resources")), []string{"secrets", "serviceaccounts"}) ||
		!slices.Equal(stringsOf(t, field(t, rules, "verbs")), []string{"get"}) {
		t.Errorf("the rights of a replica: %v", rules)
	}
	if field(t, objects["ClusterRoleBinding/countersign-verify"], "subjects", "name") != "countersign-verify" {
		t.Error("the rights of a replica are bound to somebody else")
	}
	for _, kind := range []string{"NetworkPolicy", "Service"} {
		for _, same := range []string{"ingress", "egress", "policyTypes", "ports", "type"} {
			mine := field(t, objects[kind+"/countersign-verify"], "spec").(object)[same]
			if !reflect.DeepEqual(mine, field(t, objects[kind+"/countersign"], "spec").(object)[same]) {
				t.Errorf("%s: %s of the replicas is %v", kind, same, mine)
			}
		}
	}
}

// selectors holds that what is named after the replicas finds their pods and
// nothing else does.
func selectors(t *testing.T, objects map[string]object) {
	t.Helper()
	found := 0
	for key, o := range objects {
		var selector any
		switch kind, _, _ := strings.Cut(key, "/"); kind {
		case "Service":
			selector = field(t, o, "spec", "selector")
		case "NetworkPolicy":
			selector = field(t, o, "spec", "podSelector", "matchLabels")
		case "StatefulSet", "Deployment", "PodDisruptionBudget":
			selector = field(t, o, "spec", "selector", "matchLabels")
		default:
			continue
		}
		found++
		for pods, theirs := range map[string]string{"StatefulSet/countersign": "countersign", "Deployment/countersign-verify": "countersign-verify"} {
			labels := field(t, objects[pods], "spec", "template", "metadata", "labels").(object)
			matches := true
			for name, value := range selector.(object) {
				matches = matches && labels[name] == value
			}
			if matches != strings.HasSuffix(key, "/"+theirs) {
				t.Errorf("%s finds the pods of %s: %v", key, pods, matches)
			}
		}
	}
	spread := field(t, objects["Deployment/countersign-verify"], "spec", "template", "spec", "topologySpreadConstraints", "labelSelector")
	if found != 8 || !reflect.DeepEqual(spread, field(t, objects["Deployment/countersign-verify"], "spec", "selector")) {
		t.Errorf("%d selectors; the replicas are spread by %v", found, spread)
	}
}

// TestHelmVerifiersWithout: what a replica has no use for is not given to it.
func TestHelmVerifiersWithout(t *testing.T) {
	scan := rendered(t, "--set", withVerifiers, "--set", "kubernetes.scan=true,kubernetes.writeCaBundle=true,serviceAccount.annotations.role=signs,verifiers.serviceAccount.annotations.role=reads")
	replica := field(t, scan["Deployment/countersign-verify"], "spec", "template", "spec").(object)
	if config := replicaConfig(t, scan); replica["automountServiceAccountToken"] != false || scan["ClusterRole/countersign-verify"] != nil ||
		config.daemon.Kubernetes.InCluster {
		t.Errorf("a replica that reads no pull secrets has access to the cluster: %v", replica)
	}
	if field(t, scan["StatefulSet/countersign"], "spec", "template", "spec", "automountServiceAccountToken") != true {
		t.Error("the service lost its token")
	}
	if field(t, scan["ServiceAccount/countersign-verify"], "metadata", "annotations").(object)["role"] != "reads" {
		t.Error("the replicas' account has not its own annotations")
	}

	managed := rendered(t, "--set", withVerifiers, "--set", "certificates.mode=certManager,certificates.issuerRef.name=internal")
	if names := stringsOf(t, field(t, managed["Certificate/countersign"], "spec", "dnsNames")); !slices.Contains(names, "countersign-verify.countersign.svc") {
		t.Errorf("the certificate is for %v", names)
	}
	mounts := field(t, managed["Deployment/countersign-verify"], "spec", "template", "spec", "containers", "volumeMounts").([]any)
	if !slices.ContainsFunc(mounts, func(m any) bool { return field(t, m, "mountPath") == "/etc/countersign/tls" }) {
		t.Errorf("a replica without the certificate: %v", mounts)
	}

	bare := rendered(t, "--set", withVerifiers, "--set", "networkPolicy.enabled=false,podDisruptionBudget.enabled=false")
	if bare["NetworkPolicy/countersign-verify"] != nil || bare["PodDisruptionBudget/countersign-verify"] != nil {
		t.Error("what is turned off is rendered for the replicas")
	}
}

// TestHelmVerifiersRefused: replicas that could not start are not rendered, and
// without replicas nothing of them is.
func TestHelmVerifiersRefused(t *testing.T) {
	for missing, set := range map[string]string{
		"database.secretName":     "verifiers.replicas=1,verifiers.keySecretName=k",
		"verifiers.keySecretName": "verifiers.replicas=1,database.secretName=d",
	} {
		if out, err := helm(t, "template", "x", chart, "--set", set); err == nil || !strings.Contains(out, "verifiers.replicas needs "+missing) {
			t.Errorf("%s: %v\n%s", set, err, out)
		}
	}
	plain := render(t)
	if none := render(t, "--set", "verifiers.replicas=0,verifiers.keySecretName=k"); none != plain || strings.Contains(plain, "verify\n") {
		t.Errorf("without replicas there is:\n%s", none)
	}
	// `helm upgrade --reuse-values` brings the values of an older chart, without the block.
	if older := render(t, "--set", "verifiers=null"); older != plain {
		t.Errorf("with the values of an older chart there is:\n%s", older)
	}
}
