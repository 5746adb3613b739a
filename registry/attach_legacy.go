package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/cosign/v2/pkg/oci"
	cosignmutate "github.com/sigstore/cosign/v2/pkg/oci/mutate"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	ctypes "github.com/sigstore/cosign/v2/pkg/types"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// AttachLegacy appends one legacy signature to the subject's tag
// sha256-HEX.sig, in the layout of cosign: one layer whose bytes are the
// payload, with the annotations given; they must hold the signature
// (static.SignatureAnnotationKey). It returns the digest of the manifest under
// the tag.
//
// A layer with the same payload and signature is there once: repeating changes
// nothing. Attaches to one subject follow one another within the process; after
// writing, the tag is read again, and the layer is added once more if a writer
// elsewhere replaced it.
func (c *Client) AttachLegacy(ctx context.Context, subject Reference, signed []byte, annotations map[string]string) (attest.Digest, error) {
	s, err := c.target(ctx, subject.WithDigest(subject.Digest))
	if err != nil {
		return attest.Digest{}, err
	}
	if len(signed) == 0 || len(signed) > limits.Blob || annotations[static.SignatureAnnotationKey] == "" {
		return attest.Digest{}, fmt.Errorf("%w: needs a payload of 1 to %d bytes and a signature annotation", ErrAttachment, limits.Blob)
	}
	return c.appendLegacy(ctx, s, legacyTag{subject.Digest, legacySuffix}, legacyLayer{
		mediaType: ctypes.SimpleSigningMediaType, content: bytes.Clone(signed), annotations: maps.Clone(annotations),
	})
}

// AttachLegacyAttestation appends one attestation to the subject's tag
// sha256-HEX.att, in the layout of cosign: one layer whose bytes are the DSSE
// envelope, with the annotations given; the signature is in the envelope, and
// its annotation is empty. Everything else is as with AttachLegacy.
func (c *Client) AttachLegacyAttestation(ctx context.Context, subject Reference, envelope []byte, annotations map[string]string) (attest.Digest, error) {
	s, err := c.target(ctx, subject.WithDigest(subject.Digest))
	if err != nil {
		return attest.Digest{}, err
	}
	if len(envelope) == 0 || len(envelope) > limits.Bundle || annotations[static.SignatureAnnotationKey] != "" {
		return attest.Digest{}, fmt.Errorf("%w: needs an envelope of 1 to %d bytes and no signature annotation", ErrAttachment, limits.Bundle)
	}
	return c.appendLegacy(ctx, s, legacyTag{subject.Digest, attestationSuffix}, legacyLayer{
		mediaType: ctypes.DssePayloadType, content: bytes.Clone(envelope), annotations: maps.Clone(annotations),
	})
}

// legacyTag is a tag beside the subject that cosign keeps layers under.
type legacyTag struct {
	subject attest.Digest
	suffix  string
}

func (t legacyTag) name() string { return fallbackTag(t.subject) + t.suffix }

// legacyLayer is one signature or attestation under such a tag.
type legacyLayer struct {
	mediaType   types.MediaType
	content     []byte
	annotations map[string]string
}

// appendLegacy uploads a layer and puts it under the tag, alone among the
// writers of this process.
func (c *Client) appendLegacy(ctx context.Context, s source, tag legacyTag, layer legacyLayer) (attest.Digest, error) {
	unlock, err := c.writers.lock(ctx, s.rule.Host+"/"+s.repository+"@"+tag.subject.String())
	if err != nil {
		return attest.Digest{}, s.failure(ctx, err)
	}
	defer unlock()
	if err := s.putBlob(ctx, layer.content); err != nil {
		return attest.Digest{}, err
	}
	return s.appendLayer(ctx, tag, layer)
}

// appendLayer rewrites the tag until the layer is in it.
func (s source) appendLayer(ctx context.Context, tag legacyTag, layer legacyLayer) (attest.Digest, error) {
	for attempt := range limits.AttachAttempts {
		base, err := s.signatures(ctx, tag)
		if err != nil {
			return attest.Digest{}, err
		}
		if base.has(layer) {
			return base.digest, nil
		}
		if len(base.image.Layers) >= limits.LegacySignatures {
			return attest.Digest{}, fmt.Errorf("%w: %s of %s has %d layers", ErrLimit, tag.suffix, tag.subject, len(base.image.Layers))
		}
		if err := pause(ctx, backoff(attempt)); err != nil {
			return attest.Digest{}, s.failure(ctx, err)
		}
		if err := s.putSignatures(ctx, tag, base, layer); err != nil {
			return attest.Digest{}, err
		}
	}
	return attest.Digest{}, fmt.Errorf("%w: other writers keep replacing %s of %s", ErrUnavailable, tag.suffix, tag.subject)
}

// putSignatures writes what is there with one more layer.
func (s source) putSignatures(ctx context.Context, tag legacyTag, have signatures, layer legacyLayer) error {
	base, err := s.base(ctx, have)
	if err != nil {
		return err
	}
	next, err := appended(base, layer)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAttachment, err)
	}
	if len(next.manifest.Raw) > limits.Manifest {
		return fmt.Errorf("%w: %s of %s would exceed %d bytes", ErrLimit, tag.suffix, tag.subject, limits.Manifest)
	}
	if err := s.putBlob(ctx, next.config); err != nil {
		return err
	}
	_, err = s.putManifest(ctx, tag.name(), next.manifest.MediaType, next.manifest.Raw, attest.Digest{})
	return err
}

// appended is base with one more layer. The layout is cosign's own code; a
// creation time is not recorded, so that it depends on nothing but its content.
func appended(base oci.Signatures, add legacyLayer) (stored, error) {
	layer, err := static.NewSignature(add.content, add.annotations[static.SignatureAnnotationKey],
		static.WithAnnotations(add.annotations), static.WithLayerMediaType(add.mediaType))
	if err != nil {
		return stored{}, err
	}
	next, err := cosignmutate.AppendSignatures(base, false, layer)
	if err != nil {
		return stored{}, err
	}
	var out stored
	if out.config, err = next.RawConfigFile(); err != nil {
		return stored{}, err
	}
	if out.manifest.Raw, err = next.RawManifest(); err != nil {
		return stored{}, err
	}
	mediaType, err := next.MediaType()
	out.manifest.MediaType = string(mediaType)
	return out, err
}

// signatures is what is under a .sig or .att tag; the zero value is nothing
// yet.
type signatures struct {
	digest   attest.Digest
	manifest Manifest
	image    v1.Manifest
}

// has reports whether a layer with this content and signature is there.
func (b signatures) has(layer legacyLayer) bool {
	digest := attest.DigestOf(layer.content).String()
	for _, d := range b.image.Layers {
		if d.Digest.String() == digest &&
			d.Annotations[static.SignatureAnnotationKey] == layer.annotations[static.SignatureAnnotationKey] {
			return true
		}
	}
	return false
}

// signatures reads the manifest under the tag.
func (s source) signatures(ctx context.Context, tag legacyTag) (signatures, error) {
	m, err := s.manifest(ctx, tag.name())
	switch {
	case errors.Is(err, ErrNotFound):
		return signatures{}, nil
	case err != nil:
		return signatures{}, err
	case m.IsIndex:
		return signatures{}, fmt.Errorf("%w: %s of %s is not an image manifest", ErrAmbiguous, tag.suffix, tag.subject)
	}
	image, err := decode[v1.Manifest](m.Raw)
	if err != nil {
		return signatures{}, err
	}
	return signatures{digest: m.Digest, manifest: m, image: *image}, nil
}

// base presents what is there as the image that cosign's layout code appends
// to, with its configuration but without its layers.
func (s source) base(ctx context.Context, have signatures) (oci.Signatures, error) {
	if have.digest.IsZero() {
		image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
		return unread{mutate.ConfigMediaType(image, types.OCIConfigJSON)}, nil
	}
	ref, err := blobOf(have.image.Config)
	if err != nil {
		return nil, err
	}
	g := gathering{source: s, budget: limits.Blob}
	config, err := g.blob(ctx, ref)
	if err != nil {
		return nil, err
	}
	image, err := partial.CompressedToImage(stored{manifest: have.manifest, config: config})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	return unread{image}, nil
}

// unread is an image of signatures whose layers are not fetched.
type unread struct{ v1.Image }

// Get would fetch the layers; nothing that appends asks for them.
func (unread) Get() ([]oci.Signature, error) { return nil, errors.ErrUnsupported }

// stored presents a fetched manifest and configuration to
// go-containerregistry.
type stored struct {
	manifest Manifest
	config   []byte
}

// MediaType is the manifest's.
func (s stored) MediaType() (types.MediaType, error) {
	return types.MediaType(s.manifest.MediaType), nil
}

// RawManifest is the manifest as it was served.
func (s stored) RawManifest() ([]byte, error) { return s.manifest.Raw, nil }

// RawConfigFile is the configuration as it was served.
func (s stored) RawConfigFile() ([]byte, error) { return s.config, nil }

// LayerByDigest refuses: layers are not fetched to append to them.
func (s stored) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) {
	return nil, errors.ErrUnsupported
}

var (
	_ oci.Signatures              = unread{}
	_ partial.CompressedImageCore = stored{}
)
