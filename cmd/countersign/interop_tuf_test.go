//go:build interop

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// TestInteropTUF: after `cosign initialize` with our mirror, stock cosign needs
// no further trust flag: before and after our TUF keys change, and after the
// root of trust was taken offline.
func TestInteropTUF(t *testing.T) {
	registry, err := localregistry.Start(context.Background(), localregistry.Options{})
	check(t, err)
	defer registry.Close()
	p := newProcess(t, "--log-anonymous-writes")
	p.start()
	p.trustAll(registry, "release")
	keyPath, _ := publicMaterial(t, p, "release")
	other, err := p.admin.CreateKey(context.Background(), api.KeyRequest{Name: "other"})
	check(t, err)
	otherPath, _ := publicMaterial(t, p, other.Name)

	first := download(t, p.url+"/tuf/1.root.json")
	veterans := map[string]cosign{}
	for _, name := range []string{cosignV2, cosignV3} {
		veterans[name] = newCosign(t, name)
		veterans[name].initialize(t, p, first)
	}
	verify := func(stage string) {
		for _, format := range []string{"bundle", "legacy"} {
			signed := signNew(t, p, registry, format)
			unsigned := registry.Image("tuf/app", pushShape(t, registry, "tuf/app", "image"))
			for _, name := range []string{cosignV2, cosignV3} {
				newcomer := newCosign(t, name)
				newcomer.initialize(t, p, download(t, p.url+"/tuf/root.json"))
				for who, c := range map[string]cosign{"veteran": veterans[name], "newcomer": newcomer} {
					t.Run(strings.Join([]string{stage, format, name, who}, "/"), func(t *testing.T) {
						c.must(t, "verify", "--key", keyPath, "--allow-http-registry", signed)
						if out, err := c.run("verify", "--key", otherPath, "--allow-http-registry", signed); err == nil {
							t.Errorf("accepted under another key:\n%s", out)
						}
						if out, err := c.run("verify", "--key", keyPath, "--allow-http-registry", unsigned); err == nil {
							t.Errorf("accepted an unsigned image:\n%s", out)
						}
					})
				}
				if format == "bundle" { // negative control: without initialize there is no trust
					if out, err := newCosign(t, name).run("verify", "--key", keyPath, "--allow-http-registry", signed); err == nil {
						t.Errorf("%s accepts without our root:\n%s", name, out)
					}
				}
			}
		}
	}
	verify("first")

	data := "--data-dir=" + p.dir
	p.must("trust", "rotate", "root", "targets", "snapshot", "timestamp", data)
	p.awaitRoot(2)
	verify("rotated")

	dir := t.TempDir()
	for _, holder := range []string{"a", "b", "c"} {
		p.must("trust", "keygen", filepath.Join(dir, holder+".key"))
	}
	p.must("trust", "init", data, "--threshold", "2", "--root-key", filepath.Join(dir, "a.pub"), "--root-key", filepath.Join(dir, "b.pub"), "--root-key", filepath.Join(dir, "c.pub"))
	draft := filepath.Join(dir, "root.json")
	check(t, os.WriteFile(draft, []byte(p.must("trust", "pending", data)), 0o600))
	for _, holder := range []string{"a", "c"} {
		signed := filepath.Join(dir, holder+".json")
		check(t, os.WriteFile(signed, []byte(p.must("trust", "sign", "--key", filepath.Join(dir, holder+".key"), draft)), 0o600))
		p.must("trust", "import", data, signed)
	}
	p.awaitRoot(3)
	verify("offline")
	signsWithoutFlags(t, p, registry, veterans)
}

// signsWithoutFlags: stock cosign finds our log and timestamp authority by the
// signing configuration of the mirror, and what it signed verifies by the
// trusted root of the mirror.
func signsWithoutFlags(t *testing.T, p *process, registry *localregistry.Registry, verifiers map[string]cosign) {
	t.Helper()
	for name, more := range map[string][]string{cosignV2: {"--new-bundle-format", "--use-signing-config"}, cosignV3: nil} {
		signer := newCosign(t, name)
		signer.initialize(t, p, download(t, p.url+"/tuf/root.json"))
		signer.must(t, "generate-key-pair")
		image := registry.Image("tuf/theirs", pushShape(t, registry, "tuf/theirs", "image"))
		signer.must(t, append([]string{"sign", "--yes", "--key", "cosign.key", "--allow-http-registry", image}, more...)...)
		for _, c := range verifiers {
			c.must(t, "verify", "--key", filepath.Join(signer.home, "cosign.pub"), "--allow-http-registry", image)
		}
	}
}

// initialize is `cosign initialize` as API.md documents it, with the root's
// checksum as a careful user gives it.
func (c cosign) initialize(t *testing.T, p *process, root []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.json")
	check(t, os.WriteFile(path, root, 0o600))
	c.must(t, "initialize", "--mirror", p.url+"/tuf", "--root", path)
	sum := sha256.Sum256(download(t, p.url+"/tuf/root.json"))
	byURL := newCosign(t, filepath.Base(c.path))
	byURL.must(t, "initialize", "--mirror", p.url+"/tuf", "--root", p.url+"/tuf/root.json", "--root-checksum", hex.EncodeToString(sum[:]))
	sum[0]++
	if out, err := newCosign(t, filepath.Base(c.path)).run("initialize", "--mirror", p.url+"/tuf", "--root", p.url+"/tuf/root.json", "--root-checksum", hex.EncodeToString(sum[:])); err == nil {
		t.Errorf("initialized with another checksum:\n%s", out)
	}
}

func signNew(t *testing.T, p *process, registry *localregistry.Registry, format string) string {
	t.Helper()
	d := pushShape(t, registry, "tuf/app", "image")
	signed, _, err := p.admin.Sign(context.Background(), api.SignatureRequest{
		Image: registry.Image("tuf/app", d), Key: "release", Formats: []string{format},
	}, api.SignOptions{})
	check(t, err)
	return registry.Image("tuf/app", digest.Digest(signed.Signatures[0].Digest))
}

func download(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	check(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, resp.StatusCode, content)
	}
	return content
}

func (p *process) awaitRoot(version int) {
	p.t.Helper()
	want := `"version": ` + string(rune('0'+version))
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(p.url + "/tuf/root.json")
		check(p.t, err)
		content, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		check(p.t, err)
		if strings.Contains(string(content), want) {
			return
		}
	}
	p.t.Fatalf("root %d was not published", version)
}
