package predicate_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
)

// The names are those of cosign's options.PredicateTypeMap (v2.6.5 and v3.1.3
// have the same), then ours.
func TestParseType(t *testing.T) {
	for name, want := range map[string]string{
		"custom":           "https://cosign.sigstore.dev/attestation/v1",
		"slsaprovenance":   "https://slsa.dev/provenance/v0.2",
		"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
		"slsaprovenance1":  "https://slsa.dev/provenance/v1",
		"spdx":             "https://spdx.dev/Document",
		"spdxjson":         "https://spdx.dev/Document",
		"cyclonedx":        "https://cyclonedx.org/bom",
		"link":             "https://in-toto.io/Link/v1",
		"vuln":             "https://cosign.sigstore.dev/attestation/vuln/v1",
		"openvex":          "https://openvex.dev/ns",
		"link03":           "https://in-toto.io/attestation/link/v0.3",
		"vsa":              "https://slsa.dev/verification_summary/v1",
		"vulns01":          "https://in-toto.io/attestation/vulns/v0.1",
		"vulns02":          "https://in-toto.io/attestation/vulns/v0.2",
		"test-result":      "https://in-toto.io/attestation/test-result/v0.1",
		"scai":             "https://in-toto.io/attestation/scai/v0.3",
		"release":          "https://in-toto.io/attestation/release/v0.2",
		"reference":        "https://in-toto.io/attestation/reference/v0.1",
		"runtime-trace":    "https://in-toto.io/attestation/runtime-trace/v0.1",
		"svr":              "https://in-toto.io/attestation/svr/v0.2",

		"https://example.com/ours/v1":              "https://example.com/ours/v1",
		"https://slsa.dev/provenance/v1.0?draft":   "https://slsa.dev/provenance/v1.0?draft",
		"urn:example:a":                            "urn:example:a",
		"chainloop.dev/attestation/v0.2":           "chainloop.dev/attestation/v0.2",
		"https://example.com/Case/Is/Kept#and%20a": "https://example.com/Case/Is/Kept#and%20a",
	} {
		if got, err := predicate.ParseType(name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := len(predicate.Names()); n != 20 {
		t.Errorf("%d names; the table above has 20", n)
	}
}

func TestParseTypeRefuses(t *testing.T) {
	for _, s := range []string{
		"", "SLSAProvenance", "slsa", "/a/b", "//host/path", "slsa.dev/provenance/v1", "chainloop.dev/attestation/v0.3",
		"https://", "https:", "HTTPS://slsa.dev/provenance/v1", "https://SLSA.dev/provenance/v1",
		"https://slsa.dev/provenance/v1 ", " https://slsa.dev/provenance/v1", "https://a/\n", "https://a/b c", "https://a/é", "https://a/%zz", "https://a/<b>",
		"https://a/" + strings.Repeat("x", limits.PredicateType),
	} {
		if got, err := predicate.ParseType(s); !errors.Is(err, predicate.ErrType) || got != "" {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	for uri, want := range map[string]string{
		"https://slsa.dev/provenance/v1.0":        predicate.SLSAProvenanceV1,
		"https://slsa.dev/provenance/v1.0?draft":  predicate.SLSAProvenanceV1,
		"https://cyclonedx.org/schema":            predicate.CycloneDX,
		"cosign.sigstore.dev/attestation/v1":      predicate.CosignCustom,
		"cosign.sigstore.dev/attestation/vuln/v1": predicate.CosignVuln,
	} {
		if got := predicate.Canonical(uri); got != want {
			t.Errorf("%s: %s", uri, got)
		}
		if got, err := predicate.ParseType(uri); err != nil || got != uri {
			t.Errorf("%s: %s, %v", uri, got, err)
		}
	}
	// What must stay apart: versions, and near spellings that nobody writes.
	apart := []string{
		predicate.SLSAProvenanceV01, predicate.SLSAProvenanceV02, predicate.SLSAProvenanceV1, "https://slsa.dev/provenance/v1.1",
		"https://slsa.dev/provenance/v1/", "http://slsa.dev/provenance/v1", "https://slsa.dev/provenance/V1", "https://slsa.dev/provenance/v1?draft",
		predicate.VSAV02, predicate.VSAV1, predicate.LinkV03, predicate.CosignLink, predicate.SPDX, predicate.SPDXV23, predicate.SPDXV3,
		predicate.CycloneDX, predicate.CycloneDXV14, predicate.CosignVuln, predicate.VulnsV01, predicate.VulnsV02,
		predicate.OpenVEX, predicate.OpenVEXV02, predicate.SCAI, predicate.SCAIV02, predicate.ReleaseV01, predicate.ReleaseV02,
		predicate.SVRV01, predicate.SVRV02, predicate.CosignCustom, predicate.Chainloop, "", "custom",
	}
	seen := map[string]string{}
	for _, uri := range apart {
		got := predicate.Canonical(uri)
		if other, dup := seen[got]; dup || got != uri {
			t.Errorf("%q is %q, as is %q", uri, got, other)
		}
		seen[got] = uri
	}
}

// The page on attestations has each name with its type in one row, and each
// spelling with what it is taken for.
func TestTypesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/attestations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := func(a, b string) bool {
		for line := range strings.Lines(string(page)) {
			if strings.Contains(line, "`"+a+"`") && strings.Contains(line, "`"+b+"`") {
				return true
			}
		}
		return false
	}
	for _, name := range predicate.Names() {
		uri, err := predicate.ParseType(name)
		if err != nil || !documented(name, uri) {
			t.Errorf("%s: no row with %s, %v", name, uri, err)
		}
	}
	for _, uris := range documents() {
		for _, uri := range uris {
			if means := predicate.Canonical(uri); means != uri && !documented(uri, means) {
				t.Errorf("%s: no row with %s", uri, means)
			}
		}
	}
}
