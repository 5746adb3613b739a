package server_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testcluster"
	"github.com/countersign/countersign/server/api"
)

// privateRegistry lets in who has one of its passwords, and remembers with what
// others tried.
type privateRegistry struct {
	*localregistry.Registry

	mu    sync.Mutex
	let   map[string]bool
	tried map[string]int
}

func startPrivate(t *testing.T, credentials ...string) *privateRegistry {
	t.Helper()
	p := &privateRegistry{let: map[string]bool{}, tried: map[string]int{}}
	for _, c := range credentials {
		p.let[c] = true
	}
	var err error
	p.Registry, err = localregistry.Start(t.Context(), localregistry.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !p.admits(r) {
				w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (p *privateRegistry) admits(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	user, password, _ := r.BasicAuth()
	p.tried[user+":"+password]++
	return p.let[user+":"+password]
}

// was reports whether anybody came with these credentials.
func (p *privateRegistry) was(credentials string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tried[credentials] > 0
}

func (p *privateRegistry) deny(credentials string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.let, credentials)
}

func pullSecret(namespace, name, place, credentials string) testcluster.Object {
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, place, base64.StdEncoding.EncodeToString([]byte(credentials)))
	return testcluster.Object{
		"metadata": map[string]any{"namespace": namespace, "name": name}, "type": "kubernetes.io/dockerconfigjson",
		"data": map[string]any{".dockerconfigjson": base64.StdEncoding.EncodeToString([]byte(config))},
	}
}

func account(namespace, name string, secrets ...string) testcluster.Object {
	var list []any
	for _, s := range secrets {
		list = append(list, map[string]any{"name": s})
	}
	return testcluster.Object{"metadata": map[string]any{"namespace": namespace, "name": name}, "imagePullSecrets": list}
}

// pullingHouse is a house with a signed image in a private registry, which is
// listed without credentials, and the cluster "prod" beside it.
func pullingHouse(t *testing.T, mode string) (h *house, private *privateRegistry, kube *testcluster.Cluster, image string) {
	t.Helper()
	kube = testcluster.Start(t)
	h = open(t, func(c *daemon.Config) {
		c.AnonymousVerify = true
		c.Kubernetes = daemon.KubernetesConfig{Kubeconfig: kube.Kubeconfig(t, t.TempDir()), Cluster: "prod", PullSecrets: mode}
	})
	builder := h.furnish()
	private = startPrivate(t, "signer:s3cret", "shop:canary-shop", "bank:canary-bank")
	ctx := t.Context()
	rule := api.RegistryRequest{Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true, Credentials: &api.Credentials{Username: "signer", Password: "s3cret"}}
	made, err := h.admin.PutRegistry(ctx, private.Host, rule, api.PutOptions{})
	h.must(err)
	_, err = h.admin.PutGrant(ctx, "private", api.GrantRequest{
		Issuer: "local", Subject: "builder", Repositories: []string{private.Host + "/team/**"}, Keys: []string{"release"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	h.must(err)
	policy := strings.Replace(strings.ReplaceAll(releasePolicy, "%s", private.Host), "name: production", "name: private", 1)
	_, err = h.admin.PutPolicy(ctx, "private", []byte(policy), api.PutOptions{})
	h.must(err)
	d, err := private.PushImage(ctx, "team/app", "v1", "private")
	h.must(err)
	image = private.Image("team/app", d)
	_, _, err = builder.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
	h.must(err)
	rule.Credentials = nil
	_, err = h.admin.PutRegistry(ctx, private.Host, rule, api.PutOptions{Revision: made.Revision})
	h.must(err)
	return h, private, kube, image
}

// podIn asks for the admission of an object in a namespace of a cluster.
func (h *house) podIn(secret, cluster, namespace, object string) review {
	h.t.Helper()
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","kind":{"group":"","version":"v1","kind":"Pod"},"namespace":%q,"operation":"CREATE","object":%s}}`, namespace, object)
	admin := h.secret
	h.secret = secret
	defer func() { h.secret = admin }()
	return h.admitRaw("?cluster="+cluster, body)
}

func withSecrets(names ...string) string {
	var list []string
	for _, n := range names {
		list = append(list, fmt.Sprintf(`{"name":%q}`, n))
	}
	return `,"imagePullSecrets":[` + strings.Join(list, ",") + `]`
}

// The pull secrets of a pod's namespace let its images be judged, by digest and by
// tag, and those of no other namespace, cluster or host. Rows I5, J3 and K1.
func TestPullSecrets(t *testing.T) {
	h, private, kube, image := pullingHouse(t, daemon.PullAuthenticated)
	kube.Put("secrets", pullSecret("shop", "pull", private.Host, "shop:canary-shop"))
	kube.Put("secrets", pullSecret("bank", "pull", private.Host, "bank:canary-bank"))
	kube.Put("secrets", pullSecret("shop", "elsewhere", "other.example.com", "shop:canary-elsewhere"))
	kube.Put("secrets", pullSecret("shop", "tls", "https://"+private.Host, "shop:canary-tls"))
	kube.Put("serviceaccounts", account("shop", "default"))
	kube.Put("serviceaccounts", account("bank", "default", "pull"))
	kube.Put("serviceaccounts", account("empty", "default"))
	tag := private.Host + "/team/app:v1"
	for _, tt := range []struct {
		name, secret, cluster, namespace, spec string
		allowed                                bool
	}{
		{"its own secret", h.secret, "prod", "shop", pod(withSecrets("pull"), image), true},
		{"by tag", h.secret, "prod", "shop", pod(withSecrets("pull"), tag), true},
		{"of the service account", h.secret, "prod", "bank", pod("", tag), true},
		{"none in the same namespace", h.secret, "prod", "shop", pod("", image), false},
		{"J3 another namespace by digest", h.secret, "prod", "empty", pod("", image), false},
		{"J3 another namespace by tag", h.secret, "prod", "empty", pod("", tag), false},
		{"J3 another namespace names it", h.secret, "prod", "empty", pod(withSecrets("pull"), image), false},
		{"J3 another cluster", h.secret, "test", "shop", pod(withSecrets("pull"), image), false},
		{"J3 no cluster", h.secret, "", "shop", pod(withSecrets("pull"), image), false},
		{"nobody asks", "", "prod", "shop", pod(withSecrets("pull"), image), false},
		{"I5 for another host", h.secret, "prod", "shop", pod(withSecrets("elsewhere"), image), false},
		{"I5 only with TLS", h.secret, "prod", "shop", pod(withSecrets("tls"), image), false},
		{"still its own", h.secret, "prod", "shop", pod(withSecrets("gone", "elsewhere", "pull"), image), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := h.podIn(tt.secret, tt.cluster, tt.namespace, inPod(tt.spec)).Response
			if r.Allowed != tt.allowed {
				t.Errorf("allowed %v: %s", r.Allowed, r.Status.Message)
			}
			if !tt.allowed && !strings.Contains(r.Status.Message, "(registry_unavailable)") {
				t.Errorf("denied for another reason: %s", r.Status.Message)
			}
			if tt.name == "J3 another namespace names it" && !strings.Contains(strings.Join(r.Warnings, " "), "pull secret pull: there is none") {
				t.Errorf("warnings %q", r.Warnings)
			}
		})
	}
	for credentials, want := range map[string]bool{"shop:canary-shop": true, "bank:canary-bank": true, "shop:canary-elsewhere": false, "shop:canary-tls": false} {
		if private.was(credentials) != want {
			t.Errorf("%s reached the registry: %v", credentials, !want)
		}
	}
	if strings.Contains(h.log.String(), "canary") {
		t.Error("K1: a pull secret is in the log")
	}
}

// Workload templates say where they pull from as pods do.
func TestPullSecretsOfTemplates(t *testing.T) {
	h, private, kube, image := pullingHouse(t, daemon.PullAuthenticated)
	kube.Put("secrets", pullSecret("shop", "pull", private.Host, "shop:canary-shop"))
	kube.Put("serviceaccounts", account("shop", "default"))
	kube.Put("serviceaccounts", account("shop", "runner", "pull"))
	for name, more := range map[string]string{"secret": withSecrets("pull"), "account": `,"serviceAccountName":"runner"`} {
		template := `{"spec":{` + pod(more, image) + `}}`
		for _, w := range []struct{ group, kind, spec string }{
			{"apps", "Deployment", `"spec":{"template":` + template + `}`},
			{"batch", "CronJob", `"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":` + template + `}}}`},
			{"", "PodTemplate", `"template":` + template},
		} {
			version := strings.TrimPrefix(w.group+"/v1", "/")
			object := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"w"},%s}`, version, w.kind, w.spec)
			if r := h.admit("?cluster=prod", w.group, w.kind, "CREATE", object); !r.Response.Allowed {
				t.Errorf("%s by %s: %s", w.kind, name, r.Response.Status.Message)
			}
			if r := h.admit("?cluster=test", w.group, w.kind, "CREATE", object); r.Response.Allowed { // control
				t.Errorf("%s of another cluster is allowed", w.kind)
			}
		}
	}
}

// A verdict that rests on a secret ends with it: neither the verdict nor the
// manifest is remembered for who no longer brings the same credentials.
func TestPullSecretTakenAway(t *testing.T) {
	h, private, kube, image := pullingHouse(t, daemon.PullAnyone)
	kube.Put("secrets", pullSecret("shop", "pull", private.Host, "shop:canary-shop"))
	kube.Put("secrets", pullSecret("shop", "wrong", private.Host, "shop:canary-wrong"))
	kube.Put("serviceaccounts", account("shop", "default"))
	ask := func(secret string) review { return h.podIn("", "prod", "shop", inPod(pod(withSecrets(secret), image))) }
	for range 2 {
		if r := ask("pull"); !r.Response.Allowed {
			t.Fatalf("control: %s", r.Response.Status.Message)
		}
	}
	if r := ask("wrong"); r.Response.Allowed {
		t.Error("J3: a verdict is answered to other credentials")
	}
	private.deny("shop:canary-shop")
	if r := ask("wrong"); r.Response.Allowed {
		t.Error("J3: a manifest is given to other credentials")
	}
}

// PullNever reads no secret.
func TestPullSecretsNever(t *testing.T) {
	h, private, kube, image := pullingHouse(t, daemon.PullNever)
	kube.Put("secrets", pullSecret("shop", "pull", private.Host, "shop:canary-shop"))
	kube.Put("serviceaccounts", account("shop", "default"))
	if r := h.podIn(h.secret, "prod", "shop", inPod(pod(withSecrets("pull"), image))); r.Response.Allowed {
		t.Error("allowed")
	}
	if asked := kube.Asked(); len(asked) != 0 {
		t.Errorf("asked %q", asked)
	}
}
