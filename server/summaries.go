package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/verifier"
)

// wish is what a question wants beside verdicts; the zero value is nothing.
type wish struct {
	vsa, attach bool
	// until is when the answer is given without the summaries that are not
	// there by then.
	until time.Time
}

// wishOf refuses before anything is judged what could not be fulfilled. A
// summary is the caller's to ask for, so somebody must be the caller, also where
// verdicts are for everybody.
func (s *Server) wishOf(ctx context.Context, r api.VerifyRequest, q verifier.Request) (wish, error) {
	switch {
	case !r.VSA && r.VSAAttach:
		return wish{}, badField("body.vsaAttach", "is for summaries; ask for them with vsa")
	case !r.VSA:
		return wish{}, nil
	case s.cfg.VerifyOnly:
		return wish{}, errVerifyOnly // nothing is signed here
	case callerOf(ctx).IsZero():
		return wish{}, errNoCredentials
	case len(r.Images) > limits.Summaries:
		return wish{}, badField("body.images", fmt.Sprintf("must name at most %d images when vsa is true", limits.Summaries))
	}
	timeout := q.Timeout
	if timeout == 0 {
		timeout = limits.VerifyTimeout
	}
	return wish{vsa: true, attach: r.VSAAttach, until: s.cfg.Clock.Now().Add(timeout + limits.SummaryWait)}, nil
}

// wireResults adds to the results what is wished for.
func (s *Server) wireResults(ctx context.Context, w wish, results []verifier.Result) []api.VerifyResult {
	out := each(results, wireResult)
	var group errgroup.Group
	group.SetLimit(limits.SummaryParallel)
	for i, r := range results {
		if w.vsa && r.Verdict == policy.Passed {
			group.Go(func() error { s.summarize(ctx, w, r, &out[i]); return nil })
		}
	}
	_ = group.Wait() // each result says by itself what became of it
	return out
}

// summarize gives a result its summary, or says why it has none. The verdict was
// reached and journalled before, and stands in any case.
func (s *Server) summarize(ctx context.Context, w wish, r verifier.Result, out *api.VerifyResult) {
	if !w.vsa || r.Verdict != policy.Passed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.until.Sub(s.cfg.Clock.Now()))
	defer cancel()
	made, reused, err := s.summaryOf(ctx, w, r)
	if err != nil {
		out.VSAProblem = s.noSummary(ctx, r, err)
		return
	}
	out.VSA = wireVSA(made, reused)
}

func (s *Server) summaryOf(ctx context.Context, w wish, r verifier.Result) (made signer.Result, reused bool, err error) {
	summary, err := s.cfg.Verifier.Summary(r)
	if err != nil {
		return signer.Result{}, false, err
	}
	made, reused, err = s.cfg.Signer.Summarize(ctx, callerOf(ctx), signer.Summary{
		Image: summary.Image, Predicate: summary.Predicate, Basis: summary.Basis, Attach: w.attach, Decision: r.DecisionID,
	})
	if err == nil && len(made.Signatures) != 1 {
		err = fmt.Errorf("%w: a summary with %d signatures", errInternal, len(made.Signatures))
	}
	return made, reused, err
}

// noSummary is the problem that stands in the place of a summary. One that is
// signed and waits for the log is not told as signed: the cause counts.
func (s *Server) noSummary(ctx context.Context, r verifier.Result, err error) *api.Problem {
	s.cfg.Logger.WarnContext(ctx, "no verification summary", "request", requestOf(ctx).id, "image", r.Pinned, "cause", err)
	pending := (*signer.PendingError)(nil)
	if !errors.As(err, &pending) {
		return s.rowOf(err).problem(requestOf(ctx).id)
	}
	p := s.rowOf(pending.Cause).problem(requestOf(ctx).id)
	p.Detail = "The verification summary is not in the log yet, so it is not given out; ask again."
	return p
}

func wireVSA(r signer.Result, reused bool) *api.VSA {
	made := r.Signatures[0]
	return &api.VSA{
		ID: r.ID, Digest: r.Digest, Signer: signedBy(r.Signer), Bundle: made.Bundle, Referrer: made.Referrer,
		LogEntry: api.LogEntryRef{LogID: made.LogEntry.LogID, Index: made.LogEntry.Index, Checkpoint: made.LogEntry.Checkpoint},
		Reused:   reused, CreatedAt: r.CreatedAt,
	}
}
