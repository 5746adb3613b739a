//go:build interop

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/countersign/countersign/server/api"
)

// BenchmarkIdentitySign: a build's signature with its workflow token (a new
// key, a certificate with a logged certificate timestamp, a logged signature, a
// timestamp), beside stock cosign v3 doing the same against the same process.
func BenchmarkIdentitySign(b *testing.B) {
	c := newCI(b)
	ctx := context.Background()
	for _, parallel := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("countersign-%d-at-once", parallel), func(b *testing.B) {
			images := pushMany(b, c.registry, fmt.Sprintf("bench/identity%d", parallel), 2*cosignCalls+2*parallel)
			job := c.job(b, nil)
			report(b, concurrently(b, images, parallel, func(image string) error {
				_, _, err := job.Sign(ctx, api.SignatureRequest{Image: image, Key: "identity"}, api.SignOptions{})
				return err
			}))
		})
	}
	stock := newCosign(b, cosignV3)
	token := c.issuer.GitHub(map[string]any{"aud": "sigstore"})
	b.Run("cosign-v3.1.3-1-at-once", func(b *testing.B) {
		images := pushMany(b, c.registry, "bench/identity-stock", cosignCalls)
		report(b, concurrently(b, images, 1, func(image string) error {
			out, err := stock.run("sign", "--yes", "--allow-http-registry", "--signing-config", c.config,
				"--trusted-root", c.root, "--identity-token", token, image)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}))
	})
}
