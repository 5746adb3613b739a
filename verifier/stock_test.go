package verifier_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// stockVector is what a stock cosign binary attached to an image, with a test
// key and without a log: `sign --key K --tlog-upload=false` (v2.6.5; for
// bundles with --new-bundle-format) and `sign --key K --signing-config EMPTY
// --trusted-root EMPTY` (v3.1.3).
type stockVector struct {
	MadeBy      string            `json:"madeBy"`
	Format      string            `json:"format"`
	PublicKey   string            `json:"publicKey"`
	Manifest    string            `json:"manifest"`
	Payload     string            `json:"payload"`
	Annotations map[string]string `json:"annotations"`
	Bundle      string            `json:"bundle"`
}

func (v stockVector) attachment() registry.Attachment {
	if v.Format == "legacy" {
		return registry.Attachment{
			Format: registry.FormatLegacy,
			Legacy: &registry.Legacy{Payload: []byte(v.Payload), Annotations: v.Annotations},
		}
	}
	return registry.Attachment{Format: registry.FormatBundle, Bundle: []byte(v.Bundle)}
}

func (v stockVector) policy(rule string) string {
	return fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["registry.example.com/**"]}
  authorities: {partner: {key: {pem: %q}%s}}
  require: {signature: {by: partner}}
`, v.PublicKey, rule)
}

// What stock cosign signed with a plain key pair passes under that key, and
// under nothing else.
func TestStockCosign(t *testing.T) {
	files, err := filepath.Glob("testdata/stock/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var v stockVector
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			digest := w.registry.serve([]byte(v.Manifest))
			image := repository + "@" + digest.String()
			w.registry.attach(digest, v.attachment())
			other, otherImage := w.image("other")
			w.registry.attach(other, v.attachment())

			w.policies.put(t, v.policy(""))
			r := w.wantPassed(image)
			if e := r.Policies[0].Requirements[0].Evidence; len(e) != 1 || e[0].Format != v.Format || e[0].SignedAt != "" || e[0].LogIndex != nil {
				t.Errorf("evidence %+v", e)
			}
			w.wantFailed(otherImage, policy.SubjectMismatch)
			w.policies.put(t, v.policy(", log: required"))
			w.wantFailed(image, policy.LogEntryMissing)
			w.policies.put(t, pemPolicy(t, testauthority.NewECDSA(t), ""))
			w.wantFailed(image, policy.UntrustedKey)
			w.policies.put(t, releasePolicy)
			w.wantFailed(image, policy.UntrustedKey)
		})
	}
}

// E7: a key verifies only in its own algorithm; RSA and ECDSA vectors under
// each other's key fail.
func TestE7KeyConfusion(t *testing.T) {
	read := func(name string) (v stockVector) {
		raw, err := os.ReadFile("testdata/stock/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	names := []string{"cosign-v3.1.3-p256", "cosign-v3.1.3-p384", "cosign-v3.1.3-rsa", "cosign-v2.6.5-ed25519"}
	for _, format := range []string{"-bundle", "-legacy"} {
		for _, signed := range names {
			for _, trusted := range names {
				v, key := read(signed+format), read(trusted+format)
				v.PublicKey = key.PublicKey
				w := newWorld(t)
				digest := w.registry.serve([]byte(v.Manifest))
				w.registry.attach(digest, v.attachment())
				w.policies.put(t, v.policy(""))
				image := repository + "@" + attest.DigestOf([]byte(v.Manifest)).String()
				if signed == trusted {
					w.wantPassed(image)
				} else {
					w.wantFailed(image, policy.UntrustedKey)
				}
			}
		}
	}
}
