package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/internal/testcluster"
	"github.com/countersign/countersign/registry"
)

type object = testcluster.Object

func open(t *testing.T, c *testcluster.Cluster) *cluster.Client {
	t.Helper()
	client, err := cluster.Open(cluster.Config{Kubeconfig: c.Kubeconfig(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func meta(namespace, name string, owner ...string) object {
	m := object{"namespace": namespace, "name": name}
	if len(owner) == 3 {
		m["ownerReferences"] = []any{map[string]any{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": "u", "controller": true}}
	}
	return m
}

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// Every sort of container and volume of what has not ended, by the digest that
// runs, under what a person deployed.
func TestRunning(t *testing.T) {
	c := testcluster.Start(t)
	a, b := digest("a"), digest("b")
	c.Put("replicasets", object{"metadata": meta("shop", "web-1", "apps/v1", "Deployment", "web")})
	c.Put("jobs", object{"metadata": meta("shop", "nightly-7", "batch/v1", "CronJob", "nightly")})
	c.Put("pods", object{
		"metadata": meta("shop", "web-1-x", "apps/v1", "ReplicaSet", "web-1"),
		"spec": object{
			"serviceAccountName": "runner",
			"imagePullSecrets":   []any{object{"name": "pull"}},
			"containers": []any{
				object{"name": "app", "image": "r.example.com/app:1"},
				object{"name": "pinned", "image": "r.example.com/pinned@" + b},
				object{"name": "again", "image": "r.example.com/app:1"},
			},
			"initContainers":      []any{object{"name": "init", "image": "r.example.com/init:1"}},
			"ephemeralContainers": []any{object{"name": "debug", "image": "r.example.com/debug:1"}},
			"volumes": []any{
				object{"name": "d", "emptyDir": object{}},
				object{"name": "i", "image": object{"reference": "r.example.com/data:1"}},
			},
		},
		"status": object{
			"phase": "Running",
			"containerStatuses": []any{
				object{"name": "app", "imageID": "docker-pullable://mirror.example.com/other@" + a},
				object{"name": "pinned", "imageID": "r.example.com/pinned@" + a},
				object{"name": "again", "imageID": "r.example.com/app@" + a},
			},
			"initContainerStatuses":      []any{object{"name": "init", "imageID": "r.example.com/init@" + a}},
			"ephemeralContainerStatuses": []any{object{"name": "debug", "imageID": a}},
		},
	})
	c.Put("pods", object{
		"metadata": meta("shop", "nightly-7-x", "batch/v1", "Job", "nightly-7"),
		"spec":     object{"containers": []any{object{"name": "c", "image": "r.example.com/job:1"}}},
		"status":   object{"phase": "Pending"},
	})
	for name, phase := range map[string]string{"over": "Succeeded", "broken": "Failed"} {
		c.Put("pods", object{
			"metadata": meta("shop", name),
			"spec":     object{"containers": []any{object{"name": "c", "image": "r.example.com/ended:1"}}},
			"status":   object{"phase": phase},
		})
	}
	c.Put("pods", object{
		"metadata": meta("infra", "agent-x", "apps/v1", "DaemonSet", "agent"),
		"spec":     object{"containers": []any{object{"name": "c", "image": "nginx"}}},
	})
	got, err := open(t, c).Running(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Running{Pods: []cluster.Pod{
		{
			Namespace: "infra", Name: "agent-x", Workload: cluster.Workload{Kind: "DaemonSet", Name: "agent"},
			Images: []cluster.Image{{Named: "nginx", Runs: "nginx"}}, Pull: cluster.Pull{Namespace: "infra"},
		},
		{
			Namespace: "shop", Name: "nightly-7-x", Workload: cluster.Workload{Kind: "CronJob", Name: "nightly"},
			Images: []cluster.Image{{Named: "r.example.com/job:1", Runs: "r.example.com/job:1"}}, Pull: cluster.Pull{Namespace: "shop"},
		},
		{
			Namespace: "shop", Name: "web-1-x", Workload: cluster.Workload{Kind: "Deployment", Name: "web"},
			Images: []cluster.Image{
				{Named: "r.example.com/app:1", Runs: "r.example.com/app@" + a},
				{Named: "r.example.com/pinned@" + b, Runs: "r.example.com/pinned@" + b},
				{Named: "r.example.com/init:1", Runs: "r.example.com/init@" + a},
				{Named: "r.example.com/debug:1", Runs: "r.example.com/debug:1"},
				{Named: "r.example.com/data:1", Runs: "r.example.com/data:1"},
			},
			Pull: cluster.Pull{Namespace: "shop", ServiceAccount: "runner", Secrets: []string{"pull"}},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	only, err := open(t, c).Running(t.Context(), "infra")
	if err != nil || len(only.Pods) != 1 || only.Pods[0].Namespace != "infra" {
		t.Errorf("one namespace: %+v, %v", only, err)
	}
	c.Forbid("replicasets")
	direct, err := open(t, c).Running(t.Context(), "shop")
	if err != nil || direct.Pods[1].Workload.String() != "ReplicaSet/web-1" {
		t.Errorf("without the right to list replicasets: %+v, %v", direct, err)
	}
}

// Pages are followed to the last one.
func TestRunningPages(t *testing.T) {
	c := testcluster.Start(t)
	for i := range 612 {
		c.Put("pods", object{
			"metadata": meta("shop", fmt.Sprintf("p%03d", i)),
			"spec":     object{"containers": []any{object{"name": "c", "image": "r.example.com/app:1"}}},
		})
	}
	got, err := open(t, c).Running(t.Context(), "")
	if err != nil || len(got.Pods) != 612 || got.Truncated {
		t.Errorf("%d pods, truncated %v, %v", len(got.Pods), got.Truncated, err)
	}
	if n := len(c.Asked()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestRunningNotAllowed(t *testing.T) {
	c := testcluster.Start(t)
	stranger, err := cluster.Open(cluster.Config{Kubeconfig: c.Kubeconfig(t, t.TempDir()), Context: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Running(t.Context(), ""); !errors.Is(err, cluster.ErrForbidden) {
		t.Errorf("a wrong token: %v", err)
	}
	known := open(t, c)
	if _, err := known.Running(t.Context(), ""); err != nil { // control
		t.Error(err)
	}
	c.Forbid("pods")
	if _, err := known.Running(t.Context(), ""); !errors.Is(err, cluster.ErrForbidden) {
		t.Errorf("without the right: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := testcluster.Start(t).Kubeconfig(t, t.TempDir())
	for name, c := range map[string]cluster.Config{
		"no such file":    {Kubeconfig: path + "x"},
		"no such context": {Kubeconfig: path, Context: "other"},
		"both":            {Kubeconfig: path, InCluster: true},
		"not in a pod":    {InCluster: true},
	} {
		if _, err := cluster.Open(c); !errors.Is(err, cluster.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pullSecret is a secret with one line for a place.
func pullSecret(namespace, name, place, user, password string) object {
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, place, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	return object{
		"apiVersion": "v1", "kind": "Secret", "metadata": meta(namespace, name), "type": "kubernetes.io/dockerconfigjson",
		"data": object{".dockerconfigjson": base64.StdEncoding.EncodeToString([]byte(config))},
	}
}

func lent(k registry.Keychain, host string) []string {
	if k == nil {
		return nil
	}
	var out []string
	for _, c := range k.Lend(host, "team/app", false) {
		out = append(out, c.Username+":"+string(c.Password))
	}
	return out
}

// The secrets of the pod come before those of its service account, which is the
// namespace's default when it names none; what cannot be had is told and no more.
// Rows J3 and K1: nothing of another namespace is used, and notes carry no secret.
func TestKeychain(t *testing.T) {
	const host = "r.example.com"
	c := testcluster.Start(t)
	c.Put("serviceaccounts", object{"metadata": meta("shop", "default"), "imagePullSecrets": []any{object{"name": "of-default"}}})
	c.Put("serviceaccounts", object{"metadata": meta("shop", "runner"), "imagePullSecrets": []any{object{"name": "of-runner"}, object{"name": "own"}}})
	c.Put("serviceaccounts", object{"metadata": meta("bank", "default")})
	c.Put("secrets", pullSecret("shop", "own", host, "own", "p1"))
	c.Put("secrets", pullSecret("shop", "of-default", host, "default", "p2"))
	c.Put("secrets", pullSecret("shop", "of-runner", host, "runner", "p3"))
	c.Put("secrets", object{"metadata": meta("shop", "opaque"), "type": "Opaque", "data": object{".dockerconfigjson": "e30="}})
	broken := pullSecret("shop", "broken", host, "u", "canary-password")
	broken["data"] = object{".dockerconfigjson": base64.StdEncoding.EncodeToString([]byte(`{"auths":{"canary-password"`))}
	c.Put("secrets", broken)
	client := open(t, c)
	for name, tt := range map[string]struct {
		pull  cluster.Pull
		want  []string
		notes int
	}{
		"default account":    {cluster.Pull{Namespace: "shop"}, []string{"default:p2"}, 0},
		"own first":          {cluster.Pull{Namespace: "shop", Secrets: []string{"own"}}, []string{"own:p1", "default:p2"}, 0},
		"named account":      {cluster.Pull{Namespace: "shop", ServiceAccount: "runner"}, []string{"runner:p3", "own:p1"}, 0},
		"J3 other namespace": {cluster.Pull{Namespace: "bank", Secrets: []string{"own"}}, nil, 1},
		"missing account":    {cluster.Pull{Namespace: "shop", ServiceAccount: "gone", Secrets: []string{"own"}}, []string{"own:p1"}, 1},
		"not for registries": {cluster.Pull{Namespace: "shop", Secrets: []string{"opaque"}}, []string{"default:p2"}, 1},
		"K1 broken":          {cluster.Pull{Namespace: "shop", Secrets: []string{"broken"}}, []string{"default:p2"}, 1},
		"a path for a name":  {cluster.Pull{Namespace: "bank", Secrets: []string{"../../shop/secrets/own"}}, nil, 1},
		"no namespace":       {cluster.Pull{Secrets: []string{"own"}}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k, notes := client.Keychain(t.Context(), tt.pull)
			if got := lent(k, host); !slices.Equal(got, tt.want) || len(notes) != tt.notes {
				t.Errorf("%v, notes %q", got, notes)
			}
			if strings.Contains(strings.Join(notes, " "), "canary") {
				t.Errorf("a note tells a secret: %q", notes)
			}
			if got := lent(k, "other.example.com"); got != nil {
				t.Errorf("lent to another host: %v", got)
			}
		})
	}
	if k, _ := client.Keychain(t.Context(), cluster.Pull{Namespace: "shop", Secrets: []string{"own"}}); strings.Contains(fmt.Sprintf("%v %+v %#v", k, k, k), "p1") {
		t.Errorf("K1: a keychain prints: %+v", k)
	}
}

// What was read a moment ago is not asked for again, also that there is nothing.
func TestKeychainKept(t *testing.T) {
	c := testcluster.Start(t)
	c.Put("serviceaccounts", object{"metadata": meta("shop", "default")})
	client := open(t, c)
	for range 3 {
		client.Keychain(t.Context(), cluster.Pull{Namespace: "shop", Secrets: []string{"gone"}})
	}
	if got := c.Asked(); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func authorityPEM(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func webhooks(name string, bundles ...string) object {
	var hooks []any
	for i, bundle := range bundles {
		client := map[string]any{"url": "https://c.example.com"}
		if bundle != "" {
			client["caBundle"] = bundle
		}
		hooks = append(hooks, map[string]any{"name": fmt.Sprintf("w%d.example.com", i), "clientConfig": client, "futureField": "kept"})
	}
	return object{"metadata": meta("", name), "webhooks": hooks}
}

func bundlesOf(o object) (out []string) {
	hooks, _ := o["webhooks"].([]any)
	for _, h := range hooks {
		hook, _ := h.(map[string]any)
		client, _ := hook["clientConfig"].(map[string]any)
		bundle, _ := client["caBundle"].(string)
		out = append(out, bundle)
	}
	return out
}

// Every webhook of the named configurations gets the bundle, nothing else is
// touched, and what is so already is left alone.
func TestPutCABundle(t *testing.T) {
	const validating, mutating = "validatingwebhookconfigurations", "mutatingwebhookconfigurations"
	c := testcluster.Start(t)
	bundle := authorityPEM(t)
	encoded := base64.StdEncoding.EncodeToString(bundle)
	c.Put(validating, webhooks("countersign", "", encoded, "b2xk"))
	c.Put(mutating, webhooks("countersign", ""))
	c.Put(validating, webhooks("other", "b2xk"))
	client := open(t, c)
	// Somebody else writes between the look and the patch.
	c.BeforePatch(func(resource, _ string) { c.Put(resource, webhooks("countersign", "b2xk", "", encoded, "")) })
	written, err := client.PutCABundle(t.Context(), []string{"countersign"}, bundle)
	if err != nil || !slices.Equal(written, []string{validating + "/countersign", mutating + "/countersign"}) {
		t.Fatalf("%q, %v", written, err)
	}
	if got := bundlesOf(c.Get(validating, "", "countersign")); !slices.Equal(got, []string{encoded, encoded, encoded, encoded}) {
		t.Errorf("%q", got)
	}
	if got := bundlesOf(c.Get(mutating, "", "countersign")); !slices.Equal(got, []string{encoded}) {
		t.Errorf("%q", got)
	}
	if got := bundlesOf(c.Get(validating, "", "other")); !slices.Equal(got, []string{"b2xk"}) {
		t.Errorf("another configuration: %q", got)
	}
	if again, err := client.PutCABundle(t.Context(), []string{"countersign"}, bundle); err != nil || len(again) != 0 {
		t.Errorf("again: %q, %v", again, err)
	}
	some, err := client.PutCABundle(t.Context(), []string{"gone", "other"}, bundle)
	if !errors.Is(err, cluster.ErrNoWebhooks) || !slices.Equal(some, []string{validating + "/other"}) {
		t.Errorf("one that is not there: %q, %v", some, err)
	}
}

// K1: what is no certificate is not published.
func TestPutCABundleRefuses(t *testing.T) {
	c := testcluster.Start(t)
	c.Put("validatingwebhookconfigurations", webhooks("countersign", ""))
	client := open(t, c)
	good := authorityPEM(t)
	for name, bundle := range map[string][]byte{
		"nothing":     nil,
		"text":        []byte("hello"),
		"private key": append(slices.Clone(good), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")})...),
		"trailing":    append(slices.Clone(good), "canary"...),
		"broken":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("canary")}),
		"too large":   []byte(strings.Repeat(string(good), 1000)),
	} {
		if _, err := client.PutCABundle(t.Context(), []string{"countersign"}, bundle); !errors.Is(err, cluster.ErrCABundle) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := c.Asked(); len(asked) != 0 {
		t.Errorf("asked %q", asked)
	}
}
