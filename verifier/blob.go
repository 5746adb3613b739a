package verifier

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"
	"unicode"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// BlobRequest is one question about a blob: any artifact that is named by its
// digest and in no registry.
type BlobRequest struct {
	// Digest is the blob's SHA-256.
	Digest attest.Digest
	// Artifact is its bytes, at most limits.BlobArtifact, or nil. Some
	// signatures can be judged over them alone: those of Ed25519 keys, and those
	// over another digest than SHA-256.
	Artifact []byte
	// Bundle is a Sigstore bundle, at most limits.Bundle bytes. Without one, what
	// the archive keeps of the digest is judged.
	Bundle []byte
	// Name is what the caller calls the blob, by which policies match; optional.
	Name string
	// Policy names the one policy to apply; see policy.AppliesToBlob.
	Policy string
	// Inline is a policy that comes with the question, in the place of Policy.
	Inline *policy.Policy
	// Context, Timeout, Caller and DryRun are as in Request.
	Context map[string]string
	Timeout time.Duration
	Caller  identity.Identity
	DryRun  bool
}

func (r BlobRequest) check() error {
	problem := func(field, format string, args ...any) error {
		return &RequestError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Digest.IsZero():
		return problem("digest", "must be the blob's sha256 digest")
	case len(r.Artifact) > limits.BlobArtifact:
		return problem("artifact", "must have at most %d bytes", limits.BlobArtifact)
	case r.Bundle != nil && (len(r.Bundle) == 0 || len(r.Bundle) > limits.Bundle):
		return problem("bundle", "must have 1 to %d bytes", limits.Bundle)
	case len(r.Name) > limits.BlobName || slices.ContainsFunc([]rune(r.Name), unicode.IsControl):
		return problem("name", "must have at most %d bytes and no control characters", limits.BlobName)
	case r.Policy != "" && r.Inline != nil:
		return problem("policy", "must be left out where an authority is given")
	case r.Timeout < 0 || r.Timeout > limits.VerifyTimeoutMax:
		return problem("timeout", "must be between 0 and %s", limits.VerifyTimeoutMax)
	}
	return nil
}

// title is what answers and decisions call the blob.
func (r BlobRequest) title() string {
	if r.Name != "" {
		return "blob:" + r.Name
	}
	return "blob:" + r.Digest.String()
}

// VerifyBlob judges a blob as Verify judges an image, with the same bench: only
// where the evidence comes from differs. No registry is asked. The verdict is
// not remembered.
//
// Errors: those of Verify.
func (v *Verifier) VerifyBlob(ctx context.Context, request BlobRequest) (Answer, error) {
	if err := request.check(); err != nil {
		return Answer{}, err
	}
	q, err := v.blobQuestion(ctx, request)
	if err != nil {
		return Answer{}, err
	}
	timeout := request.Timeout
	if timeout == 0 {
		timeout = limits.VerifyTimeout
	}
	judging, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results := []Result{v.blob(judging, q, request)}
	if err := v.record(ctx, q, results); err != nil {
		return Answer{}, err
	}
	answer := Answer{Verdict: results[0].Verdict, Results: results, Warnings: []string{}}
	answer.Warnings = append(answer.Warnings, results[0].Warnings...)
	return answer, nil
}

func (v *Verifier) blobQuestion(ctx context.Context, request BlobRequest) (*question, error) {
	title := request.title()
	q, err := v.question(ctx, Request{
		Images: []string{title}, Context: request.Context, Policy: request.Policy, Caller: request.Caller, DryRun: request.DryRun,
	})
	if err != nil {
		return nil, err
	}
	q.blob = true
	if request.Inline != nil {
		q.policies = []Loaded{{Policy: request.Inline}}
		return q, nil
	}
	applies := (*policy.Policy).MatchesBlob
	if request.Policy != "" {
		applies = (*policy.Policy).AppliesToBlob
	}
	var chosen []Loaded
	for _, loaded := range q.policies {
		if applies(loaded.Policy, request.Name, request.Context) {
			chosen = append(chosen, loaded)
		}
	}
	q.policies = chosen
	return q, nil
}

func (v *Verifier) blob(ctx context.Context, q *question, request BlobRequest) (result Result) {
	result = Result{Image: request.title(), Digest: request.Digest.String()}
	defer func() { // row H7, as for images
		if cause := recover(); cause != nil {
			v.log.ErrorContext(ctx, "panic while verifying", slog.String("blob", result.Digest), slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
			result = result.of(undecided(policy.PolicyError, "the blob could not be judged: an internal fault was recorded"))
		}
	}()
	if request.Artifact != nil && attest.DigestOf(request.Artifact) != request.Digest {
		return result.of(undecided(policy.DigestMismatch, "the bytes that were sent are not those of the digest"))
	}
	r := &round{
		Verifier: v, question: q, policies: q.policies, subject: registry.Reference{Digest: request.Digest},
		seen: make(map[[32]byte]bool), known: make(map[string]keys.Key),
		bench: bench{
			artifact: artifact{digest: request.Digest, content: request.Artifact, blob: true},
			now:      v.clock.Now(), signatures: make(map[signatureCheck]bool),
		},
	}
	return result.of(q.settle(policy.Image{Digest: result.Digest}, r.decideBlob(ctx, request.Bundle)))
}

// decideBlob is decide without a registry.
func (r *round) decideBlob(ctx context.Context, bundle []byte) outcome {
	if err := r.seatAll(ctx); err != nil {
		r.log.WarnContext(ctx, "reading keys and trusted roots of policies", "error", err)
		return undecided(policy.PolicyError, "the keys and trusted roots that the policies name could not be read")
	}
	if len(r.panel) == 0 {
		return undecided(policy.NoPolicy, "no policy covers the blob: name one whose match.blobs has its name, or send the authority to trust")
	}
	defer r.leave()
	var found []*evidence
	if bundle != nil {
		found = r.add(ctx, found, attachment{format: formatBundle, bundle: bundle}, SourceRequest)
	}
	if bundle == nil || r.needs.Everything {
		found = append(found, r.kept(ctx)...)
	}
	r.weigh(ctx, found)
	if ctx.Err() != nil {
		return undecided(policy.DeadlineExceeded, "the blob could not be decided in time")
	}
	return r.outcome()
}

// of is the result with what was decided.
func (r Result) of(out outcome) Result {
	r.Verdict, r.Reasons, r.Policies, r.Warnings = out.verdict, append([]policy.Reason{}, out.reasons...), append([]PolicyResult{}, out.policies...), slices.Concat(out.warnings, out.notices)
	return r
}
