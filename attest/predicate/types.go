package predicate

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// The predicate types that are known here.
const (
	// SLSA provenance (slsa.dev/provenance); each version has its own fields.
	SLSAProvenanceV01 = "https://slsa.dev/provenance/v0.1"
	SLSAProvenanceV02 = "https://slsa.dev/provenance/v0.2"
	SLSAProvenanceV1  = "https://slsa.dev/provenance/v1"
	// SLSA verification summaries (slsa.dev/verification_summary).
	VSAV02 = "https://slsa.dev/verification_summary/v0.2"
	VSAV1  = "https://slsa.dev/verification_summary/v1"
	// in-toto links; CosignLink is deprecated and what cosign still writes.
	LinkV03    = "https://in-toto.io/attestation/link/v0.3"
	CosignLink = "https://in-toto.io/Link/v1"
	// SPDX documents: of any version, of 2.3, and of 3.
	SPDX    = "https://spdx.dev/Document"
	SPDXV23 = "https://spdx.dev/Document/v2.3"
	SPDXV3  = "https://spdx.dev/Document/v3"
	// CycloneDX is a bill of materials of any version, in JSON. URIs below it
	// name one version, such as CycloneDXV14.
	CycloneDX    = "https://cyclonedx.org/bom"
	CycloneDXV14 = "https://cyclonedx.org/bom/v1.4"
	// Vulnerability scans: cosign's, and in-toto's in two versions.
	CosignVuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	VulnsV01   = "https://in-toto.io/attestation/vulns/v0.1"
	VulnsV02   = "https://in-toto.io/attestation/vulns/v0.2"
	// OpenVEX documents: of any version, and of 0.2.0.
	OpenVEX    = "https://openvex.dev/ns"
	OpenVEXV02 = "https://openvex.dev/ns/v0.2.0"
	// SCAI is an attribute report; SCAIV02 its predecessor.
	SCAI    = "https://in-toto.io/attestation/scai/v0.3"
	SCAIV02 = "https://in-toto.io/attestation/scai/attribute-report/v0.2"
	// TestResult is the result of a run of tests.
	TestResult = "https://in-toto.io/attestation/test-result/v0.1"
	// Release names the artifacts of a release.
	ReleaseV01 = "https://in-toto.io/attestation/release/v0.1"
	ReleaseV02 = "https://in-toto.io/attestation/release/v0.2"
	// Reference points at documents about the subjects.
	Reference = "https://in-toto.io/attestation/reference/v0.1"
	// RuntimeTrace is what was observed during an operation.
	RuntimeTrace = "https://in-toto.io/attestation/runtime-trace/v0.1"
	// Simple verification results.
	SVRV01 = "https://in-toto.io/attestation/svr/v0.1"
	SVRV02 = "https://in-toto.io/attestation/svr/v0.2"
	// CosignCustom is what cosign writes when no type is named.
	CosignCustom = "https://cosign.sigstore.dev/attestation/v1"
	// CosignSign says only "signed": it is an image signature, and Check
	// refuses to make an attestation of it.
	CosignSign = "https://sigstore.dev/cosign/sign/v1"
	// Chainloop has no scheme: it is not a URI.
	Chainloop = "chainloop.dev/attestation/v0.2"
)

// ErrType is wrapped by errors of ParseType.
var ErrType = errors.New("invalid predicate type")

// ParseType reads a predicate type as people write it: a short name, or the
// type's URI or a spelling that Canonical knows, which are returned as they are.
// The short names of cosign's --type mean what they mean to cosign v2.6.5 and
// v3.1.3.
//
// It refuses everything else: a URI has a scheme and, as in-toto's
// field_types.md says, a scheme and an authority in lower case. Errors wrap
// ErrType.
func ParseType(s string) (string, error) {
	for _, n := range names() {
		if n.name == s {
			return n.uri, nil
		}
	}
	if s == Chainloop || Canonical(s) != s {
		return s, nil
	}
	if err := checkTypeURI(s); err != nil {
		return "", fmt.Errorf("%w: %w; want a URI or one of %s", ErrType, err, strings.Join(Names(), ", "))
	}
	return s, nil
}

func checkTypeURI(s string) error {
	if s == "" || len(s) > limits.PredicateType {
		return fmt.Errorf("is empty or longer than %d bytes", limits.PredicateType)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r) }) {
		return errors.New("holds a character that a URI has not")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is not a URI")
	case u.Scheme == "":
		return errors.New("is neither a known short name nor a URI with a scheme")
	case u.Opaque == "" && u.Host == "" && u.Path == "":
		return errors.New("is a URI of nothing but a scheme")
	case !strings.HasPrefix(s, u.Scheme+":") || strings.ToLower(u.Host) != u.Host:
		return errors.New("has a scheme or authority that is not in lower case")
	}
	return nil
}

// Names are the short names that ParseType knows, cosign's first.
func Names() []string {
	table := names()
	out := make([]string, len(table))
	for i, n := range table {
		out[i] = n.name
	}
	return out
}

type shortName struct{ name, uri string }

func names() []shortName {
	return []shortName{
		{"slsaprovenance", SLSAProvenanceV02},
		{"slsaprovenance02", SLSAProvenanceV02},
		{"slsaprovenance1", SLSAProvenanceV1},
		{"link", CosignLink},
		{"spdx", SPDX},
		{"spdxjson", SPDX},
		{"cyclonedx", CycloneDX},
		{"vuln", CosignVuln},
		{"openvex", OpenVEX},
		{"custom", CosignCustom},
		// Ours: cosign has no word for these.
		{"link03", LinkV03},
		{"vsa", VSAV1},
		{"vulns01", VulnsV01},
		{"vulns02", VulnsV02},
		{"test-result", TestResult},
		{"scai", SCAI},
		{"release", ReleaseV02},
		{"reference", Reference},
		{"runtime-trace", RuntimeTrace},
		{"svr", SVRV02},
	}
}

// Canonical is the URI that a predicate type means: writers in the field spell
// some types in a way of their own. Two types are the same when their Canonical
// is. Every other type, a version of a known one above all, is returned as it
// is.
func Canonical(uri string) string {
	switch uri {
	case "https://slsa.dev/provenance/v1.0", // Witness
		"https://slsa.dev/provenance/v1.0?draft": // builders of early 2023
		return SLSAProvenanceV1
	case "https://cyclonedx.org/schema": // cosign 1
		return CycloneDX
	case "cosign.sigstore.dev/attestation/v1": // cosign 1 wrote no scheme
		return CosignCustom
	case "cosign.sigstore.dev/attestation/vuln/v1":
		return CosignVuln
	}
	return uri
}
