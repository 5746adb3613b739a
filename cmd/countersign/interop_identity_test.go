//go:build interop

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
)

// releaseWorkflow is the SAN of a certificate for the test issuer's GitHub
// token.
const releaseWorkflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"

// ci is a service that believes a CI system's tokens.
type ci struct {
	*process
	registry *localregistry.Registry
	issuer   *testissuer.Issuer
	root     string
	config   string
}

func newCI(t testing.TB) *ci {
	t.Helper()
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	c := &ci{process: newProcess(t, "--log-anonymous-writes"), registry: registry, issuer: testissuer.Start(t)}
	c.start()
	c.trustAll(registry, "release")
	_, err = c.admin.PutIssuer(ctx, "ci", api.IssuerRequest{
		URL: c.issuer.URL, Audience: "countersign", Kind: "github", InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	check(t, err)
	_, err = c.admin.PutGrant(ctx, "ci", api.GrantRequest{
		Issuer: c.issuer.URL, Claims: map[string]string{"repository": "acme/app"}, Keys: []string{"identity"},
		Actions: []string{"sign"}, Repositories: []string{registry.Host + "/**"},
	}, api.PutOptions{})
	check(t, err)
	c.policy(registry, "managed", fmt.Sprintf("{identity: {issuer: %q, subject: %q, trustRoot: self}}", c.issuer.URL, releaseWorkflow))
	_, c.root = publicMaterial(t, c.process, "release")
	c.config = filepath.Join(t.TempDir(), "signing_config.json")
	config, err := c.admin.SigningConfig(ctx)
	check(t, err)
	check(t, os.WriteFile(c.config, config, 0o600))
	return c
}

// job is the client of a build with nothing but its workflow token.
func (c *ci) job(t testing.TB, overrides map[string]any) *api.Client {
	t.Helper()
	if overrides == nil {
		overrides = map[string]any{}
	}
	overrides["aud"] = "countersign"
	client, err := api.NewClient(c.url, c.issuer.GitHub(overrides))
	check(t, err)
	return client
}

func (c *ci) verifyArgs(image, identity, issuer string) []string {
	return []string{
		"verify", "--allow-http-registry", "--trusted-root", c.root, "--use-signed-timestamps",
		"--certificate-identity", identity, "--certificate-oidc-issuer", issuer, image,
	}
}

// mustVerify wants the image accepted for its identity and refused for another
// identity and another issuer.
func (c *ci) mustVerify(t *testing.T, image string) {
	t.Helper()
	for _, name := range []string{cosignV2, cosignV3} {
		stock := newCosign(t, name)
		stock.must(t, c.verifyArgs(image, releaseWorkflow, c.issuer.URL)...)
		for what, args := range map[string][]string{
			"another identity": c.verifyArgs(image, releaseWorkflow+"x", c.issuer.URL),
			"another issuer":   c.verifyArgs(image, releaseWorkflow, "https://token.actions.githubusercontent.com"),
		} {
			if out, err := stock.run(args...); err == nil {
				t.Errorf("%s accepted %s:\n%s", name, what, out)
			}
		}
	}
	if r := c.verdict(image); r.Verdict != policy.Passed {
		t.Errorf("our verdict: %s", mustJSON(t, r))
	}
}

// TestInteropIdentitySign: a build signs with its workflow token alone; stock
// cosign accepts the image for that workflow, checking certificate timestamp,
// log and timestamp, and for nothing else.
func TestInteropIdentitySign(t *testing.T) {
	ctx := context.Background()
	c := newCI(t)
	image := c.registry.Image("app", pushShape(t, c.registry, "app", "index"))
	signed, _, err := c.job(t, nil).Sign(ctx, api.SignatureRequest{Image: image, Key: "identity", Recursive: true}, api.SignOptions{})
	check(t, err)
	for _, item := range signed.Signatures {
		c.mustVerify(t, c.registry.Image("app", digest.Digest(item.Digest)))
	}
	unsigned := c.registry.Image("app", pushShape(t, c.registry, "app", "image"))
	if out, err := newCosign(t, cosignV3).run(c.verifyArgs(unsigned, releaseWorkflow, c.issuer.URL)...); err == nil {
		t.Errorf("another digest is accepted:\n%s", out)
	}
	if r := c.verdict(unsigned); r.Verdict != policy.Failed {
		t.Errorf("another digest: %s", mustJSON(t, r))
	}
	// A fork's workflow has a token of the same issuer and no grant.
	fork := c.job(t, map[string]any{"repository": "mallory/app"})
	if _, _, err := fork.Sign(ctx, api.SignatureRequest{Image: unsigned, Key: "identity"}, api.SignOptions{}); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a fork signed: %v", err)
	}
}

// TestInteropIdentityStock: stock cosign signs keyless against our certificate
// authority, log and timestamp authority on plain loopback HTTP; it and we
// accept the result.
func TestInteropIdentityStock(t *testing.T) {
	c := newCI(t)
	for name, more := range map[string][]string{cosignV3: nil, cosignV2: {"--new-bundle-format"}} {
		t.Run(name, func(t *testing.T) {
			image := c.registry.Image("stock", pushShape(t, c.registry, "stock", "image"))
			args := append([]string{
				"sign", "--yes", "--allow-http-registry", "--signing-config", c.config, "--trusted-root", c.root,
				"--identity-token", c.issuer.GitHub(map[string]any{"aud": "sigstore"}),
			}, more...)
			newCosign(t, name).must(t, append(args, image)...)
			c.mustVerify(t, image)
		})
	}
}

// TestInteropIdentityStockAttest: stock cosign attests keyless against our
// services; the attestation satisfies a requirement with a condition under that
// identity, and none of another type, condition, identity or issuer.
func TestInteropIdentityStockAttest(t *testing.T) {
	c := newCI(t)
	authority := func(issuer, subject string) string {
		return fmt.Sprintf("{identity: {issuer: %q, subject: %q, trustRoot: self}}", issuer, subject)
	}
	const clean = `{attestation: {predicateType: vuln, by: signer, condition: "predicate.scanner.result.critical == 0"}}`
	for name, more := range map[string][]string{cosignV3: nil, cosignV2: {"--new-bundle-format"}} {
		t.Run(name, func(t *testing.T) {
			image := c.registry.Image("attested", pushShape(t, c.registry, "attested", "image"))
			stock := newCosign(t, name)
			check(t, os.WriteFile(filepath.Join(stock.home, "vuln.json"), []byte(stockScan), 0o600))
			args := append([]string{
				"attest", "--yes", "--allow-http-registry", "--signing-config", c.config, "--trusted-root", c.root,
				"--type", "vuln", "--predicate", "vuln.json",
				"--identity-token", c.issuer.GitHub(map[string]any{"aud": "sigstore"}),
			}, more...)
			stock.must(t, append(args, image)...)
			self := authority(c.issuer.URL, releaseWorkflow)
			for _, tt := range []struct {
				authority, requirement string
				want                   policy.Code
			}{
				{self, clean, ""},
				{self, strings.Replace(clean, "== 0", "> 0", 1), policy.ConditionFalse},
				{self, strings.Replace(clean, "vuln", "custom", 1), policy.PredicateTypeMismatch},
				{self, "{signature: {by: signer}}", policy.PredicateTypeMismatch},
				{authority(c.issuer.URL, releaseWorkflow+"x"), clean, policy.IdentityMismatch},
				{authority("https://token.actions.githubusercontent.com", releaseWorkflow), clean, policy.IdentityMismatch},
			} {
				c.requiring(c.registry, "managed", tt.authority, tt.requirement)
				r := c.verdict(image)
				if got := r.Verdict == policy.Passed; got != (tt.want == "") || !got && r.Reasons[0].Code != tt.want {
					t.Errorf("%s of %s: %s", tt.requirement, tt.authority, mustJSON(t, r))
				}
			}
		})
	}
}

// TestInteropIdentityRotation: certificate, transparency, timestamp and log keys
// rotate while twenty builds sign. No call fails, what was signed before and
// after verifies with the trusted root of the end, and that root keeps the old
// authorities with their ends.
func TestInteropIdentityRotation(t *testing.T) {
	ctx := context.Background()
	c := newCI(t)
	before := c.registry.Image("rotate", pushShape(t, c.registry, "rotate", "image"))
	_, _, err := c.job(t, nil).Sign(ctx, api.SignatureRequest{Image: before, Key: "identity"}, api.SignOptions{})
	check(t, err)
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var images []string
	for caller := range 20 {
		job := c.job(t, nil)
		wg.Go(func() {
			for n := 0; running.Err() == nil; n++ {
				d, err := c.registry.PushImage(ctx, "rotate", "", fmt.Sprintf("%d of %d", n, caller))
				if err == nil {
					_, _, err = job.Sign(ctx, api.SignatureRequest{Image: c.registry.Image("rotate", d), Key: "identity"}, api.SignOptions{})
				}
				if err != nil {
					t.Errorf("signing during a rotation: %v", err)
					return
				}
				mu.Lock()
				images = append(images, c.registry.Image("rotate", d))
				mu.Unlock()
			}
		})
	}
	for _, name := range []string{"ca", "ct", "tsa", "log", "ca", "tsa", "log"} {
		time.Sleep(300 * time.Millisecond)
		if _, err := c.admin.RotateAuthority(ctx, name); err != nil {
			t.Errorf("rotating %s: %v", name, err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	raw, err := c.admin.TrustedRoot(ctx)
	check(t, err)
	root, err := trust.ParseTrustedRoot(raw)
	check(t, err)
	if len(root.CertificateAuthorities) != 3 || len(root.CTLogs) != 2 || len(root.TimestampAuthorities) != 3 {
		t.Errorf("%d certificate authorities, %d transparency logs, %d timestamp authorities",
			len(root.CertificateAuthorities), len(root.CTLogs), len(root.TimestampAuthorities))
	}
	if len(root.Logs) != 3 || root.Logs[0].End == nil || root.Logs[1].End == nil || root.Logs[2].End != nil {
		t.Errorf("logs: %+v", root.Logs)
	}
	for _, a := range root.CertificateAuthorities[:2] {
		if a.End == nil {
			t.Error("a retired certificate authority has no end")
		}
	}
	check(t, os.WriteFile(c.root, raw, 0o600))
	t.Logf("%d images were signed during seven rotations", len(images))
	for _, image := range []string{before, images[0], images[len(images)/2], images[len(images)-1]} {
		c.mustVerify(t, image)
	}
}
