//go:build kubernetes

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/server/api"
)

const (
	imageVerifier    = "image-verifier-v1"
	gatekeeperClient = "gatekeeper-client-v1"
	containerdPeer   = "containerd-v2.4.2"
	ctrPeer          = "ctr-v2.4.2"
)

// bindirJudgement is what containerd's verifier package answers.
type bindirJudgement struct {
	OK     bool
	Reason string
}

// verifierFolder is a bin_dir with our verifier in it, and its configuration.
// The program in it is this test binary, started by a script that gives it the
// environment that a real one reads from /etc.
func verifierFolder(t testing.TB, configuration string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "containerd-verifier.yaml")
	check(t, os.WriteFile(config, []byte(configuration), 0o600))
	bin := filepath.Join(dir, "bin")
	check(t, os.Mkdir(bin, 0o755))
	self, err := filepath.Abs(os.Args[0])
	check(t, err)
	script := fmt.Sprintf("#!/bin/sh\nCOUNTERSIGN_TEST_PROCESS=1 COUNTERSIGN_VERIFIER_CONFIG=%s exec %s containerd-verifier \"$@\"\n", config, self)
	check(t, os.WriteFile(filepath.Join(bin, verifierName), []byte(script), 0o755))
	return bin
}

// TestKubernetesContainerdVerifier: G7. containerd's own verifier package asks,
// the service answers, and so does the node by itself; whatever goes wrong blocks.
func TestKubernetesContainerdVerifier(t *testing.T) {
	g := &guarded{images: map[string]image{}}
	g.registry, g.unlisted = startRegistry(t), startRegistry(t)
	g.service = newProcess(t).secure()
	g.service.start()
	g.service.trustAll(g.registry, "release")
	g.furnish(t)
	online := verifierFolder(t, g.online(t))
	offline := verifierFolder(t, g.offline(t))
	ask := func(bin, name, digest string, more ...string) bindirJudgement {
		t.Helper()
		cmd := exec.Command(kubePeer(t, imageVerifier), append([]string{bin, name, digest, "application/vnd.oci.image.manifest.v1+json", "500"}, more...)...)
		out, err := cmd.Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) { // the package itself ended in an error, which blocks as a refusal does
			return bindirJudgement{Reason: string(failed.Stderr)}
		}
		check(t, err)
		var j bindirJudgement
		check(t, json.Unmarshal(out, &j))
		return j
	}
	for way, bin := range map[string]string{"service": online, "node": offline} {
		for state, want := range map[string]bool{"signed": true, "second": true, "unsigned": false, "otherkey": false, "unlisted": false} {
			_, digest, _ := strings.Cut(g.images[state].digest, "@")
			if j := ask(bin, g.images[state].tag, digest); j.OK != want || j.Reason == "" {
				t.Errorf("%s, %s: %+v", way, state, j)
			}
		}
		// The tag is of a signed image and another one would be pulled.
		_, digest, _ := strings.Cut(g.images["unsigned"].digest, "@")
		if j := ask(bin, g.images["signed"].tag, digest); j.OK || !strings.Contains(j.Reason, digest) {
			t.Errorf("%s, another digest: %+v", way, j)
		}
	}
	_, digest, _ := strings.Cut(g.images["signed"].digest, "@")
	if j := ask(online, g.images["signed"].tag, digest, "1ms"); j.OK {
		t.Errorf("a verifier that is out of time admits: %+v", j)
	}
	g.service.kill()
	if j := ask(online, g.images["signed"].tag, digest); j.OK {
		t.Errorf("with us down: %+v", j)
	}
	if j := ask(offline, g.images["signed"].tag, digest); !j.OK {
		t.Errorf("on the node, with us down: %+v", j)
	}
}

// online is the example's configuration, for the process.
func (g *guarded) online(t testing.TB) string {
	t.Helper()
	token, err := g.service.admin.CreateToken(t.Context(), api.TokenRequest{Name: "node", Roles: []string{"verifier"}})
	check(t, err)
	path := filepath.Join(t.TempDir(), "node.token")
	check(t, os.WriteFile(path, []byte(token.Secret+"\n"), 0o600))
	raw, err := os.ReadFile(filepath.Join(examples, "containerd/containerd-verifier.yaml"))
	check(t, err)
	return strings.NewReplacer("https://countersign.example.com", g.service.url, "/etc/countersign/ca.pem", g.service.bundle(), "/etc/countersign/node.token", path).Replace(string(raw))
}

// offline is the other example's configuration.
func (g *guarded) offline(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	root, err := g.service.admin.TrustedRoot(t.Context())
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "trusted_root.json"), root, 0o600))
	key, err := g.service.admin.PublicKey(t.Context(), "release")
	check(t, err)
	policy := fmt.Sprintf(`{"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": {"name": "node"},
"spec": {"match": {"images": [%q]}, "mode": "enforce", "authorities": {"release": {"key": {"pem": %q}}},
"require": {"all": [{"signature": {"by": "release"}}]}}}`, g.registry.Host+"/**", key)
	check(t, os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(policy), 0o600))
	raw, err := os.ReadFile(filepath.Join(examples, "containerd/containerd-verifier-offline.yaml"))
	check(t, err)
	return strings.NewReplacer("/etc/countersign", dir, "offline:\n", "offline:\n  allowHttpRegistry: true\n").Replace(string(raw))
}

// TestKubernetesContainerd: a real containerd pulls what is signed and nothing
// else, with our example's configuration.
func TestKubernetesContainerd(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "containerd: only root may start it")
	}
	g := &guarded{images: map[string]image{}}
	g.registry, g.unlisted = startRegistry(t), startRegistry(t)
	g.service = newProcess(t).secure()
	g.service.start()
	g.service.trustAll(g.registry, "release")
	g.furnish(t)
	raw, err := os.ReadFile(filepath.Join(examples, "containerd/config.toml"))
	check(t, err)
	dir := t.TempDir()
	socket := filepath.Join(dir, "c.sock")
	config := strings.ReplaceAll(string(raw), "/opt/countersign/verifiers", verifierFolder(t, g.online(t)))
	config = strings.Replace(config, "version = 3\n", fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[debug]
  level = "debug"
[grpc]
  address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket), 1)
	check(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600))
	c := &testCluster{t: t, dir: dir}
	daemon := c.run(kubePeer(t, containerdPeer), "containerd.log", "-c", filepath.Join(dir, "config.toml"))
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	ctr := func(args ...string) (string, error) {
		out, err := exec.Command(kubePeer(t, ctrPeer), append([]string{"-a", socket}, args...)...).CombinedOutput()
		return string(out), err
	}
	eventuallyTrue(t, "containerd answers", func() bool { _, err := ctr("version"); return err == nil })
	for state, want := range map[string]bool{"signed": true, "unsigned": false, "otherkey": false, "unlisted": false} {
		out, err := ctr("images", "pull", "--plain-http", g.images[state].tag)
		if blocked := strings.Contains(out, "blocked pull"); blocked == want {
			t.Errorf("%s: %v\n%s", state, err, out)
		}
	}
	if t.Failed() {
		raw, err := os.ReadFile(filepath.Join(dir, "containerd.log"))
		t.Logf("containerd: %v\n%s", err, raw)
	}
}

// validBundle is a certificate authority in base64 of PEM.
func validBundle(t testing.TB) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString([]byte(testauthority.NewClientCA(t, "bundle").PEM()))
}

func eventuallyTrue(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for range 600 {
		if happened() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}
