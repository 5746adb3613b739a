package audit_test

import (
	"testing"

	"github.com/countersign/countersign/audit"
)

// TestTrustChange: what nobody thought of counts as a change.
func TestTrustChange(t *testing.T) {
	for action, want := range map[string]bool{
		"key.rotate": true, "policy.put": true, "token.delete": true, "authority.revoke": true, "unheard.of": true, "": true,
		"signature.create": false, "attestation.create": false, "provenance.create": false, "certificate.issue": false,
		"artifact.ingest": false, "registry.check": false, "request.denied": false,
	} {
		if audit.TrustChange(action) != want {
			t.Errorf("%q: want %v", action, want)
		}
	}
}
