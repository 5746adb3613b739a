package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// NotationTrust is what notation must believe to verify what the service signed.
type NotationTrust struct {
	// CA and TSA are root certificates in PEM, for trust stores of these types.
	CA  []string `json:"ca"`
	TSA []string `json:"tsa"`
	// TrustPolicy is a trustpolicy.json that names the stores "countersign".
	TrustPolicy json.RawMessage `json:"trustPolicy"`
}

// NotationTrust returns trust stores and a trust policy for notation.
func (c *Client) NotationTrust(ctx context.Context) (t NotationTrust, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust/notation", out: &t})
	return t, err
}
