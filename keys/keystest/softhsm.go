package keystest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/keys"
)

// SoftHSM is a fresh token of SoftHSM, made with its own and OpenSC's tools.
type SoftHSM struct {
	// Library is the PKCS #11 module, PIN the user's PIN, which PINFile holds.
	Library, PIN, PINFile string

	t    *testing.T
	made int
}

// StartSoftHSM initialises a token labelled prod and points this process and its
// children at it. Without the packages it skips, in CI it fails.
func StartSoftHSM(t *testing.T) *SoftHSM {
	t.Helper()
	dir := t.TempDir()
	// The PIN is long enough to be found if it ever appears where it must not.
	h := &SoftHSM{t: t, Library: softHSMLibrary(t), PIN: "9173-2846-5501", PINFile: filepath.Join(t.TempDir(), "pin")}
	config := filepath.Join(dir, "softhsm2.conf")
	h.write(config, "directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	h.write(h.PINFile, h.PIN+"\n")
	t.Setenv("SOFTHSM2_CONF", config)
	h.run("softhsm2-util", "--init-token", "--free", "--label", "prod", "--pin", h.PIN, "--so-pin", "00000000")
	return h
}

func softHSMLibrary(t *testing.T) string {
	t.Helper()
	_, util := exec.LookPath("softhsm2-util")
	_, tool := exec.LookPath("pkcs11-tool")
	found, err := filepath.Glob("/usr/lib/*/softhsm/libsofthsm2.so")
	if err == nil && util == nil && tool == nil && len(found) > 0 {
		return found[0]
	}
	if os.Getenv("CI") != "" {
		t.Fatal("SoftHSM or OpenSC is missing (packages softhsm2 and opensc)")
	}
	t.Skip("needs SoftHSM and OpenSC (packages softhsm2 and opensc)")
	return ""
}

// Ref is the reference of an object of the token.
func (h *SoftHSM) Ref(object string) string {
	return fmt.Sprintf("pkcs11:token=prod;object=%s?module-path=%s&pin-source=file:%s", object, h.Library, h.PINFile)
}

// Generate makes a key pair; an algorithm that is none of ours is a P-521.
func (h *SoftHSM) Generate(object string, a keys.Algorithm) {
	h.t.Helper()
	kind, ok := map[keys.Algorithm]string{
		keys.ECDSAP256: "EC:prime256v1", keys.ECDSAP384: "EC:secp384r1", keys.RSA3072: "rsa:3072",
	}[a]
	if !ok {
		kind = "EC:secp521r1"
	}
	h.made++
	h.tool("--keypairgen", "--key-type", kind, "--label", object, "--id", fmt.Sprintf("%04x", h.made))
}

// Remove deletes a key pair.
func (h *SoftHSM) Remove(object string) {
	h.t.Helper()
	for _, kind := range []string{"privkey", "pubkey"} {
		h.tool("--delete-object", "--type", kind, "--label", object)
	}
}

func (h *SoftHSM) tool(args ...string) {
	h.t.Helper()
	h.run("pkcs11-tool", append([]string{"--module", h.Library, "--token-label", "prod", "--login", "--pin", h.PIN}, args...)...)
}

func (h *SoftHSM) run(name string, args ...string) {
	h.t.Helper()
	out, err := exec.CommandContext(h.t.Context(), name, args...).CombinedOutput() //nolint:gosec // the two tools of this file
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (h *SoftHSM) write(path, content string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}
