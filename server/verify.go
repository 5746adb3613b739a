package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/verifier"
)

type verifyInput struct {
	Stream  bool `query:"stream" doc:"Answer NDJSON, a result a line, as they are known."`
	Explain bool `query:"explain" doc:"Add the evidence considered to each result; judged anew, and not for anonymous callers."`
	Body    api.VerifyRequest
}

type verifyOneInput struct {
	Image     string `query:"image" required:"true" maxLength:"1024" doc:"Image reference."`
	Namespace string `query:"namespace" maxLength:"256" doc:"Context: namespace."`
	Cluster   string `query:"cluster" maxLength:"256" doc:"Context: cluster."`
	Policy    string `query:"policy" maxLength:"128" doc:"Only this policy."`
	Timeout   string `query:"timeout" maxLength:"16" doc:"Go duration of at most 30s."`
	Platform  string `query:"platform" maxLength:"200" doc:"Of an index, judge the child of this platform."`
	Explain   bool   `query:"explain" doc:"Add the evidence considered; not for anonymous callers."`
}

type verifyOneOutput struct {
	Status int
	Body   api.VerifyAnswer
}

func (s *Server) verifyRoutes() {
	answer := schemaOf[api.VerifyAnswer](s, "The verdict; FAILED is an answer too.")
	answer.Content["application/x-ndjson"] = &huma.MediaType{
		Schema: s.api.OpenAPI().Components.Schemas.Schema(typeOf(api.VerifyResult{}), true, ""),
	}
	register(s, huma.Operation{
		OperationID: "verify", Method: http.MethodPost, Path: "/v1/verify", Tags: []string{"Verify"},
		Summary:   "Ask whether images may run",
		Responses: map[string]*huma.Response{"200": answer},
	}, s.verify)
	register(s, huma.Operation{
		OperationID: "verifyOne", Method: http.MethodGet, Path: "/v1/verify", Tags: []string{"Verify"},
		Summary: "Ask whether one image may run: 200 when PASSED, 403 when FAILED",
		Responses: map[string]*huma.Response{
			"200": schemaOf[api.VerifyAnswer](s, "PASSED."),
			"403": deniedResponse(s),
		},
	}, s.verifyOne)
}

// deniedResponse documents that 403 is a verdict or, for a caller without the
// role, a problem.
func deniedResponse(s *Server) *huma.Response {
	r := schemaOf[api.VerifyAnswer](s, "FAILED; or, as a problem document, the caller may not ask.")
	r.Content[api.ProblemType] = &huma.MediaType{Schema: s.api.OpenAPI().Components.Schemas.Schema(typeOf(api.Problem{}), true, "")}
	return r
}

func (s *Server) verify(ctx context.Context, in *verifyInput) (*streamOutput, error) {
	request, err := verifyRequest(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	if request.Explain, err = mayExplain(ctx, in.Explain); err != nil {
		return nil, err
	}
	w, err := s.wishOf(ctx, in.Body, request)
	if err != nil {
		return nil, err
	}
	if in.Stream {
		return s.verifyStream(ctx, request, w)
	}
	answer, err := s.cfg.Verifier.Verify(ctx, request)
	if err != nil {
		return nil, err
	}
	wire := wireAnswer(answer)
	wire.Results = s.wireResults(ctx, w, answer.Results)
	body, err := encode(wire)
	if err != nil {
		return nil, err
	}
	return &streamOutput{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		hc.SetStatus(http.StatusOK)
		_, _ = hc.BodyWriter().Write(body) // the client has gone; the decision is kept
	}}, nil
}

// verifyStream begins the answer with the first result, so that a question
// that cannot be put is still a problem document. What goes wrong later ends
// the stream early: a line that is missing is not PASSED.
func (s *Server) verifyStream(ctx context.Context, request verifier.Request, w wish) (*streamOutput, error) {
	results := make(chan api.VerifyResult)
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- s.produce(running, request, w, results) }()
	var first *api.VerifyResult
	select {
	case r := <-results:
		first = &r
	case err := <-ended:
		stop()
		if err != nil {
			return nil, err
		}
		ended <- nil
	}
	return &streamOutput{Body: func(hc huma.Context) {
		defer stop()
		hc.SetHeader("Content-Type", "application/x-ndjson")
		hc.SetStatus(http.StatusOK)
		s.writeLines(hc, first, results, ended)
	}}, nil
}

// produce sends each result when it has all that is wished for. Verdicts are
// handed out one at a time, so what is added to one must not hold up the next.
func (s *Server) produce(ctx context.Context, request verifier.Request, w wish, results chan<- api.VerifyResult) error {
	send := func(r verifier.Result) error {
		out := wireResult(r)
		s.summarize(ctx, w, r, &out)
		select {
		case results <- out:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !w.vsa {
		return s.cfg.Verifier.Stream(ctx, request, send)
	}
	var group errgroup.Group
	group.SetLimit(limits.SummaryParallel)
	err := s.cfg.Verifier.Stream(ctx, request, func(r verifier.Result) error {
		group.Go(func() error { return send(r) })
		return ctx.Err()
	})
	return errors.Join(err, group.Wait())
}

func (s *Server) writeLines(hc huma.Context, first *api.VerifyResult, results <-chan api.VerifyResult, ended <-chan error) {
	line := func(r api.VerifyResult) error {
		b, err := encode(r)
		if err != nil {
			return err
		}
		return flush(hc.BodyWriter(), b)
	}
	var err error
	if first != nil {
		err = line(*first)
	}
	for err == nil {
		select {
		case r := <-results:
			err = line(r)
		case err = <-ended:
			if err == nil {
				return
			}
		}
	}
	s.cfg.Logger.WarnContext(hc.Context(), "verdict stream ended early", "request", requestOf(hc.Context()).id, "cause", err)
}

func (s *Server) verifyOne(ctx context.Context, in *verifyOneInput) (*verifyOneOutput, error) {
	place := map[string]string{}
	if in.Namespace != "" {
		place["namespace"] = in.Namespace
	}
	if in.Cluster != "" {
		place["cluster"] = in.Cluster
	}
	request, err := verifyRequest(ctx, api.VerifyRequest{Images: []string{in.Image}, Context: place, Policy: in.Policy, Timeout: in.Timeout, Platform: in.Platform})
	if err != nil {
		return nil, err
	}
	if request.Explain, err = mayExplain(ctx, in.Explain); err != nil {
		return nil, err
	}
	answer, err := s.cfg.Verifier.Verify(ctx, request)
	if err != nil {
		return nil, err
	}
	out := &verifyOneOutput{Status: http.StatusForbidden, Body: wireAnswer(answer)}
	if answer.Verdict == policy.Passed {
		out.Status = http.StatusOK
	}
	return out, nil
}

func verifyRequest(ctx context.Context, r api.VerifyRequest) (verifier.Request, error) {
	request := verifier.Request{Images: r.Images, Context: r.Context, Policy: r.Policy, Platform: r.Platform, Caller: callerOf(ctx)}
	if r.Timeout == "" {
		return request, nil
	}
	timeout, err := time.ParseDuration(r.Timeout)
	if err != nil || timeout <= 0 {
		return verifier.Request{}, badField("body.timeout", "must be a duration such as 5s")
	}
	request.Timeout = timeout
	return request, nil
}

// mayExplain lets nobody in particular have nothing judged anew: what a verdict
// costs is then for the cache to bound.
func mayExplain(ctx context.Context, wanted bool) (bool, error) {
	if wanted && callerOf(ctx).IsZero() {
		return false, errNoCredentials
	}
	return wanted, nil
}

func wireAnswer(a verifier.Answer) api.VerifyAnswer {
	return api.VerifyAnswer{Verdict: a.Verdict, Results: each(a.Results, wireResult), Warnings: each(a.Warnings, same)}
}

func same[T any](v T) T { return v }

func wireResult(r verifier.Result) api.VerifyResult {
	return api.VerifyResult{
		Image: r.Image, Pinned: r.Pinned, Digest: r.Digest, Verdict: r.Verdict, Reasons: each(r.Reasons, same),
		Policies: each(r.Policies, wirePolicyResult), Cached: r.Cached, Stale: r.Stale, DecisionID: r.DecisionID, Unrecorded: r.Unrecorded, Warnings: r.Warnings,
		Index: r.Index, Platform: r.Platform, Until: (*api.Until)(r.Until), Explain: wireExplanation(r.Explanation),
	}
}

func wireExplanation(x *verifier.Explanation) *api.Explanation {
	if x == nil {
		return nil
	}
	return &api.Explanation{Truncated: x.Truncated, Evidence: each(x.Evidence, func(c verifier.Considered) api.Considered {
		return api.Considered{
			Subject: c.Subject, Attachment: c.Attachment, Format: c.Format, Source: c.Source, PredicateType: c.PredicateType, Problem: c.Problem,
			Judgements: each(c.Judgements, func(j verifier.Judgement) api.Judgement { return api.Judgement(j) }),
		}
	})}
}

func wirePolicyResult(p verifier.PolicyResult) api.PolicyResult {
	return api.PolicyResult{
		Exception: (*api.Excepted)(p.Exception), Until: (*api.Until)(p.Until),
		Name: p.Name, Revision: p.Revision, Digest: p.Digest, BuildLevel: p.BuildLevel, Mode: string(p.Mode), Verdict: p.Verdict, Reasons: p.Reasons,
		Requirements: each(p.Requirements, func(r policy.RequirementResult) api.RequirementResult {
			return api.RequirementResult{Requirement: r.Requirement, Verdict: r.Verdict, Evidence: each(r.Evidence, same), Reasons: r.Reasons}
		}),
	}
}
