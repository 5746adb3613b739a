package registry_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// An .att tag is read beside everything else, layer by layer.
func TestReadLegacyAttestations(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		subject := pushImage(t, c, host, "team/app", "v1")
		annotations := map[string]string{"predicateType": "https://example.com/t/v1", "dev.sigstore.cosign/bundle": "{}"}
		for _, envelope := range []string{`{"a":1}`, `{"a":2}`} {
			if _, err := c.AttachLegacyAttestation(t.Context(), subject.Reference, []byte(envelope), annotations); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.AttachBundle(t.Context(), subject, bundleOf("x")); err != nil {
			t.Fatal(err)
		}
		found, err := c.Attachments(t.Context(), subject.Reference)
		if err != nil || found.Truncated || len(found.Problems) > 0 || len(found.Attachments) != 3 {
			t.Fatalf("%+v, %v", found, err)
		}
		annotations[signatureKey] = ""
		for i, envelope := range []string{`{"a":1}`, `{"a":2}`} {
			want := registry.Attachment{
				Format: registry.FormatLegacyAttestation, Digest: attest.DigestOf([]byte(envelope)), Via: registry.ViaLegacyTag,
				Legacy: &registry.Legacy{Payload: []byte(envelope), Annotations: annotations},
			}
			if diff := cmp.Diff(want, found.Attachments[1+i], cmp.Comparer(sameDigest)); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// H3: a crowd of attestations of other types hides nothing that is looked for,
// and does not count as left unread; what says nothing of its type is looked
// at with what is wanted.
func TestH3WantedFirst(t *testing.T) {
	subject := manifestJSON("subject")
	store := content{}
	var listed []any
	add := func(bundle, predicateType string) {
		store.put("", []byte(bundle))
		referrer := referrerJSON(subject, []byte(bundle))
		store.put(ociManifest, referrer)
		d := descriptor(ociManifest, referrer)
		d["artifactType"] = bundleType
		if predicateType != "" {
			d["annotations"] = map[string]string{"dev.sigstore.bundle.predicateType": predicateType}
		}
		listed = append(listed, d)
	}
	for i := range limits.Bundles * 2 {
		add(fmt.Sprintf(`{"other":%d}`, i), "https://example.com/other")
	}
	add(`{"wanted":1}`, "https://example.com/wanted")
	add(`{"silent":1}`, "")
	listing := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": listed})
	_, c, ref := bundlesAbout(t, store, listing)

	want := registry.Want{Type: func(p string) bool { return p == "https://example.com/wanted" }}
	found, err := c.AttachmentsFor(t.Context(), ref, want)
	if err != nil || found.Truncated || len(found.Attachments) != 2+limits.OtherAttachments {
		t.Fatalf("%d attachments, truncated %t, %v", len(found.Attachments), found.Truncated, err)
	}
	for i, text := range []string{`{"wanted":1}`, `{"silent":1}`} {
		if got := string(found.Attachments[i].Bundle); got != text {
			t.Errorf("%d: %s, want %s", i, got, text)
		}
	}
	found, err = c.Attachments(t.Context(), ref)
	if err != nil || !found.Truncated || len(found.Attachments) != limits.Bundles {
		t.Errorf("everything: %d attachments, truncated %t, %v", len(found.Attachments), found.Truncated, err)
	}
}

// H1: neither tag crowds out the other or the bundles.
func TestH1SharesOfKinds(t *testing.T) {
	subject := manifestJSON("subject")
	store := content{}
	payload := []byte("payload")
	store.put("", payload)
	many := func(mediaType, tag string) {
		layers := make([]any, 500)
		for i := range layers {
			d := descriptor(mediaType, payload)
			d["annotations"] = map[string]string{signatureKey: fmt.Sprint(i)}
			layers[i] = d
		}
		store.put(ociManifest, mustJSON(map[string]any{
			"schemaVersion": 2, "mediaType": ociManifest, "layers": layers,
			"config": descriptor("application/vnd.oci.image.config.v1+json", []byte("{}")),
		}), "sha256-"+attest.DigestOf(subject).Hex()+tag)
	}
	many("application/vnd.dev.cosign.simplesigning.v1+json", ".sig")
	many("application/vnd.dsse.envelope.v1+json", ".att")
	bundle := []byte(`{"good":true}`)
	good := referrerJSON(subject, bundle)
	store.put(ociManifest, good)
	store.put("", bundle)
	_, c, ref := bundlesAbout(t, store, listingJSON(good))
	found, err := c.Attachments(t.Context(), ref)
	if err != nil || !found.Truncated || len(found.Attachments) != limits.Bundles {
		t.Fatalf("%d attachments, truncated %t, %v", len(found.Attachments), found.Truncated, err)
	}
	counts := map[string]int{}
	for _, a := range found.Attachments {
		counts[a.Format]++
	}
	rest := limits.Bundles - 1
	if counts[registry.FormatBundle] != 1 || counts[registry.FormatLegacy] < rest/2 || counts[registry.FormatLegacyAttestation] < rest/2 {
		t.Errorf("%v", counts)
	}
}
