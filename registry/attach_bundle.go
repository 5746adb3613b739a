package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Annotations of a bundle's manifest (cosign, specs/BUNDLE_SPEC.md).
const (
	annotationCreated       = "org.opencontainers.image.created"
	annotationContent       = "dev.sigstore.bundle.content"
	annotationPredicateType = "dev.sigstore.bundle.predicateType"
	contentDSSE             = "dsse-envelope"
)

// AttachBundle attaches a bundle to the subject as an OCI referrer, and lists
// it under the fallback tag where the registry has no referrers API. It returns
// the digest of the referrer manifest.
//
// The same arguments give the same manifest: repeating an attach that failed
// half-way completes it, repeating one that was done changes nothing. Attaches
// to one subject follow one another within the process; a writer elsewhere that
// overwrites the fallback tag is noticed by reading it again, and the entry is
// added once more.
func (c *Client) AttachBundle(ctx context.Context, subject Manifest, b BundleAttachment) (attest.Digest, error) {
	raw, descriptor, err := bundleManifest(subject, b)
	if err != nil {
		return attest.Digest{}, err
	}
	return c.attachReferrer(ctx, subject, raw, descriptor, b.Bundle)
}

// attachReferrer writes a referrer manifest with its empty config and content,
// and has it listed.
func (c *Client) attachReferrer(ctx context.Context, subject Manifest, raw []byte, descriptor v1.Descriptor, content []byte) (attest.Digest, error) {
	ref := subject.Reference.WithDigest(subject.Digest)
	s, err := c.target(ctx, ref)
	if err != nil {
		return attest.Digest{}, err
	}
	unlock, err := c.writers.lock(ctx, ref.String())
	if err != nil {
		return attest.Digest{}, s.failure(ctx, err)
	}
	defer unlock()
	if err := s.putBlobs(ctx, []byte("{}"), content); err != nil {
		return attest.Digest{}, err
	}
	digest := attest.DigestOf(raw)
	indexed, err := s.putManifest(ctx, digest.String(), string(types.OCIManifestSchema1), raw, subject.Digest)
	if err != nil {
		return attest.Digest{}, err
	}
	return digest, s.ensureListed(ctx, subject.Digest, descriptor, indexed)
}

func (s source) putBlobs(ctx context.Context, blobs ...[]byte) error {
	group, gctx := errgroup.WithContext(ctx)
	for _, b := range blobs {
		group.Go(func() error { return s.putBlob(gctx, b) })
	}
	return group.Wait()
}

// bundleManifest is the referrer manifest and the descriptor that lists it.
func bundleManifest(subject Manifest, b BundleAttachment) ([]byte, v1.Descriptor, error) {
	switch {
	case len(b.Bundle) == 0 || len(b.Bundle) > limits.Bundle:
		return nil, v1.Descriptor{}, fmt.Errorf("%w: a bundle must have 1 to %d bytes", ErrAttachment, limits.Bundle)
	case b.PredicateType == "":
		return nil, v1.Descriptor{}, fmt.Errorf("%w: no predicate type", ErrAttachment)
	case subject.Digest != attest.DigestOf(subject.Raw):
		return nil, v1.Descriptor{}, fmt.Errorf("%w: the subject's bytes are not of its digest", ErrAttachment)
	}
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  bundleMediaType,
		Config:        descriptorOf([]byte("{}"), emptyMediaType),
		Layers:        []v1.Descriptor{descriptorOf(b.Bundle, bundleMediaType)},
		Annotations: map[string]string{
			annotationCreated:       b.Created.UTC().Format(time.RFC3339),
			annotationContent:       contentDSSE,
			annotationPredicateType: b.PredicateType,
		},
	}
	about := descriptorOf(subject.Raw, subject.MediaType)
	m.Subject = &about
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("%w: %w", ErrAttachment, err)
	}
	listing := descriptorOf(raw, string(types.OCIManifestSchema1))
	listing.ArtifactType, listing.Annotations = bundleMediaType, m.Annotations
	return raw, listing, nil
}

func descriptorOf(b []byte, mediaType string) v1.Descriptor {
	return v1.Descriptor{
		MediaType: types.MediaType(mediaType),
		Size:      int64(len(b)),
		Digest:    v1.Hash{Algorithm: "sha256", Hex: attest.DigestOf(b).Hex()},
	}
}

// ensureListed makes sure that the referrer is found from its subject. A
// registry that did not acknowledge the subject may still have the API.
func (s source) ensureListed(ctx context.Context, subject attest.Digest, d v1.Descriptor, indexed bool) error {
	if indexed {
		return nil
	}
	_, supported, err := s.referrersAPI(ctx, subject)
	if err != nil || supported {
		return err
	}
	return s.listUnderTag(ctx, subject, d)
}

// listUnderTag adds d to the index under the fallback tag, and reads it again
// until it is there: the specification has no compare-and-swap for tags.
func (s source) listUnderTag(ctx context.Context, subject attest.Digest, d v1.Descriptor) error {
	for attempt := range limits.AttachAttempts {
		index, err := s.tagIndex(ctx, subject)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(index.Manifests, func(m v1.Descriptor) bool { return m.Digest == d.Digest }) {
			return nil
		}
		if err := pause(ctx, backoff(attempt)); err != nil {
			return s.failure(ctx, err)
		}
		index.Manifests = append(index.Manifests, d)
		slices.SortFunc(index.Manifests, func(a, b v1.Descriptor) int {
			return strings.Compare(a.Digest.String(), b.Digest.String())
		})
		if err := s.putTagIndex(ctx, subject, index); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: other writers keep replacing the referrers tag of %s", ErrUnavailable, subject)
}

// backoff is none at first, then grows: another writer is at work.
func backoff(attempt int) time.Duration {
	return time.Duration(attempt*attempt) * 25 * time.Millisecond
}

// tagIndex is the index under the fallback tag, or an empty one.
func (s source) tagIndex(ctx context.Context, subject attest.Digest) (*v1.IndexManifest, error) {
	m, err := s.manifest(ctx, fallbackTag(subject))
	switch {
	case errors.Is(err, ErrNotFound):
		return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, nil
	case err != nil:
		return nil, err
	case !m.IsIndex || m.MediaType != string(types.OCIImageIndex):
		return nil, fmt.Errorf("%w: the referrers tag of %s is not an index", ErrAmbiguous, subject)
	}
	return decode[v1.IndexManifest](m.Raw)
}

func (s source) putTagIndex(ctx context.Context, subject attest.Digest, index *v1.IndexManifest) error {
	raw, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("%w: %w", strictjson.ErrInvalid, err)
	}
	if len(raw) > limits.Manifest {
		return fmt.Errorf("%w: the referrers tag of %s would exceed %d bytes", ErrLimit, subject, limits.Manifest)
	}
	_, err = s.putManifest(ctx, fallbackTag(subject), string(types.OCIImageIndex), raw, attest.Digest{})
	return err
}
