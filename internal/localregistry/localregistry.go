// Package localregistry is an OCI registry in memory on a loopback address,
// for the demo and for tests. Images pushed through it are small but whole:
// a configuration, one layer, a manifest that a runtime could start.
//
// It authenticates nobody and keeps nothing: never put it in front of others.
package localregistry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociclient"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options change what the registry is like.
type Options struct {
	// Address to listen on; empty is a free port of 127.0.0.1.
	Address string
	// WithoutReferrers makes it a registry that knows no referrers API, so
	// that clients fall back to tags.
	WithoutReferrers bool
	// Wrap, when set, stands in front of every request.
	Wrap func(http.Handler) http.Handler
}

// Registry is a running registry.
type Registry struct {
	// Host is HOST:PORT, the registry part of a reference.
	Host string

	backend ociregistry.Interface
	server  *http.Server
	done    chan struct{}
}

// Start serves a new, empty registry until Close.
func Start(ctx context.Context, options Options) (*Registry, error) {
	address := options.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	backend := ocimem.New()
	handler := ociserver.New(backend, nil)
	if options.WithoutReferrers {
		handler = withoutReferrers(handler)
	}
	if options.Wrap != nil {
		handler = options.Wrap(handler)
	}
	r := &Registry{
		Host:    listener.Addr().String(),
		backend: backend,
		server:  &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
		done:    make(chan struct{}),
	}
	go func() {
		defer close(r.done)
		_ = r.server.Serve(listener) // always an error; ErrServerClosed after Close
	}()
	return r, nil
}

// Connect uses a registry that somebody else runs, over plain HTTP.
func Connect(host string) (*Registry, error) {
	backend, err := ociclient.New(host, &ociclient.Options{Insecure: true})
	if err != nil {
		return nil, fmt.Errorf("connecting to the registry: %w", err)
	}
	return &Registry{Host: host, backend: backend}, nil
}

// Close stops a registry that was started here and forgets its content.
func (r *Registry) Close() error {
	if r.server == nil {
		return nil
	}
	err := r.server.Close()
	<-r.done
	return err
}

// withoutReferrers answers as a registry of distribution specification 1.0:
// no referrers API, and no OCI-Subject header that would promise one.
func withoutReferrers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/referrers/") {
			http.NotFound(w, req)
			return
		}
		next.ServeHTTP(&withoutSubject{ResponseWriter: w}, req)
	})
}

type withoutSubject struct{ http.ResponseWriter }

func (w *withoutSubject) WriteHeader(status int) {
	w.Header().Del("OCI-Subject")
	w.ResponseWriter.WriteHeader(status)
}

// Image is the reference of a manifest in this registry by digest.
func (r *Registry) Image(repository string, d digest.Digest) string {
	return r.Host + "/" + repository + "@" + d.String()
}

// PushImage pushes a linux/amd64 image whose only file holds content, and tags
// it unless tag is empty. Equal content gives equal digests.
func (r *Registry) PushImage(ctx context.Context, repository, tag, content string) (digest.Digest, error) {
	desc, err := r.pushImage(ctx, repository, tag, content, v1.Platform{OS: "linux", Architecture: "amd64"})
	return desc.Digest, err
}

// PushIndex pushes an image for each architecture and an index over them.
func (r *Registry) PushIndex(ctx context.Context, repository, tag, content string, architectures ...string) (digest.Digest, error) {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, arch := range architectures {
		platform := v1.Platform{OS: "linux", Architecture: arch}
		desc, err := r.pushImage(ctx, repository, "", content+" for "+arch, platform)
		if err != nil {
			return "", err
		}
		desc.Platform = &platform
		index.Manifests = append(index.Manifests, desc)
	}
	desc, err := r.pushJSON(ctx, repository, tag, v1.MediaTypeImageIndex, index)
	return desc.Digest, err
}

// PushManifest pushes a manifest as it is.
func (r *Registry) PushManifest(ctx context.Context, repository, tag, mediaType string, manifest []byte) (digest.Digest, error) {
	desc, err := r.backend.PushManifest(ctx, repository, tag, manifest, mediaType)
	if err != nil {
		return "", fmt.Errorf("pushing a manifest: %w", err)
	}
	return desc.Digest, nil
}

// PushReferrer attaches blob to subject as an artifact of that type, as any
// client with the right to push could.
func (r *Registry) PushReferrer(ctx context.Context, repository string, subject digest.Digest, artifactType string, blob []byte) (digest.Digest, error) {
	about, err := r.backend.ResolveManifest(ctx, repository, subject)
	if err != nil {
		return "", fmt.Errorf("resolving the subject: %w", err)
	}
	config, err := r.pushBlob(ctx, repository, v1.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return "", err
	}
	layer, err := r.pushBlob(ctx, repository, artifactType, blob)
	if err != nil {
		return "", err
	}
	desc, err := r.pushJSON(ctx, repository, "", v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: config, Layers: []v1.Descriptor{layer}, Subject: &about,
	})
	return desc.Digest, err
}

// Referrers lists the digests of what is attached to subject, of any type.
func (r *Registry) Referrers(ctx context.Context, repository string, subject digest.Digest) ([]digest.Digest, error) {
	var found []digest.Digest
	for desc, err := range r.backend.Referrers(ctx, repository, subject, "") {
		if err != nil {
			return nil, fmt.Errorf("listing referrers: %w", err)
		}
		found = append(found, desc.Digest)
	}
	return found, nil
}

// Delete removes a manifest.
func (r *Registry) Delete(ctx context.Context, repository string, d digest.Digest) error {
	return r.backend.DeleteManifest(ctx, repository, d)
}

func (r *Registry) pushImage(ctx context.Context, repository, tag, content string, platform v1.Platform) (v1.Descriptor, error) {
	plain, packed, err := layer(content)
	if err != nil {
		return v1.Descriptor{}, err
	}
	layerDesc, err := r.pushBlob(ctx, repository, v1.MediaTypeImageLayerGzip, packed)
	if err != nil {
		return v1.Descriptor{}, err
	}
	image, err := json.Marshal(v1.Image{
		Platform: platform,
		Config:   v1.ImageConfig{Cmd: []string{"/hello"}},
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}},
	})
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("encoding the image configuration: %w", err)
	}
	config, err := r.pushBlob(ctx, repository, v1.MediaTypeImageConfig, image)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return r.pushJSON(ctx, repository, tag, v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []v1.Descriptor{layerDesc},
	})
}

func (r *Registry) pushBlob(ctx context.Context, repository, mediaType string, blob []byte) (v1.Descriptor, error) {
	desc := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	if _, err := r.backend.PushBlob(ctx, repository, desc, bytes.NewReader(blob)); err != nil {
		return v1.Descriptor{}, fmt.Errorf("pushing a blob: %w", err)
	}
	return desc, nil
}

func (r *Registry) pushJSON(ctx context.Context, repository, tag, mediaType string, v any) (v1.Descriptor, error) {
	encoded, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("encoding a manifest: %w", err)
	}
	desc, err := r.backend.PushManifest(ctx, repository, tag, encoded, mediaType)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("pushing a manifest: %w", err)
	}
	return v1.Descriptor{MediaType: mediaType, Digest: desc.Digest, Size: int64(len(encoded))}, nil
}

// layer is a tar archive with one file, plain and compressed.
func layer(content string) (plain, packed []byte, err error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(content)), Format: tar.FormatUSTAR}
	headerErr := w.WriteHeader(header)
	_, writeErr := w.Write([]byte(content))
	if err := errors.Join(headerErr, writeErr, w.Close()); err != nil {
		return nil, nil, fmt.Errorf("packing the layer: %w", err)
	}
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(archive.Bytes()); err != nil {
		return nil, nil, fmt.Errorf("compressing the layer: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, nil, fmt.Errorf("compressing the layer: %w", err)
	}
	return archive.Bytes(), compressed.Bytes(), nil
}
