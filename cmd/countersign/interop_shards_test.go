//go:build interop

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// TestInteropLogRotation: after the log's key changed, stock cosign verifies
// what was signed before and after, in both formats, with the trusted root of
// now or by our TUF mirror, which it was given before; and signs into the new
// shard.
func TestInteropLogRotation(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	defer registry.Close()
	p := newProcess(t, "--log-anonymous-writes")
	p.start()
	p.trustAll(registry, "release")
	_, err = p.admin.CreateKey(ctx, api.KeyRequest{Name: "other"})
	check(t, err)
	keyPath, oldRoot := publicMaterial(t, p, "release")
	otherPath, _ := publicMaterial(t, p, "other")
	veterans := map[string]cosign{}
	for _, name := range []string{cosignV2, cosignV3} {
		veterans[name] = newCosign(t, name)
		veterans[name].initialize(t, p, download(t, p.url+"/tuf/1.root.json"))
	}
	images := map[string]string{}
	for _, format := range []string{"bundle", "legacy"} {
		images["before/"+format] = signNew(t, p, registry, format)
	}
	p.must("authorities", "rotate", "log")
	for _, format := range []string{"bundle", "legacy"} {
		images["after/"+format] = signNew(t, p, registry, format)
	}
	_, newRoot := publicMaterial(t, p, "release")
	for stage, image := range images {
		for _, name := range []string{cosignV2, cosignV3} {
			t.Run(strings.Join([]string{stage, name}, "/"), func(t *testing.T) {
				c := newCosign(t, name)
				c.must(t, "verify", "--key", keyPath, "--trusted-root", newRoot, "--allow-http-registry", image)
				veterans[name].must(t, "verify", "--key", keyPath, "--allow-http-registry", image)
				if out, err := c.run("verify", "--key", otherPath, "--trusted-root", newRoot, "--allow-http-registry", image); err == nil {
					t.Errorf("accepted under another key:\n%s", out)
				}
				_, err := c.run("verify", "--key", keyPath, "--trusted-root", oldRoot, "--allow-http-registry", image)
				if known := strings.HasPrefix(stage, "before"); known != (err == nil) {
					t.Errorf("with the trusted root of before the rotation: %v", err)
				}
			})
		}
	}
	signsIntoNewShard(t, p, registry, newRoot)
	signsWithoutFlags(t, p, registry, veterans)
	p.must("log", "audit", "--data-dir", p.dir)
}

// signsIntoNewShard: stock cosign v3 writes with the signing configuration of
// now; the frozen shard does not grow, the other does.
func signsIntoNewShard(t *testing.T, p *process, registry *localregistry.Registry, rootPath string) {
	t.Helper()
	ctx := context.Background()
	c := newCosign(t, cosignV3)
	configPath := filepath.Join(c.home, "signing_config.json")
	config, err := p.admin.SigningConfig(ctx)
	check(t, err)
	check(t, os.WriteFile(configPath, config, 0o600))
	c.must(t, "generate-key-pair")
	image := registry.Image("theirs/shard", pushShape(t, registry, "theirs/shard", "image"))
	frozen, err := p.admin.Shard(ctx, 1, "checkpoint")
	check(t, err)
	before, err := p.admin.Shard(ctx, 2, "checkpoint")
	check(t, err)
	c.must(t, "sign", "--yes", "--key", "cosign.key", "--signing-config", configPath, "--trusted-root", rootPath, "--allow-http-registry", image)
	for _, name := range []string{cosignV2, cosignV3} {
		newCosign(t, name).must(t, "verify", "--key", filepath.Join(c.home, "cosign.pub"), "--trusted-root", rootPath, "--allow-http-registry", image)
	}
	after, err := p.admin.Shard(ctx, 2, "checkpoint")
	check(t, err)
	still, err := p.admin.Shard(ctx, 1, "checkpoint")
	check(t, err)
	if string(after) == string(before) || string(still) != string(frozen) {
		t.Errorf("the entry is not in the new shard: %s%s", after, still)
	}
}
