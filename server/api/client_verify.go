package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Verify asks for verdicts. FAILED is an answer, not an error.
func (c *Client) Verify(ctx context.Context, req VerifyRequest) (a VerifyAnswer, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/verify", body: req, out: &a})
	return a, err
}

// VerifyOne asks for the verdict on one image as `curl -f` would: the status
// is 200 or 403, the body the same.
func (c *Client) VerifyOne(ctx context.Context, image string, place map[string]string) (a VerifyAnswer, status int, err error) {
	q := url.Values{"image": {image}}
	for k, v := range place {
		q.Set(k, v)
	}
	status, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/verify", query: q, out: &a, also: http.StatusForbidden})
	return a, status, err
}

// VerifyStream asks for verdicts and calls yield with each as it is known. It
// stops at yield's first error and returns it.
func (c *Client) VerifyStream(ctx context.Context, req VerifyRequest, yield func(VerifyResult) error) error {
	resp, err := c.send(ctx, call{method: http.MethodPost, path: "v1/verify", query: url.Values{"stream": {"true"}}, body: req})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
		if err != nil {
			return fmt.Errorf("%w: reading the answer: %w", ErrServer, err)
		}
		return parseProblem(resp, body)
	}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, MaxAnswer))
	lines.Buffer(nil, MaxAnswer/16)
	for lines.Scan() {
		var r VerifyResult
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("%w: a line is not the JSON expected", ErrServer)
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: reading the answer: %w", ErrServer, err)
	}
	return nil
}

// DecisionFilter selects decisions; empty fields select all.
type DecisionFilter struct {
	Verdict string
	Digest  string
	Image   string
	ListOptions
}

// Decisions lists kept answers, newest first.
func (c *Client) Decisions(ctx context.Context, f DecisionFilter) (l DecisionList, err error) {
	q := f.query()
	set(q, "verdict", f.Verdict)
	set(q, "digest", f.Digest)
	set(q, "image", f.Image)
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/decisions", query: q, out: &l})
	return l, err
}

// Decision returns one kept answer with its result.
func (c *Client) Decision(ctx context.Context, id string) (d Decision, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/decisions/" + seg(id), out: &d})
	return d, err
}

// Audit lists the journal, newest first.
func (c *Client) Audit(ctx context.Context, o ListOptions) (l AuditList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/audit", query: o.query(), out: &l})
	return l, err
}
