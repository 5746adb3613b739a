package api

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// SignOptions are the headers of a signing call.
type SignOptions struct {
	// IdempotencyKey makes the call safe to repeat.
	IdempotencyKey string
}

func (o SignOptions) header() http.Header {
	h := http.Header{}
	if o.IdempotencyKey != "" {
		h.Set("Idempotency-Key", o.IdempotencyKey)
	}
	return h
}

// Sign signs an image and waits for the signature. replayed reports that the
// idempotency key had been used for the same request before.
func (c *Client) Sign(ctx context.Context, req SignatureRequest, o SignOptions) (s Signature, replayed bool, err error) {
	_, header, err := c.do(ctx, call{method: http.MethodPost, path: "v1/signatures", header: o.header(), body: req, out: &s})
	return s, header.Get("Idempotency-Replayed") == "true", err
}

// StartSign begins to sign and returns the operation to be watched.
func (c *Client) StartSign(ctx context.Context, req SignatureRequest, o SignOptions) (Operation, error) {
	header := o.header()
	header.Set("Prefer", "respond-async")
	var op Operation
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: "v1/signatures", header: header, body: req, out: &op})
	return op, err
}

// Operation is the state of an operation.
func (c *Client) Operation(ctx context.Context, id string) (op Operation, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/operations/" + seg(id), out: &op})
	return op, err
}

// WaitOperation asks every interval until the operation is finished. A failed
// operation is returned with its problem as error.
func (c *Client) WaitOperation(ctx context.Context, id string, interval time.Duration) (Operation, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		op, err := c.Operation(ctx, id)
		if err != nil {
			return op, err
		}
		if op.Finished() {
			return op, operationError(op)
		}
		select {
		case <-ctx.Done():
			return op, fmt.Errorf("waiting for operation %s: %w", id, ctx.Err())
		case <-tick.C:
		}
	}
}

func operationError(op Operation) error {
	if op.State == OperationFailed && op.Problem != nil {
		return op.Problem
	}
	return nil
}

// SignatureFilter selects signatures; empty fields select all.
type SignatureFilter struct {
	Digest     string
	Repository string
	ListOptions
}

// Signatures lists signatures, newest first.
func (c *Client) Signatures(ctx context.Context, f SignatureFilter) (l SignatureList, err error) {
	q := f.query()
	set(q, "digest", f.Digest)
	set(q, "repository", f.Repository)
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/signatures", query: q, out: &l})
	return l, err
}

// Signature returns one signature.
func (c *Client) Signature(ctx context.Context, id string) (s Signature, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/signatures/" + seg(id), out: &s})
	return s, err
}

// Artifact returns everything known of a digest.
func (c *Client) Artifact(ctx context.Context, digest string) (a Artifact, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/artifacts/" + seg(digest), out: &a})
	return a, err
}
