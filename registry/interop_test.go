//go:build interop

package registry_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/registry"
)

// stock runs the released cosign binaries, in a directory of their own with a
// key pair and empty trust files. COUNTERSIGN_PEERS names the directory that
// holds them; a run without it fails, for it would prove nothing.
type stock struct {
	t    *testing.T
	bin  string
	home string
}

const (
	cosign2 = "cosign-v2-v2.6.5"
	cosign3 = "cosign-v3-v3.1.3"
)

func newStock(t *testing.T) *stock {
	t.Helper()
	bin := os.Getenv("COUNTERSIGN_PEERS")
	if bin == "" {
		t.Fatal("COUNTERSIGN_PEERS is not set; run make interop")
	}
	s := &stock{t: t, bin: bin, home: t.TempDir()}
	s.must(cosign2, "generate-key-pair")
	s.must(cosign3, "signing-config", "create", "--out", "sc.json")
	s.must(cosign3, "trusted-root", "create", "--out", "tr.json")
	return s
}

func (s *stock) run(version string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.bin, version), args...)
	cmd.Dir = s.home
	cmd.Env = []string{"HOME=" + s.home, "PATH=/nowhere", "COSIGN_PASSWORD="}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *stock) must(version string, args ...string) string {
	s.t.Helper()
	out, err := s.run(version, args...)
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", version, args, err, out)
	}
	return out
}

func (s *stock) sign(version, image string) {
	s.t.Helper()
	args := []string{"sign", "--yes", "--key", "cosign.key", "--allow-http-registry"}
	if version == cosign2 {
		args = append(args, "--tlog-upload=false")
	} else {
		args = append(args, "--signing-config", "sc.json", "--trusted-root", "tr.json")
	}
	s.must(version, append(args, image)...)
}

func (s *stock) verify(version, image string) {
	s.t.Helper()
	s.must(version, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", "--trusted-root", "tr.json", "--allow-http-registry", image)
}

// copies pushes the same image to several repositories, so that one signature
// is good in all of them.
func copies(t *testing.T, host string, c *registry.Client, repositories ...string) []registry.Manifest {
	t.Helper()
	var out []registry.Manifest
	image := manifestJSON("one image")
	for _, r := range repositories {
		pushBlob(t, host, r, []byte("{}"))
		pushManifest(t, host, r, "v1", ociManifest, image)
		m, err := c.Resolve(t.Context(), parse(t, host+"/"+r+":v1"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// What stock cosign wrote is found; attached by us elsewhere, stock cosign
// finds and verifies it: both formats, both versions, both kinds of registry.
func TestInteropStockCosign(t *testing.T) {
	s := newStock(t)
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		s := &stock{t: t, bin: s.bin, home: s.home}
		c := client(rules(plainRule(host)))
		pinned := func(m registry.Manifest) string { return m.Reference.Pinned(m.Digest) }
		images := copies(t, host, c, "theirs/bundle", "theirs/legacy", "ours/bundle", "ours/legacy", "ours/both")
		s.sign(cosign3, pinned(images[0]))
		s.sign(cosign2, pinned(images[1]))
		bundle, legacy := only(t, c, images[0], registry.FormatBundle), only(t, c, images[1], registry.FormatLegacy)
		for _, i := range []int{2, 4} {
			b := registry.BundleAttachment{Bundle: bundle.Bundle, PredicateType: "https://sigstore.dev/cosign/sign/v1", Created: created}
			if _, err := c.AttachBundle(t.Context(), images[i], b); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []int{3, 4} {
			if _, err := c.AttachLegacy(t.Context(), images[i].Reference, legacy.Legacy.Payload, legacy.Legacy.Annotations); err != nil {
				t.Fatal(err)
			}
		}
		for _, version := range []string{cosign2, cosign3} {
			for _, m := range images {
				s.verify(version, pinned(m))
			}
			if out := s.must(version, "tree", "--allow-http-registry", pinned(images[4])); !strings.Contains(out, ".sig") {
				t.Errorf("%s tree:\n%s", version, out)
			}
		}
		if out := s.must(cosign2, "download", "signature", "--allow-http-registry", pinned(images[3])); !strings.Contains(out, legacy.Legacy.Annotations[signatureKey]) {
			t.Errorf("download signature:\n%s", out)
		}
		if out, err := s.run(cosign3, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry",
			pinned(copies(t, host, c, "unsigned")[0])); err == nil { // control
			t.Errorf("unsigned image verified:\n%s", out)
		}
		appendToTheirs(t, s, c, images)
	})
}

func only(t *testing.T, c *registry.Client, m registry.Manifest, format string) registry.Attachment {
	t.Helper()
	found, err := c.Attachments(t.Context(), m.Reference)
	if err != nil || len(found.Attachments) != 1 || found.Attachments[0].Format != format || found.Truncated || len(found.Problems) > 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	return found.Attachments[0]
}

// Appending goes both ways: ours behind theirs, theirs behind ours, and all
// stay.
func appendToTheirs(t *testing.T, s *stock, c *registry.Client, images []registry.Manifest) {
	t.Helper()
	theirs, ours := images[1], images[3]
	if _, err := c.AttachLegacy(t.Context(), theirs.Reference, []byte("payload"), map[string]string{signatureKey: "YQ=="}); err != nil {
		t.Fatal(err)
	}
	other := &stock{t: t, bin: s.bin, home: t.TempDir()}
	other.must(cosign2, "generate-key-pair")
	other.sign(cosign2, ours.Reference.Pinned(ours.Digest))
	for _, m := range []registry.Manifest{theirs, ours} {
		found, err := c.Attachments(t.Context(), m.Reference)
		if err != nil || len(found.Attachments) != 2 {
			t.Errorf("%+v, %v", found, err)
		}
		for _, version := range []string{cosign2, cosign3} {
			s.verify(version, m.Reference.Pinned(m.Digest))
		}
	}
	if ours.Digest != attest.DigestOf(ours.Raw) {
		t.Error("the image changed")
	}
}
