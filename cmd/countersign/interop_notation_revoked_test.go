//go:build interop

package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
)

// TestInteropNotationRevoked: of a certificate whose authority publishes a list
// or answers OCSP, stock notation and this service say the same, before and
// after it is revoked.
func TestInteropNotationRevoked(t *testing.T) {
	ca := testauthority.NewNotaryCA(t, "acme CA")
	authority := ca.Revoker()
	for kind, registry := range registries(t) {
		for name, points := range map[string]func(*x509.Certificate){
			"list":      func(c *x509.Certificate) { c.CRLDistributionPoints = []string{authority.URL + "/crl"} },
			"responder": func(c *x509.Certificate) { c.OCSPServer = []string{authority.URL + "/ocsp"} },
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				// Verdicts are not remembered, and neither are answers beyond a start.
				args := []string{"--verify-passed-ttl", "0s", "--verify-failed-ttl", "0s", "--verify-revocation-hosts", "127.0.0.1"}
				p := newProcess(t, args...)
				p.start()
				p.trustAll(registry, "release")
				n := newNotation(t)
				leaf := n.holder(t, ca, points)
				repository := "revoked/" + name
				image := registry.Image(repository, pushShape(t, registry, repository, "image"))
				n.must("sign", "--insecure-registry", "--key", "acme", image)
				p.policy(registry, "managed", fmt.Sprintf("{x509: {roots: %q, subjects: [%q]}}", testauthority.CertificatePEM(ca.Root), "C=US, ST=WA, O=acme"))

				n.must("verify", "--insecure-registry", image)
				if r := p.verdict(image); r.Verdict != policy.Passed {
					t.Fatalf("before: %s", mustJSON(t, r))
				}
				authority.Revoke(leaf)
				check(t, os.RemoveAll(filepath.Join(n.home, ".cache"))) // where notation keeps lists
				n.refuses("verify", "--insecure-registry", image)
				p.kill()
				p.start()
				if r := p.verdict(image); r.Verdict != policy.Failed || r.Reasons[0].Code != policy.CertificateRevoked {
					t.Errorf("after: %s", mustJSON(t, r))
				}
			})
		}
	}
}

// holder gives notation a key with a certificate of the authority, which it also
// trusts.
func (n notation) holder(t *testing.T, ca *testauthority.NotaryCA, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key := testauthority.NewECDSA(t)
	chain := ca.Issue(key.Public(), change)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	var certificates []byte
	for _, c := range chain {
		certificates = append(certificates, testauthority.CertificatePEM(c)...)
	}
	keyPath, chainPath := filepath.Join(n.conf, "acme.key"), filepath.Join(n.conf, "acme.pem")
	settings, err := json.Marshal(map[string]any{"keys": []map[string]string{{"name": "acme", "keyPath": keyPath, "certPath": chainPath}}})
	check(t, err)
	rules, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []map[string]any{{
		"name": "all", "registryScopes": []string{"*"}, "signatureVerification": map[string]string{"level": "strict"},
		"trustStores": []string{"ca:acme"}, "trustedIdentities": []string{"*"},
	}}})
	check(t, err)
	store := filepath.Join(n.conf, "truststore", "x509", "ca", "acme")
	check(t, os.MkdirAll(store, 0o700))
	for path, content := range map[string][]byte{
		keyPath:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		chainPath: certificates,
		filepath.Join(n.conf, "signingkeys.json"): settings,
		filepath.Join(n.conf, "trustpolicy.json"): rules,
		filepath.Join(store, "root.pem"):          testauthority.CertificatePEM(ca.Root),
	} {
		check(t, os.WriteFile(path, content, 0o600))
	}
	return chain[0]
}
