package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// BlobRequest is the body of POST /v1/verify/blob.
type BlobRequest struct {
	Digest   string          `json:"digest" maxLength:"80" doc:"sha256:… of the blob."`
	Artifact []byte          `json:"artifact,omitempty" nullable:"false" doc:"The blob itself in base64, at most 8 MiB. Only signatures by Ed25519 keys, or over another digest than SHA-256, need it."`
	Bundle   json.RawMessage `json:"bundle,omitempty" doc:"A Sigstore bundle of version 0.1, 0.2 or 0.3. Without one, what this service keeps of the digest is judged."`
	// Name is what policies match by.
	Name   string `json:"name,omitempty" maxLength:"1024" doc:"What you call the blob; match.blobs of policies matches it."`
	Policy string `json:"policy,omitempty" maxLength:"128" doc:"Only this policy, whose match.blobs must have the name if there is one; by default every policy whose match.blobs has it."`
	// Authority takes the place of Policy.
	Authority     json.RawMessage   `json:"authority,omitempty" doc:"In the place of a policy: whom to trust, as an authority of a TrustPolicy."`
	PredicateType string            `json:"predicateType,omitempty" maxLength:"1024" doc:"With authority: want an attestation of this type and not a signature."`
	Context       map[string]string `json:"context,omitempty"`
	Timeout       string            `json:"timeout,omitempty" maxLength:"16" doc:"Go duration of at most 30s."`
}

// VerifyBlob asks for the verdict on a blob. FAILED is an answer, not an error.
func (c *Client) VerifyBlob(ctx context.Context, req BlobRequest) (a VerifyAnswer, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/verify/blob", body: req, out: &a})
	return a, err
}
