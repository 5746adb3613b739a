package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/countersign/countersign/policy"
)

// Until is a moment at which time alone changes a PASSED verdict, and why.
type Until struct {
	At     time.Time     `json:"at"`
	Reason policy.Reason `json:"reason"`
}

// Explanation is every piece of evidence that was considered of an image.
type Explanation struct {
	Evidence  []Considered `json:"evidence" nullable:"false"`
	Truncated bool         `json:"truncated,omitempty" doc:"There was more than is told."`
}

// Considered is one signature or attestation, or what could not be read as one.
type Considered struct {
	Subject       string         `json:"subject" doc:"The digest that it was found with."`
	Attachment    string         `json:"attachment,omitempty" doc:"Digest of the bundle or layer."`
	Format        string         `json:"format,omitempty"`
	Source        string         `json:"source" enum:"archive,registry"`
	PredicateType string         `json:"predicateType,omitempty" doc:"What an attestation says of itself, verified or not."`
	Problem       *policy.Reason `json:"problem,omitempty" nullable:"false" doc:"Why it cannot be read, for every authority."`
	Judgements    []Judgement    `json:"judgements" nullable:"false"`
}

// Judgement is what one authority of a policy makes of a piece of evidence.
type Judgement struct {
	Policy    string         `json:"policy"`
	Authority string         `json:"authority"`
	Accepted  bool           `json:"accepted"`
	Signer    string         `json:"signer,omitempty"`
	Checks    []string       `json:"checks" nullable:"false" doc:"The checks that it passed, in their order: read, signer, subject, log, time, and window or identity."`
	Reason    *policy.Reason `json:"reason,omitempty" nullable:"false" doc:"The check that refused it."`
}

// Forecast is the answer of GET /v1/forecast.
type Forecast struct {
	Before    time.Time      `json:"before"`
	Decisions int            `json:"decisions" doc:"PASSED decisions that were looked at."`
	Images    int            `json:"images" doc:"Different questions among them, each judged again."`
	Truncated bool           `json:"truncated" doc:"There were more than is looked at or listed at once."`
	Items     []ForecastItem `json:"items" nullable:"false" doc:"The first to stop in front."`
}

// ForecastItem is an image that stops passing.
type ForecastItem struct {
	Image      string            `json:"image"`
	Pinned     string            `json:"pinned"`
	Platform   string            `json:"platform,omitempty"`
	Policy     string            `json:"policy,omitempty" doc:"The policy asked for; empty when all that match apply."`
	Context    map[string]string `json:"context,omitempty"`
	DecisionID string            `json:"decisionId"`
	PassedAt   time.Time         `json:"passedAt"`
	At         time.Time         `json:"at" doc:"When it stops; now if it would not pass any more."`
	Reasons    []policy.Reason   `json:"reasons" nullable:"false"`
	Basis      string            `json:"basis" enum:"judged,recorded" doc:"Judged again, or, when it could not be judged now, what its decision said."`
}

// PolicyTestRequest is the body of POST /v1/policies/{name}/test.
type PolicyTestRequest struct {
	Policy         json.RawMessage   `json:"policy,omitempty" doc:"The draft: a TrustPolicy as JSON, or as a text of YAML; without it the stored policy."`
	Images         []string          `json:"images,omitempty" nullable:"false" maxItems:"200" doc:"Images to judge now; either this or decisionsSince."`
	Context        map[string]string `json:"context,omitempty" doc:"With images: where they shall run."`
	Platform       string            `json:"platform,omitempty" maxLength:"200" doc:"With images: the child of an index to judge."`
	DecisionsSince string            `json:"decisionsSince,omitempty" maxLength:"64" doc:"Recorded decisions since this time, or this long ago (24h)."`
	Limit          int               `json:"limit,omitempty" minimum:"1" maximum:"200" doc:"How many items at most; default 50."`
}

// PolicyTest is what a draft would decide, or would have decided.
type PolicyTest struct {
	Policy    string           `json:"policy"`
	Mode      string           `json:"mode" doc:"The draft's; only enforce changes verdicts."`
	Decisions int              `json:"decisions" doc:"Recorded decisions that were looked at."`
	Images    int              `json:"images" doc:"Different questions that were judged."`
	Counts    PolicyTestCounts `json:"counts"`
	Truncated bool             `json:"truncated" doc:"There was more than is looked at or listed at once."`
	Items     []PolicyTestItem `json:"items" nullable:"false" doc:"Of images all, of decisions those whose verdict differs."`
}

// PolicyTestCounts are of decisions, or of images.
type PolicyTestCounts struct {
	Same        int `json:"same"`
	NewlyFailed int `json:"newlyFailed"`
	NewlyPassed int `json:"newlyPassed"`
	Undecided   int `json:"undecided" doc:"They could not be judged again."`
}

// PolicyTestItem is one question with both verdicts.
type PolicyTestItem struct {
	Image        string            `json:"image"`
	Pinned       string            `json:"pinned,omitempty"`
	Platform     string            `json:"platform,omitempty"`
	Context      map[string]string `json:"context,omitempty"`
	Before       policy.Verdict    `json:"before" enum:"PASSED,FAILED"`
	After        policy.Verdict    `json:"after" enum:"PASSED,FAILED"`
	Reasons      []policy.Reason   `json:"reasons" nullable:"false" doc:"Why it is FAILED with the draft, by whichever policy."`
	Draft        policy.Verdict    `json:"draft,omitempty" enum:"PASSED,FAILED" doc:"The draft's own verdict, whatever its mode; absent where it does not match."`
	DraftReasons []policy.Reason   `json:"draftReasons,omitempty" nullable:"false"`
	Decisions    int               `json:"decisions,omitempty" doc:"How many decisions asked this."`
	DecisionID   string            `json:"decisionId,omitempty" doc:"The newest of them."`
	DecidedAt    *time.Time        `json:"decidedAt,omitempty" nullable:"false"`
}

// Count adds what became of n questions.
func (t *PolicyTest) Count(before, after policy.Verdict, undecided bool, n int) {
	switch {
	case undecided:
		t.Counts.Undecided += n
	case before == after:
		t.Counts.Same += n
	case after == policy.Passed:
		t.Counts.NewlyPassed += n
	default:
		t.Counts.NewlyFailed += n
	}
}

// PolicyImport is what became of another verifier's policies.
type PolicyImport struct {
	Policies   []ImportedDocument `json:"policies" nullable:"false"`
	TrustRoots []ImportedDocument `json:"trustRoots" nullable:"false"`
	Report     []ImportLine       `json:"report" nullable:"false"`
	Refused    bool               `json:"refused" doc:"Something was refused, and what it restricts was not produced."`
}

// ImportedDocument is a TrustPolicy or a trusted_root.json.
type ImportedDocument struct {
	Name string          `json:"name"`
	JSON json.RawMessage `json:"document"`
}

// ImportLine is what became of one field.
type ImportLine struct {
	Source  string `json:"source" doc:"Pointer to the field (RFC 6901)."`
	Outcome string `json:"outcome" enum:"exact,narrowed,refused"`
	Detail  string `json:"detail"`
}

// Explain is Verify with the evidence that was considered.
func (c *Client) Explain(ctx context.Context, req VerifyRequest) (a VerifyAnswer, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/verify", query: url.Values{"explain": {"true"}}, body: req, out: &a})
	return a, err
}

// Forecast tells which images that PASSED will stop passing. Before and since
// are times or durations; empty ones are the service's defaults.
func (c *Client) Forecast(ctx context.Context, before, since string, limit int) (f Forecast, err error) {
	q := url.Values{}
	set(q, "before", before)
	set(q, "since", since)
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/forecast", query: q, out: &f})
	return f, err
}

// TestPolicy asks what a draft of a policy would decide.
func (c *Client) TestPolicy(ctx context.Context, name string, req PolicyTestRequest) (t PolicyTest, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/policies/" + seg(name) + "/test", body: req, out: &t})
	return t, err
}

// ImportPolicies converts a foreign document; nothing is stored.
func (c *Client) ImportPolicies(ctx context.Context, format string, document []byte) (r PolicyImport, err error) {
	header := http.Header{"Content-Type": {"application/yaml"}}
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/policies/import", query: url.Values{"format": {format}}, header: header, body: document, out: &r})
	return r, err
}
