package provenance

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/internal/limits"
)

// claimReader reads claims and remembers the first that does not do.
type claimReader struct {
	values map[string]string
	err    error
}

// refuse keeps the claim's name, never its value.
func (c *claimReader) refuse(claim, problem string) {
	if c.err == nil {
		c.err = &ClaimError{Claim: claim, Problem: problem}
	}
}

// need is a claim that must be there.
func (c *claimReader) need(claim string) string {
	value := c.may(claim)
	if value == "" {
		c.refuse(claim, "is missing")
	}
	return value
}

// may is a claim that may be missing. Text that cannot stand in a certificate
// cannot stand here either: the two are compared.
func (c *claimReader) may(claim string) string {
	value := c.values[claim]
	if len(value) > limits.CertificateClaim || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		c.refuse(claim, "is not a line of text of reasonable length")
		return ""
	}
	return value
}

// checked is a claim that must be there and pass.
func (c *claimReader) checked(claim string, pass func(string) bool, problem string) string {
	value := c.need(claim)
	if value != "" && !pass(value) {
		c.refuse(claim, problem)
	}
	return value
}

// path is a repository's path on its server.
func (c *claimReader) path(claim string) string {
	return c.checked(claim, isRepositoryPath, "is not a repository's path")
}

// word is one segment of a URL.
func (c *claimReader) word(claim string) string {
	return c.checked(claim, isSegment, "cannot be a part of a URL")
}

// commit is a SHA-1 commit. in-toto's gitCommit has 20 bytes; a repository with
// SHA-256 object names has no digest there.
func (c *claimReader) commit(claim string) string {
	return c.checked(claim, isCommit, "is not a commit of 40 hexadecimal digits")
}

// ref is a full git ref.
func (c *claimReader) ref(claim string) string {
	return c.checked(claim, isRef, "is not a full git ref")
}

// some are the claims that are there, by the same names.
func (c *claimReader) some(claims ...string) map[string]string {
	out := map[string]string{}
	for _, claim := range claims {
		if value := c.may(claim); value != "" {
			out[claim] = value
		}
	}
	return out
}

// blank is a character that no URI has, not even where readers are lenient.
func blank(r rune) bool { return r <= ' ' || r == 0x7f }

func isCommit(s string) bool {
	return len(s) == 40 && strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) < 0
}

// isSegment accepts the unreserved characters of RFC 3986, and no segment that
// a reader could take for a step upwards.
func isSegment(s string) bool {
	return s != "" && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-._~", r)
	}) < 0
}

// isRepositoryPath accepts two segments or more.
func isRepositoryPath(s string) bool {
	segments := strings.Split(s, "/")
	for _, segment := range segments {
		if !isSegment(segment) {
			return false
		}
	}
	return len(segments) >= 2
}

// isRef is git-check-ref-format(1) for a ref below refs/. No ref has a space or
// a colon, and so none has a URL in it.
func isRef(s string) bool {
	rest, found := strings.CutPrefix(s, "refs/")
	if !found || strings.Contains(s, "..") || strings.Contains(s, "@{") || strings.HasSuffix(s, ".") {
		return false
	}
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }
	if strings.ContainsFunc(rest, bad) {
		return false
	}
	for _, part := range strings.Split(rest, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

// isFilePath is a path within a repository that stays in it. One with a space is
// refused, as a builder id with it would be no URI.
func isFilePath(s string) bool {
	if s == "" || strings.Contains(s, "\\") || strings.ContainsFunc(s, blank) {
		return false
	}
	for _, segment := range strings.Split(s, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// reading is one way to split PATH@REF.
type reading struct{ path, ref string }

// readings are all ways to split PATH@REF, where REF is a full ref or a commit.
// Both may have an `@`: a file's name may, and a branch may be called
// `a@refs/b`. Which one is meant is for the caller to know, or to refuse.
func readings(s string) []reading {
	var out []reading
	for i := range len(s) {
		if s[i] != '@' {
			continue
		}
		if r := (reading{s[:i], s[i+1:]}); (isRef(r.ref) || isCommit(r.ref)) && isFilePath(r.path) {
			out = append(out, r)
		}
	}
	return out
}
