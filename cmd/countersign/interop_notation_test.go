//go:build interop

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

const notationPeer = "notation-v1.3.2"

// notation is the stock binary with a configuration folder of its own.
type notation struct {
	t                testing.TB
	path, home, conf string
}

func newNotation(t testing.TB) notation {
	home := t.TempDir()
	return notation{t: t, path: peer(t, notationPeer), home: home, conf: filepath.Join(home, "notation")}
}

func (n notation) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.path, args...)
	cmd.Dir = n.home
	cmd.Env = []string{
		"HOME=" + n.home, "XDG_CONFIG_HOME=" + n.home, "PATH=" + os.Getenv("PATH"),
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (n notation) must(args ...string) {
	n.t.Helper()
	if out, err := n.run(args...); err != nil {
		n.t.Fatalf("notation %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (n notation) refuses(args ...string) {
	n.t.Helper()
	if out, err := n.run(args...); err == nil {
		n.t.Errorf("notation %s was accepted:\n%s", strings.Join(args, " "), out)
	}
}

// TestInteropNotationVerifiesOurs: stock notation, with nothing but the exported
// trust material, accepts what we signed and refuses another image and another
// holder.
func TestInteropNotationVerifiesOurs(t *testing.T) {
	ctx := context.Background()
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		n := newNotation(t)
		if out, code := p.run("trust", "export", "--notation", n.conf); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		for _, shape := range []string{"image", "index"} {
			t.Run(kind+"/"+shape, func(t *testing.T) {
				n.t = t
				d := pushShape(t, registry, "ours/"+shape, shape)
				signed, _, err := p.admin.Sign(ctx, api.SignatureRequest{
					Image: registry.Image("ours/"+shape, d), Key: "release", Formats: []string{"notation"},
					Recursive: shape == "index", Annotations: map[string]string{"git.sha": "c0ffee"},
				}, api.SignOptions{})
				check(t, err)
				for _, item := range signed.Signatures {
					image := registry.Image("ours/"+shape, digest.Digest(item.Digest))
					n.must("verify", "--insecure-registry", image, "--user-metadata", "git.sha=c0ffee")
					n.refuses("verify", "--insecure-registry", image, "--user-metadata", "git.sha=other")
				}
				n.refuses("verify", "--insecure-registry", registry.Image("ours/"+shape, pushShape(t, registry, "ours/"+shape, "image")))
				identities(t, n, "x509.subject: C=ZZ, ST=none, O=Countersign, CN=release")
				n.must("verify", "--insecure-registry", signed.Image)
				identities(t, n, "x509.subject: C=ZZ, ST=none, O=Countersign, CN=other")
				n.refuses("verify", "--insecure-registry", signed.Image)
				identities(t, n, "*")

				// We take our own, by the key and by its certificate.
				for _, authority := range []string{"{key: {name: release}}", `{x509: {roots: self, subjects: ["CN=release"]}}`} {
					p.policy(registry, "managed", authority)
					if r := p.verdict(signed.Image); r.Verdict != policy.Passed {
						t.Errorf("%s: %s", authority, mustJSON(t, r))
					}
				}
				p.policy(registry, "managed", `{x509: {roots: self, subjects: ["CN=other"]}}`)
				if r := p.verdict(signed.Image); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.IdentityMismatch {
					t.Errorf("another holder: %s", mustJSON(t, r))
				}
			})
		}
		p.kill()
	}
}

// identities changes who is trusted in the exported policy.
func identities(t testing.TB, n notation, who string) {
	t.Helper()
	path := filepath.Join(n.conf, "trustpolicy.json")
	raw, err := os.ReadFile(path)
	check(t, err)
	var document map[string]any
	check(t, json.Unmarshal(raw, &document))
	document["trustPolicies"].([]any)[0].(map[string]any)["trustedIdentities"] = []string{who}
	raw, err = json.Marshal(document)
	check(t, err)
	check(t, os.WriteFile(path, raw, 0o600))
}

// TestInteropWeVerifyNotations: what stock notation signed with its test
// certificate passes under an x509 authority, in both envelopes, with and
// without our timestamps; not under another root, name or after its expiry.
func TestInteropWeVerifyNotations(t *testing.T) {
	for kind, registry := range registries(t) {
		p := newProcess(t, "--verify-failed-ttl", "0s") // what notation attaches shall count at once
		p.start()
		p.trustAll(registry, "release")
		n, other := newNotation(t), newNotation(t)
		n.must("cert", "generate-test", "--default", "acme.test")
		other.must("cert", "generate-test", "--default", "acme.test")
		if out, code := p.run("trust", "export", "--notation", n.conf); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		for _, format := range []string{"jws", "cose"} {
			for _, stamped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/stamped=%v", kind, format, stamped), func(t *testing.T) {
					n.t = t
					repository := "theirs/" + format + fmt.Sprint(stamped)
					weVerifyNotation(t, p, registry, n, other, format, repository, stamped)
				})
			}
		}
		p.kill()
	}
}

func weVerifyNotation(t *testing.T, p *process, registry *localregistry.Registry, n, other notation, format, repository string, stamped bool) {
	image := registry.Image(repository, pushShape(t, registry, repository, "image"))
	trusting := func(who notation, subject string) string {
		pem, err := os.ReadFile(filepath.Join(who.conf, "truststore", "x509", "ca", "acme.test", "acme.test.crt"))
		check(t, err)
		return fmt.Sprintf("{x509: {roots: %q, subjects: [%q]}}", pem, subject)
	}
	p.policy(registry, "managed", trusting(n, "CN=acme.test,O=Notary,C=US,ST=WA"))
	if r := p.verdict(image); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.NoSignature {
		t.Fatalf("before signing: %s", mustJSON(t, r))
	}
	args := []string{"sign", "--insecure-registry", "--signature-format", format}
	if stamped {
		args = append(args, "--timestamp-url", p.url+"/api/v1/timestamp", "--timestamp-root-cert", filepath.Join(n.conf, "truststore", "x509", "tsa", "countersign", "root-1.pem"))
	}
	n.must(append(args, image)...)
	r := p.verdict(image)
	if r.Verdict != policy.Passed {
		t.Fatalf("want PASSED: %s", mustJSON(t, r))
	}
	if at := r.Policies[0].Requirements[0].Evidence[0].SignedAt; (at != "") != stamped {
		t.Errorf("proven time %q", at)
	}
	for authority, want := range map[string]policy.Code{
		trusting(other, "CN=acme.test"): policy.CertificateInvalid,
		trusting(n, "CN=acme.tes"):      policy.IdentityMismatch,
	} {
		p.policy(registry, "managed", authority)
		if r := p.verdict(image); r.Verdict != policy.Failed || r.Reasons[0].Code != want {
			t.Errorf("want %s: %s", want, mustJSON(t, r))
		}
	}
	short := registry.Image(repository, pushShape(t, registry, repository, "image"))
	p.policy(registry, "managed", trusting(n, "CN=acme.test"))
	n.must(append(args, "--expiry", "2s", short)...)
	time.Sleep(3 * time.Second)
	if r := p.verdict(short); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.SignatureExpired {
		t.Errorf("expired: %s", mustJSON(t, r))
	}
}
