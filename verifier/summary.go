package verifier

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// ErrNoSummary says that there is nothing a verification summary could vouch for.
// Only an image that PASSED under at least one policy that enforces has one.
var ErrNoSummary = errors.New("no verification summary for this verdict")

// slsaVersion is the version of SLSA whose levels and words are meant.
const slsaVersion = "1.2"

// Grounds are how a verdict was reached, as far as the answer does not say it.
type Grounds struct {
	// At is when it was reached; the answer may be of later.
	At time.Time
	// Under is the same for verdicts under the same policies, registries, keys
	// and trusted root.
	Under [sha256.Size]byte
}

// Summary is what this service vouches for when an image PASSED.
type Summary struct {
	// Image is HOST/REPOSITORY@DIGEST; the summary is about exactly it.
	Image string
	// Predicate is a SLSA verification summary (VSA v1).
	Predicate []byte
	// Basis is the same for summaries that say the same under the same trust,
	// whenever the verdict was reached.
	Basis [sha256.Size]byte
}

type vsaV1 struct {
	Verifier           vsaVerifier  `json:"verifier"`
	TimeVerified       string       `json:"timeVerified,omitempty"`
	ResourceURI        string       `json:"resourceUri"`
	Policy             descriptor   `json:"policy"`
	InputAttestations  []descriptor `json:"inputAttestations,omitempty"`
	VerificationResult string       `json:"verificationResult"`
	VerifiedLevels     []string     `json:"verifiedLevels"`
	SLSAVersion        string       `json:"slsaVersion"`
}

type vsaVerifier struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// descriptor is what all of VSA's versions have of a ResourceDescriptor: strict
// readers of in-toto's protobuf definition refuse more.
type descriptor struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// policyName is a member of a set of policies that were applied together.
type policyName struct {
	Digest string `json:"digest"`
	Name   string `json:"name"`
}

// Summary words a verdict as a SLSA verification summary: of the policies that
// enforce, what they rest on and the build level they prove. A policy in mode
// warn or audit vouches for nothing, and what it said is left out.
// ErrNoSummary: the verdict is not one that a summary may be made of.
func (v *Verifier) Summary(result Result) (Summary, error) {
	enforcing, err := v.vouching(result)
	if err != nil {
		return Summary{}, err
	}
	ref, err := registry.ParseReference(result.Pinned)
	if err != nil || ref.Digest.IsZero() {
		return Summary{}, fmt.Errorf("%w: it names no digest", ErrNoSummary)
	}
	vsa := vsaV1{
		Verifier: vsaVerifier{ID: v.publicURL}, ResourceURI: "oci://" + ref.Name(),
		InputAttestations: inputs(enforcing), VerificationResult: string(policy.Passed),
		VerifiedLevels: []string{buildLevel(enforcing)}, SLSAVersion: slsaVersion,
	}
	if v.version != "" {
		vsa.Verifier.Version = map[string]string{"countersign": v.version}
	}
	if vsa.Policy, err = v.policyOf(enforcing); err != nil {
		return Summary{}, err
	}
	timeless, err := json.Marshal(vsa)
	if err != nil {
		return Summary{}, fmt.Errorf("encoding a verification summary: %w", err)
	}
	vsa.TimeVerified = verifiedAt(result.Grounds.At, enforcing).UTC().Format(time.RFC3339)
	out := Summary{Image: ref.Pinned(ref.Digest)}
	if out.Predicate, err = json.Marshal(vsa); err != nil {
		return Summary{}, fmt.Errorf("encoding a verification summary: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%x\n%s", out.Image, result.Grounds.Under, timeless)
	out.Basis = [sha256.Size]byte(h.Sum(nil))
	return out, nil
}

// vouching are the policies that a summary speaks for, in the order of their
// names.
func (v *Verifier) vouching(result Result) ([]PolicyResult, error) {
	switch {
	case v.publicURL == "":
		return nil, fmt.Errorf("%w: this verifier has no name", ErrNoSummary)
	case result.Verdict != policy.Passed, result.Grounds.At.IsZero():
		return nil, fmt.Errorf("%w: the image did not pass", ErrNoSummary)
	case result.Stale:
		return nil, fmt.Errorf("%w: the registry could not be reached", ErrNoSummary)
	case len(result.Reasons) > 0:
		// An exception lets an image pass that the policies would not.
		return nil, fmt.Errorf("%w: the image passed for another reason than its policies", ErrNoSummary)
	}
	var enforcing []PolicyResult
	for _, p := range result.Policies {
		if p.Mode != policy.Enforce {
			continue
		}
		if p.Verdict != policy.Passed || p.Exception != nil {
			return nil, fmt.Errorf("%w: policy %s did not pass", ErrNoSummary, p.Name)
		}
		enforcing = append(enforcing, p)
	}
	if len(enforcing) == 0 {
		return nil, fmt.Errorf("%w: no policy that enforces matches the image", ErrNoSummary)
	}
	slices.SortFunc(enforcing, func(a, b PolicyResult) int { return strings.Compare(a.Name, b.Name) })
	return enforcing, nil
}

// policyOf names the policy that was applied, for which SLSA has one place.
// Several are one set, whose URI has their names. Its digest is that of the
// canonical JSON (RFC 8785) of the list of names and digests, in the order of the
// names, both as the decision's record has them:
//
//	[{"digest":"sha256:…","name":"base"},{"digest":"sha256:…","name":"production"}]
func (v *Verifier) policyOf(enforcing []PolicyResult) (descriptor, error) {
	if len(enforcing) == 1 {
		sum, err := attest.ParseDigest(enforcing[0].Digest)
		return descriptor{URI: v.publicURL + "/v1/policies/" + enforcing[0].Name, Digest: digestSet(sum)}, err
	}
	var set []policyName
	var names []string
	for _, p := range enforcing {
		names = append(names, p.Name)
		set = append(set, policyName{Name: p.Name, Digest: p.Digest})
	}
	raw, err := strictjson.Marshal(set)
	if err == nil {
		raw, err = strictjson.Canonical(raw)
	}
	if err != nil {
		return descriptor{}, fmt.Errorf("encoding a set of policies: %w", err)
	}
	return descriptor{
		URI: v.publicURL + "/v1/policies#" + strings.Join(names, ","), Digest: digestSet(attest.DigestOf(raw)),
	}, nil
}

// inputs are the attachments that the verdict rests on. SLSA wants all of them
// or none: a layout rests on links that are not told apart.
func inputs(enforcing []PolicyResult) []descriptor {
	seen := make(map[string]bool)
	var out []descriptor
	for _, p := range enforcing {
		for _, requirement := range p.Requirements {
			for _, e := range requirement.Evidence {
				sum, err := attest.ParseDigest(e.Attachment)
				if err != nil {
					return nil
				}
				if !seen[e.Attachment] {
					seen[e.Attachment] = true
					out = append(out, descriptor{Digest: digestSet(sum)})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b descriptor) int { return strings.Compare(a.Digest["sha256"], b.Digest["sha256"]) })
	return out
}

// verifiedAt is when the image was verified. What rests on a summary is as old
// as that: a chain of them, or a policy that trusts what is made under itself,
// must not make old findings new.
func verifiedAt(at time.Time, enforcing []PolicyResult) time.Time {
	for _, p := range enforcing {
		if !p.Since.IsZero() && p.Since.Before(at) {
			at = p.Since
		}
	}
	return at
}

func digestSet(d attest.Digest) map[string]string {
	return map[string]string{"sha256": strings.TrimPrefix(d.String(), "sha256:")}
}

// buildLevel is the highest level that a policy proves of the image.
func buildLevel(enforcing []PolicyResult) string {
	most := 0
	for _, p := range enforcing {
		most = max(most, p.BuildLevel)
	}
	if most == 0 {
		return "SLSA_BUILD_LEVEL_UNEVALUATED"
	}
	return "SLSA_BUILD_LEVEL_" + strconv.Itoa(most)
}
