package attest

import (
	"crypto"
	_ "crypto/sha256" // the digests of artifacts
	_ "crypto/sha512"
	"fmt"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
)

// BundleVersion is a version of the bundle format.
type BundleVersion string

// The versions. 0.1 proves its log entries by the log's promise, later ones by
// inclusion; 0.1 and 0.2 have a certificate in a chain.
const (
	Version01 BundleVersion = "0.1"
	Version02 BundleVersion = "0.2"
	Version03 BundleVersion = "0.3"
)

const mediaTypeBundleOld = "application/vnd.dev.sigstore.bundle+json;version="

// IsBundleMediaType reports whether a media type is that of a bundle of any
// version that ParseBundle reads. Version 0.3 has two.
func IsBundleMediaType(mediaType string) bool {
	_, err := parseVersion(mediaType)
	return err == nil
}

func parseVersion(mediaType string) (BundleVersion, error) {
	switch mediaType {
	case mediaTypeBundleOld + "0.1":
		return Version01, nil
	case mediaTypeBundleOld + "0.2":
		return Version02, nil
	case mediaTypeBundleOld + "0.3", MediaTypeBundle:
		return Version03, nil
	}
	return "", fmt.Errorf("%w: of none of the versions 0.1, 0.2 and 0.3", ErrBundle)
}

func (v BundleVersion) mediaType() string {
	if v == Version01 || v == Version02 {
		return mediaTypeBundleOld + string(v)
	}
	return MediaTypeBundle
}

func (v BundleVersion) hasChain() bool     { return v == Version01 || v == Version02 }
func (v BundleVersion) needsPromise() bool { return v == Version01 }

// spellsNull: what is absent may be spelled null, as sigstore-js did.
func (v BundleVersion) spellsNull() bool { return v == Version01 || v == Version02 }

// MessageSignature is a signature over the bytes of an artifact.
type MessageSignature struct {
	Signature []byte
	// Digest is what the writer says is the artifact's, by Algorithm: SHA-256,
	// SHA-384 or SHA-512. It is a hint by which to find the artifact and proves
	// nothing.
	Digest    []byte
	Algorithm crypto.Hash
}

func hashes() map[commonpb.HashAlgorithm]crypto.Hash {
	return map[commonpb.HashAlgorithm]crypto.Hash{
		commonpb.HashAlgorithm_SHA2_256: crypto.SHA256,
		commonpb.HashAlgorithm_SHA2_384: crypto.SHA384,
		commonpb.HashAlgorithm_SHA2_512: crypto.SHA512,
	}
}

func messageOf(m *commonpb.MessageSignature) (*MessageSignature, error) {
	algorithm, known := hashes()[m.GetMessageDigest().GetAlgorithm()]
	if !known {
		return nil, fmt.Errorf("%w: the message's digest is missing or of an unknown algorithm", ErrBundle)
	}
	return &MessageSignature{Signature: m.GetSignature(), Digest: m.GetMessageDigest().GetDigest(), Algorithm: algorithm}, nil
}

func (m *MessageSignature) check() error {
	switch {
	case len(m.Signature) == 0:
		return fmt.Errorf("%w: empty signature", ErrBundle)
	case m.Algorithm != crypto.SHA256 && m.Algorithm != crypto.SHA384 && m.Algorithm != crypto.SHA512:
		return fmt.Errorf("%w: the message's digest is of an unknown algorithm", ErrBundle)
	case len(m.Digest) != m.Algorithm.Size():
		return fmt.Errorf("%w: the message's digest has the wrong length", ErrBundle)
	}
	return nil
}

func (m *MessageSignature) proto() *commonpb.MessageSignature {
	out := &commonpb.MessageSignature{Signature: m.Signature, MessageDigest: &commonpb.HashOutput{Digest: m.Digest}}
	for algorithm, hash := range hashes() {
		if hash == m.Algorithm {
			out.MessageDigest.Algorithm = algorithm
		}
	}
	return out
}
