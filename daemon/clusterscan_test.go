package daemon_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/internal/testcluster"
	"github.com/countersign/countersign/server/api"
)

// notes is what was written by several at once.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

// eventually waits for what a background job does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}

func runningPod(namespace, name, image string) testcluster.Object {
	return testcluster.Object{
		"metadata": map[string]any{"namespace": namespace, "name": name},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": image}}},
		"status":   map[string]any{"phase": "Running"},
	}
}

// What runs is judged again and again: verdicts are decisions that the forecast
// covers, the metrics count them, and only a change is told.
func TestScanOfWhatRuns(t *testing.T) {
	registry, err := localregistry.Start(t.Context(), localregistry.Options{})
	must(t, err)
	t.Cleanup(func() { _ = registry.Close() })
	kube := testcluster.Start(t)
	heard, log := &notes{}, &notes{}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(heard, r.Body) }))
	t.Cleanup(hook.Close)
	dir := t.TempDir()
	c := config(dir)
	c.Logger = slog.New(slog.NewJSONHandler(log, nil))
	c.Monitor.Webhook = hook.URL
	c.Kubernetes = daemon.KubernetesConfig{Kubeconfig: kube.Kubeconfig(t, t.TempDir()), Cluster: "prod", ScanInterval: time.Second}
	service := open(t, c)
	client := admin(t, service, dir)
	ctx := t.Context()
	_, err = client.PutRegistry(ctx, registry.Host, api.RegistryRequest{Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true}, api.PutOptions{})
	must(t, err)
	_, err = client.CreateKey(ctx, api.KeyRequest{Name: "release"})
	must(t, err)
	_, err = client.PutGrant(ctx, "all", api.GrantRequest{Issuer: "local", Subject: "admin", Repositories: []string{registry.Host + "/**"}, Keys: []string{"release"}, Actions: []string{"sign"}}, api.PutOptions{})
	must(t, err)
	_, err = client.PutPolicy(ctx, "production", []byte(`apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["`+registry.Host+`/**"], context: {cluster: [prod], namespace: [shop, bank]}}
  authorities: {release: {key: {name: release}}}
  require: {signature: {by: release}}
`), api.PutOptions{})
	must(t, err)
	good, err := registry.PushImage(ctx, "team/app", "", "good")
	must(t, err)
	bad, err := registry.PushImage(ctx, "team/app", "", "bad")
	must(t, err)
	_, _, err = client.Sign(ctx, api.SignatureRequest{Image: registry.Image("team/app", good), Key: "release"}, api.SignOptions{})
	must(t, err)
	kube.Put("pods", runningPod("shop", "web", registry.Image("team/app", good)))
	kube.Put("pods", runningPod("bank", "teller", registry.Image("team/app", bad)))

	counts := func(want string) func() bool {
		return func() bool {
			request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
			request.Header.Set("Authorization", "Bearer "+token(t, dir))
			answer := httptest.NewRecorder()
			service.Handler().ServeHTTP(answer, request)
			return strings.Contains(answer.Body.String(), want)
		}
	}
	eventually(t, "a signed image passes", counts(`countersign_running_images{namespace="shop",verdict="passed"} 1`))
	eventually(t, "an unsigned image fails", counts(`countersign_running_images{namespace="bank",verdict="failed"} 1`))
	decisions, err := client.Decisions(ctx, api.DecisionFilter{Verdict: "PASSED"})
	must(t, err)
	if !slices.ContainsFunc(decisions.Items, func(d api.Decision) bool {
		return d.Caller == "countersign cluster-scan" && d.Context["namespace"] == "shop" && d.Context["cluster"] == "prod"
	}) {
		t.Errorf("no decision of the scan: %+v", decisions.Items)
	}
	forecast, err := client.Forecast(ctx, "", "", 0)
	must(t, err)
	if forecast.Images != 1 {
		t.Errorf("the forecast covers %d images", forecast.Images)
	}
	eventually(t, "the failure is told", func() bool { return strings.Contains(heard.String(), bad.String()) })
	if told := heard.String(); strings.Contains(told, good.String()) || strings.Count(told, bad.String()) != 1 || !strings.Contains(told, `"type":"dev.countersign.cluster.scan"`) {
		t.Errorf("the webhook heard %s", told)
	}

	_, err = client.RevokeKey(ctx, "release", api.RevokeRequest{Reason: "stolen"})
	must(t, err)
	eventually(t, "the key's revocation reaches what runs", counts(`countersign_running_images{namespace="shop",verdict="failed"} 1`))
	eventually(t, "the change is told", func() bool { return strings.Contains(heard.String(), good.String()) })
	if told := heard.String(); strings.Count(told, bad.String()) != 1 || !strings.Contains(told, `"before":"passed"`) {
		t.Errorf("the webhook heard %s", told)
	}
	if n := strings.Count(log.String(), "running image changed its verdict"); n != 2 {
		t.Errorf("%d lines about changes", n)
	}
	kube.Forbid("pods")
	eventually(t, "a scan that cannot be made is counted", func() bool { return !counts(`countersign_cluster_scans_total{outcome="failed"} 0`)() })
}

// The bundle is written at the start.
func TestCABundleIsKept(t *testing.T) {
	const resource = "validatingwebhookconfigurations"
	kube := testcluster.Start(t)
	kube.Put(resource, testcluster.Object{
		"metadata": map[string]any{"name": "countersign"},
		"webhooks": []any{map[string]any{"name": "w.example.com", "clientConfig": map[string]any{}}},
	})
	bundle := []byte(testauthority.NewClientCA(t, "farm").PEM())
	c := config(t.TempDir())
	c.Kubernetes = daemon.KubernetesConfig{
		Kubeconfig: kube.Kubeconfig(t, t.TempDir()), WebhookConfigurations: []string{"countersign"},
		CABundle: func(context.Context) ([]byte, error) { return bundle, nil },
	}
	open(t, c)
	eventually(t, "the webhook trusts the bundle", func() bool {
		document, err := json.Marshal(kube.Get(resource, "", "countersign"))
		must(t, err)
		return strings.Contains(string(document), base64.StdEncoding.EncodeToString(bundle))
	})
}

func TestKubernetesConfigRefuses(t *testing.T) {
	bundle := daemon.KubernetesConfig{WebhookConfigurations: []string{"c"}}
	for name, c := range map[string]daemon.KubernetesConfig{
		"two places":               {Kubeconfig: "k", InCluster: true},
		"scan without a cluster":   {ScanInterval: time.Hour},
		"scan without a pause":     {InCluster: true, ScanInterval: time.Millisecond},
		"webhooks without bundle":  bundle,
		"unknown use of secrets":   {InCluster: true, PullSecrets: "sometimes"},
		"more webhooks than known": {InCluster: true, WebhookConfigurations: make([]string, 17)},
	} {
		if c.Check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := (daemon.KubernetesConfig{InCluster: true, ScanInterval: time.Hour, PullSecrets: daemon.PullAnyone}).Check(); err != nil {
		t.Errorf("control: %v", err)
	}
}
