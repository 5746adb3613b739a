package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/countersign/countersign/internal/limits"
)

// ErrSimpleSigning is wrapped by errors of SimpleSigning and
// ParseSimpleSigning.
var ErrSimpleSigning = errors.New("invalid simple signing payload")

// SimpleSigningPayload is what a legacy cosign signature is over.
type SimpleSigningPayload struct {
	// DockerReference is the repository the signer claims; it proves only
	// what the signer wrote.
	DockerReference string
	// Digest is the signed manifest.
	Digest Digest
	// Optional are the signer's annotations, each value as JSON; nil when
	// there are none.
	Optional map[string]json.RawMessage
}

type wireSimpleSigning struct {
	Critical *struct {
		Identity *struct {
			DockerReference *string `json:"docker-reference"`
		} `json:"identity"`
		Image *struct {
			DockerManifestDigest *string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type *string `json:"type"`
	} `json:"critical"`
	Optional map[string]json.RawMessage `json:"optional"`
}

// SimpleSigning is the payload of a legacy signature in the bytes cosign v2
// writes: without annotations `optional` is null, and `<`, `>` and `&` are
// escaped. dockerReference is host/repository without tag or digest.
func SimpleSigning(dockerReference string, digest Digest, annotations map[string]string) ([]byte, error) {
	if dockerReference == "" || digest.IsZero() {
		return nil, fmt.Errorf("%w: no reference or no digest", ErrSimpleSigning)
	}
	if err := CheckAnnotations(annotations); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSimpleSigning, err)
	}
	image := payload.SimpleContainerImage{Critical: payload.Critical{
		Identity: payload.Identity{DockerReference: dockerReference},
		Image:    payload.Image{DockerManifestDigest: digest.String()},
		Type:     payload.CosignSignatureType,
	}}
	for k, v := range annotations {
		if image.Optional == nil {
			image.Optional = make(map[string]any, len(annotations))
		}
		image.Optional[k] = v
	}
	b, err := json.Marshal(image)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSimpleSigning, err)
	}
	return b, nil
}

// ParseSimpleSigning reads a payload of cosign's type. All of `critical` must
// be there and nothing else in it (containers-signature(5): what is critical
// and not understood must be refused); `optional` may be null or missing.
// Errors wrap ErrSimpleSigning.
func ParseSimpleSigning(b []byte) (SimpleSigningPayload, error) {
	if len(b) > limits.Bundle {
		return SimpleSigningPayload{}, fmt.Errorf("%w: larger than %d bytes", ErrSimpleSigning, limits.Bundle)
	}
	var w wireSimpleSigning
	if err := decodeNoNull(b, &w, false, "/optional"); err != nil {
		return SimpleSigningPayload{}, fmt.Errorf("%w: %w", ErrSimpleSigning, err)
	}
	c := w.Critical
	if c == nil || c.Type == nil || *c.Type != payload.CosignSignatureType {
		return SimpleSigningPayload{}, fmt.Errorf("%w: critical.type is not %q", ErrSimpleSigning, payload.CosignSignatureType)
	}
	if c.Identity == nil || c.Identity.DockerReference == nil || c.Image == nil || c.Image.DockerManifestDigest == nil {
		return SimpleSigningPayload{}, fmt.Errorf("%w: critical lacks the reference or the digest", ErrSimpleSigning)
	}
	digest, err := ParseDigest(*c.Image.DockerManifestDigest)
	if err != nil {
		return SimpleSigningPayload{}, fmt.Errorf("%w: %w", ErrSimpleSigning, err)
	}
	p := SimpleSigningPayload{DockerReference: *c.Identity.DockerReference, Digest: digest}
	for k, v := range w.Optional {
		if p.Optional == nil {
			p.Optional = make(map[string]json.RawMessage, len(w.Optional))
		}
		p.Optional[k] = bytes.Clone(v)
	}
	return p, nil
}
