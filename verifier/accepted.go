package verifier

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// Judged is one attachment of an image and whether anybody whom the policies
// trust made it. It says nothing of what a policy requires.
type Judged struct {
	// Attachment is what the registry has, byte for byte.
	Attachment registry.Attachment
	// PredicateType is what the statement says; empty for a plain signature and
	// for what cannot be read.
	PredicateType string
	// Accepted reports whether an authority of a policy in force accepts its
	// signature: then Policy and Authority are the first that does.
	Accepted  bool
	Policy    string
	Authority string
	// Evidence is set if it is accepted.
	Evidence policy.Evidence
	// Reason is why nobody accepts it, the nearest miss.
	Reason policy.Reason
}

// Accepted reads what the registry keeps with an image and judges each of it
// under every authority of every policy in force, whatever images those match.
// A tag is resolved once; the digest is answered.
//
// Errors: ErrRequest for a malformed reference, ErrPolicies, and those of the
// registry for an image or attachments that cannot be read. Attachments that
// cannot be read on their own are left out, and reported by complete being
// false.
func (v *Verifier) Accepted(ctx context.Context, image string) (digest attest.Digest, judged []Judged, complete bool, err error) {
	ref, err := registry.ParseReference(image)
	if err != nil {
		return attest.Digest{}, nil, false, &RequestError{Field: "image", Problem: "must be HOST/REPOSITORY with :TAG or @sha256:DIGEST"}
	}
	q, err := v.question(ctx, Request{Images: []string{image}})
	if err != nil {
		return attest.Digest{}, nil, false, err
	}
	manifest, err := v.resolve(ctx, q, ref)
	if err != nil {
		return attest.Digest{}, nil, false, err
	}
	r := v.round(q, ref, manifest)
	if err := r.seatAll(ctx); err != nil {
		return attest.Digest{}, nil, false, fmt.Errorf("%w: %w", ErrPolicies, err)
	}
	found, err := v.registry.AttachmentsFor(ctx, r.subject, registry.Want{})
	if err != nil {
		return attest.Digest{}, nil, false, err
	}
	for _, a := range found.Attachments {
		if ctx.Err() != nil {
			return attest.Digest{}, nil, false, ctx.Err()
		}
		judged = append(judged, r.accept(a))
	}
	return manifest.Digest, judged, !found.Truncated && len(found.Problems) == 0, nil
}

// seatAll is seatPolicies for every policy in force.
func (r *round) seatAll(ctx context.Context) error {
	for _, loaded := range r.policies {
		if err := r.seat(ctx, loaded); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) accept(a registry.Attachment) Judged {
	next := attachmentOf(a)
	e := &evidence{kind: next.kind(), attached: next.digest()}
	e.signed, e.fault = next.parse()
	out := Judged{Attachment: a}
	if e.signed != nil && e.signed.kind == policy.KindAttestation {
		out.PredicateType = e.signed.predicateType
	}
	var reasons []policy.Reason
	for i := range r.panel {
		for _, who := range r.panel[i].signers {
			fact := r.bench.judge(e, who)
			if fact.Accepted {
				out.Accepted, out.Policy, out.Authority, out.Evidence = true, r.panel[i].Policy.Name, who.name, fact.Evidence
				return out
			}
			reasons = append(reasons, fact.Reason)
		}
	}
	out.Reason = policy.Reason{Code: policy.NoPolicy, Message: "no policy names an authority"}
	if nearest := policy.Nearest(reasons); nearest != nil {
		out.Reason = *nearest
	}
	return out
}
