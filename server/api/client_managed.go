package api

import (
	"context"
	"net/http"
)

// CreateKey makes a managed key.
func (c *Client) CreateKey(ctx context.Context, req KeyRequest) (k Key, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/keys", body: req, out: &k})
	return k, err
}

// Keys lists the managed keys.
func (c *Client) Keys(ctx context.Context, o ListOptions) (l KeyList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/keys", query: o.query(), out: &l})
	return l, err
}

// Key returns one key.
func (c *Client) Key(ctx context.Context, name string) (k Key, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/keys/" + seg(name), out: &k})
	return k, err
}

// PublicKey returns the current public half as PEM.
func (c *Client) PublicKey(ctx context.Context, name string) (pem []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/keys/" + seg(name) + "/public", out: &pem})
	return pem, err
}

// KeyAction is one of rotate, suspend, resume and retire.
func (c *Client) KeyAction(ctx context.Context, name, action string) (k Key, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/keys/" + seg(name) + "/" + seg(action), out: &k})
	return k, err
}

// RotateKey makes a key's next version; for a key in another back end than
// file, of what is behind a reference now.
func (c *Client) RotateKey(ctx context.Context, name string, req RotateRequest) (k Key, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/keys/" + seg(name) + "/rotate", body: req, out: &k})
	return k, err
}

// RevokeKey revokes the current version of a key.
func (c *Client) RevokeKey(ctx context.Context, name string, req RevokeRequest) (k Key, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/keys/" + seg(name) + "/revoke", body: req, out: &k})
	return k, err
}

// Registries lists the registries that may be contacted.
func (c *Client) Registries(ctx context.Context, o ListOptions) (l RegistryList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/registries", query: o.query(), out: &l})
	return l, err
}

// Registry returns one registry.
func (c *Client) Registry(ctx context.Context, host string) (r Registry, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/registries/" + seg(host), out: &r})
	return r, err
}

// PutRegistry creates or replaces a registry.
func (c *Client) PutRegistry(ctx context.Context, host string, req RegistryRequest, o PutOptions) (r Registry, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/registries/" + seg(host), header: o.header(), body: req, out: &r})
	return r, err
}

// CheckRegistry looks at a registry.
func (c *Client) CheckRegistry(ctx context.Context, host, repository string) (r RegistryCheck, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/registries/" + seg(host) + "/check", body: RegistryCheckRequest{Repository: repository}, out: &r})
	return r, err
}

// Policies lists the trust policies.
func (c *Client) Policies(ctx context.Context, o ListOptions) (l PolicyList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/policies", query: o.query(), out: &l})
	return l, err
}

// Policy returns one trust policy.
func (c *Client) Policy(ctx context.Context, name string) (p Policy, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/policies/" + seg(name), out: &p})
	return p, err
}

// PutPolicy creates or replaces a trust policy. document is a TrustPolicy as
// YAML or JSON.
func (c *Client) PutPolicy(ctx context.Context, name string, document []byte, o PutOptions) (p Policy, err error) {
	header := o.header()
	header.Set("Content-Type", "application/yaml")
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/policies/" + seg(name), header: header, body: document, out: &p})
	return p, err
}

// Grants lists the grants.
func (c *Client) Grants(ctx context.Context, o ListOptions) (l GrantList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/grants", query: o.query(), out: &l})
	return l, err
}

// Grant returns one grant.
func (c *Client) Grant(ctx context.Context, name string) (g Grant, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/grants/" + seg(name), out: &g})
	return g, err
}

// PutGrant creates or replaces a grant.
func (c *Client) PutGrant(ctx context.Context, name string, req GrantRequest, o PutOptions) (g Grant, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/grants/" + seg(name), header: o.header(), body: req, out: &g})
	return g, err
}

// CheckGrant asks who may sign what.
func (c *Client) CheckGrant(ctx context.Context, req GrantCheckRequest) (g GrantCheck, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/grants/check", body: req, out: &g})
	return g, err
}

// CreateToken makes an API token; the answer shows its secret this once.
func (c *Client) CreateToken(ctx context.Context, req TokenRequest) (t NewToken, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/tokens", body: req, out: &t})
	return t, err
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context, o ListOptions) (l TokenList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/tokens", query: o.query(), out: &l})
	return l, err
}

// Token returns one API token.
func (c *Client) Token(ctx context.Context, name string) (t Token, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/tokens/" + seg(name), out: &t})
	return t, err
}

// Me returns who the client is and what it may do.
func (c *Client) Me(ctx context.Context) (m Me, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/me", out: &m})
	return m, err
}

// Delete removes a managed object of a collection: registries, policies,
// grants or tokens. A revision above 0 removes only that one.
func (c *Client) Delete(ctx context.Context, collection, name string, o PutOptions) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: "v1/" + seg(collection) + "/" + seg(name), header: o.header()})
	return err
}
