package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/countersign/countersign/attest"
)

// ociSubject is how a registry acknowledges that it indexed a referrer
// (distribution specification, "Pushing Manifests with Subject").
const ociSubject = "OCI-Subject"

// target is where something is attached: the registry itself, never a mirror.
func (c *Client) target(ctx context.Context, ref Reference) (source, error) {
	if ref.Digest.IsZero() {
		return source{}, fmt.Errorf("%w: attaching needs a digest", ErrReference)
	}
	o, err := c.origin(ctx, ref.Host, ref.Repository)
	if err != nil {
		return source{}, err
	}
	return source{origin: o, repository: ref.Repository, actions: actionsPush}, nil
}

// putBlob uploads b unless the repository has it: POST, then PUT to the
// Location, which must be of the same origin.
func (s source) putBlob(ctx context.Context, b []byte) error {
	digest := attest.DigestOf(b)
	has, err := s.hasBlob(ctx, digest)
	if err != nil || has {
		return err
	}
	location, err := s.startUpload(ctx)
	if err != nil {
		return err
	}
	q := location.Query()
	q.Set("digest", digest.String())
	location.RawQuery = q.Encode()
	a, err := s.do(ctx, call{
		method: http.MethodPut, url: location, scope: scope{s.repository, s.actions},
		contentType: "application/octet-stream", body: b,
	})
	if err != nil {
		return err
	}
	return s.expect(a, "upload of blob "+digest.String(), http.StatusCreated, http.StatusNoContent)
}

func (s source) hasBlob(ctx context.Context, digest attest.Digest) (bool, error) {
	c := s.get(s.path("blobs", digest.String()), "", 0)
	// A registry redirects only to what it has, and the object store's
	// signature on the redirect may not be good for a HEAD.
	c.method, c.redirectIsAnswer = http.MethodHead, true
	a, err := s.read(ctx, c)
	return err == nil && (a.status == http.StatusOK || isRedirect(a.status)), err
}

// startUpload returns the session's location.
func (s source) startUpload(ctx context.Context) (*url.URL, error) {
	from := s.url(s.path("blobs", "uploads") + "/")
	a, err := s.do(ctx, call{
		method: http.MethodPost, url: from, scope: scope{s.repository, s.actions}, body: []byte{},
	})
	if err != nil {
		return nil, err
	}
	if err := s.expect(a, "start of an upload", http.StatusAccepted); err != nil {
		return nil, err
	}
	location, err := from.Parse(a.header.Get("Location"))
	if err != nil || location.User != nil || a.header.Get("Location") == "" || !s.sameOrigin(location) {
		return nil, fmt.Errorf("%w: %s wants the upload at another place", ErrUnsafe, s.rule.Host)
	}
	return location, nil
}

// putManifest writes a manifest under a tag or its digest. indexed reports
// that the registry acknowledged its subject.
func (s source) putManifest(ctx context.Context, identifier, mediaType string, raw []byte, subject attest.Digest) (indexed bool, err error) {
	a, err := s.do(ctx, call{
		method: http.MethodPut, url: s.url(s.path("manifests", identifier)), scope: scope{s.repository, s.actions},
		contentType: mediaType, body: raw,
	})
	if err != nil {
		return false, err
	}
	if err := s.expect(a, "writing manifest "+identifier, http.StatusCreated, http.StatusOK, http.StatusAccepted); err != nil {
		return false, err
	}
	return a.header.Get(ociSubject) == subject.String(), nil
}
