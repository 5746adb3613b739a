//go:build interop

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// sbomSize is about that of the bill of materials of a large image.
const sbomSize = 5 << 20

// BenchmarkAttest: attestations per second, of a small predicate and of a bill
// of materials of 5 MB, beside stock cosign v3 with the same registry, log and
// timestamp authority, and the most memory that the service took for it.
func BenchmarkAttest(b *testing.B) {
	registry, p := benchService(b, nil)
	p.mayAttest(registry)
	ctx := context.Background()
	stock := cosignWriter(b, p)
	for _, kind := range []struct {
		name     string
		document []byte
		loads    map[int]int // callers at once to calls
	}{
		{"small", []byte(`{"Data":"reviewed","Timestamp":"2026-11-25T00:00:00Z"}`), map[int]int{1: 40, 20: 400}},
		{"sbom-5MB", bill(sbomSize), map[int]int{1: 20, 4: 40}},
	} {
		predicateType := map[string]string{"small": "custom", "sbom-5MB": "spdxjson"}[kind.name]
		for parallel, calls := range kind.loads {
			b.Run(fmt.Sprintf("countersign-%s-%d-at-once", kind.name, parallel), func(b *testing.B) {
				images := pushMany(b, registry, fmt.Sprintf("bench/%s%d", strings.ToLower(kind.name), parallel), calls)
				p.forgetPeak(b)
				report(b, concurrently(b, images, parallel, func(image string) error {
					_, _, err := p.admin.Attest(ctx, api.AttestationRequest{
						Image: image, Key: "release", PredicateType: predicateType, Predicate: kind.document,
					}, api.SignOptions{})
					return err
				}))
				b.ReportMetric(p.peak(b), "peak-MiB")
			})
		}
		file := filepath.Join(stock.home, kind.name+".json")
		check(b, os.WriteFile(file, kind.document, 0o600))
		b.Run("cosign-v3.1.3-"+kind.name+"-1-at-once", func(b *testing.B) {
			images := pushMany(b, registry, "bench/theirs-"+strings.ToLower(kind.name), cosignCalls)
			report(b, concurrently(b, images, 1, func(image string) error {
				out, err := stock.run("attest", "--yes", "--key", "cosign.key", "--signing-config", stock.config, "--trusted-root", stock.root,
					"--type", predicateType, "--predicate", file, "--allow-http-registry", image)
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}))
		})
	}
}

// BenchmarkAttestPolicy: verdicts per second over a bill of materials of 5 MB
// under a condition on each of its packages. Every question has a context of its
// own, so none is answered from memory. Beside it: cosign with the same rule as
// a Rego policy.
func BenchmarkAttestPolicy(b *testing.B) {
	registry, p := benchService(b, nil)
	p.mayAttest(registry)
	ctx := context.Background()
	image := pushMany(b, registry, "bench/policy", 1)[0]
	_, _, err := p.admin.Attest(ctx, api.AttestationRequest{
		Image: image, Key: "release", PredicateType: "spdxjson", Predicate: bill(sbomSize),
	}, api.SignOptions{})
	check(b, err)
	p.requiring(registry, "managed", "{key: {name: release}}",
		`{attestation: {predicateType: spdxjson, by: signer, condition: "predicate.packages.all(p, p.licenseConcluded != 'AGPL-3.0-only')"}}`)
	var question atomic.Int64
	ask := func(image string) error {
		answer, err := p.admin.Verify(ctx, api.VerifyRequest{
			Images: []string{image}, Context: map[string]string{"question": strconv.FormatInt(question.Add(1), 10)},
		})
		if err == nil && answer.Verdict != policy.Passed {
			err = fmt.Errorf("verdict %s", answer.Verdict)
		}
		return err
	}
	for _, parallel := range []int{1, runtime.NumCPU(), 8} {
		b.Run(fmt.Sprintf("countersign-%d-at-once", parallel), func(b *testing.B) {
			p.forgetPeak(b)
			images := make([]string, 10+10*parallel)
			for i := range images {
				images[i] = image
			}
			report(b, concurrently(b, images, parallel, ask))
			b.ReportMetric(p.peak(b), "peak-MiB")
		})
	}
	keyPath, rootPath := publicMaterial(b, p, "release")
	rule := filepath.Join(filepath.Dir(rootPath), "rule.rego")
	check(b, os.WriteFile(rule, []byte(`package signature
default allow = false
banned { input.predicate.packages[_].licenseConcluded == "AGPL-3.0-only" }
allow { not banned }
`), 0o600))
	for _, name := range []string{cosignV2, cosignV3} {
		b.Run(name, func(b *testing.B) {
			c := newCosign(b, name)
			images := make([]string, cosignCalls)
			for i := range images {
				images[i] = image
			}
			report(b, concurrently(b, images, 1, func(image string) error {
				out, err := c.run("verify-attestation", "--type", "spdxjson", "--policy", rule, "--key", keyPath,
					"--trusted-root", rootPath, "--allow-http-registry", "--output-file", os.DevNull, image)
				if err != nil {
					return fmt.Errorf("%w: %.2000s", err, out)
				}
				return nil
			}))
		})
	}
}

// bill is an SPDX document of about that many bytes.
func bill(size int) []byte {
	var out strings.Builder
	out.WriteString(`{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app",` +
		`"documentNamespace":"https://example.com/app","creationInfo":{"created":"2026-11-25T00:00:00Z","creators":["Tool: bench"]},"packages":[`)
	for i := 0; out.Len() < size; i++ {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, `{"name":"package-%d","SPDXID":"SPDXRef-Package-%d","versionInfo":"1.%d.0","downloadLocation":"NOASSERTION",`+
			`"filesAnalyzed":false,"licenseConcluded":"Apache-2.0","licenseDeclared":"Apache-2.0","copyrightText":"NOASSERTION",`+
			`"externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:generic/package-%d@1.%d.0"}]}`, i, i, i, i, i)
	}
	out.WriteString("]}")
	return []byte(out.String())
}
