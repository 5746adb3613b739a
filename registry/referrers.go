package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/limits"
)

// listed is what a listing says of one referrer. It is a hint: the manifest
// itself decides.
type listed struct {
	MediaType    string        `json:"mediaType"`
	Digest       attest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	ArtifactType string        `json:"artifactType"`
	// Annotations are the manifest's, where the registry copies them.
	Annotations map[string]string `json:"annotations"`
}

// listing is the referrers of one subject that may be bundles or envelopes.
type listing struct {
	entries   []listed
	via       string
	truncated bool

	// considered counts all descriptors read, seen are the digests taken.
	considered int
	seen       map[attest.Digest]bool
}

// referrers lists the subject's referrers that may be bundles: from the API,
// or from the fallback tag where the registry has no such API (distribution
// specification, "Referrers tag schema").
func (s source) referrers(ctx context.Context, subject attest.Digest) (listing, error) {
	l, supported, err := s.referrersAPI(ctx, subject)
	if err != nil || supported {
		return l, err
	}
	return s.referrersTag(ctx, subject)
}

// referrersAPI reads the pages of the referrers API. supported is false if the
// registry does not have it. It asks for the one type that writers attach today:
// older bundles are found where a registry does not filter, or has the tag.
func (s source) referrersAPI(ctx context.Context, subject attest.Digest) (l listing, supported bool, err error) {
	l.via = ViaReferrers
	path := s.path("referrers", subject.String())
	// Without the filter by artifactType, which knows one type: bundles and
	// envelopes are listed by one request.
	next := s.url(path)
	for page := range limits.ReferrersPages {
		c := s.get(path, string(types.OCIImageIndex), limits.ReferrersPage)
		c.url, c.keepPrefix = next, true
		a, err := s.read(ctx, c)
		if err != nil {
			return l, true, err
		}
		if !isReferrersAnswer(a) {
			// Only the first page tells whether there is such an API.
			l.truncated = page > 0
			return l, page > 0, nil
		}
		if l.add(a); l.truncated {
			return l, true, nil
		}
		next, err = s.nextPage(a, path)
		if err != nil || next == nil {
			return l, true, err
		}
	}
	l.truncated = true
	return l, true, nil
}

// isReferrersAnswer tells a listing from 404 and from the web page that some
// registries answer instead.
func isReferrersAnswer(a answer) bool {
	mediaType, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	return err == nil && a.status == http.StatusOK && mediaType == string(types.OCIImageIndex)
}

// referrersTag reads the index under the fallback tag.
func (s source) referrersTag(ctx context.Context, subject attest.Digest) (listing, error) {
	l := listing{via: ViaReferrersTag}
	c := s.get(s.path("manifests", fallbackTag(subject)), string(types.OCIImageIndex), limits.Manifest)
	c.keepPrefix = true
	a, err := s.read(ctx, c)
	if err != nil {
		return l, err
	}
	if a.status == http.StatusNotFound {
		return l, nil
	}
	if err := s.expect(a, "referrers of "+subject.String(), http.StatusOK); err != nil {
		return l, err
	}
	l.add(a)
	return l, nil
}

// fallbackTag is the digest with "-" for ":".
func fallbackTag(subject attest.Digest) string { return "sha256-" + subject.Hex() }

// add takes the entries of one page that may be bundles or envelopes.
func (l *listing) add(a answer) {
	if l.seen == nil {
		l.seen = make(map[attest.Digest]bool)
	}
	whole := eachListed(a.body, func(d listed) bool {
		if l.considered++; l.considered > limits.Referrers {
			return false
		}
		if mayBeSignature(d) && !l.seen[d.Digest] {
			l.seen[d.Digest] = true
			l.entries = append(l.entries, d)
		}
		return true
	})
	l.truncated = l.truncated || !whole || a.cut
}

// mayBeSignature passes over what is certainly something else. A registry that
// does not know artifactType says the config's media type or nothing.
func mayBeSignature(d listed) bool {
	if d.Digest.IsZero() || d.MediaType != string(types.OCIManifestSchema1) {
		return false
	}
	switch d.ArtifactType {
	case notary.ArtifactType, emptyMediaType, "":
		return true
	}
	return attest.IsBundleMediaType(d.ArtifactType)
}

// eachListed calls f for each descriptor of an index until f says false or the
// bytes end, and reports whether it came to the index's end. It reads as a
// stream, so that the beginning of an oversized listing still counts;
// descriptors that cannot be read are passed over.
func eachListed(body []byte, f func(listed) bool) bool {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return false
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return false
		}
		if name.String() != "manifests" || dec.PeekKind() != '[' {
			if dec.SkipValue() != nil {
				return false
			}
			continue
		}
		if !eachElement(dec, f) {
			return false
		}
	}
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '}' {
		return false
	}
	_, err := dec.ReadToken()
	return errors.Is(err, io.EOF)
}

func eachElement(dec *jsontext.Decoder, f func(listed) bool) bool {
	if _, err := dec.ReadToken(); err != nil {
		return false
	}
	for dec.PeekKind() != ']' {
		raw, err := dec.ReadValue()
		if err != nil {
			return false
		}
		var d listed
		if json.Unmarshal(raw, &d) == nil && !f(d) {
			return false
		}
	}
	_, err := dec.ReadToken()
	return err == nil
}

// errNoLink is a Link header that cannot be read.
var errNoLink = errors.New("malformed Link header")

// nextPage is where the listing goes on, or nil. It must be the same path of
// the same origin: a listing does not lead elsewhere.
func (s source) nextPage(a answer, path string) (*url.URL, error) {
	for _, line := range a.header.Values("Link") {
		target, ok, err := parseNextLink(line)
		if err != nil {
			return nil, fmt.Errorf("%w: Link header of %s", ErrUnsafe, s.rule.Host)
		}
		if !ok {
			continue
		}
		next, err := a.url.Parse(target)
		if err != nil || next.User != nil || !s.sameOrigin(next) || next.Path != path {
			return nil, fmt.Errorf("%w: the listing of %s continues at another place", ErrUnsafe, s.rule.Host)
		}
		return next, nil
	}
	return nil, nil
}

// parseNextLink finds the target of rel="next" in a Link header (RFC 8288):
// <target>; param=value; …, <target>…. ok is false if there is none.
func parseNextLink(line string) (target string, ok bool, err error) {
	if len(line) > limits.Challenge {
		return "", false, errNoLink
	}
	rest := strings.TrimSpace(line)
	for rest != "" {
		if rest[0] != '<' {
			return "", false, errNoLink
		}
		link, after, found := strings.Cut(rest[1:], ">")
		if !found {
			return "", false, errNoLink
		}
		parameters, more, err := cutLink(after)
		if err != nil {
			return "", false, err
		}
		if isNext(parameters) {
			return link, true, nil
		}
		rest = strings.TrimSpace(more)
	}
	return "", false, nil
}

// cutLink splits what follows a target at the comma that ends it.
func cutLink(s string) (parameters, rest string, err error) {
	parameters, rest, balanced := cutUnquoted(s, ',')
	if !balanced {
		return "", "", errNoLink
	}
	return parameters, rest, nil
}

// cutUnquoted splits s at the first separator outside quotes; without one,
// all of s comes before it. balanced is false if a quote is not closed.
func cutUnquoted(s string, separator byte) (before, after string, balanced bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", !quoted
}

// isNext reports whether the parameters have rel with "next" among its values.
func isNext(parameters string) bool {
	for parameters != "" {
		var p string
		p, parameters, _ = cutUnquoted(parameters, ';')
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "rel") {
			continue
		}
		for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
			if strings.EqualFold(rel, "next") {
				return true
			}
		}
	}
	return false
}
