package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	replayed, err = c.finished(ctx, "v1/signatures", req, o, &s)
	return s, replayed, err
}

// PendingError says that a signing call was accepted and goes on by itself: what
// it signed is kept, and the log or the registry does not take it yet.
type PendingError struct{ Operation Operation }

// Error names the operation to be watched.
func (e *PendingError) Error() string {
	return "accepted and not finished: operation " + e.Operation.ID + " goes on"
}

// finished sends a signing call whose end is waited for. An operation in place of
// the result is a *PendingError.
func (c *Client) finished(ctx context.Context, path string, req any, o SignOptions, out any) (replayed bool, err error) {
	var answer []byte
	status, header, err := c.do(ctx, call{method: http.MethodPost, path: path, header: o.header(), body: req, out: &answer})
	if err != nil {
		return false, err
	}
	if status == http.StatusAccepted {
		pending := &PendingError{}
		if err := decodeAnswer(answer, &pending.Operation); err != nil {
			return false, err
		}
		return false, pending
	}
	return header.Get("Idempotency-Replayed") == "true", decodeAnswer(answer, out)
}

// StartSign begins to sign and returns the operation to be watched.
func (c *Client) StartSign(ctx context.Context, req SignatureRequest, o SignOptions) (Operation, error) {
	return c.begin(ctx, "v1/signatures", req, o)
}

func (c *Client) begin(ctx context.Context, path string, req any, o SignOptions) (Operation, error) {
	header := o.header()
	header.Set("Prefer", "respond-async")
	var op Operation
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: path, header: header, body: req, out: &op})
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

// Attest signs an attestation about an image and waits for it.
func (c *Client) Attest(ctx context.Context, req AttestationRequest, o SignOptions) (a Attestation, replayed bool, err error) {
	body, err := req.body()
	if err != nil {
		return a, false, err
	}
	replayed, err = c.finished(ctx, "v1/attestations", body, o, &a)
	return a, replayed, err
}

// Provenance has the service attest how an image was built, from the caller's
// identity token.
func (c *Client) Provenance(ctx context.Context, req ProvenanceRequest, o SignOptions) (a Attestation, replayed bool, err error) {
	replayed, err = c.finished(ctx, "v1/provenance", req, o, &a)
	return a, replayed, err
}

// StartAttest begins to attest and returns the operation to be watched.
func (c *Client) StartAttest(ctx context.Context, req AttestationRequest, o SignOptions) (Operation, error) {
	body, err := req.body()
	if err != nil {
		return Operation{}, err
	}
	return c.begin(ctx, "v1/attestations", body, o)
}

// body is the request's JSON with the predicate byte for byte, which
// encoding/json would write anew. It must be JSON: it could add fields to the
// request otherwise.
func (r AttestationRequest) body() ([]byte, error) {
	predicate := r.Predicate
	if !json.Valid(predicate) {
		return nil, errors.New("encoding the request: the predicate is not JSON")
	}
	r.Predicate = nil
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	// In a string the quotes would be escaped, so this is the member.
	before, after, _ := bytes.Cut(raw, []byte(`"predicate":null`))
	return slices.Concat(before, []byte(`"predicate":`), predicate, after), nil
}

// StartProvenance begins to attest provenance and returns the operation to be
// watched.
func (c *Client) StartProvenance(ctx context.Context, req ProvenanceRequest, o SignOptions) (Operation, error) {
	return c.begin(ctx, "v1/provenance", req, o)
}

// AttestationFilter selects attestations; empty fields select all.
type AttestationFilter struct {
	Digest        string
	Repository    string
	PredicateType string
	// Key names a managed key, Identity the subject of a certificate; at most
	// one of them.
	Key      string
	Identity string
	ListOptions
}

// Attestations lists attestations, newest first, without their content.
func (c *Client) Attestations(ctx context.Context, f AttestationFilter) (l AttestationList, err error) {
	q := f.query()
	set(q, "digest", f.Digest)
	set(q, "repository", f.Repository)
	set(q, "predicateType", f.PredicateType)
	set(q, "key", f.Key)
	set(q, "identity", f.Identity)
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/attestations", query: q, out: &l})
	return l, err
}

// Attestation returns one attestation.
func (c *Client) Attestation(ctx context.Context, id string) (a Attestation, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/attestations/" + seg(id), out: &a})
	return a, err
}

// SignatureFilter selects signatures; empty fields select all.
type SignatureFilter struct {
	Digest     string
	Repository string
	// Key names a managed key, Identity the subject of a certificate; at most
	// one of them.
	Key      string
	Identity string
	ListOptions
}

// Signatures lists signatures, newest first.
func (c *Client) Signatures(ctx context.Context, f SignatureFilter) (l SignatureList, err error) {
	q := f.query()
	set(q, "digest", f.Digest)
	set(q, "repository", f.Repository)
	set(q, "key", f.Key)
	set(q, "identity", f.Identity)
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/signatures", query: q, out: &l})
	return l, err
}

// Signature returns one signature.
func (c *Client) Signature(ctx context.Context, id string) (s Signature, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/signatures/" + seg(id), out: &s})
	return s, err
}

// Ingest has the service keep what the registry has about a digest.
func (c *Client) Ingest(ctx context.Context, digest string, req IngestRequest) (i Ingest, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/artifacts/" + seg(digest) + "/ingest", body: req, out: &i})
	return i, err
}

// Artifact returns everything known of a digest.
func (c *Client) Artifact(ctx context.Context, digest string) (a Artifact, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/artifacts/" + seg(digest), out: &a})
	return a, err
}
