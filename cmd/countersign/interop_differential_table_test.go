//go:build interop

package main

import "github.com/countersign/countersign/policy"

// Differences with one peer or several.
func with(name string, who ...string) map[string]string {
	out := map[string]string{}
	for _, w := range who {
		out[w] = name
	}
	return out
}

// The names of docs/differences.md.
const (
	archived    = "archive"
	annotated   = "annotations"
	controller  = "controller-bundles"
	attestedToo = "attestation-as-signature"
	revoked     = "revocation"
	unlogged    = "unlogged-identity"
	present     = "present-evidence"
	rotated     = "rotation"
	strict      = "strict-payload"
)

func cosigns(name string) map[string]string { return with(name, cosignV2, cosignV3) }

// unread: policy-controller does not read this bundle.
func unread() map[string]string { return with(controller, policyTester) }

// trials are the images, the questions and our answers.
var trials = []trial{
	{"unsigned", "release", policy.NoSignature, nil},
	{"unsigned", "team", policy.NoSignature, nil},
	{"unsigned", "identity", policy.NoSignature, nil},
	{"unsigned", "acme", policy.NoSignature, nil},
	{"unsigned", "team-vuln", policy.AttestationMissing, nil},

	{"release-bundle", "release", "", unread()},
	{"release-legacy", "release", "", nil},
	{"release-both", "release", "", nil},
	{"release-both", "other", policy.UntrustedKey, nil},
	{"release-both", "team", policy.UntrustedKey, nil},
	{"release-and-other", "release", "", unread()},
	{"release-and-other", "other", "", unread()},
	{"other-bundle", "release", policy.UntrustedKey, nil},
	{"other-legacy", "release", policy.UntrustedKey, nil},
	{"other-legacy", "other", "", nil},
	{"turned-early", "turned", "", nil},
	{"turned-early", "turned-new", policy.UntrustedKey, nil},
	{"turned-late", "turned", "", with(rotated, cosignV2, cosignV3, policyTester, offline)},
	{"turned-late", "turned-new", "", nil},
	{"leaked-both", "leaked", policy.KeyRevoked, with(revoked, cosignV2, cosignV3, policyTester, offline)},
	{"release-stripped", "release", "", with(archived, cosignV2, cosignV3, policyTester, offline)},
	{"release-transplant", "release", policy.SubjectMismatch, nil},
	{"release-transplants", "release", policy.SubjectMismatch, nil},
	{"release-legacy-set", "release", "", with(archived, cosignV2, cosignV3, offline)},
	{"index", "release", "", unread()},
	{"index-child", "release", policy.NoSignature, nil},
	{"index-recursive", "release", "", nil},
	{"tag", "release", "", unread()},
	{"tag-moved", "release", policy.NoSignature, nil},
	{"copy-annotated", "release", policy.SubjectMismatch, nil},
	{"copy-layer", "release", policy.SubjectMismatch, nil},

	{"team-legacy", "team", "", nil},
	{"team-legacy", "team-logged", policy.LogEntryMissing, nil},
	{"team-legacy", "team-annotated", "", cosigns(annotated)},
	{"team-legacy", "team-or-rival", "", nil},
	{"team-legacy", "team-and-rival", policy.UntrustedKey, nil},
	{"team-legacy-annotated", "team-annotated", "", nil},
	{"team-bundle-v2", "team", "", unread()},
	{"team-bundle-v3", "team", "", unread()},
	{"team-bundle-v3", "team-logged", policy.LogEntryMissing, nil},
	{"team-stamped", "team", "", unread()},
	{"team-stamped", "team-logged", policy.LogEntryMissing, nil},
	{"team-logged-v2", "team", "", unread()},
	{"team-logged-v2", "team-logged", "", nil},
	{"team-logged-v3", "team-logged", "", nil},
	{"rival-legacy", "team", policy.UntrustedKey, nil},
	{"rival-legacy", "team-or-rival", "", nil},
	{"rival-bundle", "team", policy.UntrustedKey, nil},
	{"both-legacy", "team", "", nil},
	{"both-legacy", "team-and-rival", "", nil},
	{"team-twice", "team", "", nil},
	{"team-twice", "team-and-rival", policy.UntrustedKey, nil},
	{"one-of-two-flipped", "team", "", nil},
	{"flipped-and-good", "team", "", unread()},
	{"legacy-flipped", "team", policy.UntrustedKey, nil},
	{"legacy-retold", "team", policy.UntrustedKey, nil},
	{"legacy-bare", "team", policy.SignatureInvalid, nil},
	{"legacy-transplant", "team", policy.SubjectMismatch, nil},
	{"team-stripped", "team", policy.NoSignature, nil},
	{"bundle-flipped", "team", policy.SignatureInvalid, nil},
	{"bundle-retold", "team", policy.SignatureInvalid, nil},
	{"bundle-transplant", "team", policy.SubjectMismatch, nil},
	{"logged-transplant", "team-logged", policy.SubjectMismatch, nil},
	{"logged-no-entry", "team-logged", policy.LogEntryMissing, nil},
	{"logged-no-timestamp", "team-logged", "", nil},
	{"logged-proof-flipped", "team-logged", policy.InclusionProofInvalid, nil},
	{"logged-body-flipped", "team-logged", policy.LogEntryMismatch, with(present, cosignV3)},
	{"logged-checkpoint", "team-logged", policy.CheckpointInvalid, nil},
	{"logged-stamp-flipped", "team-logged", policy.TimestampInvalid, cosigns(present)},
	{"logged-proof-flipped", "team", policy.InclusionProofInvalid, cosigns(present)},
	{"logged-root-flipped", "team-logged", policy.InclusionProofInvalid, cosigns(present)},
	{"bundle-two-signed", "team", policy.SignatureInvalid, nil},
	{"bundle-hint", "team", "", unread()},
	{"bundle-version", "team", policy.SignatureInvalid, nil},
	{"bundle-unknown-field", "team", policy.SignatureInvalid, nil},
	{"logged-entry-twice", "team-logged", policy.SignatureInvalid, nil},
	{"logged-index", "team-logged", policy.InclusionProofInvalid, nil},
	{"payload-plain", "team", "", nil},
	{"payload-other", "team", policy.SubjectMismatch, nil},
	{"payload-twice", "team", policy.SignatureInvalid, with(strict, cosignV2, cosignV3, policyTester)},
	{"payload-twice-last", "team", policy.SignatureInvalid, nil},
	{"payload-case", "team", policy.SignatureInvalid, with(strict, cosignV2, cosignV3, policyTester)},
	{"payload-type", "team", policy.SignatureInvalid, with(strict, cosignV2, cosignV3, policyTester)},
	{"payload-trailing", "team", policy.SignatureInvalid, nil},
	{"payload-more", "team", policy.SignatureInvalid, with(strict, cosignV2, cosignV3, policyTester)},

	{"job-bundle", "identity", "", unread()},
	{"job-legacy", "identity", "", nil},
	{"job-cosign-v2", "identity", "", unread()},
	{"job-cosign-v3", "identity", "", unread()},
	{"job-other", "identity", policy.IdentityMismatch, nil},
	{"job-transplant", "identity", policy.SubjectMismatch, nil},
	{"job-no-entry", "identity", policy.LogEntryMissing, nil},
	{"job-no-timestamp", "identity", policy.TimestampMissing, nil},
	{"job-stamped", "identity", policy.LogEntryMissing, nil},
	{"job-cosign-v3", "identity-unlogged", "", nil},
	{"job-stamped", "identity-unlogged", policy.LogEntryMissing, cosigns(unlogged)},
	{"job-flipped", "identity", policy.SignatureInvalid, nil},
	{"team-legacy", "identity", policy.UntrustedKey, nil},

	{"release-vuln", "release-vuln", "", unread()},
	{"release-vuln", "release-custom", policy.PredicateTypeMismatch, nil},
	{"release-vuln", "release", policy.PredicateTypeMismatch, cosigns(attestedToo)},
	{"release-vuln-legacy", "release-vuln", "", nil},
	{"release-custom", "release-custom", "", nil},
	{"release-custom", "release-vuln", policy.PredicateTypeMismatch, nil},
	{"release-slsa", "release-slsaprovenance1", "", nil},
	{"release-slsa", "release-vuln", policy.PredicateTypeMismatch, nil},
	{"release-vuln-transplant", "release-vuln", policy.SubjectMismatch, nil},
	{"release-both", "release-vuln", policy.AttestationMissing, nil},
	{"team-vuln-legacy", "team-vuln", "", nil},
	{"team-vuln-legacy", "team-clean", "", nil},
	{"team-custom", "team-custom", "", nil},
	{"team-vuln-legacy", "team-custom", policy.PredicateTypeMismatch, nil},
	{"team-vuln-legacy", "team", policy.PredicateTypeMismatch, nil},
	{"team-vuln-bundle", "team-vuln", "", unread()},
	{"team-vuln-bundle", "team-clean", "", unread()},
	{"team-vuln-bundle", "team", policy.PredicateTypeMismatch, cosigns(attestedToo)},
	{"team-dirty-legacy", "team-vuln", "", nil},
	{"team-dirty-legacy", "team-clean", policy.ConditionFalse, nil},
	{"team-then-dirty", "team-clean", policy.ConditionFalse, nil},
	{"team-vuln-transplant", "team-vuln", policy.SubjectMismatch, nil},
	{"team-vuln-flipped", "team-vuln", policy.SignatureInvalid, nil},
	{"rival-vuln-legacy", "team-vuln", policy.UntrustedKey, nil},
	{"team-bundle-v3", "team-vuln", policy.AttestationMissing, nil},
	{"job-slsa", "identity-slsa", "", unread()},
	{"job-slsa-legacy", "identity-slsa", "", nil},
	{"job-slsa", "identity", policy.PredicateTypeMismatch, cosigns(attestedToo)},
	{"job-slsa-other", "identity-slsa", policy.IdentityMismatch, nil},

	{"acme-jws", "acme", "", nil},
	{"acme-jws", "acme-second", policy.IdentityMismatch, nil},
	{"acme-second", "acme-second", "", nil},
	{"acme-second", "acme", policy.IdentityMismatch, nil},
	{"acme-jws", "rival-acme", policy.CertificateInvalid, nil},
	{"acme-cose", "acme", "", nil},
	{"acme-cose", "acme-second", policy.IdentityMismatch, nil},
	{"acme-cose", "rival-acme", policy.CertificateInvalid, nil},
	{"release-notation", "release-notary", "", nil},
	{"other-notation", "release-notary", policy.UntrustedKey, nil},
	{"acme-jws", "release-notary", policy.UntrustedKey, nil},
	{"release-notation", "acme", policy.CertificateInvalid, nil},
	{"acme-metadata", "acme", "", nil},
	{"acme-stamped", "acme", "", nil},
	{"acme-stamped-c", "acme", "", nil},
	{"acme-expired", "acme", policy.SignatureExpired, nil},
	{"acme-expired-c", "acme", policy.SignatureExpired, nil},
	{"acme-expires", "acme", "", nil},
	{"rival-jws", "acme", policy.CertificateInvalid, nil},
	{"rival-jws", "rival-acme", "", nil},
	{"rival-cose", "acme", policy.CertificateInvalid, nil},
	{"acme-and-rival", "acme", "", nil},
	{"acme-transplant", "acme", policy.SubjectMismatch, nil},
	{"acme-stripped", "acme", policy.NoSignature, nil},
}
