//go:build interop

package main

import (
	"context"
	"testing"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/server/api"
)

// TestInteropCosignVerifiesOurSummaries: a verification summary that the service
// signed and attached is, for stock cosign offline, an attestation by the
// service's own key, in both kinds of registry; and no attestation by the key
// that signed the image.
func TestInteropCosignVerifiesOurSummaries(t *testing.T) {
	ctx := context.Background()
	for kind, registry := range registries(t) {
		p := newProcess(t)
		p.start()
		p.trustAll(registry, "release")
		keyPath, rootPath := publicMaterial(t, p, "countersign-vsa")
		otherPath, _ := publicMaterial(t, p, "release")
		t.Run(kind, func(t *testing.T) {
			image := registry.Image("ours/vsa", pushShape(t, registry, "ours/vsa", "image"))
			_, _, err := p.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
			check(t, err)
			answer, err := p.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}, VSA: true, VSAAttach: true})
			check(t, err)
			if vsa := answer.Results[0].VSA; vsa == nil || vsa.Referrer == "" {
				t.Fatalf("no summary: %+v", answer.Results[0])
			}
			by := func(key string) []string { return []string{"--key", key, "--trusted-root", rootPath} }
			mustAttest(t, func(cosign) {}, predicate.VSAV1, image, by(keyPath), by(otherPath))
		})
		p.kill()
	}
}
