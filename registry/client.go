package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// RoundTrip is one HTTP request made, for counting. Path has no query.
type RoundTrip struct {
	Host   string
	Method string
	Path   string
	// Status is 0 if there was no answer.
	Status int
}

// Config of a Client.
type Config struct {
	// Rules lists the registries; required.
	Rules Rules
	// Clock is for token expiry; required.
	Clock clock.Clock
	// Logger defaults to none.
	Logger *slog.Logger
	// UserAgent is sent with each request.
	UserAgent string
	// Observe, if set, is called after each request, from several goroutines.
	Observe func(RoundTrip)
}

// Client speaks to the listed registries. It is safe for concurrent use.
type Client struct {
	config  Config
	network network
	foreign *http.Client
	timeout time.Duration
	writers keyedLocks
	recent  *recent
	lent    *lentOrigins

	mu sync.Mutex
	// origins by host, with the rule they were made of; guarded by mu.
	origins map[string]*origin
}

// New makes a client. Nothing is contacted.
func New(config Config) *Client {
	return newClient(config, systemNetwork(), limits.RegistryRequest)
}

func newClient(config Config, n network, timeout time.Duration) *Client {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{
		config: config, network: n, timeout: timeout, recent: newRecent(), lent: newLentOrigins(),
		// Where a registry keeps its blobs elsewhere, no rule of ours speaks
		// for that place: public addresses and public authorities only.
		foreign: newHTTPClient(n.transport(false, "")),
		origins: make(map[string]*origin),
	}
}

// Close drops the connections that are kept open between requests. The client
// can be used again.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.origins {
		o.client.CloseIdleConnections()
	}
	c.foreign.CloseIdleConnections()
}

// origin returns the origin of a listed host, made anew when its rule changed:
// connections, tokens and the trust in its certificate belong to the old rule.
func (c *Client) origin(ctx context.Context, host, repository string) (*origin, error) {
	rule, err := c.config.Rules.Rule(ctx, host)
	switch {
	case errors.Is(err, ErrNotListed):
		c.forget(host)
		return nil, fmt.Errorf("%w: %s", ErrNotListed, host)
	case err != nil:
		return nil, fmt.Errorf("reading the rule of %s: %w", host, err)
	case rule.Host != host:
		// A look-up that matches loosely would hand this host the
		// credentials of another.
		return nil, fmt.Errorf("%w: %s", ErrNotListed, host)
	case repository != "" && !rule.Allows(repository):
		return nil, fmt.Errorf("%w: the rule of %s does not cover %s", ErrNotListed, host, repository)
	}
	return c.originOf(rule)
}

func (c *Client) originOf(rule Rule) (*origin, error) {
	mark, err := fingerprint(rule)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.origins[rule.Host]
	if ok && old.mark == mark {
		return old, nil
	}
	if ok {
		old.client.CloseIdleConnections()
	}
	o := newOrigin(rule.clone(), mark, c)
	c.origins[rule.Host] = o
	return o, nil
}

func (c *Client) forget(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.origins[host]; ok {
		o.client.CloseIdleConnections()
		delete(c.origins, host)
	}
}

// Resolve fetches the manifest that ref names, in one successful GET. By
// digest, the bytes hash to it; by tag, the bytes define the digest, and
// nothing is asked for again. Errors: ErrNotListed, ErrNotFound,
// ErrUnavailable, ErrDenied, ErrDigestMismatch, ErrAmbiguous, ErrLimit,
// ErrUnsafe.
func (c *Client) Resolve(ctx context.Context, ref Reference) (Manifest, error) {
	if ref.Digest.IsZero() && ref.Tag == "" {
		return Manifest{}, fmt.Errorf("%w: neither tag nor digest", ErrReference)
	}
	return fromAny(ctx, c, ref, c.readManifest(ref))
}

// readManifest reads the manifest that ref names from one source and remembers
// it.
func (c *Client) readManifest(ref Reference) func(context.Context, source) (Manifest, error) {
	return func(ctx context.Context, s source) (Manifest, error) {
		m, err := s.manifest(ctx, identifier(ref))
		m.Reference = ref
		m.Reference.Digest = m.Digest
		c.note(s, ref, m, err)
		if err != nil {
			return Manifest{}, err
		}
		return m, nil
	}
}

// Child fetches an entry of an index in ref's repository. The bytes must hash
// to the entry's digest and be of its size and media type.
func (c *Client) Child(ctx context.Context, ref Reference, child Child) (Manifest, error) {
	m, err := c.Resolve(ctx, ref.WithDigest(child.Digest))
	if err != nil {
		return Manifest{}, err
	}
	if int64(len(m.Raw)) != child.Size || m.MediaType != child.MediaType {
		return Manifest{}, fmt.Errorf("%w: %s is not as its index describes it", ErrAmbiguous, child.Digest)
	}
	return m, nil
}

// source is one place that holds a repository: the registry itself, or a
// mirror of it.
type source struct {
	*origin
	repository string
	actions    string
	mirror     bool
	// asked is the mark of the rule of the registry that was asked for.
	asked [sha256.Size]byte
}

// identifier is what names the manifest in the URL.
func identifier(ref Reference) string {
	if !ref.Digest.IsZero() {
		return ref.Digest.String()
	}
	return ref.Tag
}

func (s source) path(parts ...string) string {
	return "/v2/" + s.repository + "/" + strings.Join(parts, "/")
}

func (s source) get(path, accept string, limit int64) call {
	return call{
		method: http.MethodGet, url: s.url(path), accept: accept, limit: limit,
		scope: scope{repository: s.repository, actions: s.actions},
	}
}

// manifest gets and classifies a manifest by tag or digest.
func (s source) manifest(ctx context.Context, identifier string) (Manifest, error) {
	a, err := s.read(ctx, s.get(s.path("manifests", identifier), acceptManifests, limits.Manifest))
	if err != nil {
		return Manifest{}, err
	}
	if err := s.expect(a, "manifest "+identifier, http.StatusOK); err != nil {
		return Manifest{}, err
	}
	got := attest.DigestOf(a.body)
	if want, err := attest.ParseDigest(identifier); err == nil && got != want {
		return Manifest{}, fmt.Errorf("%w: %s served other bytes for %s", ErrDigestMismatch, s.rule.Host, want)
	}
	// Some clients take the header's word for what a tag means: a registry
	// that says one thing and serves another shows two images.
	if said, err := attest.ParseDigest(a.header.Get("Docker-Content-Digest")); err == nil && said != got {
		return Manifest{}, fmt.Errorf("%w: %s served other bytes than it named", ErrDigestMismatch, s.rule.Host)
	}
	m, err := newManifest(Reference{Host: s.rule.Host, Repository: s.repository}, a.body, a.header.Get("Content-Type"))
	if err != nil {
		return Manifest{}, fmt.Errorf("%s from %s: %w", got, s.rule.Host, err)
	}
	return m, nil
}

// expect maps the statuses that mean something in particular.
func (s source) expect(a answer, what string, want ...int) error {
	for _, status := range want {
		if a.status == status {
			return nil
		}
	}
	if a.status == http.StatusNotFound {
		return fmt.Errorf("%w: %s of %s/%s", ErrNotFound, what, s.rule.Host, s.repository)
	}
	return fmt.Errorf("%w: %s answered %d for %s", ErrUnavailable, s.rule.Host, a.status, what)
}

// sources are where a repository can be read: the registry first, unless it
// could not be reached a moment ago, then its mirrors.
func (c *Client) sources(ctx context.Context, ref Reference) ([]source, error) {
	o, err := c.origin(ctx, ref.Host, ref.Repository)
	if err != nil {
		return nil, err
	}
	main := source{origin: o, repository: ref.Repository, actions: actionsPull, asked: o.mark}
	var mirrors []source
	for _, m := range o.rule.Mirrors {
		host, prefix, ok := strings.Cut(m, "/")
		repository := ref.Repository
		if ok {
			repository = prefix + "/" + repository
		}
		mirror, err := c.origin(ctx, host, repository)
		if err != nil {
			c.config.Logger.WarnContext(ctx, "mirror passed over", "registry", ref.Host, "mirror", host, "error", err)
			continue
		}
		mirrors = append(mirrors, source{origin: mirror, repository: repository, actions: actionsPull, mirror: true, asked: o.mark})
	}
	if len(mirrors) > 0 && o.paused() {
		return append(mirrors, main), nil
	}
	return append([]source{main}, mirrors...), nil
}

// fromAny runs a read at each source until one answers. The registry's own
// answer stands, good or bad; a mirror that does not have something proves
// nothing and is passed over like one that cannot be reached.
func fromAny[T any](ctx context.Context, c *Client, ref Reference, read func(context.Context, source) (T, error)) (T, error) {
	var zero T
	sources, err := c.sources(ctx, ref)
	if err != nil {
		return zero, err
	}
	var failed error
	for i, s := range sources {
		v, err := readShare(ctx, len(sources)-i, s, read)
		if err == nil {
			return v, nil
		}
		unreachable := errors.Is(err, ErrUnavailable)
		if ctx.Err() != nil || (!unreachable && (!s.mirror || !errors.Is(err, ErrNotFound))) {
			return zero, err
		}
		if unreachable && len(sources) > 1 {
			s.pause()
		}
		if failed == nil || (unreachable && !s.mirror) {
			failed = err
		}
	}
	return zero, failed
}

// readShare gives a source its share of the time that is left, so that one
// that hangs leaves some for the next.
func readShare[T any](ctx context.Context, left int, s source, read func(context.Context, source) (T, error)) (T, error) {
	deadline, ok := ctx.Deadline()
	if left == 1 || !ok {
		return read(ctx, s)
	}
	share := time.Until(deadline) / time.Duration(left) // a context's deadline is in the machine's time
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	return read(ctx, s)
}

func (o *origin) paused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.clock.Now().Before(o.pausedUntil)
}

func (o *origin) pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pausedUntil = o.clock.Now().Add(limits.RegistryPause)
}

// BundleAttachment is a bundle to attach.
type BundleAttachment struct {
	// Bundle is the bundle's JSON, attached byte for byte.
	Bundle []byte
	// PredicateType is that of the statement in it.
	PredicateType string
	// Created is written into the manifest: the same arguments give the same
	// manifest, so that a repeated attach changes nothing.
	Created time.Time
}
