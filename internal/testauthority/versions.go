package testauthority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"time"

	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// Message is a good signature over an artifact itself: signed, logged and
// stamped.
func (a *Authority) Message(artifact []byte, key *ecdsa.PrivateKey, at time.Time) *Draft {
	a.tb.Helper()
	d := &Draft{authority: a, Key: key, At: at, Hint: KeyID(a.tb, key.Public())}
	d.Over(artifact)
	return d
}

// CertifiedMessage is Message by the key of a certificate.
func (a *Authority) CertifiedMessage(certificate *x509.Certificate, key *ecdsa.PrivateKey, artifact []byte, at time.Time) *Draft {
	a.tb.Helper()
	d := &Draft{authority: a, Key: key, At: at, Certificate: certificate}
	d.Over(artifact)
	return d
}

// Over signs an artifact in the place of what the draft signed before.
func (d *Draft) Over(artifact []byte) {
	d.authority.tb.Helper()
	sum := sha256.Sum256(artifact)
	d.Artifact, d.ArtifactDigest = append([]byte{}, artifact...), sum[:]
	d.Resign()
}

// As writes the bundle in version 0.1, 0.2 or 0.3 with an entry of Rekor v1: the
// log's promise and, except in 0.1, the proof of inclusion. There are no
// timestamps: the promise has the time.
func (d *Draft) As(version string) *Draft {
	a := d.authority
	a.tb.Helper()
	d.MediaType = "application/vnd.dev.sigstore.bundle+json;version=" + version
	verifier := PublicPEM(a.tb, d.Key.Public())
	if d.Certificate != nil {
		verifier = CertificatePEM(d.Certificate)
	}
	body := hashedRekordV001(a.tb, verifier, d.Message(), d.Signature)
	entry := a.Append("hashedrekord", "0.0.1", body)
	entry.IntegratedTime = d.At.Unix()
	entry.InclusionPromise = &rekorpb.InclusionPromise{SignedEntryTimestamp: a.SET(body, d.At, entry.GetLogIndex())}
	if version == "0.1" {
		entry.InclusionProof = nil
	}
	d.Entries, d.Timestamps = []*rekorpb.TransparencyLogEntry{entry}, nil
	return d
}

// other is the bundle in another version, or around an artifact.
func (d *Draft) other(material *bundlepb.VerificationMaterial) *bundlepb.Bundle {
	out := &bundlepb.Bundle{MediaType: d.MediaType, VerificationMaterial: material}
	switch d.MediaType {
	case "":
		out.MediaType = BundleMediaType
	case "application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2":
		if d.Certificate != nil {
			chain := &commonpb.X509CertificateChain{}
			for _, c := range append([]*x509.Certificate{d.Certificate}, d.Chain...) {
				chain.Certificates = append(chain.Certificates, &commonpb.X509Certificate{RawBytes: c.Raw})
			}
			material.Content = &bundlepb.VerificationMaterial_X509CertificateChain{X509CertificateChain: chain}
		}
	}
	if d.Artifact != nil {
		out.Content = &bundlepb.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
			MessageDigest: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: d.ArtifactDigest},
			Signature:     d.Signature,
		}}
		return out
	}
	out.Content = &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
		Payload: d.Payload, PayloadType: d.PayloadType, Signatures: []*dssepb.Signature{{Sig: d.Signature}},
	}}
	return out
}

// Compact is JSON without white space, which protojson varies.
func Compact(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	err := json.Compact(&out, raw)
	return out.Bytes(), err
}
