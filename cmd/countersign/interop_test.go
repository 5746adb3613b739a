//go:build interop

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
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
	"github.com/countersign/countersign/store/storetest"
)

// The stock binaries of testdata/peers/list.
const (
	cosignV2     = "cosign-v2-v2.6.5"
	cosignV3     = "cosign-v3-v3.1.3"
	distribution = "distribution-v3.1.2"
)

// peer is the path of a stock binary. A missing one fails: an interop run
// without its peers proves nothing.
func peer(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(os.Getenv("COUNTERSIGN_PEERS"), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run make interop, which builds it", err)
	}
	return path
}

// cosign runs a stock binary in a home of its own with no way out of this
// machine: any lookup of a public service fails at once.
type cosign struct {
	path, home string
}

func newCosign(t testing.TB, name string) cosign {
	return cosign{path: peer(t, name), home: t.TempDir()}
}

func (c cosign) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Dir = c.home
	cmd.Env = []string{
		"HOME=" + c.home, "PATH=" + os.Getenv("PATH"), "COSIGN_PASSWORD=",
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c cosign) must(t testing.TB, args ...string) {
	t.Helper()
	if out, err := c.run(args...); err != nil {
		t.Fatalf("cosign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// registries are the two kinds there are in the field.
func registries(t *testing.T) map[string]*localregistry.Registry {
	t.Helper()
	with, err := localregistry.Start(context.Background(), localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { with.Close() })
	return map[string]*localregistry.Registry{"referrers": with, "tags": startDistribution(t)}
}

// startDistribution runs the stock registry without the referrers API.
func startDistribution(t *testing.T) *localregistry.Registry {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	check(t, os.WriteFile(config, fmt.Appendf(nil,
		"version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n",
		filepath.Join(dir, "data"), address), 0o600))
	cmd := exec.Command(peer(t, distribution), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	registry, err := localregistry.Connect(address)
	check(t, err)
	return registry
}

// publicMaterial writes what a verifier outside has: a public key and the
// trusted root, and nothing else.
func publicMaterial(t testing.TB, p *process, key string) (keyPath, rootPath string) {
	t.Helper()
	ctx := context.Background()
	public, err := p.admin.PublicKey(ctx, key)
	check(t, err)
	root, err := p.admin.TrustedRoot(ctx)
	check(t, err)
	dir := t.TempDir()
	keyPath, rootPath = filepath.Join(dir, key+".pub"), filepath.Join(dir, "trusted_root.json")
	check(t, os.WriteFile(keyPath, public, 0o600))
	check(t, os.WriteFile(rootPath, root, 0o600))
	return keyPath, rootPath
}

// TestInteropCosignVerifiesOurs: stock cosign, offline, with nothing but our
// public key and trusted root, accepts what we signed and refuses another key
// and another digest.
func TestInteropCosignVerifiesOurs(t *testing.T) {
	ctx := context.Background()
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		_, err := p.admin.CreateKey(ctx, api.KeyRequest{Name: "other"})
		check(t, err)
		keyPath, rootPath := publicMaterial(t, p, "release")
		otherPath, _ := publicMaterial(t, p, "other")
		for _, shape := range []string{"image", "index"} {
			for _, format := range []string{"bundle", "legacy"} {
				repository := "ours/" + shape + "-" + format
				d := pushShape(t, registry, repository, shape)
				signed, _, err := p.admin.Sign(ctx, api.SignatureRequest{
					Image: registry.Image(repository, d), Key: "release", Formats: []string{format},
					Recursive: shape == "index", Annotations: map[string]string{"git.sha": "c0ffee"},
				}, api.SignOptions{})
				check(t, err)
				unsigned := pushShape(t, registry, repository, "image")
				for _, name := range []string{cosignV2, cosignV3} {
					t.Run(strings.Join([]string{kind, shape, format, name}, "/"), func(t *testing.T) {
						c := newCosign(t, name)
						for _, item := range signed.Signatures {
							image := registry.Image(repository, digest.Digest(item.Digest))
							c.must(t, "verify", "--key", keyPath, "--trusted-root", rootPath, "--allow-http-registry", image)
							if out, err := c.run("verify", "--key", otherPath, "--trusted-root", rootPath, "--allow-http-registry", image); err == nil {
								t.Errorf("accepted under another key:\n%s", out)
							}
						}
						if out, err := c.run("verify", "--key", keyPath, "--trusted-root", rootPath, "--allow-http-registry", registry.Image(repository, unsigned)); err == nil {
							t.Errorf("accepted an unsigned image:\n%s", out)
						}
					})
				}
				if r := p.verdict(signed.Image); r.Verdict != policy.Passed {
					t.Errorf("%s %s %s: our own verdict: %s", kind, shape, format, mustJSON(t, r))
				}
			}
		}
		p.kill()
	}
}

func pushShape(t testing.TB, registry *localregistry.Registry, repository, shape string) digest.Digest {
	t.Helper()
	content := fmt.Sprintf("%s %s %d", repository, shape, time.Now().UnixNano())
	var d digest.Digest
	var err error
	if shape == "index" {
		d, err = registry.PushIndex(context.Background(), repository, "", content, "amd64", "arm64")
	} else {
		d, err = registry.PushImage(context.Background(), repository, "", content)
	}
	check(t, err)
	return d
}

// TestInteropWeVerifyCosigns: what stock cosign signed with a plain key pair
// passes under a PEM authority, in both formats, and fails under another key.
func TestInteropWeVerifyCosigns(t *testing.T) {
	for kind, registry := range registries(t) {
		p := newProcess(t, "--verify-failed-ttl", "0s") // what cosign attaches shall count at once
		p.start()
		p.trustAll(registry, "release")
		for name, sign := range map[string]func(t *testing.T, c cosign, image string){
			cosignV2: func(t *testing.T, c cosign, image string) {
				c.must(t, "sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", image)
			},
			cosignV3: func(t *testing.T, c cosign, image string) {
				c.must(t, "signing-config", "create", "--out", "sc.json")
				c.must(t, "trusted-root", "create", "--out", "tr.json")
				c.must(t, "sign", "--yes", "--key", "cosign.key", "--signing-config", "sc.json", "--trusted-root", "tr.json", "--allow-http-registry", image)
			},
		} {
			for _, shape := range []string{"image", "index"} {
				t.Run(strings.Join([]string{kind, name, shape}, "/"), func(t *testing.T) {
					c := newCosign(t, name)
					c.must(t, "generate-key-pair")
					repository := "theirs/" + name + "-" + shape
					image := registry.Image(repository, pushShape(t, registry, repository, shape))
					p.policy(registry, "managed", pemAuthority(t, filepath.Join(c.home, "cosign.pub")))
					if r := p.verdict(image); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.NoSignature {
						t.Fatalf("before signing: %s", mustJSON(t, r))
					}
					sign(t, c, image)
					if r := p.verdict(image); r.Verdict != policy.Passed {
						t.Errorf("want PASSED: %s", mustJSON(t, r))
					}
					other := newCosign(t, name)
					other.must(t, "generate-key-pair")
					p.policy(registry, "managed", pemAuthority(t, filepath.Join(other.home, "cosign.pub")))
					if r := p.verdict(image); r.Verdict != policy.Failed {
						t.Errorf("accepted under another key: %s", mustJSON(t, r))
					}
				})
			}
		}
		p.kill()
	}
}

// TestInteropWeVerifyCosignsAttestations: what stock cosign attested with a
// plain key pair, as a bundle and under the .att tag, satisfies a requirement
// with a condition under that key, and no other requirement or key.
func TestInteropWeVerifyCosignsAttestations(t *testing.T) {
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		for name, attest := range map[string]func(t *testing.T, c cosign, image string){
			cosignV2 + "/att": func(t *testing.T, c cosign, image string) {
				c.must(t, "attest", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--type", "vuln", "--predicate", "vuln.json", "--allow-http-registry", image)
			},
			cosignV2 + "/bundle": func(t *testing.T, c cosign, image string) {
				c.must(t, "attest", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--new-bundle-format", "--type", "vuln", "--predicate", "vuln.json", "--allow-http-registry", image)
			},
			cosignV3 + "/bundle": func(t *testing.T, c cosign, image string) {
				c.must(t, "signing-config", "create", "--out", "sc.json")
				c.must(t, "trusted-root", "create", "--out", "tr.json")
				c.must(t, "attest", "--yes", "--key", "cosign.key", "--signing-config", "sc.json", "--trusted-root", "tr.json", "--type", "vuln", "--predicate", "vuln.json", "--allow-http-registry", image)
			},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				binary, format, _ := strings.Cut(name, "/")
				c := newCosign(t, binary)
				c.must(t, "generate-key-pair")
				check(t, os.WriteFile(filepath.Join(c.home, "vuln.json"), []byte(stockScan), 0o600))
				repository := "attested/" + binary + "-" + format
				image := registry.Image(repository, pushShape(t, registry, repository, "image"))
				require := func(key, requirement string) policy.Code {
					t.Helper()
					p.requiring(registry, "managed", pemAuthority(t, filepath.Join(key, "cosign.pub")), requirement)
					r := p.verdict(image)
					if r.Verdict == policy.Passed {
						return ""
					}
					return r.Reasons[0].Code
				}
				const clean = `{attestation: {predicateType: vuln, by: signer, condition: "predicate.scanner.result.critical == 0"}}`
				if got := require(c.home, clean); got != policy.AttestationMissing {
					t.Fatalf("before attesting: %q", got)
				}
				attest(t, c, image)
				other := newCosign(t, binary)
				other.must(t, "generate-key-pair")
				for _, tt := range []struct {
					key, requirement string
					want             policy.Code
				}{
					{c.home, clean, ""},
					{c.home, strings.Replace(clean, "== 0", "> 0", 1), policy.ConditionFalse},
					{c.home, strings.Replace(clean, "vuln", "custom", 1), policy.PredicateTypeMismatch},
					{c.home, "{signature: {by: signer}}", policy.PredicateTypeMismatch},
					{other.home, clean, policy.UntrustedKey},
				} {
					if got := require(tt.key, tt.requirement); got != tt.want {
						t.Errorf("%s: %q, want %q", tt.requirement, got, tt.want)
					}
				}
			})
		}
		p.kill()
	}
}

// stockScan is a predicate of cosign's vuln type.
const stockScan = `{"invocation":{"parameters":[],"uri":"","event_id":"","builder.id":""},
"scanner":{"uri":"https://scanner.example","version":"1","db":{"uri":"","version":""},"result":{"critical":0,"high":2}},
"metadata":{"scanStartedOn":"2026-11-01T10:00:00Z","scanFinishedOn":"2026-11-01T10:05:00Z"}}`

func pemAuthority(t testing.TB, path string) string {
	t.Helper()
	pem, err := os.ReadFile(path)
	check(t, err)
	return fmt.Sprintf("{key: {pem: %q}}", pem)
}

// TestInteropCosignWritesOurLog: stock cosign v2 and v3 sign with their own key,
// our log and our timestamp authority; they and we accept the result, and its
// entry is in our log, where the key finds it.
func TestInteropCosignWritesOurLog(t *testing.T) {
	for _, name := range []string{cosignV2, cosignV3} {
		t.Run(name, func(t *testing.T) { cosignWritesOurLog(t, name) })
	}
}

func cosignWritesOurLog(t *testing.T, stock string) {
	t.Helper()
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t, "--log-anonymous-writes")
	p.start()
	p.trustAll(registry, "release")
	c := newCosign(t, stock)
	_, rootPath := publicMaterial(t, p, "release")
	configPath := filepath.Join(c.home, "signing_config.json")
	config, err := p.admin.SigningConfig(ctx)
	check(t, err)
	check(t, os.WriteFile(configPath, config, 0o600))
	c.must(t, "generate-key-pair")
	image := registry.Image("theirs/logged", pushShape(t, registry, "theirs/logged", "image"))
	args := []string{"sign", "--yes", "--key", "cosign.key", "--signing-config", configPath, "--trusted-root", rootPath, "--allow-http-registry"}
	if stock == cosignV2 {
		args = append(args, "--new-bundle-format")
	}
	c.must(t, append(args, image)...)
	for _, name := range []string{cosignV2, cosignV3} {
		newCosign(t, name).must(t, "verify", "--key", filepath.Join(c.home, "cosign.pub"), "--trusted-root", rootPath, "--allow-http-registry", image)
	}
	p.policy(registry, "managed", strings.TrimSuffix(pemAuthority(t, filepath.Join(c.home, "cosign.pub")), "}")+", log: required}")
	r := p.verdict(image)
	if r.Verdict != policy.Passed {
		t.Fatalf("want PASSED: %s", mustJSON(t, r))
	}
	if r.Policies[0].Requirements[0].Evidence[0].LogIndex == nil {
		t.Errorf("the evidence names no log index: %s", mustJSON(t, r))
	}
	pemKey, err := os.ReadFile(filepath.Join(c.home, "cosign.pub"))
	check(t, err)
	block, _ := pem.Decode(pemKey)
	keyID := sha256.Sum256(block.Bytes)
	for range 100 {
		found, err := p.admin.SearchLog(ctx, api.LogFilter{Key: hex.EncodeToString(keyID[:])})
		check(t, err)
		if len(found.Items) == 1 && found.Items[0].Kind == "hashedrekord" && found.Items[0].Version == "0.0.2" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the key does not find its entry in the log")
}

// TestInteropPostgresService runs the whole service over a real PostgreSQL:
// keys and log stay in the data folder, everything else survives in the
// database, and a restart resumes from it.
func TestInteropPostgresService(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t, "--database", storetest.PostgresSchema(t, storetest.Postgres(t)))
	p.start()
	p.trustAll(registry, "release")
	image := registry.Image("app", pushShape(t, registry, "app", "image"))
	request := api.SignatureRequest{Image: image, Key: "release"}
	first, _, err := p.admin.Sign(ctx, request, api.SignOptions{IdempotencyKey: "once"})
	check(t, err)
	p.kill()
	p.start()
	again, replayed, err := p.admin.Sign(ctx, request, api.SignOptions{IdempotencyKey: "once"})
	check(t, err)
	if !replayed || mustJSON(t, again) != mustJSON(t, first) {
		t.Errorf("after a restart: replayed %v\n%s\n%s", replayed, mustJSON(t, first), mustJSON(t, again))
	}
	if r := p.verdict(image); r.Verdict != policy.Passed {
		t.Errorf("want PASSED: %s", mustJSON(t, r))
	}
}
