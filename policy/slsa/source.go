package slsa

import (
	"errors"
	"net/url"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// ErrSource says that a URI does not name a repository in one way.
var ErrSource = errors.New("not the URI of a repository")

// Source is a repository and what of it was built.
type Source struct {
	// Repository is SCHEME://HOST/PATH in its one spelling.
	Repository string
	// Ref is the git ref as it was written, or empty.
	Ref string
}

// IsZero reports whether there is no source.
func (s Source) IsZero() bool { return s == Source{} }

// ParseSource reads git+https://HOST/PATH[.git][@REF], with or without git+, as
// SLSA and SPDX write it. It refuses what two readers could take for different
// repositories: user names, queries, escapes, dots between slashes.
func ParseSource(uri string) (Source, error) {
	rest := strings.TrimPrefix(uri, "git+")
	scheme, after, ok := strings.Cut(rest, "://")
	if !ok || len(uri) > limits.Pattern || strings.ContainsAny(after, "\\?#%\x00 \t\r\n") {
		return Source{}, ErrSource
	}
	host, path, ok := strings.Cut(after, "/")
	if !ok || host == "" || strings.Contains(host, "@") {
		return Source{}, ErrSource
	}
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "ssh", "git":
	default:
		return Source{}, ErrSource
	}
	path, ref, _ := strings.Cut(path, "@")
	path, err := cleanPath(path)
	if err != nil {
		return Source{}, err
	}
	// A host that net/url reads otherwise is no host.
	if u, err := url.Parse(scheme + "://" + strings.ReplaceAll(host, "*", "x") + "/"); err != nil || u.Host == "" || u.User != nil {
		return Source{}, ErrSource
	}
	return Source{Repository: scheme + "://" + host + "/" + path, Ref: ref}, nil
}

func cleanPath(path string) (string, error) {
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", ErrSource
		}
	}
	return path, nil
}
