package api

import (
	"context"
	"net/http"
	"time"
)

// IssuerRequest is the body of PUT /v1/issuers/{name}.
type IssuerRequest struct {
	URL                 string            `json:"url,omitempty" maxLength:"1024" doc:"The iss of its tokens, byte for byte: https://HOST[/PATH]. Of the kind mtls: mtls:NAME, or left out."`
	Audience            string            `json:"audience,omitempty" maxLength:"1024" doc:"The aud that its tokens must have, and no other. None of the kind mtls."`
	Kind                string            `json:"kind" enum:"github,gitlab,buildkite,circleci,kubernetes,generic,mtls" doc:"How it shapes its claims; mtls has client certificates and no tokens."`
	CABundle            string            `json:"caBundle,omitempty" maxLength:"262144" doc:"PEM certificates to believe instead of the system's. Of the kind mtls: the authorities of its client certificates."`
	JWKSURL             string            `json:"jwksUrl,omitempty" maxLength:"1024" doc:"Where its keys are, instead of what discovery says. Needed when they are on another host."`
	ClaimsMapping       map[string]string `json:"claimsMapping,omitempty" doc:"Of the kind generic: from the name that grants and certificates use to the issuer's, nested ones with dots."`
	Roles               []string          `json:"roles,omitempty" nullable:"false" maxItems:"3" enum:"verifier,signer,auditor" doc:"What its identities may do. Default: signer."`
	OneTime             bool              `json:"oneTime,omitempty" doc:"A token (by its jti) authenticates one signing call."`
	Provenance          *ProvenanceRules  `json:"provenance,omitempty" nullable:"false" doc:"What its tokens do not say of where a build's source is, and how far its builders are trusted."`
	InsecureHTTP        bool              `json:"insecureHttp,omitempty" doc:"The URLs may be plain HTTP."`
	AllowPrivateAddress bool              `json:"allowPrivateAddress,omitempty" doc:"The hosts may resolve to private or loopback addresses."`
}

// ProvenanceRules say what of a provenance the issuer's tokens do not. Except
// in BuildType, `{claim}` stands for a claim.
type ProvenanceRules struct {
	Source     string           `json:"source,omitempty" maxLength:"1024" doc:"The repository, git+https://HOST/PATH, of kinds whose tokens do not name it: buildkite, kubernetes, generic."`
	Links      []ProvenanceLink `json:"links,omitempty" nullable:"false" maxItems:"256" doc:"Repositories of single subjects; the first that matches counts, and source when none does."`
	Ref        string           `json:"ref,omitempty" maxLength:"1024" doc:"Of the kind generic: the full git ref. Default: {ref}."`
	Commit     string           `json:"commit,omitempty" maxLength:"1024" doc:"Of the kind generic: the git commit. Default: {sha}."`
	Workflow   string           `json:"workflow,omitempty" maxLength:"1024" doc:"Of the kind generic: the URI of the build's definition. Default: {buildConfigUri}."`
	Invocation string           `json:"invocation,omitempty" maxLength:"1024" doc:"Of the kind generic: the URI of the run. Default: {runUri}."`
	Builder    string           `json:"builder,omitempty" maxLength:"1024" doc:"The builder id, of the kinds kubernetes and generic."`
	BuildType  string           `json:"buildType,omitempty" maxLength:"1024" doc:"The build type, of the kinds kubernetes and generic."`
	Builders   []BuilderRule    `json:"builders,omitempty" nullable:"false" maxItems:"256" doc:"How far builders are trusted; the first that matches counts. One that none matches: level 2 on a hosted runner, else 1."`
}

// ProvenanceLink says which repository a subject builds.
type ProvenanceLink struct {
	Subject string            `json:"subject,omitempty" maxLength:"1024" doc:"A pattern over the whole subject."`
	Claims  map[string]string `json:"claims,omitempty" doc:"Patterns over claims; all must match."`
	Source  string            `json:"source" minLength:"1" maxLength:"1024"`
	Builder string            `json:"builder,omitempty" maxLength:"1024"`
}

// BuilderRule says how far builders are trusted.
type BuilderRule struct {
	Builder  string `json:"builder" minLength:"1" maxLength:"1024" doc:"A pattern over the whole builder id: * within a segment, ** across them."`
	MaxLevel int    `json:"maxLevel" minimum:"0" maximum:"3" doc:"The highest SLSA build level that they are granted."`
}

// Issuer is an issuer whose tokens are believed.
type Issuer struct {
	Name string `json:"name"`
	IssuerRequest
	Revision  int64     `json:"revision"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// IssuerList is a page of GET /v1/issuers.
type IssuerList struct {
	Items      []Issuer `json:"items" nullable:"false"`
	NextCursor string   `json:"nextCursor,omitempty"`
}

// Issuers lists the issuers whose tokens are believed.
func (c *Client) Issuers(ctx context.Context, o ListOptions) (l IssuerList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/issuers", query: o.query(), out: &l})
	return l, err
}

// Issuer returns one issuer.
func (c *Client) Issuer(ctx context.Context, name string) (i Issuer, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/issuers/" + seg(name), out: &i})
	return i, err
}

// PutIssuer creates or replaces an issuer.
func (c *Client) PutIssuer(ctx context.Context, name string, req IssuerRequest, o PutOptions) (i Issuer, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/issuers/" + seg(name), header: o.header(), body: req, out: &i})
	return i, err
}
