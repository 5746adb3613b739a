package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

var created = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func bundleOf(text string) registry.BundleAttachment {
	return registry.BundleAttachment{
		Bundle: []byte(`{"mediaType":"` + text + `"}`), PredicateType: "https://sigstore.dev/cosign/sign/v1", Created: created,
	}
}

func TestAttachAndReadBack(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		var want []registry.Attachment
		for _, text := range []string{"one", "two"} {
			d, err := c.AttachBundle(t.Context(), subject, bundleOf(text))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, registry.Attachment{Format: registry.FormatBundle, Digest: d, Bundle: bundleOf(text).Bundle})
		}
		annotations := map[string]string{signatureKey: "c2ln", "dev.sigstore.cosign/bundle": "{}"}
		if _, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("payload"), annotations); err != nil {
			t.Fatal(err)
		}
		want = append(want, registry.Attachment{
			Format: registry.FormatLegacy, Digest: attest.DigestOf([]byte("payload")),
			Legacy: &registry.Legacy{Payload: []byte("payload"), Annotations: annotations},
		})
		found, err := c.Attachments(t.Context(), subject.Reference)
		if err != nil {
			t.Fatal(err)
		}
		for i := range found.Attachments {
			found.Attachments[i].Via = ""
		}
		slices.SortFunc(found.Attachments[:2], byBundle)
		if diff := cmp.Diff(registry.Found{Attachments: want}, found, cmp.Comparer(sameDigest)); diff != "" {
			t.Error(diff)
		}
	})
}

func sameDigest(a, b attest.Digest) bool { return a == b }

func byBundle(a, b registry.Attachment) int { return bytes.Compare(a.Bundle, b.Bundle) }

func TestAttachBundleLayout(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, h *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		b := bundleOf("x")
		digest, err := c.AttachBundle(t.Context(), subject, b)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Resolve(t.Context(), subject.Reference.WithDigest(digest))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
			`"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"%s"},`+
			`"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":%d,"digest":"%s"}],`+
			`"annotations":{"dev.sigstore.bundle.content":"dsse-envelope",`+
			`"dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1",`+
			`"org.opencontainers.image.created":"2026-11-23T12:00:00Z"},`+
			`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":%d,"digest":"%s"},`+
			`"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`,
			attest.DigestOf([]byte("{}")), len(b.Bundle), attest.DigestOf(b.Bundle), len(subject.Raw), subject.Digest)
		if diff := cmp.Diff(want, string(m.Raw)); diff != "" {
			t.Error(diff)
		}
		again, err := c.AttachBundle(t.Context(), subject, b)
		if err != nil || again != digest {
			t.Errorf("repeated: %v, %v", again, err)
		}
		found, err := c.Attachments(t.Context(), subject.Reference)
		if err != nil || len(found.Attachments) != 1 {
			t.Errorf("after a repeat: %d attachments, %v", len(found.Attachments), err)
		}
		if t.Name() == "TestAttachBundleLayout/fallback_tag" {
			checkFallbackIndex(t, c, subject, digest)
		}
	})
}

// checkFallbackIndex: the index under the tag lists the referrer with its
// artifact type and annotations, as readers that never fetch it expect.
func checkFallbackIndex(t *testing.T, c *registry.Client, subject registry.Manifest, digest attest.Digest) {
	t.Helper()
	ref := subject.Reference.WithDigest(attest.Digest{})
	ref.Tag = "sha256-" + subject.Digest.Hex()
	m, err := c.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(m.Raw))
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%s: %v", m.Raw, err)
	}
	d := index.Manifests[0]
	if d.Digest.String() != digest.String() || d.ArtifactType != bundleType ||
		d.Annotations["dev.sigstore.bundle.predicateType"] != "https://sigstore.dev/cosign/sign/v1" {
		t.Errorf("%s", m.Raw)
	}
}

func TestAttachLegacyTwiceIsOnce(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, h *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		first, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("p"), map[string]string{signatureKey: "YQ=="})
		if err != nil {
			t.Fatal(err)
		}
		h.forget()
		second, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("p"), map[string]string{signatureKey: "YQ=="})
		if err != nil || first != second || h.count("PUT", "") != 0 {
			t.Errorf("repeated: %s then %s, %v, requests %q", first, second, err, h.seen())
		}
		// The same payload with another signature is another signature.
		if _, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("p"), map[string]string{signatureKey: "Yg=="}); err != nil {
			t.Fatal(err)
		}
		found, err := c.Attachments(t.Context(), subject.Reference)
		if err != nil || len(found.Attachments) != 2 {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// Attaches to one subject queue, so no read-modify-write of a tag loses one.
func TestConcurrentAttachesAreAllThere(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		const each = 20
		var group sync.WaitGroup
		for i := range each {
			group.Go(func() {
				signature := map[string]string{signatureKey: fmt.Sprintf("sig%d", i)}
				if _, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("payload"), signature); err != nil {
					t.Errorf("legacy %d: %v", i, err)
				}
			})
			group.Go(func() {
				if _, err := c.AttachBundle(t.Context(), subject, bundleOf(fmt.Sprint("b", i))); err != nil {
					t.Errorf("bundle %d: %v", i, err)
				}
			})
		}
		group.Wait()
		found, err := c.Attachments(t.Context(), subject.Reference)
		if err != nil || len(found.Attachments) != 2*each || found.Truncated {
			t.Errorf("%d of %d attachments, truncated %t, %v", len(found.Attachments), 2*each, found.Truncated, err)
		}
	})
}

// An overwritten tag is written again: another writer replaces the .sig and
// the referrers tag right after ours was stored.
func TestAttachSurvivesAnotherWriter(t *testing.T) {
	for _, format := range []string{registry.FormatLegacy, registry.FormatBundle} {
		t.Run(format, func(t *testing.T) {
			h := &traced{next: realRegistries()["fallback tag"]()}
			s, _ := script(t, h.ServeHTTP)
			host := hostOf(s)
			c := client(rules(plainRule(host)))
			subject := pushImage(t, c, host, "team/app", "v1")
			tag := "sha256-" + subject.Digest.Hex()
			if format == registry.FormatLegacy {
				tag += ".sig"
			}
			var once sync.Once
			h.instead(func(w http.ResponseWriter, r *http.Request) bool {
				ours := r.Method == http.MethodPut && r.URL.Path == "/v2/team/app/manifests/"+tag
				overwritten := false
				if ours {
					once.Do(func() {
						overwritten = true
						w.WriteHeader(http.StatusCreated) // accepted, and replaced at once
					})
				}
				return overwritten
			})
			var err error
			if format == registry.FormatLegacy {
				_, err = c.AttachLegacy(t.Context(), subject.Reference, []byte("p"), map[string]string{signatureKey: "YQ=="})
			} else {
				_, err = c.AttachBundle(t.Context(), subject, bundleOf("x"))
			}
			if err != nil {
				t.Fatal(err)
			}
			found, err := c.Attachments(t.Context(), subject.Reference)
			if err != nil || len(found.Attachments) != 1 {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

func TestAttachRefusesIncomplete(t *testing.T) {
	s, h := script(t, http.NotFound)
	host := hostOf(s)
	c := client(rules(plainRule(host)))
	raw := manifestJSON("x")
	subject := registry.Manifest{
		Reference: parse(t, host+"/a@"+attest.DigestOf(raw).String()), Digest: attest.DigestOf(raw), MediaType: ociManifest, Raw: raw,
	}
	forged := subject
	forged.Raw = manifestJSON("y")
	for name, attach := range map[string]func() error{
		"empty bundle": func() error { return bundleError(c, t, subject, nil) },
		"large bundle": func() error { return bundleError(c, t, subject, make([]byte, limits.Bundle+1)) },
		"other bytes":  func() error { return bundleError(c, t, forged, []byte("{}")) },
		"no signature": func() error {
			_, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("p"), nil)
			return err
		},
		"no payload": func() error {
			_, err := c.AttachLegacy(t.Context(), subject.Reference, nil, map[string]string{signatureKey: "YQ=="})
			return err
		},
	} {
		if err := attach(); !errors.Is(err, registry.ErrAttachment) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(h.seen()) != 0 {
		t.Errorf("contacted: %q", h.seen())
	}
}

func bundleError(c *registry.Client, t *testing.T, subject registry.Manifest, bundle []byte) error {
	t.Helper()
	_, err := c.AttachBundle(t.Context(), subject, registry.BundleAttachment{Bundle: bundle, PredicateType: "p", Created: created})
	return err
}

// H1: a .sig manifest does not grow beyond what stock readers take, and
// something else under its tag is not overwritten.
func TestAttachLegacyLimits(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "a", "v1")
		pushBlob(t, host, "a", []byte("payload"))
		attach := func(n int) error {
			t.Helper()
			layers := make([]any, n)
			for i := range layers {
				d := descriptor("application/vnd.dev.cosign.simplesigning.v1+json", []byte("payload"))
				d["annotations"] = map[string]string{signatureKey: fmt.Sprint(i)}
				layers[i] = d
			}
			pushManifest(t, host, "a", "sha256-"+subject.Digest.Hex()+".sig", ociManifest, mustJSON(map[string]any{
				"schemaVersion": 2, "mediaType": ociManifest, "layers": layers,
				"config": descriptor("application/vnd.oci.image.config.v1+json", []byte("{}")),
			}))
			_, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("payload"), map[string]string{signatureKey: "new"})
			return err
		}
		if err := attach(limits.LegacySignatures - 1); err != nil {
			t.Error(err)
		}
		if err := attach(limits.LegacySignatures); !errors.Is(err, registry.ErrLimit) {
			t.Error(err)
		}
		pushManifest(t, host, "a", "sha256-"+subject.Digest.Hex()+".sig", ociIndex,
			mustJSON(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{}}))
		_, err := c.AttachLegacy(t.Context(), subject.Reference, []byte("payload"), map[string]string{signatureKey: "new"})
		if !errors.Is(err, registry.ErrAmbiguous) {
			t.Error(err)
		}
	})
}

// A registry that keeps its blobs elsewhere has the blob if it redirects to
// it; the redirect is not followed to find out.
func TestAttachWhereBlobsRedirect(t *testing.T) {
	s := newSink(t, true, nil)
	h := &traced{next: realRegistries()["referrers API"]()}
	server, _ := script(t, h.ServeHTTP)
	c := client(rules(plainRule(hostOf(server))))
	subject := pushImage(t, c, hostOf(server), "a", "v1")
	if _, err := c.AttachBundle(t.Context(), subject, bundleOf("x")); err != nil {
		t.Fatal(err)
	}
	h.forget()
	h.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			http.Redirect(w, r, s.URL, http.StatusTemporaryRedirect)
		}
		return r.Method == http.MethodHead
	})
	if _, err := c.AttachBundle(t.Context(), subject, bundleOf("x")); err != nil {
		t.Error(err)
	}
	if s.connections.Load() != 0 || h.count("POST", "") != 0 {
		t.Errorf("%d connections, %q", s.connections.Load(), h.seen())
	}
}

// TestAttachLegacyAttestation: envelopes go under the .att tag in cosign's
// layout, once each, beside one another and apart from the signatures.
func TestAttachLegacyAttestation(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		for _, envelope := range []string{`{"a":1}`, `{"a":2}`, `{"a":1}`} {
			annotations := map[string]string{"predicateType": "https://example.com/t/v1"}
			if _, err := c.AttachLegacyAttestation(t.Context(), subject.Reference, []byte(envelope), annotations); err != nil {
				t.Fatal(err)
			}
		}
		tag := "sha256-" + subject.Digest.Hex() + ".att"
		m, err := c.Resolve(t.Context(), parse(t, host+"/team/app:"+tag))
		if err != nil {
			t.Fatal(err)
		}
		var image v1.Manifest
		mustUnmarshal(t, m.Raw, &image)
		if len(image.Layers) != 2 {
			t.Fatalf("%d layers", len(image.Layers))
		}
		for i, layer := range image.Layers {
			want := map[string]string{"predicateType": "https://example.com/t/v1", signatureKey: ""}
			if diff := cmp.Diff(want, layer.Annotations); diff != "" || layer.MediaType != "application/vnd.dsse.envelope.v1+json" {
				t.Errorf("layer %d of %s: %s", i, layer.MediaType, diff)
			}
		}
		if _, err := c.Resolve(t.Context(), parse(t, host+"/team/app:sha256-"+subject.Digest.Hex()+".sig")); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("a .sig tag: %v", err)
		}
		for name, call := range map[string]func() error{
			"empty": func() error {
				_, err := c.AttachLegacyAttestation(t.Context(), subject.Reference, nil, nil)
				return err
			},
			"too large": func() error {
				_, err := c.AttachLegacyAttestation(t.Context(), subject.Reference, make([]byte, limits.Bundle+1), nil)
				return err
			},
			"with a signature annotation": func() error {
				_, err := c.AttachLegacyAttestation(t.Context(), subject.Reference, []byte("{}"), map[string]string{signatureKey: "c2ln"})
				return err
			},
		} {
			if err := call(); !errors.Is(err, registry.ErrAttachment) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
