//go:build kubernetes

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store/storetest"
)

// TestKubernetesOperator: what people type behaves as they expect, and a refusal
// says which image and why. G8: no label that a tenant sets takes enforcement away.
func TestKubernetesOperator(t *testing.T) {
	g := newGuarded(t)
	signed, second, unsigned := g.images["signed"], g.images["second"], g.images["unsigned"]
	shop := func(args ...string) []string { return append([]string{"--namespace=shop"}, args...) }
	why := []string{"validate.countersign.dev", "team/unsigned", "no_signature"}

	g.mustKubectl("", shop("run", "web", "--image="+signed.tag)...)
	g.refused(why, shop("run", "bad", "--image="+unsigned.tag)...)
	g.refused(why, shop("run", "bad", "--image="+unsigned.tag, "--dry-run=server")...)
	g.refused([]string{"registry_not_trusted"}, shop("run", "bad", "--image="+g.images["unlisted"].tag)...)
	g.mustKubectl("", shop("debug", "web", "--image="+second.tag, "--container=tools", "--attach=false")...)
	g.refused(why, shop("debug", "web", "--image="+unsigned.tag, "--container=more", "--attach=false")...)

	g.mustKubectl("", shop("create", "deployment", "app", "--image="+signed.tag)...)
	g.refused(why, shop("create", "deployment", "other", "--image="+unsigned.tag)...)
	g.mustKubectl("", shop("set", "image", "deployment/app", "*="+second.tag)...)
	g.refused(why, shop("set", "image", "deployment/app", "*="+unsigned.tag)...)
	g.mustKubectl("", shop("scale", "deployment/app", "--replicas=3")...)
	g.mustKubectl("", shop("delete", "pod", "web", "--wait=false")...)

	g.tenantLabels(t, unsigned.digest)
	g.excluded(t, unsigned.digest)

	_, err := g.service.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "e2e"})
	check(t, err)
	g.refused([]string{"key_revoked"}, shop("run", "late", "--image="+signed.tag)...)
	// Scale is a subresource that is not asked about: an incident must not keep an
	// operator from scaling down, nor up what runs already.
	g.mustKubectl("", shop("scale", "deployment/app", "--replicas=0")...)
	g.mustKubectl("", shop("scale", "deployment/app", "--replicas=2")...)
}

// tenantLabels tries every label that might take a namespace out.
func (g *guarded) tenantLabels(t *testing.T, unsigned string) {
	t.Helper()
	for _, label := range []string{
		"kubernetes.io/metadata.name=kube-system", "kubernetes.io/metadata.name-", "countersign.dev/ignore=true",
		"admission.gatekeeper.sh/ignore=no-self-managing", "policy.sigstore.dev/include=false", "control-plane=true",
	} {
		g.kubectl("", "label", "--overwrite", "namespace", "shop", label)
		a := g.create("/api/v1/namespaces/shop/pods", podOf("labelled", specOf("containers", unsigned, g.images["signed"].digest)))
		if a.status != http.StatusForbidden || !strings.Contains(a.message, "no_signature") {
			t.Errorf("with the label %s: %d %s", label, a.status, a.message)
		}
	}
	// The positive control: the namespace is in the rules at all.
	if a := g.create("/api/v1/namespaces/shop/pods", podOf("labelled", specOf("containers", g.images["signed"].digest, g.images["second"].digest))); !a.ok() {
		t.Errorf("signed: %d %s", a.status, a.message)
	}
}

// excluded: the namespaces that are left out by name are, and no other one that
// is named a little like them.
func (g *guarded) excluded(t *testing.T, unsigned string) {
	t.Helper()
	for name, left := range map[string]bool{"countersign": true, "kube-system": true, "countersign-2": false, "kube-system-x": false, "default": false} {
		g.namespace(name)
		a := g.create("/api/v1/namespaces/"+name+"/pods", podOf("excluded", specOf("containers", unsigned, unsigned)))
		if a.ok() != left {
			t.Errorf("an unsigned pod in %s: %d %s", name, a.status, a.message)
		}
	}
}

// TestKubernetesUnchangedImages: after a revocation an update that changes no
// image is let through, because controllers write objects all the time, and one
// that changes an image is judged.
func TestKubernetesUnchangedImages(t *testing.T) {
	g := newGuarded(t)
	if !g.service.serves("/v1/admission/mutate") {
		notRun(t, "unchanged images: this build judges every update anew")
	}
	g.mustKubectl("", "--namespace=shop", "create", "deployment", "app", "--image="+g.images["signed"].digest)
	g.mustKubectl("", "--namespace=shop", "run", "web", "--image="+g.images["signed"].digest)
	_, err := g.service.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "e2e"})
	check(t, err)
	g.mustKubectl("", "--namespace=shop", "annotate", "deployment/app", "note=one")
	g.mustKubectl("", "--namespace=shop", "label", "pod/web", "note=one")
	g.mustKubectl("", "--namespace=shop", "patch", "deployment/app", "--patch", `{"spec":{"replicas":4}}`)
	g.refused([]string{"key_revoked"}, "--namespace=shop", "set", "image", "deployment/app", "*="+g.images["second"].digest)
	g.refused([]string{"key_revoked"}, "--namespace=shop", "create", "deployment", "late", "--image="+g.images["signed"].digest)
}

// serves reports whether the process has a route.
func (p *process) serves(path string) bool {
	p.t.Helper()
	resp, err := p.client().Post(p.url+path, "application/json", strings.NewReader("{}"))
	check(p.t, err)
	resp.Body.Close()
	return resp.StatusCode != http.StatusNotFound
}

// TestKubernetesOutage: with us down nothing new starts, outside of what is left
// out by name, everything else of the API server works, and we are asked again
// as soon as we are back; so after a restart of the API server.
func TestKubernetesOutage(t *testing.T) {
	g := newGuarded(t)
	good := func(name string) answer {
		return g.create("/api/v1/namespaces/shop/pods", podOf(name, specOf("containers", g.images["signed"].digest, g.images["second"].digest)))
	}
	bad := func() answer {
		return g.create("/api/v1/namespaces/shop/pods", podOf("bad", specOf("containers", g.images["unsigned"].digest, g.images["signed"].digest)))
	}
	if a := good("before"); !a.ok() {
		t.Fatalf("%d %s", a.status, a.message)
	}
	g.service.kill()
	if a := good("down"); a.ok() || !strings.Contains(a.message, "failed calling webhook") {
		t.Errorf("with us down: %d %s", a.status, a.message)
	}
	if a := g.create("/api/v1/namespaces/countersign/pods", podOf("self", specOf("containers", g.images["signed"].digest, g.images["signed"].digest))); !a.ok() {
		t.Errorf("we could not start again: %d %s", a.status, a.message)
	}
	g.mustKubectl("", "--namespace=shop", "get", "pods")
	g.mustKubectl("", "--namespace=shop", "delete", "pod", "before", "--wait=false")
	g.service.start()
	if a := bad(); a.status != http.StatusForbidden {
		t.Errorf("unsigned, when we are back: %d %s", a.status, a.message)
	}
	if a := good("back"); !a.ok() {
		t.Errorf("signed, when we are back: %d %s", a.status, a.message)
	}
	g.stopAPI()
	g.start()
	// Nothing is admitted unjudged between its start and its first look at the
	// webhook configurations.
	if a := bad(); a.ok() {
		t.Errorf("unsigned, after a restart of the API server: %d", a.status)
	}
	g.enforced(t)
	if a := good("restarted"); !a.ok() {
		t.Errorf("signed, after a restart of the API server: %d %s", a.status, a.message)
	}
}

// balancer sends each new connection to a process that says it is ready, as the
// endpoints of a Service do, and does not try another one when that fails.
type balancer struct {
	listener net.Listener
	next     atomic.Uint64
	mu       sync.Mutex
	ready    []string
}

func newBalancer(t testing.TB, processes ...*process) *balancer {
	t.Helper()
	b := &balancer{listener: freeListener(t)}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	b.look(processes)
	go func() {
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			b.look(processes)
		}
	}()
	go func() {
		for {
			conn, err := b.listener.Accept()
			if err != nil {
				return
			}
			go b.forward(conn)
		}
	}()
	return b
}

func (b *balancer) look(processes []*process) {
	var ready []string
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for _, p := range processes {
		resp, err := client.Get(p.url + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			ready = append(ready, strings.TrimPrefix(p.url, "https://"))
		}
	}
	b.mu.Lock()
	b.ready = ready
	b.mu.Unlock()
}

func (b *balancer) forward(conn net.Conn) {
	defer conn.Close()
	b.mu.Lock()
	ready := b.ready
	b.mu.Unlock()
	if len(ready) == 0 {
		return
	}
	back, err := net.Dial("tcp", ready[b.next.Add(1)%uint64(len(ready))])
	if err != nil {
		return
	}
	defer back.Close()
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				if _, err := to.Write(buffer[:n]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		done <- struct{}{}
	}
	go pipe(back, conn)
	go pipe(conn, back)
	<-done
}

// TestKubernetesRollingRestart: two verification replicas behind a balancer are
// replaced one after the other, and again, while the main service is away, and no
// call of the API server is lost.
func TestKubernetesRollingRestart(t *testing.T) {
	database := storetest.PostgresSchema(t, storetest.Postgres(t))
	g := newGuarded(t, "--database", database)
	key := g.service.replicaKey()
	replicas := []*process{}
	for range 2 {
		r := g.service.replica(key, database, "--tls-client-certificates", "--shutdown-delay", "500ms")
		r.start()
		replicas = append(replicas, r)
	}
	b := newBalancer(t, replicas...)
	g.register(t, "https://"+b.listener.Addr().String())
	g.service.terminate()
	var asked, lost atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for worker := range 4 {
		workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("rolling-%d-%d", worker, i)
				a, err := g.try(http.MethodPost, "/api/v1/namespaces/shop/pods?dryRun=All", "application/json",
					podOf(name, specOf("containers", g.images["signed"].tag, g.images["second"].digest)))
				asked.Add(1)
				if err != nil || !a.ok() {
					lost.Add(1)
					t.Errorf("%s: %v %d %s", name, err, a.status, a.message)
				}
			}
		})
	}
	for range 2 {
		for _, p := range replicas {
			p.terminate()
			p.start()
			time.Sleep(300 * time.Millisecond) // the balancer has to see it
		}
	}
	stop()
	workers.Wait()
	fmt.Fprintf(os.Stderr, "rolling restart: %d calls, %d lost\n", asked.Load(), lost.Load())
	if asked.Load() < 40 {
		t.Errorf("only %d calls were made", asked.Load())
	}
	g.service.start()
	_, err := g.service.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "stolen"})
	check(t, err)
	a, err := g.try(http.MethodPost, "/api/v1/namespaces/shop/pods", "application/json", podOf("revoked", specOf("containers", g.images["signed"].digest, g.images["signed"].digest)))
	if err != nil || a.ok() || !strings.Contains(a.message, "key_revoked") {
		t.Errorf("once its key was revoked at the main service: %v %d %s", err, a.status, a.message)
	}
}

// terminate ends the process as an orchestrator does, and waits for it.
func (p *process) terminate() {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("the process did not end well: %v", err)
	}
	p.cmd = nil
}

// TestKubernetesImagePolicyWebhook: the API server's own plugin asks us, by our
// example configuration.
func TestKubernetesImagePolicyWebhook(t *testing.T) {
	g := &guarded{images: map[string]image{}}
	g.registry, g.unlisted = startRegistry(t), startRegistry(t)
	g.service = newProcess(t, "--auth-anonymous-verify").secure()
	g.service.start()
	if !g.service.serves("/v1/admission/image-review") {
		notRun(t, "ImagePolicyWebhook: this build has no /v1/admission/image-review")
	}
	g.service.trustAll(g.registry, "release")
	g.furnish(t)
	dir := t.TempDir()
	example := func(name string) string {
		raw, err := os.ReadFile(filepath.Join("../../deploy/examples/imagepolicywebhook", name))
		check(t, err)
		return strings.NewReplacer(
			"https://countersign.example.com", g.service.url, "/etc/kubernetes/countersign/ca.pem", g.service.bundle(),
			"/etc/kubernetes/countersign/kubeconfig.yaml", filepath.Join(dir, "kubeconfig.yaml"),
		).Replace(string(raw))
	}
	kubeconfig := object{}
	check(t, sigsyaml.UnmarshalStrict([]byte(example("kubeconfig.yaml")), &kubeconfig))
	// Here callers are anonymous; the certificate of the example is another test's.
	kubeconfig["users"] = []any{object{"name": "api-server", "user": object{}}}
	check(t, os.WriteFile(filepath.Join(dir, "kubeconfig.yaml"), []byte(mustJSON(t, kubeconfig)), 0o600))
	g.testCluster = newCluster(t, example("admission.yaml"), "ImagePolicyWebhook")
	g.namespace("shop")
	for state, want := range map[string]bool{"signed": true, "unsigned": false, "otherkey": false, "unlisted": false} {
		a := g.create("/api/v1/namespaces/shop/pods", podOf("policy-"+state, specOf("containers", g.images[state].digest, g.images["signed"].digest)))
		if a.ok() != want {
			t.Errorf("%s: %d %s", state, a.status, a.message)
		}
		if !want && !strings.Contains(a.message, g.images[state].digest) {
			t.Errorf("%s: the reason does not name the image: %s", state, a.message)
		}
	}
	if a := g.create("/api/v1/namespaces/shop/pods", podOf("host", specOf("initContainers", g.images["unsigned"].digest, g.images["signed"].digest))); a.ok() {
		t.Error("an unsigned init container was admitted")
	}
	g.service.kill()
	if a := g.create("/api/v1/namespaces/shop/pods", podOf("down", specOf("containers", g.images["second"].digest, g.images["second"].digest))); a.ok() {
		t.Error("with us down a pod was admitted")
	}
}
