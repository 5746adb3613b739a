//go:build interop

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/countersign/countersign/server/api"
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// deed does something to an image that is in the registry.
type deed func(t *testing.T, s *stage, image string)

// state is an image and what was done to it.
type state struct {
	index bool
	deeds []deed
	// ask, when set, gives another reference to ask about, or another image.
	ask func(t *testing.T, s *stage, image string) string
}

func ours(key string, formats ...string) deed { return oursWith(key, nil, false, formats...) }

func oursWith(key string, annotations map[string]string, recursive bool, formats ...string) deed {
	return func(t *testing.T, s *stage, image string) {
		_, _, err := s.admin.Sign(context.Background(), api.SignatureRequest{
			Image: image, Key: key, Formats: formats, Annotations: annotations, Recursive: recursive,
		}, api.SignOptions{})
		check(t, err)
	}
}

// job signs with the token of a workflow of acme/app.
func job(workflow string, formats ...string) deed {
	return func(t *testing.T, s *stage, image string) {
		_, _, err := s.workflow(t, workflow).Sign(context.Background(), api.SignatureRequest{Image: image, Key: "identity", Formats: formats}, api.SignOptions{})
		check(t, err)
	}
}

func (s *stage) workflow(t *testing.T, name string) *api.Client {
	return s.job(t, workflowClaims(name))
}

func workflowClaims(name string) map[string]any {
	ref := "acme/app/.github/workflows/" + name + ".yml@refs/heads/main"
	return map[string]any{"job_workflow_ref": ref, "workflow_ref": ref}
}

func provenance(workflow, format string) deed {
	return func(t *testing.T, s *stage, image string) {
		_, _, err := s.workflow(t, workflow).Provenance(context.Background(), api.ProvenanceRequest{Image: image, Formats: []string{format}}, api.SignOptions{})
		check(t, err)
	}
}

func oursAttest(key, kind, format string) deed {
	return func(t *testing.T, s *stage, image string) {
		_, _, err := s.admin.Attest(context.Background(), api.AttestationRequest{
			Image: image, Key: key, PredicateType: kind, Predicate: []byte(s.read(t, kind+".json")), Formats: []string{format},
		}, api.SignOptions{})
		check(t, err)
	}
}

// How stock cosign signs: into nothing, with timestamps, or with our log too.
// "legacy" is v2 with the tag, without a log.
func (s *stage) mode(version, mode string) []string {
	switch {
	case mode == "legacy":
		return []string{"--tlog-upload=false"}
	case version == cosignV2:
		return []string{"--new-bundle-format", "--signing-config", s.file(mode + ".json"), "--trusted-root", s.root}
	}
	return []string{"--signing-config", s.file(mode + ".json"), "--trusted-root", s.root}
}

func stock(version, key, mode string, more ...string) deed {
	return func(t *testing.T, s *stage, image string) {
		args := append([]string{"sign", "--yes", "--allow-http-registry", "--key", s.file(key + ".key")}, s.mode(version, mode)...)
		s.stock[version].must(t, append(append(args, more...), image)...)
	}
}

// payload is stock cosign signing a text of the signer's own; %s in it is the
// digest of the image.
func payload(text string) deed {
	return func(t *testing.T, s *stage, image string) {
		_, d := split(image)
		path := filepath.Join(t.TempDir(), "payload.json")
		check(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "%s", d.String())), 0o600))
		stock(cosignV2, "team", "legacy", "--payload", path)(t, s, image)
	}
}

func stockAttest(version, key, kind, predicate, mode string) deed {
	return func(t *testing.T, s *stage, image string) {
		args := append([]string{"attest", "--yes", "--allow-http-registry", "--key", s.file(key + ".key"), "--type", kind, "--predicate", s.file(predicate + ".json")}, s.mode(version, mode)...)
		s.stock[version].must(t, append(args, image)...)
	}
}

// stockJob is stock cosign with the token of a workflow, against our
// certificate authority.
func stockJob(version, workflow, mode string) deed {
	return func(t *testing.T, s *stage, image string) {
		claims := workflowClaims(workflow)
		claims["aud"] = "sigstore"
		args := append([]string{"sign", "--yes", "--allow-http-registry", "--identity-token", s.issuer.GitHub(claims)}, s.mode(version, mode)...)
		s.stock[version].must(t, append(args, image)...)
	}
}

// notate signs with notation; rival says who.
func notate(rival bool, format string, more ...string) deed {
	return func(t *testing.T, s *stage, image string) {
		n := s.acme
		if rival {
			n = s.rival
		}
		n.t = t
		n.must(append(append([]string{"sign", "--insecure-registry", "--signature-format", format}, more...), image)...)
	}
}

// stamped is notate with our timestamps.
func stamped(format string) deed {
	return func(t *testing.T, s *stage, image string) {
		notate(false, format, "--timestamp-url", s.url+"/api/v1/timestamp", "--timestamp-root-cert", s.file("notation/truststore/x509/tsa/countersign/root-1.pem"))(t, s, image)
	}
}

// transplanted does the deeds to another image and copies to this one all that
// is then attached to the other.
func transplanted(deeds ...deed) deed {
	return func(t *testing.T, s *stage, image string) {
		repository, target := split(image)
		source := pushShape(t, s.registry, repository, "image")
		for _, deed := range deeds {
			deed(t, s, s.registry.Image(repository, source))
		}
		s.graft(t, repository, source, target, nil)
		for _, suffix := range []string{".sig", ".att"} {
			if manifest, ok := s.manifest(t, repository, tagOf(source, suffix)); ok {
				s.putManifest(t, repository, tagOf(target, suffix), manifest)
			}
		}
	}
}

// altered changes every bundle of the image.
func altered(change func(t *testing.T, bundle map[string]any)) deed {
	return func(t *testing.T, s *stage, image string) {
		repository, target := split(image)
		for _, referrer := range s.graft(t, repository, target, target, change) {
			check(t, s.registry.Delete(context.Background(), repository, referrer))
		}
	}
}

// alteredTag changes the first layer under the image's legacy tag: its
// annotations, or with payload what was signed.
func alteredTag(suffix string, change func(annotations map[string]any), payload func([]byte) []byte) deed {
	return func(t *testing.T, s *stage, image string) {
		repository, target := split(image)
		manifest, ok := s.manifest(t, repository, tagOf(target, suffix))
		if !ok {
			t.Fatalf("no %s of %s", suffix, image)
		}
		layer := manifest["layers"].([]any)[0].(map[string]any)
		if change != nil {
			change(layer["annotations"].(map[string]any))
		}
		if payload != nil {
			s.putBlob(t, repository, layer, payload(s.blob(t, repository, layer["digest"].(string))))
		}
		s.putManifest(t, repository, tagOf(target, suffix), manifest)
	}
}

// stripped removes all that is attached.
func stripped(t *testing.T, s *stage, image string) {
	repository, target := split(image)
	referrers, err := s.registry.Referrers(context.Background(), repository, target)
	check(t, err)
	for _, suffix := range []string{".sig", ".att"} {
		if _, ok := s.manifest(t, repository, tagOf(target, suffix)); ok {
			referrers = append(referrers, s.resolve(t, repository, tagOf(target, suffix)))
		}
	}
	for _, referrer := range referrers {
		check(t, s.registry.Delete(context.Background(), repository, referrer))
	}
}

// graft copies the referrers of one image to another, with a change of the
// bundle, and returns the old ones.
func (s *stage) graft(t *testing.T, repository string, from, to digest.Digest, change func(*testing.T, map[string]any)) []digest.Digest {
	t.Helper()
	referrers, err := s.registry.Referrers(context.Background(), repository, from)
	check(t, err)
	subject, _ := s.get(t, repository, "manifests/"+to.String())
	for _, referrer := range referrers {
		manifest, _ := s.manifest(t, repository, referrer.String())
		about := manifest["subject"].(map[string]any)
		about["digest"], about["size"] = to.String(), len(subject)
		if change != nil {
			layer := manifest["layers"].([]any)[0].(map[string]any)
			var bundle map[string]any
			check(t, json.Unmarshal(s.blob(t, repository, layer["digest"].(string)), &bundle))
			change(t, bundle)
			raw, err := json.Marshal(bundle)
			check(t, err)
			s.putBlob(t, repository, layer, raw)
		}
		s.putManifest(t, repository, "", manifest)
	}
	return referrers
}

// split is the repository and the digest of a reference.
func split(image string) (repository string, d digest.Digest) {
	name, after, _ := strings.Cut(image, "@")
	_, repository, _ = strings.Cut(name, "/")
	return repository, digest.Digest(after)
}

func tagOf(d digest.Digest, suffix string) string {
	return strings.Replace(d.String(), ":", "-", 1) + suffix
}

// get reads from the registry as anybody can.
func (s *stage) get(t *testing.T, repository, path string) (content []byte, ok bool) {
	t.Helper()
	resp, err := http.Get("http://" + s.registry.Host + "/v2/" + repository + "/" + path)
	check(t, err)
	defer resp.Body.Close()
	content, err = io.ReadAll(resp.Body)
	check(t, err)
	return content, resp.StatusCode == http.StatusOK
}

func (s *stage) manifest(t *testing.T, repository, reference string) (manifest map[string]any, ok bool) {
	t.Helper()
	raw, ok := s.get(t, repository, "manifests/"+reference)
	if ok {
		check(t, json.Unmarshal(raw, &manifest))
	}
	return manifest, ok
}

func (s *stage) resolve(t *testing.T, repository, tag string) digest.Digest {
	t.Helper()
	raw, _ := s.get(t, repository, "manifests/"+tag)
	return digest.FromBytes(raw)
}

func (s *stage) blob(t *testing.T, repository, d string) []byte {
	t.Helper()
	raw, ok := s.get(t, repository, "blobs/"+d)
	if !ok {
		t.Fatalf("no blob %s", d)
	}
	return raw
}

// tag points a tag at a manifest, byte for byte.
func (s *stage) tag(t *testing.T, repository, tag string, d digest.Digest) {
	t.Helper()
	raw, _ := s.get(t, repository, "manifests/"+d.String())
	tagged, err := s.registry.PushManifest(context.Background(), repository, tag, ociManifest, raw)
	check(t, err)
	if tagged != d {
		t.Fatalf("the tag is at %s, not at %s", tagged, d)
	}
}

// putManifest stores it under a tag, or by its digest alone.
func (s *stage) putManifest(t *testing.T, repository, tag string, manifest map[string]any) digest.Digest {
	t.Helper()
	raw, err := json.Marshal(manifest)
	check(t, err)
	mediaType, _ := manifest["mediaType"].(string)
	d, err := s.registry.PushManifest(context.Background(), repository, tag, mediaType, raw)
	check(t, err)
	return d
}

// putBlob stores a blob and makes the descriptor speak of it.
func (s *stage) putBlob(t *testing.T, repository string, descriptor map[string]any, blob []byte) {
	t.Helper()
	d := digest.FromBytes(blob)
	base := "http://" + s.registry.Host
	resp, err := http.Post(base+"/v2/"+repository+"/blobs/uploads/", "", nil)
	check(t, err)
	resp.Body.Close()
	location := resp.Header.Get("Location")
	if strings.HasPrefix(location, "/") {
		location = base + location
	}
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, fmt.Sprintf("%s%sdigest=%s", location, separator, d), bytes.NewReader(blob))
	check(t, err)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err = http.DefaultClient.Do(req)
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing a blob: %s", resp.Status)
	}
	descriptor["digest"], descriptor["size"] = d.String(), len(blob)
}
