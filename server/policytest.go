package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/verifier"
)

type testPolicyInput struct {
	NameInput
	Body api.PolicyTestRequest
}

type importPoliciesInput struct {
	Format      string `query:"format" required:"true" enum:"clusterimagepolicy,trustroot,notation,policyjson,kyverno,connaisseur,dct" doc:"Whose documents they are."`
	ContentType string `header:"Content-Type" maxLength:"256" hidden:"true"`
	RawBody     []byte `contentType:"application/yaml"`
}

func (s *Server) policyTestRoutes() {
	tags := []string{"Policies"}
	register(s, huma.Operation{
		OperationID: "testPolicy", Method: http.MethodPost, Path: "/v1/policies/{name}/test", Tags: tags,
		Summary: "What a draft of a policy would decide, and what it would have decided",
		Description: "The draft counts in the place of the stored policy of its name, beside all others. images are judged now, with and without it; " +
			"decisionsSince judges the recorded questions again, each for the time of its newest decision and under the trust of now, and lists where the verdict differs. Nothing is recorded.",
	}, s.testPolicy)
	register(s, huma.Operation{
		OperationID: "importPolicies", Method: http.MethodPost, Path: "/v1/policies/import", Tags: tags,
		Summary:     "Convert another verifier's policies, with a report for every field",
		Description: "Stores nothing: what is answered can be put under /v1/policies and /v1/trust-roots. A field that is refused is in the report, and what it restricts is not produced.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/yaml": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		SkipValidateBody: true,
	}, s.importPolicies)
	s.api.OpenAPI().Paths["/v1/policies/import"].Post.RequestBody.Content["application/json"] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	}
}

func (s *Server) importPolicies(_ context.Context, in *importPoliciesInput) (*bodyOutput[api.PolicyImport], error) {
	if !isDocument(in.ContentType) {
		return nil, errMediaType
	}
	result, err := convert.Import(convert.Kind(in.Format), [][]byte{bytes.Clone(in.RawBody)}, convert.Options{})
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.PolicyImport]{Body: api.PolicyImport{
		Policies:   each(result.Policies, func(d convert.Document) api.ImportedDocument { return api.ImportedDocument(d) }),
		TrustRoots: each(result.TrustRoots, func(d convert.NamedRoot) api.ImportedDocument { return api.ImportedDocument(d) }),
		Report: each(result.Report, func(l convert.Line) api.ImportLine {
			return api.ImportLine{Source: l.Source, Outcome: string(l.Outcome), Detail: l.Detail}
		}),
		Refused: convert.HasRefused(result.Report),
	}}, nil
}

func (s *Server) testPolicy(ctx context.Context, in *testPolicyInput) (*bodyOutput[api.PolicyTest], error) {
	draft, err := s.draftOf(ctx, in.Name, in.Body.Policy)
	if err != nil {
		return nil, err
	}
	if (len(in.Body.Images) == 0) == (in.Body.DecisionsSince == "") {
		return nil, badField("body", "must have exactly one of images and decisionsSince")
	}
	limit := in.Body.Limit
	if limit == 0 {
		limit = limits.PageDefault
	}
	ctx, cancel := context.WithTimeout(ctx, limits.RecordedTime)
	defer cancel()
	out := api.PolicyTest{Policy: draft.Name, Mode: string(draft.Mode), Items: []api.PolicyTestItem{}}
	if in.Body.DecisionsSince == "" {
		err = s.testImages(ctx, in.Body, draft, &out)
	} else {
		err = s.testDecisions(ctx, in.Body, draft, &out)
	}
	if err != nil {
		return nil, err
	}
	if len(out.Items) > limit {
		out.Items, out.Truncated = out.Items[:limit], true
	}
	return &bodyOutput[api.PolicyTest]{Body: out}, nil
}

// draftOf reads a draft: a document, or a text with one; none is the stored
// policy.
func (s *Server) draftOf(ctx context.Context, name string, document json.RawMessage) (*policy.Policy, error) {
	if len(document) == 0 {
		e, err := s.cfg.Catalog.PolicyObjects().Get(ctx, name)
		return e.Value, err
	}
	raw := []byte(document)
	var text string
	if json.Unmarshal(document, &text) == nil {
		raw = []byte(text)
	}
	d, err := s.cfg.Catalog.DraftPolicy(name, raw)
	return d.Value(), err
}

// testImages judges images now, without the draft and with it.
func (s *Server) testImages(ctx context.Context, body api.PolicyTestRequest, draft *policy.Policy, out *api.PolicyTest) error {
	request := verifier.Request{Images: body.Images, Context: body.Context, Platform: body.Platform, DryRun: true, Timeout: limits.VerifyTimeoutMax / 2}
	before, err := s.cfg.Verifier.Verify(ctx, request)
	if err != nil {
		return err
	}
	request.Draft = draft
	after, err := s.cfg.Verifier.Verify(ctx, request)
	if err != nil {
		return err
	}
	for i, r := range after.Results {
		item := testItem(r, draft.Name)
		item.Context, item.Before = body.Context, before.Results[i].Verdict
		out.Images++
		out.Count(item.Before, r.Verdict, undecidedResult(r.Verdict, r.Reasons), 1)
		out.Items = append(out.Items, item)
	}
	return nil
}

// testDecisions judges recorded questions again. One that named another policy
// has nothing to do with the draft.
func (s *Server) testDecisions(ctx context.Context, body api.PolicyTestRequest, draft *policy.Policy, out *api.PolicyTest) error {
	since, err := momentOf("body.decisionsSince", body.DecisionsSince, s.cfg.Clock.Now(), -1, limits.RecordedWindow, 0)
	if err != nil {
		return err
	}
	found, err := s.recordedSince(ctx, "", since, func(d archive.Decision) bool { return d.Policy == "" || d.Policy == draft.Name })
	if err != nil {
		return err
	}
	out.Decisions, out.Images, out.Truncated = found.read, len(found.groups), found.truncated
	results := make([]verifier.Result, len(found.groups))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(limits.VerifyParallel)
	for i, g := range found.groups {
		work.Go(func() error {
			g.request.Draft, g.request.At = draft, g.CreatedAt
			answer, err := s.cfg.Verifier.Verify(ctx, g.request)
			if err == nil {
				results[i] = answer.Results[0]
			}
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	out.Counts.Undecided = found.unresolved
	for i, g := range found.groups {
		r := results[i]
		before := policy.Verdict(g.Verdict)
		unknown := undecidedResult(r.Verdict, r.Reasons)
		out.Count(before, r.Verdict, unknown, g.count)
		if unknown || before == r.Verdict {
			continue
		}
		item := testItem(r, draft.Name)
		item.Image, item.Context, item.Before, item.Decisions, item.DecisionID, item.DecidedAt = g.Image, g.Context, before, g.count, g.ID, new(g.CreatedAt.UTC())
		out.Items = append(out.Items, item)
	}
	return nil
}

// testItem is what a result says with the draft in force.
func testItem(r verifier.Result, draft string) api.PolicyTestItem {
	item := api.PolicyTestItem{
		Image: r.Image, Pinned: r.Pinned, Platform: r.Platform, After: r.Verdict, Reasons: each(r.Reasons, same),
	}
	for _, p := range r.Policies {
		if p.Name == draft {
			item.Draft, item.DraftReasons = p.Verdict, p.Reasons
		}
	}
	return item
}
