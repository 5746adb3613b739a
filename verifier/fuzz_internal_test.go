package verifier

import (
	"testing"

	"github.com/countersign/countersign/attest"
)

// FuzzBundle: whatever the bytes, no panic, and nothing passes that is not an
// honest signature.
func FuzzBundle(f *testing.F) {
	c, authority, bundle, _ := newCourt(f)
	f.Add(bundle.JSON())
	f.Add(authority.Bundle(attest.DigestOf([]byte("other")), bundle.Key, bundle.At).JSON())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"dsseEnvelope":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c.tb = t
		c.try(attachment{format: formatBundle, bundle: raw})
	})
}

// FuzzLegacy is FuzzBundle for legacy signatures.
func FuzzLegacy(f *testing.F) {
	c, _, _, legacy := newCourt(f)
	a := legacy.Annotations()
	f.Add(legacy.Payload, a[annotationSignature], a[annotationLog], a[annotationTimestamp])
	f.Add([]byte("{}"), "", "{}", "{}")
	f.Fuzz(func(t *testing.T, payload []byte, signature, log, stamp string) {
		c.tb = t
		annotations := map[string]string{annotationSignature: signature}
		if log != "" {
			annotations[annotationLog] = log
		}
		if stamp != "" {
			annotations[annotationTimestamp] = stamp
		}
		c.try(attachment{format: formatLegacy, payload: payload, annotations: annotations})
	})
}

// FuzzLegacyAttestation is FuzzBundle for layers of an .att tag.
func FuzzLegacyAttestation(f *testing.F) {
	c, _, _, legacy := newAttestationCourt(f)
	a := legacy.Annotations()
	f.Add(legacy.Payload, a[annotationLog], a[annotationTimestamp])
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AA=="}]}`), "{}", "{}")
	f.Fuzz(func(t *testing.T, payload []byte, log, stamp string) {
		c.tb = t
		c.try(attachment{format: formatLegacyAttestation, payload: payload, annotations: map[string]string{annotationLog: log, annotationTimestamp: stamp}})
	})
}

// FuzzTimestamp: a hostile RFC 3161 response neither panics nor proves a time
// that the authority did not state.
func FuzzTimestamp(f *testing.F) {
	c, authority, bundle, _ := newCourt(f)
	f.Add(bundle.Timestamps[0])
	f.Add(authority.ForeignStamp(bundle.Signature, bundle.At))
	f.Add([]byte("0\x03\x02\x01\x00"))
	f.Fuzz(func(t *testing.T, response []byte) {
		s := parseStamp(response)
		if bindTimestamp(s, bundle.Signature) != nil {
			return
		}
		at, known, fault := c.signer.trusted.proveTimestamp(s, bundle.Signature)
		if known && fault == nil && !at.Equal(bundle.At) {
			t.Fatalf("proved %s", at)
		}
	})
}
