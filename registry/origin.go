package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// origin is one listed host and the only place its credentials are used.
// Requests to it share a bound on their number, so that a registry that hangs
// holds up nobody but those who ask for it.
type origin struct {
	rule    Rule
	scheme  string
	mark    [sha256.Size]byte
	client  *http.Client
	foreign *http.Client
	slots   chan struct{}
	clock   clock.Clock
	config  Config
	timeout time.Duration
	auth    authState
	breaker *breaker

	mu sync.Mutex
	// pausedUntil is guarded by mu.
	pausedUntil time.Time
}

func newOrigin(rule Rule, mark [sha256.Size]byte, c *Client) *origin {
	scheme := "https"
	if rule.InsecureHTTP {
		scheme = "http"
	}
	return &origin{
		rule: rule, scheme: scheme, mark: mark, config: c.config, clock: c.config.Clock, timeout: c.timeout,
		client:  newHTTPClient(c.network.transport(rule.AllowPrivateAddress, rule.CABundle)),
		foreign: c.foreign,
		slots:   make(chan struct{}, limits.RegistryRequests),
		breaker: &breaker{},
	}
}

// newHTTPClient follows no redirect by itself and keeps no cookies.
func newHTTPClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fingerprint tells two rules of one host apart, credentials included.
func fingerprint(r Rule) ([sha256.Size]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("%w: %w", ErrRule, err)
	}
	return sha256.Sum256(b), nil
}

// call is one request to an origin.
type call struct {
	method string
	// url is absolute and of the origin.
	url    *url.URL
	accept string
	// contentType and body of an upload.
	contentType string
	body        []byte
	scope       scope
	// limit bounds the answer's body. With keepPrefix a longer body is cut
	// and marked, otherwise it is ErrLimit.
	limit      int64
	keepPrefix bool
	// elsewhere allows a redirect to another host, without credentials.
	elsewhere bool
	// redirectIsAnswer takes a redirect for the answer and does not follow it.
	redirectIsAnswer bool
}

// answer is a whole answer of a registry.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    bool
	// url is where the answer came from, after redirects.
	url *url.URL
}

func (o *origin) url(path string) *url.URL {
	return &url.URL{Scheme: o.scheme, Host: o.rule.Host, Path: path}
}

// read is do, tried again when the registry was busy or the connection broke.
// A time-out is not tried again: it has taken its share of the caller's time.
func (o *origin) read(ctx context.Context, c call) (answer, error) {
	for attempt := 1; ; attempt++ {
		a, err := o.do(ctx, c)
		var temporary *temporaryError
		if attempt >= limits.RegistryAttempts || !errors.As(err, &temporary) {
			return a, err
		}
		if err := pause(ctx, time.Duration(attempt*attempt)*50*time.Millisecond); err != nil {
			return answer{}, o.failure(ctx, err)
		}
	}
}

// temporaryError marks a failure that a second attempt may cure.
type temporaryError struct{ err error }

func (e *temporaryError) Error() string { return e.err.Error() }
func (e *temporaryError) Unwrap() error { return e.err }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// do sends one request, with credentials if the registry asks for them, and
// reads the whole answer. Statuses below 500 other than 401, 403 and 429 are
// the caller's to judge.
func (o *origin) do(ctx context.Context, c call) (answer, error) {
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return answer{}, o.failure(ctx, ctx.Err())
	}
	own, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	a, err := o.authorized(own, c)
	if err == nil {
		err = o.statusError(a.status)
	}
	if err != nil {
		return a, o.failure(ctx, err)
	}
	return a, nil
}

// statusError maps what means the same for every request.
func (o *origin) statusError(status int) error {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: %s answered %d", ErrDenied, o.rule.Host, status)
	case status == http.StatusTooManyRequests || status >= 500:
		err := fmt.Errorf("%w: %s answered %d", ErrUnavailable, o.rule.Host, status)
		if status == http.StatusNotImplemented {
			return nil // how some registries say that they have no referrers API
		}
		return &temporaryError{err}
	}
	return nil
}

// failure classifies an error of the network. When the caller's own context
// ended, that is kept in the chain; our own time-out is not the caller's
// deadline and is not.
func (o *origin) failure(ctx context.Context, err error) error {
	if errIs(err, ErrUnsafe, ErrDenied, ErrLimit, ErrUnavailable) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, o.rule.Host, ctx.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s did not answer in time", ErrUnavailable, o.rule.Host)
	}
	return &temporaryError{fmt.Errorf("%w: %s: %s", ErrUnavailable, o.rule.Host, withoutURL(err))}
}

// withoutURL drops the URL that net/http puts into its errors: after a
// redirect it may hold a signature of the object store.
func withoutURL(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

// authorized sends the request and, when asked to authenticate, once more.
func (o *origin) authorized(ctx context.Context, c call) (answer, error) {
	a, err := o.follow(ctx, c, o.auth.header(o.rule.Credentials, c.scope, o.clock.Now()))
	if err != nil || a.status != http.StatusUnauthorized || !o.sameOrigin(a.url) {
		return a, err
	}
	header, err := o.authenticate(ctx, a.header, c.scope)
	if err != nil || header == "" {
		return a, err
	}
	return o.follow(ctx, c, header)
}

// follow sends the request and follows redirects: within the origin with the
// same headers, elsewhere as the package comment says.
func (o *origin) follow(ctx context.Context, c call, authorization string) (answer, error) {
	target := c.url
	for range limits.Redirects + 1 {
		here := o.sameOrigin(target)
		a, err := o.send(ctx, c, target, here, authorization)
		if err != nil || !isRedirect(a.status) || c.redirectIsAnswer {
			return a, err
		}
		if target, err = o.redirect(c, target, a.header.Get("Location")); err != nil {
			return answer{}, err
		}
	}
	return answer{}, fmt.Errorf("%w: more than %d redirects", ErrLimit, limits.Redirects)
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirect judges where an answer points.
func (o *origin) redirect(c call, from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	if err != nil || location == "" || to.User != nil {
		return nil, fmt.Errorf("%w: redirect without a usable Location", ErrUnsafe)
	}
	if c.method != http.MethodGet && c.method != http.MethodHead {
		return nil, fmt.Errorf("%w: redirect of an upload", ErrUnsafe)
	}
	if o.sameOrigin(to) && o.sameOrigin(from) {
		return to, nil
	}
	if !c.elsewhere || to.Scheme != "https" || o.sameOrigin(to) {
		return nil, fmt.Errorf("%w: redirect to another host", ErrUnsafe)
	}
	return to, nil
}

// sameOrigin reports whether u has the scheme, host and port of the rule.
func (o *origin) sameOrigin(u *url.URL) bool {
	return u.Scheme == o.scheme && strings.EqualFold(u.Host, o.rule.Host)
}

// send makes one HTTP request and reads its answer.
func (o *origin) send(ctx context.Context, c call, target *url.URL, here bool, authorization string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), bodyOf(c.body))
	if err != nil {
		return answer{}, fmt.Errorf("%w: request", ErrUnsafe)
	}
	client := o.foreign
	if here {
		client = o.client
		setIf(req.Header, "Authorization", authorization)
		setIf(req.Header, "Content-Type", c.contentType)
		setIf(req.Header, "User-Agent", o.config.UserAgent)
	}
	setIf(req.Header, "Accept", c.accept)
	exchange := func() (answer, error) {
		resp, err := client.Do(req)
		o.observe(req, resp)
		if err != nil {
			return answer{}, err
		}
		defer resp.Body.Close()
		return receive(resp, c, target)
	}
	if !here {
		return exchange() // how a foreign place does says nothing of this one
	}
	return o.guarded(ctx, exchange)
}

func bodyOf(b []byte) io.Reader {
	if b == nil {
		return nil
	}
	return strings.NewReader(string(b))
}

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

func (o *origin) observe(req *http.Request, resp *http.Response) {
	if o.config.Observe == nil {
		return
	}
	r := RoundTrip{Host: req.URL.Host, Method: req.Method, Path: req.URL.Path}
	if resp != nil {
		r.Status = resp.StatusCode
	}
	o.config.Observe(r)
}

// receive reads the body within the call's limit. The body of a fault is not
// wanted; a little of it is read so that the connection can be used again.
func receive(resp *http.Response, c call, from *url.URL) (answer, error) {
	a := answer{status: resp.StatusCode, header: resp.Header, url: from}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return a, nil
	}
	if c.limit == 0 {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return a, nil
	}
	if resp.ContentLength > c.limit && !c.keepPrefix {
		return answer{}, fmt.Errorf("%w: body larger than %d bytes", ErrLimit, c.limit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	if err != nil {
		return answer{}, err
	}
	if int64(len(body)) > c.limit {
		if !c.keepPrefix {
			return answer{}, fmt.Errorf("%w: body larger than %d bytes", ErrLimit, c.limit)
		}
		body, a.cut = body[:c.limit], true
	}
	a.body = body
	return a, nil
}
