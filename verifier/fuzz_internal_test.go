package verifier

import (
	"runtime/metrics"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
)

// tryBounded is try with a bound on what one input may allocate: a size that the
// input tells is not believed.
func (c *court) tryBounded(t *testing.T, a attachment, input int) {
	t.Helper()
	read := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := read()
	c.try(a)
	if used, most := read()-before, uint64(32<<20)+512*uint64(input); used > most {
		t.Fatalf("%d bytes of input took %d bytes", input, used)
	}
}

// FuzzBundle: whatever the bytes, no panic, and nothing passes that is not an
// honest signature.
func FuzzBundle(f *testing.F) {
	c, authority, bundle, _ := newCourt(f)
	f.Add(bundle.JSON())
	f.Add(authority.Bundle(attest.DigestOf([]byte("other")), bundle.Key, bundle.At).JSON())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"dsseEnvelope":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c.tb = t
		c.tryBounded(t, attachment{format: formatBundle, bundle: raw}, len(raw))
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
		c.tryBounded(t, attachment{format: formatLegacy, payload: payload, annotations: annotations}, len(payload)+len(signature)+len(log)+len(stamp))
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
		c.tryBounded(t, attachment{format: formatLegacyAttestation, payload: payload, annotations: map[string]string{annotationLog: log, annotationTimestamp: stamp}}, len(payload)+len(log)+len(stamp))
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

// fuzzEnvelope is FuzzBundle for envelopes of the Notary Project.
func fuzzEnvelope(f *testing.F, mediaType string) {
	f.Helper()
	all := notarySpecies(f)
	for _, s := range all {
		if a, ok := s.attach(s.document); ok && a.envelope.MediaType == mediaType {
			f.Add(a.envelope.Content)
		}
	}
	f.Add([]byte{0xd2, 0x84, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xa0, 0x41, 0x00, 0x41, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := all[0].court
		c.tb = t
		c.tryBounded(t, envelopeOf(mediaType, raw), len(raw))
	})
}

func FuzzJWS(f *testing.F)  { fuzzEnvelope(f, notary.MediaTypeJWS) }
func FuzzCOSE(f *testing.F) { fuzzEnvelope(f, notary.MediaTypeCOSE) }

// FuzzIdentity is FuzzBundle for signers known by a certificate.
func FuzzIdentity(f *testing.F) {
	all := identitySpecies(f)
	for _, s := range all[:2] {
		f.Add(s.document)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := all[0].court
		c.tb = t
		c.tryBounded(t, attachment{format: formatBundle, bundle: raw}, len(raw))
	})
}
