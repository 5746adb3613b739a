package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/limits"
)

// Envelope is a signature of the Notary Project as it was attached.
type Envelope struct {
	// MediaType is the layer's: notary.MediaTypeJWS or notary.MediaTypeCOSE.
	MediaType string
	Content   []byte
}

// isNotation reports whether a manifest says that it carries a signature of the
// Notary Project: by its artifact type, or, as notation itself writes it, by
// the type of its config.
func isNotation(m *v1.Manifest) bool {
	return m.ArtifactType == notary.ArtifactType || m.ArtifactType == "" && string(m.Config.MediaType) == notary.ArtifactType
}

// carries reports whether a layer of that type belongs into the manifest.
func carries(m *v1.Manifest, mediaType string) bool {
	if attest.IsBundleMediaType(m.ArtifactType) {
		return mediaType == m.ArtifactType
	}
	return mediaType == notary.MediaTypeJWS || mediaType == notary.MediaTypeCOSE
}

// NotationAttachment is a signature of the Notary Project to attach.
type NotationAttachment struct {
	Envelope
	// Created is written into the manifest: the same arguments give the same
	// manifest, so that a repeated attach changes nothing.
	Created time.Time
}

// AttachNotation attaches an envelope to the subject as an OCI referrer, in the
// manifest that notation writes; see AttachBundle. It returns the digest of the
// referrer manifest. ErrAttachment: the envelope cannot be read, or speaks of
// another subject.
func (c *Client) AttachNotation(ctx context.Context, subject Manifest, n NotationAttachment) (attest.Digest, error) {
	raw, descriptor, err := notationManifest(subject, n)
	if err != nil {
		return attest.Digest{}, err
	}
	return c.attachReferrer(ctx, subject, raw, descriptor, n.Content)
}

func notationManifest(subject Manifest, n NotationAttachment) ([]byte, v1.Descriptor, error) {
	envelope, err := notary.Parse(n.MediaType, n.Content)
	switch {
	case err != nil:
		return nil, v1.Descriptor{}, fmt.Errorf("%w: %w", ErrAttachment, err)
	case len(n.Content) > limits.Bundle:
		return nil, v1.Descriptor{}, fmt.Errorf("%w: an envelope must have at most %d bytes", ErrAttachment, limits.Bundle)
	case subject.Digest != attest.DigestOf(subject.Raw) || envelope.Target.Digest != subject.Digest:
		return nil, v1.Descriptor{}, fmt.Errorf("%w: the envelope or the bytes are of another subject", ErrAttachment)
	}
	thumbprints := make([]string, 0, len(envelope.Chain))
	for _, certificate := range envelope.Chain {
		sum := sha256.Sum256(certificate.Raw)
		thumbprints = append(thumbprints, hex.EncodeToString(sum[:]))
	}
	list, err := json.Marshal(thumbprints)
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("%w: %w", ErrAttachment, err)
	}
	about := descriptorOf(subject.Raw, subject.MediaType)
	raw, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Subject: &about,
		Config: descriptorOf([]byte("{}"), notary.ArtifactType),
		Layers: []v1.Descriptor{descriptorOf(n.Content, n.MediaType)},
		Annotations: map[string]string{
			annotationCreated: n.Created.UTC().Format(time.RFC3339), notary.AnnotationThumbprints: string(list),
		},
	})
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("%w: %w", ErrAttachment, err)
	}
	listing := descriptorOf(raw, string(types.OCIManifestSchema1))
	listing.ArtifactType = notary.ArtifactType
	return raw, listing, nil
}
