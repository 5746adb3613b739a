package registry

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/maypok86/otter/v2"

	"github.com/countersign/countersign/internal/limits"
)

// Keychain are credentials that come with a question and are for it alone, such
// as the pull secrets of a pod.
type Keychain interface {
	// Lend returns the credentials for a repository of exactly this host, best
	// first; none is an answer. plain says that they would travel without TLS. It
	// asks nobody and answers the same as long as it lives.
	Lend(host, repository string, plain bool) []Credentials
}

// Lent reads like the Client it was made of, and where the listed registry
// denies or does not show what is asked for, once more with the credentials of a
// keychain. The laws of the package hold for them: they go to the registry that
// they were lent for and its token server, never to a mirror; a registry that no
// rule lists is not contacted.
//
// What was read with lent credentials is remembered under them, so that nobody
// gets it who does not bring the same ones.
type Lent struct {
	client   *Client
	keychain Keychain
}

// Lent is the client with a keychain; a nil keychain lends nothing.
func (c *Client) Lent(k Keychain) *Lent { return &Lent{client: c, keychain: k} }

// Resolve is the client's, in the order that Lent says.
func (l *Lent) Resolve(ctx context.Context, ref Reference) (Manifest, error) {
	m, err := l.client.Resolve(ctx, ref)
	if err == nil || !withheld(err) {
		return m, err
	}
	return lend(ctx, l, ref, err, l.client.readManifest(ref))
}

// ResolveRecent is the client's, with the memory of the same credentials first:
// a registry is not asked without them for what it just gave with them.
func (l *Lent) ResolveRecent(ctx context.Context, ref Reference) (Manifest, error) {
	if ref.Digest.IsZero() {
		return l.Resolve(ctx, ref)
	}
	sources, err := l.sources(ctx, ref)
	if err != nil {
		return Manifest{}, err
	}
	for _, s := range sources {
		if m, ok := l.client.recall(s.asked, ref); ok {
			return m, nil
		}
	}
	m, err := l.client.ResolveRecent(ctx, ref)
	if err == nil || !withheld(err) {
		return m, err
	}
	return lend(ctx, l, ref, err, l.client.readManifest(ref))
}

// AttachmentsFor is the client's. Some registries say of everything private that
// there is nothing, so nothing found is asked for again too.
func (l *Lent) AttachmentsFor(ctx context.Context, subject Reference, want Want) (Found, error) {
	found, err := l.client.AttachmentsFor(ctx, subject, want)
	if err != nil && !withheld(err) || len(found.Attachments) > 0 {
		return found, err
	}
	sources, failed := l.sources(ctx, subject)
	if failed != nil {
		return Found{}, failed
	}
	for _, s := range sources {
		lent, failed := s.attachments(ctx, subject.Digest, want)
		switch {
		case failed == nil && len(lent.Attachments) > 0:
			return lent, nil
		case failed == nil:
			found, err = lent, nil // who is let in knows better than who is not
		case ctx.Err() != nil || !withheld(failed):
			return Found{}, failed
		}
	}
	return found, err
}

// withheld reports whether an answer may be another one for who brings
// credentials.
func withheld(err error) bool { return errIs(err, ErrDenied, ErrNotFound) }

// lend reads with each of the lent credentials until one is let in. The error is
// that of the first which says more than that it is not.
func lend[T any](ctx context.Context, l *Lent, ref Reference, refused error, read func(context.Context, source) (T, error)) (T, error) {
	var zero T
	sources, err := l.sources(ctx, ref)
	if err != nil {
		return zero, err
	}
	for _, s := range sources {
		v, err := read(ctx, s)
		if err == nil {
			return v, nil
		}
		if ctx.Err() != nil || !withheld(err) {
			return zero, err
		}
		if errIs(err, ErrNotFound) {
			refused = err // who is let in knows better than who is not
		}
	}
	return zero, refused
}

// sources are the registry once for each of the credentials lent for it.
func (l *Lent) sources(ctx context.Context, ref Reference) ([]source, error) {
	base, err := l.client.origin(ctx, ref.Host, ref.Repository)
	if err != nil || l.keychain == nil {
		return nil, err
	}
	var sources []source
	for _, credentials := range l.keychain.Lend(ref.Host, ref.Repository, base.rule.InsecureHTTP) {
		if credentials.validate() != nil || len(sources) == limits.LentCredentials {
			continue
		}
		o, err := l.client.lentOrigin(base, credentials)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{origin: o, repository: ref.Repository, actions: actionsPull, asked: o.mark})
	}
	return sources, nil
}

// lentOrigins are origins with the tokens that lent credentials got, by the mark
// of rule and credentials. They expire, and with them the credentials.
type lentOrigins = otter.Cache[[sha256.Size]byte, *origin]

func newLentOrigins() *lentOrigins {
	// The options are constant and valid, so there is no error.
	cache, _ := otter.New(&otter.Options[[sha256.Size]byte, *origin]{
		MaximumSize:      limits.LentOrigins,
		ExpiryCalculator: otter.ExpiryWriting[[sha256.Size]byte, *origin](limits.LentFresh),
	})
	return cache
}

// lentOrigin is a listed registry under other credentials. It shares what is of
// the host: connections, the bound on requests, and whether it answers.
func (c *Client) lentOrigin(base *origin, credentials Credentials) (*origin, error) {
	rule := base.rule.clone()
	rule.Credentials, rule.Mirrors = &credentials, nil
	mark, err := fingerprint(rule)
	if err != nil {
		return nil, err
	}
	if o, ok := c.lent.GetIfPresent(mark); ok && o.client == base.client {
		return o, nil
	}
	o := &origin{
		rule: rule, scheme: base.scheme, mark: mark, config: base.config, clock: base.clock, timeout: base.timeout,
		client: base.client, foreign: base.foreign, slots: base.slots, breaker: base.breaker,
	}
	c.lent.Set(mark, o)
	return o, nil
}

// Mark tells what a keychain lends for a repository apart from all else, and is
// zero if that is nothing: an answer that rests on lent credentials is remembered
// under it. It is a hash and not to be shown all the same.
func Mark(k Keychain, ref Reference) [sha256.Size]byte {
	if k == nil {
		return [sha256.Size]byte{}
	}
	lent := k.Lend(ref.Host, ref.Repository, false)
	if len(lent) == 0 {
		return [sha256.Size]byte{}
	}
	h := sha256.New()
	for _, c := range lent {
		fmt.Fprintf(h, "%d %s %d %s %d %s ", len(c.Username), c.Username, len(c.Password), string(c.Password), len(c.Token), string(c.Token))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
