package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/netguard"
)

// Issuers finds configured issuers.
type Issuers interface {
	// ByURL returns the issuer of exactly that URL, or ErrUnknownIssuer. It is
	// asked for every token, so a change counts for the next one.
	ByURL(ctx context.Context, url string) (Issuer, error)
}

// Used remembers single-use tokens.
type Used interface {
	// Use binds id to a purpose until a time, durably, before it returns. The
	// first call for an id answers true, a later one whether its purpose is the
	// same. Of concurrent first calls exactly one binds. What was bound until
	// now or earlier may be forgotten.
	Use(ctx context.Context, id, purpose string, now, until time.Time) (bool, error)
}

// Config is what a Verifier needs. Issuers and Clock are required; without
// Used, tokens of issuers with OneTime are refused where they are to be used
// once.
type Config struct {
	Issuers Issuers
	Used    Used
	Clock   clock.Clock
	// Logger discards when nil.
	Logger *slog.Logger
	// Network is the machine's when its functions are nil.
	Network netguard.Network
}

// Verifier authenticates callers by identity tokens. It is safe for concurrent
// use.
type Verifier struct {
	cfg  Config
	keys *keyCache
}

// New makes a Verifier. It contacts nobody.
func New(cfg Config) (*Verifier, error) {
	if cfg.Issuers == nil || cfg.Clock == nil {
		return nil, errors.New("oidc: issuers and clock are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Network.Lookup == nil || cfg.Network.Connect == nil {
		cfg.Network = netguard.System()
	}
	return &Verifier{cfg: cfg, keys: newKeyCache(cfg)}, nil
}

// Demand is what a token must stand up to beyond its issuer's rules.
type Demand struct {
	// Audiences are accepted beside the issuer's own.
	Audiences []string
	// Once lets a token of an issuer with OneTime authenticate one use.
	Once bool
	// Use names what a token with Once is used for; a repetition of the same
	// use is allowed, so that an interrupted request can be repeated. Empty
	// means a use of its own, which nothing repeats.
	Use string
}

// Authenticate returns the identity that a token proves: its issuer's URL, its
// sub, its claims flattened, the kind and the roles of the issuer. Errors wrap
// ErrInvalid with the reason, or ErrIssuerUnavailable, or are the context's or
// those of Issuers.
func (v *Verifier) Authenticate(ctx context.Context, jwt string) (identity.Identity, error) {
	return v.AuthenticateFor(ctx, jwt, Demand{})
}

// AuthenticateOnce is Authenticate for what a single-use token is used for: the
// second call with a token of an issuer with OneTime is ErrReplayed.
func (v *Verifier) AuthenticateOnce(ctx context.Context, jwt string) (identity.Identity, error) {
	return v.AuthenticateFor(ctx, jwt, Demand{Once: true})
}

// AuthenticateFor is Authenticate with a demand.
func (v *Verifier) AuthenticateFor(ctx context.Context, jwt string, demand Demand) (identity.Identity, error) {
	t, err := parseToken(jwt)
	if err != nil {
		return identity.Identity{}, err
	}
	issuer, err := v.cfg.Issuers.ByURL(ctx, t.issuer)
	if err != nil {
		return identity.Identity{}, err
	}
	if issuer.URL != t.issuer || issuer.Kind == MTLS {
		return identity.Identity{}, ErrUnknownIssuer
	}
	if err := v.checkSignature(ctx, issuer, t); err != nil {
		return identity.Identity{}, err
	}
	c, err := t.claims()
	if err != nil {
		return identity.Identity{}, err
	}
	if err := c.check(v.cfg.Clock.Now(), append([]string{issuer.Audience}, demand.Audiences...)); err != nil {
		return identity.Identity{}, err
	}
	if issuer.OneTime && demand.Once {
		if err := v.use(ctx, issuer, c, demand.Use); err != nil {
			return identity.Identity{}, err
		}
	}
	return identify(issuer, c), nil
}

func identify(issuer Issuer, c claims) identity.Identity {
	return identity.Identity{
		Issuer: issuer.URL, Subject: c.Subject, Kind: string(issuer.Kind),
		Claims: issuer.rename(c.flat), Roles: slices.Clone(issuer.Roles),
	}
}

// rename applies the claims mapping. A name of ours that is mapped never shows
// a claim that the issuer happens to call the same.
func (i Issuer) rename(flat map[string]string) map[string]string {
	if len(i.ClaimsMapping) == 0 {
		return flat
	}
	out := make(map[string]string, len(flat)+len(i.ClaimsMapping))
	for name, value := range flat {
		out[name] = value
	}
	for ours, theirs := range i.ClaimsMapping {
		delete(out, ours)
		if value, has := flat[theirs]; has {
			out[ours] = value
		}
	}
	return out
}

// checkSignature tries the keys the token may be signed with. An unknown kid
// makes the cache ask the issuer again, as it may have rotated.
func (v *Verifier) checkSignature(ctx context.Context, issuer Issuer, t *token) error {
	set, err := v.keys.get(ctx, issuer, func(s *keySet) bool { return len(s.candidates(t)) > 0 })
	if err != nil {
		return err
	}
	candidates := set.candidates(t)
	if len(candidates) == 0 {
		return set.why(t)
	}
	for _, key := range candidates {
		if t.verify(key) {
			return nil
		}
	}
	return ErrSignature
}

func (v *Verifier) use(ctx context.Context, issuer Issuer, c claims, use string) error {
	if v.cfg.Used == nil {
		return fmt.Errorf("%w: nothing remembers used tokens", ErrReplayed)
	}
	if c.ID == "" {
		return fmt.Errorf("%w: the issuer's tokens are for one use, and this one has no jti", ErrMalformed)
	}
	if use == "" {
		use = uniqueUse()
	}
	// A token is remembered until it is refused for its age.
	good, err := v.cfg.Used.Use(ctx, hash(issuer.URL, c.ID), hash(use), v.cfg.Clock.Now(), c.expires)
	if err != nil {
		return fmt.Errorf("remembering a used token: %w", err)
	}
	if !good {
		return ErrReplayed
	}
	return nil
}
