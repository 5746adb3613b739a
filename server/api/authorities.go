package api

import (
	"context"
	"net/http"
	"time"
)

// Authority is one of the service's own authorities, in use or retired.
type Authority struct {
	Name    string     `json:"name" doc:"log, ca, ct, tsa or journal."`
	ID      string     `json:"id" doc:"Of its key: the serial number of its certificate, the log's id or the key's, hexadecimal."`
	Subject string     `json:"subject" doc:"Whom its certificate names, or the log's URL."`
	Start   time.Time  `json:"start"`
	End     *time.Time `json:"end,omitempty" nullable:"false" doc:"Until when it is believed; absent for the one in use."`

	RevokedAt     *time.Time `json:"revokedAt,omitempty" nullable:"false"`
	CompromisedAt *time.Time `json:"compromisedAt,omitempty" nullable:"false" doc:"Until when it is believed although revoked; a revoked one without it is not believed at all."`
	RevokedReason string     `json:"revokedReason,omitempty"`

	PublicKey string `json:"publicKey,omitempty" doc:"Of journal: the public half as PEM, which no trusted root has."`
}

// AuthorityRevocation is the body of POST /v1/authorities/{name}/revoke.
type AuthorityRevocation struct {
	Reason        string     `json:"reason" minLength:"1" maxLength:"1024"`
	CompromisedAt *time.Time `json:"compromisedAt,omitempty" nullable:"false" doc:"Since when it is not believed; without it nothing it vouched for is."`
	ID            string     `json:"id,omitempty" maxLength:"128" doc:"Which key, by its id; the one in use when absent. With it, repeating the call changes nothing."`
}

// AuthorityList is the answer of GET /v1/authorities.
type AuthorityList struct {
	Items []Authority `json:"items" nullable:"false"`
}

// AuthorityRequest is the answer of POST /v1/authorities/ca/request.
type AuthorityRequest struct {
	Request string `json:"request" doc:"PKCS #10 certificate request, PEM."`
}

// AuthorityChain is the body of POST /v1/authorities/ca/import.
type AuthorityChain struct {
	Chain string `json:"chain" minLength:"1" maxLength:"262144" doc:"PEM: the certificate of a requested key first, its root last."`
}

// RequestAuthority makes a key and a certificate request for it.
func (c *Client) RequestAuthority(ctx context.Context) (r AuthorityRequest, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/authorities/ca/request", out: &r})
	return r, err
}

// ImportAuthority issues with a certificate that was given for a request.
func (c *Client) ImportAuthority(ctx context.Context, chain AuthorityChain) (l AuthorityList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/authorities/ca/import", body: chain, out: &l})
	return l, err
}

// Authorities lists the service's own authorities.
func (c *Client) Authorities(ctx context.Context) (l AuthorityList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/authorities", out: &l})
	return l, err
}

// RotateAuthority makes a new key for log, ca, ct, tsa or journal.
func (c *Client) RotateAuthority(ctx context.Context, name string) (l AuthorityList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/authorities/" + seg(name) + "/rotate", out: &l})
	return l, err
}

// RevokeAuthority stops believing a key of ca, ct or tsa.
func (c *Client) RevokeAuthority(ctx context.Context, name string, r AuthorityRevocation) (l AuthorityList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "v1/authorities/" + seg(name) + "/revoke", body: r, out: &l})
	return l, err
}
