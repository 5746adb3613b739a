package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxAnswer bounds one answer the Client reads, in bytes.
const MaxAnswer = 64 << 20

// ErrServer is wrapped when the server could not be asked or its answer not
// be understood; asking again may help.
var ErrServer = errors.New("no usable answer from the server")

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	agent string
}

// ClientConfig is what NewClientWith needs. Only URL is required.
type ClientConfig struct {
	// URL is the server's address: http or https, a host, and no query.
	URL string
	// Token is sent as a bearer token unless empty.
	Token string
	// Transport replaces http.DefaultTransport, for a private CA or a test.
	Transport http.RoundTripper
	// UserAgent names the program.
	UserAgent string
}

// NewClient makes a client of the server at baseURL. token may be empty for
// what is anonymous.
func NewClient(baseURL, token string) (*Client, error) {
	return NewClientWith(ClientConfig{URL: baseURL, Token: token})
}

// NewClientWith makes a client. It refuses a URL that is not plain
// http(s)://host[:port][/prefix].
func NewClientWith(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("the server's URL must be http(s)://HOST[:PORT]")
	}
	transport := cfg.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	agent := cfg.UserAgent
	if agent == "" {
		agent = "countersign-client"
	}
	return &Client{base: u, token: cfg.Token, agent: agent, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call is one request and where its answer goes.
type call struct {
	method string
	path   string
	query  url.Values
	header http.Header
	// body is marshalled as JSON, unless it is a []byte.
	body any
	// out receives the JSON answer, or the bytes if it is a *[]byte.
	out any
	// also is a status besides 2xx whose JSON answer goes to out.
	also int
}

// do sends a call and returns the answer's status and headers. A problem
// document is returned as *Problem.
func (c *Client) do(ctx context.Context, call call) (int, http.Header, error) {
	resp, err := c.send(ctx, call)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err != nil || len(body) > MaxAnswer {
		return 0, nil, fmt.Errorf("%w: reading the answer: %w", ErrServer, errOr(err, "too large"))
	}
	problem := strings.HasPrefix(resp.Header.Get("Content-Type"), ProblemType)
	if problem || (resp.StatusCode/100 != 2 && resp.StatusCode != call.also) {
		return resp.StatusCode, resp.Header, parseProblem(resp, body)
	}
	if err := decodeAnswer(body, call.out); err != nil {
		return resp.StatusCode, resp.Header, err
	}
	return resp.StatusCode, resp.Header, nil
}

func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	var body io.Reader
	switch b := call.body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	target := c.base.JoinPath(call.path)
	target.RawQuery = call.query.Encode()
	req, err := http.NewRequestWithContext(ctx, call.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	for name, values := range call.header {
		req.Header[name] = values
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	return resp, nil
}

func errOr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

func decodeAnswer(body []byte, out any) error {
	switch o := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*o = body
		return nil
	default:
		if err := json.Unmarshal(body, out); err != nil {
			return fmt.Errorf("%w: the answer is not the JSON expected", ErrServer)
		}
		return nil
	}
}

// parseProblem makes an error of an answer that is not a success. What is not
// a problem document, a proxy's page for example, becomes ErrServer.
func parseProblem(resp *http.Response, body []byte) error {
	var p Problem
	isProblem := strings.HasPrefix(resp.Header.Get("Content-Type"), ProblemType)
	if !isProblem || json.Unmarshal(body, &p) != nil || p.Code == "" {
		return fmt.Errorf("%w: HTTP status %d without a problem document", ErrServer, resp.StatusCode)
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return &p
}

// seg escapes one path segment.
func seg(s string) string { return url.PathEscape(s) }

// ListOptions asks for a page.
type ListOptions struct {
	// Limit is at most 200; 0 means the server's default.
	Limit int
	// Cursor is NextCursor of the page before.
	Cursor string
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Cursor != "" {
		q.Set("cursor", o.Cursor)
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// PutOptions guard a replacement.
type PutOptions struct {
	// Revision is the one to be replaced; 0 creates.
	Revision int64
}

func (o PutOptions) header() http.Header {
	h := http.Header{}
	if o.Revision > 0 {
		h.Set("If-Match", strconv.Quote(strconv.FormatInt(o.Revision, 10)))
	}
	return h
}
