package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/strictjson"
)

// Manifest is an image manifest or an index as a registry served it.
type Manifest struct {
	// Reference is what was asked for, with Digest set.
	Reference Reference
	// Digest is that of Raw.
	Digest    attest.Digest
	MediaType string
	// Raw are the bytes that hash to Digest.
	Raw []byte
	// IsIndex tells an index from an image manifest.
	IsIndex bool
	// Children are the entries of an index, in its order. Their number is
	// bounded by the size of Raw only: see limits.IndexChildren.
	Children []Child
}

// Child is one entry of an index.
type Child struct {
	Digest    attest.Digest
	MediaType string
	Size      int64
	// Platform is "os/architecture" or "os/architecture/variant", or empty.
	Platform string
}

// acceptManifests is what Resolve can classify.
const acceptManifests = string(types.OCIManifestSchema1) + "," + string(types.DockerManifestSchema2) + "," +
	string(types.OCIImageIndex) + "," + string(types.DockerManifestList)

// members that make a document an image manifest, an index, or a manifest of
// schema version 1. Any two kinds in one document are two documents.
var (
	imageMembers   = []string{"config", "layers"}                  //nolint:gochecknoglobals // constant table
	indexMembers   = []string{"manifests"}                         //nolint:gochecknoglobals // constant table
	schema1Members = []string{"fslayers", "history", "signatures"} //nolint:gochecknoglobals // constant table
	knownMembers   = []string{                                     //nolint:gochecknoglobals // constant table
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
		"digest", "size", "urls", "data", "platform", "architecture", "os", "variant",
	}
	platformPart = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

// parsed is a classified document.
type parsed struct {
	mediaType string
	isIndex   bool
	image     *v1.Manifest
	index     *v1.IndexManifest
}

// classify decides what a document is, and refuses with ErrAmbiguous what two
// readers could take for two things: both manifest and index, duplicate names,
// names that differ in case from known ones (Go's own JSON decoder would take
// them), or a Content-Type that contradicts the document (image-spec,
// "mediaType": it must match when set).
func classify(raw []byte, contentType string) (parsed, error) {
	members, err := topLevel(raw)
	if err != nil {
		return parsed{}, err
	}
	isImage, isIndex := hasAny(members, imageMembers), hasAny(members, indexMembers)
	switch {
	case hasAny(members, schema1Members):
		return parsed{}, fmt.Errorf("%w: members of a schema 1 manifest", ErrAmbiguous)
	case isImage == isIndex:
		return parsed{}, fmt.Errorf("%w: must have either config and layers, or manifests", ErrAmbiguous)
	}
	p := parsed{isIndex: isIndex}
	if isIndex {
		p.index, err = decode[v1.IndexManifest](raw)
	} else {
		p.image, err = decode[v1.Manifest](raw)
	}
	if err != nil {
		return parsed{}, err
	}
	return p, p.settleMediaType(contentType)
}

func (p *parsed) settleMediaType(contentType string) error {
	declared, version := "", int64(0)
	if p.isIndex {
		declared, version = string(p.index.MediaType), p.index.SchemaVersion
	} else {
		declared, version = string(p.image.MediaType), p.image.SchemaVersion
	}
	if version != 2 {
		return fmt.Errorf("%w: schemaVersion is not 2", ErrAmbiguous)
	}
	served, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("%w: Content-Type", ErrAmbiguous)
	}
	if declared != "" && declared != served {
		return fmt.Errorf("%w: Content-Type contradicts mediaType", ErrAmbiguous)
	}
	if !mediaTypeIs(served, p.isIndex) {
		return fmt.Errorf("%w: Content-Type contradicts the document or is not supported", ErrAmbiguous)
	}
	p.mediaType = served
	return nil
}

func mediaTypeIs(mediaType string, index bool) bool {
	switch types.MediaType(mediaType) {
	case types.OCIImageIndex, types.DockerManifestList:
		return index
	case types.OCIManifestSchema1, types.DockerManifestSchema2:
		return !index
	}
	return false
}

// topLevel returns the names of the document's members. It refuses what
// strictjson refuses, and names that only case tells apart or that differ from
// a known one in case, at any depth outside annotations: encoding/json takes
// them for the known name, other readers do not.
func topLevel(raw []byte) (map[string]bool, error) {
	if err := strictjson.Check(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	w := nameWalk{dec: jsontext.NewDecoder(bytes.NewReader(raw)), top: map[string]bool{}}
	if w.dec.PeekKind() != '{' {
		return nil, fmt.Errorf("%w: not an object", ErrAmbiguous)
	}
	if err := w.value(0, true); err != nil {
		return nil, err
	}
	return w.top, nil
}

// nameWalk visits the member names of a document that strictjson accepts, so
// its recursion is bounded by limits.JSONDepth.
type nameWalk struct {
	dec *jsontext.Decoder
	top map[string]bool
}

func (w *nameWalk) value(depth int, checked bool) error {
	token, err := w.dec.ReadToken()
	if err != nil {
		return fmt.Errorf("%w: malformed", ErrAmbiguous)
	}
	switch token.Kind() {
	case '{':
		return w.object(depth, checked)
	case '[':
		for w.dec.PeekKind() != ']' {
			if err := w.value(depth+1, checked); err != nil {
				return err
			}
		}
		_, err = w.dec.ReadToken()
	}
	return err
}

func (w *nameWalk) object(depth int, checked bool) error {
	seen := map[string]bool{}
	for w.dec.PeekKind() != '}' {
		token, err := w.dec.ReadToken()
		if err != nil {
			return fmt.Errorf("%w: malformed", ErrAmbiguous)
		}
		name := token.String()
		folded := strings.ToLower(strings.ToUpper(name))
		if checked && (seen[folded] || !exactIfKnown(name)) {
			return fmt.Errorf("%w: member names that differ in case", ErrAmbiguous)
		}
		seen[folded] = true
		if depth == 0 {
			w.top[folded] = true
		}
		if err := w.value(depth+1, checked && name != "annotations"); err != nil {
			return err
		}
	}
	_, err := w.dec.ReadToken()
	return err
}

func exactIfKnown(name string) bool {
	for _, known := range knownMembers {
		if name != known && strings.EqualFold(name, known) {
			return false
		}
	}
	return true
}

func hasAny(members map[string]bool, names []string) bool {
	for _, n := range names {
		if members[n] {
			return true
		}
	}
	return false
}

// decode fills a wire type. Duplicate names were refused before, by topLevel.
func decode[T any](raw []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("%w: members have the wrong form", ErrAmbiguous)
	}
	return v, nil
}

// newManifest classifies raw and binds it to its digest.
func newManifest(ref Reference, raw []byte, contentType string) (Manifest, error) {
	p, err := classify(raw, contentType)
	if err != nil {
		return Manifest{}, err
	}
	ref.Digest = attest.DigestOf(raw)
	m := Manifest{Reference: ref, Digest: ref.Digest, MediaType: p.mediaType, Raw: raw, IsIndex: p.isIndex}
	if p.isIndex {
		m.Children, err = children(p.index)
	}
	return m, err
}

func children(index *v1.IndexManifest) ([]Child, error) {
	out := make([]Child, 0, len(index.Manifests))
	for _, d := range index.Manifests {
		digest, err := attest.ParseDigest(d.Digest.String())
		if err != nil || d.Size < 0 {
			return nil, fmt.Errorf("%w: an entry has no sha256 digest or a negative size", ErrAmbiguous)
		}
		out = append(out, Child{
			Digest: digest, MediaType: string(d.MediaType), Size: d.Size, Platform: platform(d.Platform),
		})
	}
	return out, nil
}

// platform is empty for a platform that is not plain words: it ends up in
// answers and logs.
func platform(p *v1.Platform) string {
	if p == nil || !platformPart.MatchString(p.OS) || !platformPart.MatchString(p.Architecture) {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" && platformPart.MatchString(p.Variant) {
		s += "/" + p.Variant
	}
	return s
}

// errIs reports whether err is one of targets.
func errIs(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
