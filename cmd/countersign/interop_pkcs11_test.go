//go:build interop && cgo

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// TestInteropPKCS11: every key of a service, the callers' and its own
// authorities', lies in a SoftHSM token; stock cosign verifies what it signs,
// by key and by identity, and the PIN is in no answer, journal or database.
func TestInteropPKCS11(t *testing.T) {
	ctx := context.Background()
	h := keystest.StartSoftHSM(t)
	args := []string{"--log-anonymous-writes", "--keys-refs", strings.Replace(h.Ref("x"), "object=x", "object=*", 1)}
	for _, job := range []string{"ca-root", "ca", "ct", "tsa-root", "tsa", "log"} {
		h.Generate(job, keys.ECDSAP256)
		args = append(args, "--authorities-"+job, h.Ref(job))
	}
	h.Generate("release", keys.ECDSAP256)
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	c := &ci{process: newProcess(t, args...), registry: registry, issuer: testissuer.Start(t)}
	c.start()
	if out, code := c.run("keys", "create", "hsm", "--backend", "pkcs11", "--ref", h.Ref("ca")); code == 0 {
		t.Fatalf("a caller adopted an authority's key:\n%s", out)
	}
	if out, code := c.run("keys", "create", "hsm", "--backend", "pkcs11", "--ref", h.Ref("release")); code != 0 {
		t.Fatalf("keys create: %d\n%s", code, out)
	}
	c.trustAll(registry, "local")
	c.pkcs11Grants(t)
	c.signsBothWays(t)
	c.kill()
	c.start() // everything is opened anew
	c.signsBothWays(t)
	c.pinIsNowhere(t, h.PIN)
}

func (c *ci) pkcs11Grants(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	_, err := c.admin.PutGrant(ctx, "hsm", api.GrantRequest{
		Issuer: "local", Subject: "admin", Keys: []string{"hsm"}, Actions: []string{"sign"}, Repositories: []string{c.registry.Host + "/**"},
	}, api.PutOptions{})
	check(t, err)
	_, err = c.admin.PutIssuer(ctx, "ci", api.IssuerRequest{
		URL: c.issuer.URL, Audience: "countersign", Kind: "github", InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	check(t, err)
	_, err = c.admin.PutGrant(ctx, "ci", api.GrantRequest{
		Issuer: c.issuer.URL, Claims: map[string]string{"repository": "acme/app"}, Keys: []string{"identity"},
		Actions: []string{"sign"}, Repositories: []string{c.registry.Host + "/**"},
	}, api.PutOptions{})
	check(t, err)
}

// signsBothWays signs by key and by identity and has stock cosign judge.
func (c *ci) signsBothWays(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var keyPath string
	keyPath, c.root = publicMaterial(t, c.process, "hsm")
	image := c.registry.Image("hsm", pushShape(t, c.registry, "hsm", "image"))
	_, _, err := c.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "hsm", Formats: []string{"bundle", "legacy"}}, api.SignOptions{})
	check(t, err)
	otherPath, _ := publicMaterial(t, c.process, "local")
	for _, name := range []string{cosignV2, cosignV3} {
		stock := newCosign(t, name)
		stock.must(t, "verify", "--key", keyPath, "--trusted-root", c.root, "--allow-http-registry", image)
		if out, err := stock.run("verify", "--key", otherPath, "--trusted-root", c.root, "--allow-http-registry", image); err == nil {
			t.Errorf("accepted under another key:\n%s", out)
		}
	}
	c.policy(c.registry, "managed", "{key: {name: hsm}}")
	if r := c.verdict(image); r.Verdict != policy.Passed {
		t.Errorf("our verdict: %s", mustJSON(t, r))
	}
	c.policy(c.registry, "managed", fmt.Sprintf("{identity: {issuer: %q, subject: %q, trustRoot: self}}", c.issuer.URL, releaseWorkflow))
	image = c.registry.Image("ident", pushShape(t, c.registry, "ident", "image"))
	_, _, err = c.job(t, nil).Sign(ctx, api.SignatureRequest{Image: image, Key: "identity"}, api.SignOptions{})
	check(t, err)
	c.mustVerify(t, image)
}

// pinIsNowhere is row K1.
func (c *ci) pinIsNowhere(t *testing.T, pin string) {
	t.Helper()
	journal, err := c.admin.Audit(context.Background(), api.ListOptions{Limit: 100})
	check(t, err)
	raw, err := json.Marshal(journal)
	check(t, err)
	if strings.Contains(string(raw), pin) || !strings.Contains(string(raw), "pkcs11:token=prod;object=release") {
		t.Errorf("the journal has the PIN, or not the reference:\n%s", raw)
	}
	err = filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), pin) {
			t.Errorf("%s holds the PIN", path)
		}
		return err
	})
	check(t, err)
}
