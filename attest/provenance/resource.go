package provenance

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// resource is an in-toto resource descriptor v1.
type resource struct {
	Name             string                    `json:"name"`
	URI              string                    `json:"uri"`
	Digest           map[string]string         `json:"digest"`
	Content          string                    `json:"content"`
	DownloadLocation string                    `json:"downloadLocation"`
	MediaType        string                    `json:"mediaType"`
	Annotations      map[string]jsontext.Value `json:"annotations"`
}

// descriptors reads a list of the caller's; keep says which of them are news.
func (r *additionReader) descriptors(at string, raw []json.RawMessage, keep func(string, resource) bool) ([]jsontext.Value, error) {
	if len(raw) > limits.ProvenanceDescriptors {
		return nil, fault(at, fmt.Sprintf("must have at most %d items", limits.ProvenanceDescriptors))
	}
	var out []jsontext.Value
	for i, item := range raw {
		pointer := fmt.Sprintf("%s/%d", at, i)
		if len(item) > limits.ProvenanceDescriptor {
			return nil, fault(pointer, fmt.Sprintf("must have at most %d bytes", limits.ProvenanceDescriptor))
		}
		var d resource
		if err := strictjson.Unmarshal(item, &d); err != nil {
			return nil, fault(pointer, "is not a resource descriptor: an object of name, uri, digest, content, downloadLocation, mediaType and annotations")
		}
		if err := strictjson.NoNull(item); err != nil {
			return nil, fault(pointer, "must have no null")
		}
		if err := d.check(); err != nil {
			return nil, fault(pointer+err.Pointer, err.Problem)
		}
		if keep(pointer, d) {
			out = append(out, inOrder(jsontext.Value(item)))
		}
	}
	return out, nil
}

// check is the rule of resource_descriptor.md and digest_set.md.
func (d resource) check() *strictjson.FieldError {
	// SLSA does not count a name, in-toto's own types do not count content.
	if d.URI == "" && len(d.Digest) == 0 && (d.Content == "" || d.Name == "") {
		return &strictjson.FieldError{Problem: "must have a uri, a digest, or content and a name"}
	}
	if d.URI != "" && !isAbsolute(d.URI) {
		return &strictjson.FieldError{Pointer: "/uri", Problem: "is not a URI with a scheme"}
	}
	if d.DownloadLocation != "" && !isAbsolute(d.DownloadLocation) {
		return &strictjson.FieldError{Pointer: "/downloadLocation", Problem: "is not a URI with a scheme"}
	}
	if _, err := base64.StdEncoding.DecodeString(d.Content); err != nil {
		return &strictjson.FieldError{Pointer: "/content", Problem: "is not base64"}
	}
	if len(d.Digest) > limits.SubjectDigests {
		return &strictjson.FieldError{Pointer: "/digest", Problem: fmt.Sprintf("must have at most %d digests", limits.SubjectDigests)}
	}
	for algorithm, value := range d.Digest {
		want, fixed := digestBytes(algorithm)
		b, err := hex.DecodeString(value)
		if algorithm == "" || value == "" || fixed && (err != nil || len(b) != want || strings.ToLower(value) != value) {
			return &strictjson.FieldError{Pointer: "/digest", Problem: "has a digest that is not lowercase hexadecimal of its algorithm's length"}
		}
	}
	return nil
}

// digestBytes is the length of a digest of an algorithm that in-toto knows.
func digestBytes(algorithm string) (int, bool) {
	switch algorithm {
	case "md5":
		return 16, true
	case "sha1", "gitBlob", "gitCommit", "gitTag", "gitTree":
		return 20, true
	case "sha224", "sha512_224", "sha3_224":
		return 28, true
	case "sha256", "sha512_256", "sha3_256", "dirHash":
		return 32, true
	case "sha384", "sha3_384":
		return 48, true
	case "sha512", "sha3_512":
		return 64, true
	default:
		return 0, false
	}
}

func isAbsolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && len(s) > len(u.Scheme)+1 && !strings.ContainsFunc(s, blank)
}

// dependency judges a caller's dependency that is a commit of a repository of
// the claims: it must be one of theirs, and then says nothing new.
func (r *additionReader) dependency(at string, d resource) bool {
	repository, ref := repositoryOf(d.URI)
	if repository == "" {
		repository, ref = repositoryOf(d.DownloadLocation)
	}
	var same []descriptor
	for _, have := range r.facts.dependencies() {
		if theirs, _ := repositoryOf(have.URI); theirs == repository && repository != "" {
			same = append(same, have)
		}
	}
	if len(same) == 0 {
		return true
	}
	field := "/uri"
	for _, have := range same {
		_, theirRef := repositoryOf(have.URI)
		commit := have.Digest["gitCommit"]
		switch {
		case theirRef != "" && ref != "" && ref != theirRef && ref != commit && "refs/heads/"+ref != theirRef && "refs/tags/"+ref != theirRef:
		case commit == "":
			return true // the claims do not know the commit; the caller may
		case d.commit() == "":
			r.mismatch(at+"/digest", "must name the commit, since the repository is one of the claims")
			return false
		case d.commit() != commit:
			field = "/digest"
		default:
			return false
		}
	}
	r.mismatch(at+field, "names another ref or commit of a repository than the claims do")
	return false
}

// commit is what names a git commit in a digest set, in either spelling; two
// that differ are none.
func (d resource) commit() string {
	commit, sha1 := d.Digest["gitCommit"], d.Digest["sha1"]
	switch {
	case commit == "":
		return sha1
	case sha1 != "" && sha1 != commit:
		return "two"
	default:
		return commit
	}
}

// repositoryOf reduces a repository's URI to HOST/PATH and the ref behind it:
// git+https, ssh, a package URL, capital letters, a port, slashes too many and
// `.git` are all the same repository. Other URIs have none.
func repositoryOf(uri string) (repository, ref string) {
	s, err := url.PathUnescape(uri)
	if err != nil {
		s = uri
	}
	if rest, found := strings.CutPrefix(strings.ToLower(s), "pkg:"); found {
		kind, below, _ := strings.Cut(rest, "/")
		s = "https://" + map[string]string{"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}[kind] + "/" + below
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		return "", ""
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	host, name, _ := strings.Cut(rest, "/")
	if at := strings.LastIndex(host, "@"); at >= 0 {
		host = host[at+1:]
	}
	host, _, _ = strings.Cut(host, ":")
	name, ref, _ = strings.Cut(name, "@")
	name = strings.TrimSuffix(strings.Trim(path.Clean("/"+name), "/"), ".git")
	if host == "" || name == "" || strings.EqualFold(scheme, "oci") || strings.EqualFold(scheme, "docker") {
		return "", ""
	}
	return strings.ToLower(host + "/" + name), ref
}
