package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// TrustRoot is whom to believe: a Sigstore trusted root under a name that
// policies use.
type TrustRoot struct {
	Name                   string          `json:"name" doc:"self is the service's own."`
	Logs                   []string        `json:"logs" nullable:"false" doc:"URLs of the transparency logs."`
	CTLogs                 []string        `json:"ctLogs" nullable:"false" doc:"URLs of the certificate transparency logs."`
	TimestampAuthorities   []string        `json:"timestampAuthorities" nullable:"false" doc:"URIs."`
	CertificateAuthorities []string        `json:"certificateAuthorities" nullable:"false" doc:"URIs."`
	TrustedRoot            json.RawMessage `json:"trustedRoot" doc:"trusted_root.json, as stock clients take it."`
	Revision               int64           `json:"revision" doc:"0 for self, which follows from the service's keys."`
	CreatedAt              time.Time       `json:"createdAt,omitzero"`
	UpdatedAt              time.Time       `json:"updatedAt,omitzero"`
}

// TrustRootList is a page of GET /v1/trust-roots.
type TrustRootList struct {
	Items      []TrustRoot `json:"items" nullable:"false"`
	NextCursor string      `json:"nextCursor,omitempty"`
}

// TrustRoots lists the trusted roots of others.
func (c *Client) TrustRoots(ctx context.Context, o ListOptions) (l TrustRootList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust-roots", query: o.query(), out: &l})
	return l, err
}

// TrustRoot returns one trusted root; self is the service's own.
func (c *Client) TrustRoot(ctx context.Context, name string) (t TrustRoot, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust-roots/" + seg(name), out: &t})
	return t, err
}

// PutTrustRoot creates or replaces a trusted root. document is a
// trusted_root.json.
func (c *Client) PutTrustRoot(ctx context.Context, name string, document []byte, o PutOptions) (t TrustRoot, err error) {
	header := o.header()
	header.Set("Content-Type", "application/json")
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/trust-roots/" + seg(name), header: header, body: document, out: &t})
	return t, err
}
