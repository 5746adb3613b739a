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

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// samples are a predicate of each type that stock cosign has a name for, and of
// one that it has not, by the name that cosign takes.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{
		"custom":                        []byte(`{"Data":"reviewed","Timestamp":"2026-11-25T00:00:00Z"}`),
		"https://example.com/review/v1": []byte("{ \"by\": null, \"score\": 1.0 }"),
	}
	for name, file := range map[string]string{
		"slsaprovenance02": "slsaprovenance02", "slsaprovenance1": "slsaprovenance1", "spdxjson": "spdx-2.3",
		"cyclonedx": "cyclonedx-1.6", "vuln": "vuln", "openvex": "openvex", "link": "link",
	} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "attest", "predicate", "testdata", file+".json"))
		check(t, err)
		out[name] = raw
	}
	return out
}

// attestArgs are without a flag that weakens or forces anything.
func attestArgs(kind, image string, who ...string) []string {
	args := []string{"verify-attestation", "--type", kind, "--allow-http-registry"}
	return append(append(args, who...), image)
}

// mustAttest wants both stock versions to accept the attestation as its type by
// its signer, and to refuse it as another type and by another signer. Their
// trust is what trusted gives them.
func mustAttest(t *testing.T, trusted func(cosign), kind, image string, who, other []string) {
	t.Helper()
	strange := "https://example.com/strange/v1"
	for _, name := range []string{cosignV2, cosignV3} {
		c := newCosign(t, name)
		trusted(c)
		c.must(t, attestArgs(kind, image, who...)...)
		if out, err := c.run(attestArgs(strange, image, who...)...); err == nil {
			t.Errorf("%s accepted another type:\n%s", name, out)
		}
		if out, err := c.run(attestArgs(kind, image, other...)...); err == nil {
			t.Errorf("%s accepted another signer:\n%s", name, out)
		}
	}
}

// TestInteropCosignVerifiesOurAttestations: stock cosign, offline, accepts each
// predicate type that we attest with a managed key, as a bundle and under the
// .att tag, in both kinds of registry.
func TestInteropCosignVerifiesOurAttestations(t *testing.T) {
	ctx := context.Background()
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		_, err := p.admin.CreateKey(ctx, api.KeyRequest{Name: "other"})
		check(t, err)
		p.mayAttest(registry)
		keyPath, rootPath := publicMaterial(t, p, "release")
		otherPath, _ := publicMaterial(t, p, "other")
		for name, document := range samples(t) {
			for _, format := range []string{"bundle", "legacy"} {
				t.Run(strings.Join([]string{kind, format, strings.ReplaceAll(name, "/", "_")}, "/"), func(t *testing.T) {
					image := registry.Image("ours/"+format, pushShape(t, registry, "ours/"+format, "image"))
					_, _, err := p.admin.Attest(ctx, api.AttestationRequest{
						Image: image, Key: "release", PredicateType: name, Predicate: document, Formats: []string{format},
					}, api.SignOptions{})
					check(t, err)
					by := func(key string) []string { return []string{"--key", key, "--trusted-root", rootPath} }
					mustAttest(t, func(cosign) {}, name, image, by(keyPath), by(otherPath))
				})
			}
		}
		p.kill()
	}
}

// mayAttest lets the administrator attest with the key release: every type, and
// by name those in which a builder speaks.
func (p *process) mayAttest(registry *localregistry.Registry) {
	p.t.Helper()
	for name, types := range map[string][]string{"attest": nil, "attest-builds": {"https://slsa.dev/provenance/*"}} {
		_, err := p.admin.PutGrant(context.Background(), name, api.GrantRequest{
			Issuer: "local", Subject: "admin", Keys: []string{"release"}, Actions: []string{"attest"},
			Repositories: []string{registry.Host + "/**"}, PredicateTypes: types,
		}, api.PutOptions{})
		check(p.t, err)
	}
}

// TestInteropIdentityAttest: a build attests with its workflow token alone, a
// predicate of its own and provenance from the token; stock cosign accepts both
// for that workflow, as bundles and under the .att tag. Its trust is our TUF
// mirror: v2 takes no trusted root from a file for legacy attestations of
// certificates. The legacy form needs no flag: the log's promise dates the
// certificate.
func TestInteropIdentityAttest(t *testing.T) {
	ctx := context.Background()
	c := newCI(t)
	_, err := c.admin.PutGrant(ctx, "ci-attest", api.GrantRequest{
		Issuer: c.issuer.URL, Claims: map[string]string{"repository": "acme/app"}, Keys: []string{"identity"},
		Actions: []string{"attest", "provenance"}, Repositories: []string{c.registry.Host + "/**"},
	}, api.PutOptions{})
	check(t, err)
	mirror := func(stock cosign) { stock.initialize(t, c.process, download(t, c.url+"/tuf/root.json")) }
	identity := func(subject string, more ...string) []string {
		return append([]string{"--certificate-identity", subject, "--certificate-oidc-issuer", c.issuer.URL}, more...)
	}
	for _, format := range []string{"bundle", "legacy"} {
		// Bundles of certificates: cosign v2 takes the timestamp only when asked
		// to, as with signatures. Legacy: also when it is asked to.
		for _, more := range map[string][][]string{"bundle": {{"--use-signed-timestamps"}}, "legacy": {nil, {"--use-signed-timestamps"}}}[format] {
			image := c.registry.Image("app", pushShape(t, c.registry, "app", "image"))
			_, _, err := c.job(t, nil).Attest(ctx, api.AttestationRequest{
				Image: image, PredicateType: "openvex", Predicate: samples(t)["openvex"], Formats: []string{format},
			}, api.SignOptions{})
			check(t, err)
			mustAttest(t, mirror, "openvex", image, identity(releaseWorkflow, more...), identity(releaseWorkflow+"x", more...))
			built := c.registry.Image("app", pushShape(t, c.registry, "app", "image"))
			a, _, err := c.job(t, nil).Provenance(ctx, api.ProvenanceRequest{Image: built, Formats: []string{format}}, api.SignOptions{})
			check(t, err)
			if a.PredicateType != predicate.SLSAProvenanceV1 || a.SLSA == nil {
				t.Errorf("%+v", a)
			}
			mustAttest(t, mirror, "slsaprovenance1", built, identity(releaseWorkflow, more...), identity(releaseWorkflow+"x", more...))
		}
	}
}

// TestInteropManyAttestations: a hundred attestations of one digest at the same
// time, in both formats, are all there afterwards, also in the stock registry
// without the referrers API: stock cosign downloads every one.
func TestInteropManyAttestations(t *testing.T) {
	const n = 100
	ctx := context.Background()
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		p.mayAttest(registry)
		image := registry.Image("many", pushShape(t, registry, "many", "image"))
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, _, err := p.admin.Attest(ctx, api.AttestationRequest{
					Image: image, Key: "release", PredicateType: "https://example.com/n/v1",
					Predicate: fmt.Appendf(nil, `{"n":%d}`, i), Formats: []string{"bundle", "legacy"},
				}, api.SignOptions{})
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			})
		}
		wg.Wait()
		envelopes, err := newCosign(t, cosignV2).run("download", "attestation", "--allow-http-registry", image)
		check(t, err)
		if got := strings.Count(envelopes, `"payloadType"`); got != 2*n {
			t.Errorf("%s: cosign downloads %d attestations, want %d in two formats", kind, got, n)
		}
		p.kill()
	}
}
