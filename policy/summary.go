package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/slsa"
)

// summary is what a policy expects of a verification summary.
type summary struct {
	verifier string
	levels   []string
	// uri and digest are of the policy that the other verifier applied; empty
	// accept any.
	uri    string
	digest string
	// resource, if set, takes the place of the image that is asked about.
	resource *glob.Pattern
}

type vsaSpec struct {
	Verifier string         `json:"verifier"`
	Policy   *vsaPolicySpec `json:"policy,omitzero"`
	Levels   []string       `json:"levels"`
	Resource *string        `json:"resource,omitzero"`
}

type vsaPolicySpec struct {
	URI    *string `json:"uri,omitzero"`
	Digest *string `json:"digest,omitzero"`
}

func (s *vsaSpec) compile(at string) (*summary, error) {
	v := &summary{verifier: s.Verifier, levels: s.Levels}
	if s.Verifier == "" || len(s.Verifier) > limits.Pattern || strings.Contains(s.Verifier, "*") {
		return nil, fault(at+"/verifier", "must be the verifier's id itself, of 1 to %d bytes and without wildcard", limits.Pattern)
	}
	if n := len(s.Levels); n == 0 || n > limits.Levels {
		return nil, fault(at+"/levels", "has %d levels, want 1 to %d", n, limits.Levels)
	}
	for i, l := range s.Levels {
		if l == "" || len(l) > limits.Pattern || slices.Contains(s.Levels[:i], l) {
			return nil, fault(fmt.Sprintf("%s/levels/%d", at, i), "is empty, too long or there twice")
		}
	}
	if err := v.readPolicy(s.Policy, at+"/policy"); err != nil {
		return nil, err
	}
	if s.Resource == nil {
		return v, nil
	}
	compiled, err := glob.CompileImage(*s.Resource)
	if err != nil {
		return nil, fault(at+"/resource", "%s", err.Error())
	}
	v.resource = &compiled
	return v, nil
}

func (v *summary) readPolicy(s *vsaPolicySpec, at string) error {
	if s == nil {
		return nil
	}
	if s.URI == nil && s.Digest == nil {
		return fault(at, "names no policy: want uri or digest, or leave it out")
	}
	if s.URI != nil {
		if v.uri = *s.URI; v.uri == "" {
			return fault(at+"/uri", "is empty")
		}
	}
	if s.Digest != nil {
		hex, ok := strings.CutPrefix(*s.Digest, "sha256:")
		if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return fault(at+"/digest", "is not sha256: and 64 digits in lower case")
		}
		v.digest = hex
	}
	return nil
}

// judge makes the checks of SLSA's "Verifying" of a summary that are left when
// its signature, its subject and its predicate type were verified: the verifier
// and that the policy lets this signer speak for it, the resource, the result
// and the levels.
func (v *summary) judge(f *Fact, image Image) *Reason {
	got, err := f.Attestation.summary()
	if err != nil {
		return reasonf(PredicateInvalid, "the verification summary is not well-formed: %s", wordsOf(err, slsa.ErrPredicate))
	}
	if reason := v.strange(f, image); reason != nil {
		return reason
	}
	if !got.Passed {
		return reasonf(ConditionFalse, "the summary says FAILED")
	}
	for _, level := range v.levels {
		if !got.Reaches(level) {
			return reasonf(BuildLevelTooLow, "the summary does not reach %s", level)
		}
	}
	return nil
}

// strange says why a summary is not about the question: another verifier's, or
// about another resource or policy than is expected. Nil of what cannot be read.
func (v *summary) strange(f *Fact, image Image) *Reason {
	got, err := f.Attestation.summary()
	switch {
	case err != nil:
		return nil
	case got.Verifier != v.verifier:
		return reasonf(IdentityMismatch, "the summary is of another verifier than the policy expects")
	case !v.about(got.Resource, image):
		return reasonf(SubjectMismatch, "the summary is about another resource than this image")
	case v.uri != "" && got.PolicyURI != v.uri, v.digest != "" && got.PolicyDigest["sha256"] != v.digest:
		return reasonf(ConditionFalse, "the summary is of another policy than the one expected")
	}
	return nil
}

// buildLevel is what a satisfied expectation proves of the build track: what is
// wanted, and not what more the summary says.
func (v *summary) buildLevel() int {
	most := 0
	for _, level := range v.levels {
		most = max(most, slsa.BuildLevel(level))
	}
	return most
}

// about reports whether a resource URI names the image that is asked about, or
// one that the policy takes for it.
func (v *summary) about(uri string, image Image) bool {
	r, ok := slsa.ParseResource(uri)
	if !ok || r.Digest != "" && r.Digest != image.Digest {
		return false
	}
	if v.resource != nil {
		return v.resource.Match(r.Name)
	}
	return r.Name == strings.ToLower(image.Registry)+"/"+image.Repository
}
