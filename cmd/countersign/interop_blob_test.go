//go:build interop

package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/attest"
)

// exitCode is the exit code of a command line.
func (p *process) exitCode(t testing.TB, args ...string) int {
	t.Helper()
	cmd := p.command(args...)
	_ = cmd.Run() // its exit code says it
	return cmd.ProcessState.ExitCode()
}

func wantCode(t *testing.T, p *process, want int, args ...string) {
	t.Helper()
	if got := p.exitCode(t, args...); got != want {
		t.Errorf("%v: exit code %d, want %d", args, got, want)
	}
}

// What stock cosign makes of a file with a key passes here, and no other file
// does.
func TestInteropBlobWeVerifyCosigns(t *testing.T) {
	for name, flags := range map[string][]string{
		"cosign-v2-v2.6.5": {"--new-bundle-format", "--tlog-upload=false"},
		"cosign-v3-v3.1.3": {"--use-signing-config=false", "--tlog-upload=false"},
	} {
		t.Run(name, func(t *testing.T) {
			stock := newCosign(t, name)
			dir := t.TempDir()
			prefix, file, other, bundle := filepath.Join(dir, "k"), filepath.Join(dir, "file"), filepath.Join(dir, "other"), filepath.Join(dir, "bundle.json")
			check(t, os.WriteFile(file, []byte("a file"), 0o600))
			check(t, os.WriteFile(other, []byte("another"), 0o600))
			stock.must(t, "generate-key-pair", "--output-key-prefix", prefix)
			args := append([]string{"sign-blob", "--yes", "--key", prefix + ".key", "--bundle", bundle}, flags...)
			stock.must(t, append(args, file)...)
			p := newProcess(t)
			wantCode(t, p, 0, "verify-blob", "--offline", "--key", prefix+".pub", "--bundle", bundle, file)
			wantCode(t, p, 0, "verify-blob", "--offline", "--key", prefix+".pub", "--bundle", bundle, attest.DigestOf([]byte("a file")).String())
			wantCode(t, p, 3, "verify-blob", "--offline", "--key", prefix+".pub", "--bundle", bundle, other)
		})
	}
}

// The conformance protocol against the service's own authorities: what it signs
// verifies here, by the service, and with both stock lines.
func TestInteropConformance(t *testing.T) {
	c := newCI(t)
	dir := t.TempDir()
	file, other, bundle := filepath.Join(dir, "file"), filepath.Join(dir, "other"), filepath.Join(dir, "bundle.json")
	check(t, os.WriteFile(file, []byte("a file"), 0o600))
	check(t, os.WriteFile(other, []byte("another"), 0o600))
	token := c.issuer.GitHub(map[string]any{"aud": "countersign"})
	wantCode(t, c.process, 0, "conformance", "sign-bundle", "--identity-token", token, "--bundle", bundle, "--trusted-root", c.root, "--signing-config", c.config, file)
	who := []string{"--certificate-identity", releaseWorkflow, "--certificate-oidc-issuer", c.issuer.URL}
	verify := append([]string{"conformance", "verify-bundle", "--bundle", bundle, "--trusted-root", c.root}, who...)
	wantCode(t, c.process, 0, append(verify, file)...)
	wantCode(t, c.process, 0, append(verify, attest.DigestOf([]byte("a file")).String())...)
	wantCode(t, c.process, 3, append(verify, other)...)
	for _, name := range []string{"cosign-v2-v2.6.5", "cosign-v3-v3.1.3"} {
		stock := newCosign(t, name)
		args := append([]string{"verify-blob", "--bundle", bundle, "--trusted-root", c.root, "--use-signed-timestamps"}, who...)
		if name == "cosign-v2-v2.6.5" {
			args = append(args, "--new-bundle-format")
		}
		stock.must(t, append(args, file)...)
		if out, err := stock.run(append(args, other)...); err == nil {
			t.Errorf("%s takes another file: %s", name, out)
		}
	}
	raw, err := os.ReadFile(bundle)
	check(t, err)
	var parts struct {
		MessageSignature struct {
			Signature string `json:"signature"`
		} `json:"messageSignature"`
	}
	check(t, json.Unmarshal(raw, &parts))
	if _, err := base64.StdEncoding.DecodeString(parts.MessageSignature.Signature); err != nil || parts.MessageSignature.Signature == "" {
		t.Errorf("no message signature in %s", raw)
	}
}
