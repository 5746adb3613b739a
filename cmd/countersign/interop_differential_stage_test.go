//go:build interop

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/server/api"
)

// stage is one service, one registry, and everybody who signs and verifies.
type stage struct {
	*ci
	stock map[string]cosign
	// folder holds public keys, key pairs, signing configurations and policies.
	folder string
	// acme and rival sign with notation, each with a test certificate of one
	// and the same name.
	acme, rival notation
	tester      string // empty when it is not there

	mu     sync.Mutex
	images map[string]string
}

func newStage(t *testing.T) *stage {
	s := &stage{
		ci: newCI(t), folder: t.TempDir(), images: map[string]string{},
		stock: map[string]cosign{cosignV2: newCosign(t, cosignV2), cosignV3: newCosign(t, cosignV3)},
		acme:  newNotation(t), rival: newNotation(t),
	}
	s.findTester(t)
	ctx := context.Background()
	keys := []string{"release", "other", "turned", "leaked"}
	for _, name := range keys[1:] {
		_, err := s.admin.CreateKey(ctx, api.KeyRequest{Name: name})
		check(t, err)
	}
	for name, grant := range map[string]api.GrantRequest{
		"keys":        {Issuer: "local", Subject: "admin", Keys: keys, Actions: []string{"sign", "attest"}},
		"keys-builds": {Issuer: "local", Subject: "admin", Keys: keys, Actions: []string{"attest"}, PredicateTypes: []string{"https://slsa.dev/provenance/*"}},
		"job-attest":  {Issuer: s.issuer.URL, Claims: map[string]string{"repository": "acme/app"}, Keys: []string{"identity"}, Actions: []string{"attest", "provenance"}},
	} {
		grant.Repositories = []string{s.registry.Host + "/**"}
		_, err := s.admin.PutGrant(ctx, name, grant, api.PutOptions{})
		check(t, err)
	}
	for _, name := range keys {
		s.publish(t, name, name)
	}
	for _, name := range []string{"team", "rival"} {
		s.stock[cosignV2].must(t, "generate-key-pair", "--output-key-prefix", s.file(name))
	}
	s.signingConfigs(t)
	for kind, document := range map[string]string{"vuln": stockScan, "dirty": strings.Replace(stockScan, `"critical":0`, `"critical":3`, 1)} {
		s.write(t, kind+".json", []byte(document))
	}
	s.write(t, "custom.json", samples(t)["custom"])
	s.write(t, "slsaprovenance1.json", samples(t)["slsaprovenance1"])
	s.write(t, "clean.cue", []byte("predicate: scanner: result: critical: 0\n"))
	for _, n := range []notation{s.acme, s.rival} {
		n.must("cert", "generate-test", "--default", "acme.test")
	}
	s.acme.must("cert", "generate-test", "acme.second")
	s.must("trust", "export", "--notation", s.file("notation"))
	return s
}

// findTester looks for policy-controller's tester, whose build takes minutes.
// Without it nothing is said of policy-controller, which is told aloud, and is
// an error where it was asked for.
func (s *stage) findTester(t *testing.T) {
	path := filepath.Join(os.Getenv("COUNTERSIGN_PEERS"), policyTester)
	if _, err := os.Stat(path); err == nil {
		s.tester = path
		return
	}
	const message = "NOT RUN: " + policyTester + " is not there (make peers-large): nothing is compared with policy-controller"
	if os.Getenv("CI") != "" && os.Getenv("COUNTERSIGN_DIFFERENTIAL") == "large" {
		t.Fatal(message)
	}
	fmt.Fprintln(os.Stderr, message)
	t.Log(message)
}

func (s *stage) file(name string) string { return filepath.Join(s.folder, name) }

func (s *stage) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	check(t, os.WriteFile(s.file(name), content, 0o600))
	return s.file(name)
}

func (s *stage) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(s.file(name))
	check(t, err)
	return string(content)
}

// publish writes the public half that a key has now.
func (s *stage) publish(t *testing.T, key, file string) {
	t.Helper()
	public, err := s.admin.PublicKey(context.Background(), key)
	check(t, err)
	s.write(t, file+".pub", public)
}

// signingConfigs are for stock signers: our log and timestamps, timestamps
// alone, nothing at all.
func (s *stage) signingConfigs(t *testing.T) {
	full, err := os.ReadFile(s.config)
	check(t, err)
	s.write(t, "logged.json", full)
	var document map[string]any
	check(t, json.Unmarshal(full, &document))
	delete(document, "rekorTlogUrls")
	delete(document, "rekorTlogConfig")
	stamped, err := json.Marshal(document)
	check(t, err)
	s.write(t, "stamped.json", stamped)
	s.stock[cosignV3].must(t, "signing-config", "create", "--out", s.file("plain.json"))
}

// build makes one state's image.
func (s *stage) build(t *testing.T, name string, state state) {
	repository := "d/" + strings.ToLower(name)
	shape := "image"
	if state.index {
		shape = "index"
	}
	image := s.registry.Image(repository, pushShape(t, s.registry, repository, shape))
	for _, deed := range state.deeds {
		deed(t, s, image)
	}
	if state.ask != nil {
		image = state.ask(t, s, image)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[name] = image
}

// afterwards is what befalls keys once everything was signed.
func (s *stage) afterwards(t *testing.T) {
	ctx := context.Background()
	_, err := s.admin.RotateKey(ctx, "turned", api.RotateRequest{})
	check(t, err)
	s.publish(t, "turned", "turned-new")
	s.build(t, lateState, state{deeds: []deed{ours("turned", "bundle", "legacy")}})
	_, err = s.admin.RevokeKey(ctx, "leaked", api.RevokeRequest{Reason: "leaked"})
	check(t, err)
	root, err := s.admin.TrustedRoot(ctx)
	check(t, err)
	check(t, os.WriteFile(s.root, root, 0o600))
}

// policyDocument is a question in our words.
func (s *stage) policyDocument(name, authorities, require string) []byte {
	return fmt.Appendf(nil, `
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: %s}
spec:
  match: {images: [%q]}
  mode: enforce
  authorities: {%s}
  require: %s
`, name, s.registry.Host+"/**", authorities, require)
}
