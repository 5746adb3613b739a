package audit

import "slices"

// TrustChange reports whether an action may change what is believed, who may
// do what, or with which key: keys, registries, policies, grants, issuers,
// trust roots, tokens, authorities. It is said by exclusion, so that an action
// nobody thought of counts as one. What is excluded happens at the rate of
// builds and requests and changes no trust.
func TrustChange(action string) bool { return !slices.Contains(everyday(), action) }

// everyday are the actions that change no trust.
func everyday() []string {
	return []string{
		"signature.create", "attestation.create", "provenance.create", "summary.create", "certificate.issue",
		"artifact.ingest", "registry.check", "request.denied",
	}
}
