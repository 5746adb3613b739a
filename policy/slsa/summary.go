package slsa

import (
	"fmt"
	"strings"
)

// Summary is what a verification summary (VSA v1) says.
type Summary struct {
	// Verifier is verifier.id.
	Verifier string
	// Resource is resourceUri.
	Resource string
	// PolicyURI and PolicyDigest are of the policy that was applied; the
	// digest maps algorithms to digits.
	PolicyURI    string
	PolicyDigest map[string]string
	// Passed reports whether verificationResult is PASSED.
	Passed bool
	// Levels are verifiedLevels.
	Levels []string
}

type summaryV1 struct {
	Verifier struct {
		ID string `json:"id"`
	} `json:"verifier"`
	ResourceURI string `json:"resourceUri"`
	Policy      struct {
		URI    string            `json:"uri,omitzero"`
		Digest map[string]string `json:"digest,omitzero"`
	} `json:"policy"`
	VerificationResult string   `json:"verificationResult"`
	VerifiedLevels     []string `json:"verifiedLevels"`
}

// ReadSummary reads a predicate of VSA v1. Errors wrap ErrPredicate.
func ReadSummary(raw []byte) (Summary, error) {
	var w summaryV1
	if err := decode(raw, &w); err != nil {
		return Summary{}, err
	}
	switch {
	case w.Verifier.ID == "":
		return Summary{}, fmt.Errorf("%w: it names no verifier", ErrPredicate)
	case w.ResourceURI == "":
		return Summary{}, fmt.Errorf("%w: it names no resource", ErrPredicate)
	case w.VerificationResult != "PASSED" && w.VerificationResult != "FAILED":
		return Summary{}, fmt.Errorf("%w: its result is neither PASSED nor FAILED", ErrPredicate)
	}
	return Summary{
		Verifier: w.Verifier.ID, Resource: w.ResourceURI, PolicyURI: w.Policy.URI, PolicyDigest: w.Policy.Digest,
		Passed: w.VerificationResult == "PASSED", Levels: w.VerifiedLevels,
	}, nil
}

// Reaches reports whether the summary has a level, or a higher one of the same
// SLSA track: SLSA_BUILD_LEVEL_3 reaches SLSA_BUILD_LEVEL_2.
func (s Summary) Reaches(level string) bool {
	track, want, leveled := cutLevel(level)
	for _, have := range s.Levels {
		if have == level {
			return true
		}
		t, n, ok := cutLevel(have)
		if ok && leveled && t == track && n >= want {
			return true
		}
	}
	return false
}

// BuildLevel is n of SLSA_BUILD_LEVEL_n, and 0 of anything else.
func BuildLevel(level string) int {
	if track, n, ok := cutLevel(level); ok && track == "SLSA_BUILD" {
		return int(n)
	}
	return 0
}

// cutLevel splits SLSA_TRACK_LEVEL_N.
func cutLevel(level string) (track string, n byte, ok bool) {
	track, digit, found := strings.Cut(level, "_LEVEL_")
	if !found || !strings.HasPrefix(track, "SLSA_") || len(digit) != 1 || digit[0] < '0' || digit[0] > '9' {
		return "", 0, false
	}
	return track, digit[0] - '0', true
}

// Resource is the image that a resource URI names.
type Resource struct {
	// Name is HOST/REPOSITORY.
	Name string
	// Digest is sha256:…, or empty.
	Digest string
}

// ParseResource reads HOST/REPOSITORY[:TAG][@DIGEST], with oci:// or docker://
// in front or without. ok is false for anything else; a tag without a digest is
// refused, since what was judged is not what the tag names today.
func ParseResource(uri string) (r Resource, ok bool) {
	rest := strings.TrimPrefix(strings.TrimPrefix(uri, "oci://"), "docker://")
	rest, r.Digest, _ = strings.Cut(rest, "@")
	host, path, ok := strings.Cut(rest, "/")
	if !ok || host == "" || strings.ContainsAny(rest, "?#%\\ \t\r\n") || strings.Contains(path, "//") {
		return Resource{}, false
	}
	path, tag, tagged := strings.Cut(path, ":")
	if path == "" || tagged && (tag == "" || r.Digest == "") || strings.HasSuffix(uri, "@") {
		return Resource{}, false
	}
	r.Name = strings.ToLower(host) + "/" + path
	return r, true
}
