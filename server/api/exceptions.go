package api

import (
	"context"
	"net/http"
	"time"
)

// ExceptionRequest is the body of PUT /v1/exceptions/{name}.
type ExceptionRequest struct {
	Digests   []string  `json:"digests,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"The images by digest; either this or images."`
	Images    []string  `json:"images,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"Patterns over HOST/REPOSITORY whose host and first segment have no *."`
	Policy    string    `json:"policy" minLength:"1" maxLength:"128" doc:"The policy whose verdict it changes."`
	Reason    string    `json:"reason" minLength:"1" maxLength:"512" doc:"Why, in one line; every answer that rests on the exception shows it."`
	ExpiresAt time.Time `json:"expiresAt" doc:"Until when; at most 90 days from now."`
}

// Exception lets images pass a policy that FAILED them.
type Exception struct {
	Name string `json:"name"`
	ExceptionRequest
	Expired   bool      `json:"expired" doc:"It says nothing any more."`
	Revision  int64     `json:"revision"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// ExceptionList is a page of GET /v1/exceptions.
type ExceptionList struct {
	Items      []Exception `json:"items" nullable:"false"`
	NextCursor string      `json:"nextCursor,omitempty"`
}

// Excepted is the exception by which a policy's verdict is PASSED.
type Excepted struct {
	Name      string    `json:"name"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Exceptions lists the exceptions to policies.
func (c *Client) Exceptions(ctx context.Context, o ListOptions) (l ExceptionList, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/exceptions", query: o.query(), out: &l})
	return l, err
}

// Exception returns one exception.
func (c *Client) Exception(ctx context.Context, name string) (e Exception, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/exceptions/" + seg(name), out: &e})
	return e, err
}

// PutException creates or replaces an exception.
func (c *Client) PutException(ctx context.Context, name string, req ExceptionRequest, o PutOptions) (e Exception, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/exceptions/" + seg(name), header: o.header(), body: req, out: &e})
	return e, err
}
