package verifier

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// platformForm is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT.
var platformForm = regexp.MustCompile(`^[a-z0-9_.-]{1,64}/[a-z0-9_.-]{1,64}(/[a-z0-9_.-]{1,64})?$`)

// family is an image with those that its policies must look at. Its members were
// read from the bytes of the index that hash to the digest which names it, so
// that a child is one of them is proven and not told.
type family struct {
	// asked is the manifest that the reference resolved to.
	asked registry.Manifest
	// chosen is the child of the platform asked for, and platform its own name
	// of it; without, chosen is nil.
	chosen   *registry.Child
	platform string
}

// subject is the digest that the verdict is about.
func (f family) subject() attest.Digest {
	if f.chosen != nil {
		return f.chosen.Digest
	}
	return f.asked.Digest
}

// familyOf chooses the child of an index. An image that is no index has one
// platform, which it does not say itself.
func familyOf(asked registry.Manifest, platform string) (family, *fault) {
	f := family{asked: asked}
	if platform == "" || !asked.IsIndex {
		return f, nil
	}
	if len(asked.Children) > limits.IndexChildren {
		return f, tooManyChildren()
	}
	of := func(match func(string) bool) (found []registry.Child) {
		for _, c := range asked.Children {
			if match(c.Platform) {
				found = append(found, c)
			}
		}
		return found
	}
	found := of(func(have string) bool { return have == platform })
	if len(found) == 0 && strings.Count(platform, "/") == 1 {
		found = of(func(have string) bool { return strings.HasPrefix(have, platform+"/") })
	}
	switch {
	case len(found) == 0:
		return f, faultf(policy.ImageNotFound, "the index has no image for the platform asked for")
	case len(found) > 1:
		return f, faultf(policy.AmbiguousManifest, "the index has several images for the platform asked for: name its variant, or ask for the digest")
	}
	f.chosen, f.platform = &found[0], found[0].Platform
	return f, nil
}

func tooManyChildren() *fault {
	return faultf(policy.LimitExceeded, "the index has more than %d children", limits.IndexChildren)
}

// members are the digests whose evidence a policy looks at.
func (f family) members(rule policy.IndexRule) ([]attest.Digest, *fault) {
	switch {
	case !f.asked.IsIndex:
		return []attest.Digest{f.asked.Digest}, nil
	case rule == policy.IndexItself:
		return []attest.Digest{f.asked.Digest}, nil
	case rule == "":
		return []attest.Digest{f.subject()}, nil
	}
	var out []attest.Digest
	if rule == policy.IndexBoth {
		out = append(out, f.asked.Digest)
	}
	if f.chosen != nil {
		return append(out, f.chosen.Digest), nil
	}
	switch n := len(f.asked.Children); {
	case n == 0:
		return nil, faultf(policy.ImageNotFound, "the index names no image, and nothing to check is never a success")
	case n > limits.IndexChildren:
		return nil, tooManyChildren()
	}
	for _, c := range f.asked.Children {
		if !slices.Contains(out, c.Digest) {
			out = append(out, c.Digest)
		}
	}
	return out, nil
}

// part is one digest and the policies that look at its evidence.
type part struct {
	digest   attest.Digest
	policies []Loaded
}

// parts says what must be judged, in the order in which policies name it.
func (q *question) parts(name string, f family) ([]part, *fault) {
	var out []part
	for _, loaded := range q.policies {
		if !loaded.Policy.Matches(name, q.context) {
			continue
		}
		members, fault := f.members(loaded.Policy.Index)
		if fault != nil {
			return nil, fault
		}
		for _, digest := range members {
			i := slices.IndexFunc(out, func(p part) bool { return p.digest == digest })
			if i < 0 {
				i, out = len(out), append(out, part{digest: digest})
			}
			out[i].policies = append(out[i].policies, loaded)
		}
	}
	if len(out) == 0 {
		out = []part{{digest: f.subject()}} // no policy covers it, which decide says
	}
	return out, nil
}

// judgeAll judges every part and settles what the policies say together.
func (v *Verifier) judgeAll(ctx context.Context, q *question, ref registry.Reference, asked *registry.Manifest, listing *ahead) outcome {
	f, fault := familyOf(*asked, q.request.Platform)
	if fault != nil {
		return undecided(fault.code, fault.text)
	}
	parts, fault := q.parts(ref.Name(), f)
	if fault != nil {
		return undecided(fault.code, fault.text)
	}
	out := outcome{sure: true, settled: true}
	wide := false
	for _, p := range parts {
		wide = wide || p.digest != asked.Digest
		one := v.judgePart(ctx, q, ref, asked, listing, p)
		if len(parts) == 1 {
			out = one
			break
		}
		if len(one.policies) == 0 {
			out = one // that a part cannot be decided decides the whole
			break
		}
		out.join(one, f.nameOf(p.digest))
	}
	out.subject = f.subject()
	if f.chosen != nil {
		out.index, out.platform = asked.Digest, f.platform
	}
	return rest(q.settle(imageOf(ref.WithDigest(out.subject)), out), wide)
}

// rest says how long a verdict may be remembered. New evidence about the digest
// that was asked for ends what is not settled (cache.go); of the other members of
// an index nobody counts the evidence, so a wide verdict that is not settled is
// not remembered at all.
func rest(out outcome, wide bool) outcome {
	passed := out.verdict == policy.Passed
	if len(out.policies) > 0 {
		out.settled = out.settled && passed && len(out.warnings) == 0 && len(out.notices) == 0
	}
	out.unreached = out.unreached && !passed
	out.sure = out.sure && (out.settled || !wide)
	return out
}

// judgePart is one round over one digest, whose bytes are read if they were not.
func (v *Verifier) judgePart(ctx context.Context, q *question, ref registry.Reference, asked *registry.Manifest, listing *ahead, p part) outcome {
	manifest := asked
	if p.digest != asked.Digest {
		var err error
		if manifest, err = v.resolve(ctx, q, ref.WithDigest(p.digest)); err != nil {
			return unread(err)
		}
		if manifest.IsIndex {
			return undecided(policy.AmbiguousManifest, "the index names another index, whose children are not looked at: ask for that index")
		}
	}
	r := v.round(q, ref, manifest)
	r.policies = p.policies
	if p.digest == asked.Digest {
		r.ahead = listing
	}
	return r.decide(ctx)
}

// nameOf is how messages tell the members of an index apart.
func (f family) nameOf(digest attest.Digest) string {
	if digest == f.asked.Digest {
		return "index"
	}
	for _, c := range f.asked.Children {
		if c.Digest == digest && platformForm.MatchString(c.Platform) {
			return c.Platform
		}
	}
	return digest.String()
}

// join adds what policies say of one more member: a policy must hold for each of
// those that it looks at.
func (o *outcome) join(one outcome, name string) {
	o.sure, o.settled, o.unreached = o.sure && one.sure, o.settled && one.settled, o.unreached || one.unreached
	o.at = one.at
	o.expire(one.expires)
	o.explained.add(one.explained)
	for _, p := range one.policies {
		for i := range p.Requirements {
			p.Requirements[i].Requirement = fmt.Sprintf("%s: %s", name, p.Requirements[i].Requirement)
		}
		for i := range p.Reasons {
			p.Reasons[i].Message = fmt.Sprintf("%s: %s", name, p.Reasons[i].Message)
		}
		i := slices.IndexFunc(o.policies, func(have PolicyResult) bool { return have.Name == p.Name })
		if i < 0 {
			o.policies = append(o.policies, p)
			continue
		}
		have := &o.policies[i]
		have.Requirements = append(have.Requirements, p.Requirements...)
		have.Reasons = append(have.Reasons, p.Reasons...)
		have.BuildLevel = min(have.BuildLevel, p.BuildLevel)
		have.Until = earlierOf(have.Until, p.Until)
		if !p.Since.IsZero() && (have.Since.IsZero() || p.Since.Before(have.Since)) {
			have.Since = p.Since
		}
		if p.Verdict != policy.Passed {
			have.Verdict, have.BuildLevel = policy.Failed, 0
		}
	}
}
