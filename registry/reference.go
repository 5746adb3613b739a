package registry

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/countersign/countersign/attest"
)

// DockerHub is the host that names without a host refer to; "docker.io" is
// read as this.
const DockerHub = "index.docker.io"

const (
	maxReference  = 1024
	maxHost       = 255
	maxRepository = 255
	maxTag        = 128
	defaultTag    = "latest"
)

// Reference names an image: a digest, or a tag that must be resolved first.
// If Digest is set, Tag is for display only.
type Reference struct {
	// Host is the registry's authority, lowercase, with a port if it has one.
	Host string
	// Repository is the path within the registry.
	Repository string
	// Tag is empty if only a digest was given.
	Tag string
	// Digest is zero if only a tag was given.
	Digest attest.Digest
}

// ParseReference reads [HOST/]REPOSITORY[:TAG][@sha256:HEX] in the grammar of
// the distribution specification. A name without a host belongs to DockerHub,
// with "library/" in front if it has one component; without tag and digest
// the tag is "latest". Everything the grammar does not allow is refused:
// uppercase repositories, empty components, "..", digests other than sha256.
func ParseReference(s string) (Reference, error) {
	if s == "" || len(s) > maxReference {
		return Reference{}, fmt.Errorf("%w: must have 1 to %d bytes", ErrReference, maxReference)
	}
	var ref Reference
	name, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		d, err := attest.ParseDigest(digest)
		if err != nil {
			return Reference{}, fmt.Errorf("%w: %w", ErrReference, err)
		}
		ref.Digest = d
	}
	ref.Host, name = splitHost(name)
	if !validHost(ref.Host) {
		return Reference{}, fmt.Errorf("%w: host", ErrReference)
	}
	name, tag, hasTag := strings.Cut(name, ":")
	switch {
	case hasTag && !validTag(tag):
		return Reference{}, fmt.Errorf("%w: tag", ErrReference)
	case hasTag:
		ref.Tag = tag
	case !hasDigest:
		ref.Tag = defaultTag
	}
	ref.Repository = name
	if ref.Host == DockerHub && !strings.Contains(name, "/") {
		ref.Repository = "library/" + name
	}
	if !validRepository(ref.Repository) {
		return Reference{}, fmt.Errorf("%w: repository must be lowercase path components", ErrReference)
	}
	return ref, nil
}

// Name is HOST/REPOSITORY, which policies match.
func (r Reference) Name() string { return r.Host + "/" + r.Repository }

// Pinned is HOST/REPOSITORY@DIGEST.
func (r Reference) Pinned(d attest.Digest) string { return r.Name() + "@" + d.String() }

// String is the form ParseReference reads.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// WithDigest is the reference to d in the same repository, without a tag.
func (r Reference) WithDigest(d attest.Digest) Reference {
	return Reference{Host: r.Host, Repository: r.Repository, Digest: d}
}

// splitHost takes the first component for a host if it could not be a
// repository's: it has a dot or a colon, or is "localhost". "repo:tag" has a
// colon but no slash behind it.
func splitHost(name string) (host, rest string) {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || (first != "localhost" && !strings.ContainsAny(first, ".:")) {
		return DockerHub, name
	}
	return normalHost(first), rest
}

func normalHost(host string) string {
	host = strings.ToLower(host)
	if host == "docker.io" {
		return DockerHub
	}
	return host
}

// validHost accepts a domain name, an IPv4 address or a bracketed IPv6 address,
// lowercase, without a trailing dot, with an optional port.
func validHost(host string) bool {
	if host == "" || len(host) > maxHost {
		return false
	}
	if strings.HasPrefix(host, "[") {
		return validIPv6Host(host)
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && !validPort(port) {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validIPv6Host(host string) bool {
	literal, port, ok := strings.Cut(host[1:], "]")
	if !ok || (port != "" && (port[0] != ':' || !validPort(port[1:]))) {
		return false
	}
	addr, err := netip.ParseAddr(literal)
	return err == nil && addr.Is6() && addr.Zone() == ""
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !isLowerAlnum(r) && r != '-' }) < 0
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !isLowerAlnum(r) && (r < 'A' || r > 'Z') && r != '_' && r != '.' && r != '-'
	}) < 0
}

func validRepository(s string) bool {
	if s == "" || len(s) > maxRepository {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

// validComponent is the specification's
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func validComponent(s string) bool {
	if s == "" || !isLowerAlnum(rune(s[0])) || !isLowerAlnum(rune(s[len(s)-1])) {
		return false
	}
	separator := ""
	for _, r := range s {
		if isLowerAlnum(r) {
			separator = ""
			continue
		}
		separator += string(r)
		if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
			return false
		}
	}
	return true
}

func isLowerAlnum(r rune) bool { return (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') }
