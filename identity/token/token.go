// Package token keeps API tokens and authenticates callers by them.
//
// A token's secret is "cst_" followed by the unpadded base64url form of 32
// random bytes. It exists only in the answer of Create. The store holds one
// object of kind "token" per token, found again by its alias, the hexadecimal
// SHA-256 of the whole secret: 256 random bits need no slow hash, and a lookup
// by hash tells a guesser nothing about how near a guess was.
//
// The package makes no token by itself and knows no default one. It reads the
// store at every authentication, so that a revoked token fails at the next
// request.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Errors of this package. Errors of the store pass through wrapped.
var (
	// ErrInvalid: the secret authenticates nobody. Malformed, unknown, revoked
	// and expired are not told apart.
	ErrInvalid = errors.New("invalid token")
	// ErrNotFound: there is no token of that name.
	ErrNotFound = errors.New("token not found")
	// ErrExists: there is a token of that name already.
	ErrExists = errors.New("token exists already")
	// ErrName: the name is not one a token can have.
	ErrName = errors.New("invalid token name")
	// ErrRoles: no role, an unknown one, or one named twice.
	ErrRoles = errors.New("invalid token roles")
	// ErrExpiry: the expiry does not lie in the future.
	ErrExpiry = errors.New("invalid token expiry")
)

const (
	kind = "token"
	// Prefix starts every secret, so that scanners of leaked secrets know one.
	Prefix     = "cst_"
	secretSize = 32
)

// nameRule is a constant.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// Token is what is known of a token; the secret is not.
type Token struct {
	// Name is 1 to limits.Name lowercase letters, digits and inner `.`, `_`,
	// `-`; it is the subject that grants name.
	Name      string
	Roles     []identity.Role
	CreatedAt time.Time
	// ExpiresAt is nil for a token that lasts until it is revoked.
	ExpiresAt *time.Time
	// Revision is the store object's.
	Revision int64
}

// Config is what Tokens needs. Objects and Clock are required.
type Config struct {
	Objects store.Objects
	Clock   clock.Clock
	// Rand is crypto/rand when nil.
	Rand io.Reader
}

// Tokens keeps API tokens. It is safe for concurrent use.
type Tokens struct {
	objects store.Objects
	clock   clock.Clock
	rand    io.Reader
}

// New makes Tokens.
func New(c Config) *Tokens {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return &Tokens{objects: c.Objects, clock: c.Clock, rand: c.Rand}
}

// record is a token at rest.
type record struct {
	Roles     []identity.Role `json:"roles"`
	CreatedAt time.Time       `json:"createdAt"`
	ExpiresAt *time.Time      `json:"expiresAt,omitempty"`
}

// Create makes a token and returns its secret, which cannot be had again.
// Errors: ErrName, ErrRoles, ErrExpiry, ErrExists.
func (t *Tokens) Create(ctx context.Context, name string, roles []identity.Role, expiresAt *time.Time) (string, Token, error) {
	now := t.clock.Now().UTC().Truncate(time.Microsecond)
	if err := check(name, roles, expiresAt, now); err != nil {
		return "", Token{}, err
	}
	raw := make([]byte, secretSize)
	if _, err := io.ReadFull(t.rand, raw); err != nil {
		return "", Token{}, fmt.Errorf("drawing a token: %w", err)
	}
	secret := Prefix + base64.RawURLEncoding.EncodeToString(raw)
	r := record{Roles: slices.Clone(roles), CreatedAt: now, ExpiresAt: whole(expiresAt)}
	body, err := json.Marshal(r)
	if err != nil {
		return "", Token{}, fmt.Errorf("encoding token: %w", err)
	}
	o, err := t.objects.Put(ctx, store.Object{
		Kind: kind, Name: name, Alias: alias(secret), Body: body, CreatedAt: now, UpdatedAt: now,
	})
	if errors.Is(err, store.ErrExists) {
		return "", Token{}, ErrExists
	}
	if err != nil {
		return "", Token{}, fmt.Errorf("writing token: %w", err)
	}
	made, err := decode(o)
	if err != nil {
		return "", Token{}, err
	}
	return secret, made, nil
}

func check(name string, roles []identity.Role, expiresAt *time.Time, now time.Time) error {
	if len(name) > limits.Name || !nameRule.MatchString(name) {
		return fmt.Errorf("%w: want 1 to %d lowercase letters, digits and inner . _ -", ErrName, limits.Name)
	}
	if err := checkRoles(roles); err != nil {
		return err
	}
	if expiresAt != nil && !expiresAt.After(now) {
		return fmt.Errorf("%w: want a time in the future", ErrExpiry)
	}
	return nil
}

func checkRoles(roles []identity.Role) error {
	if len(roles) == 0 {
		return fmt.Errorf("%w: want at least one of %v", ErrRoles, identity.Roles())
	}
	for i, role := range roles {
		if _, err := identity.ParseRole(string(role)); err != nil || slices.Contains(roles[:i], role) {
			return fmt.Errorf("%w: want each of %v at most once", ErrRoles, identity.Roles())
		}
	}
	return nil
}

func whole(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC().Truncate(time.Microsecond)
	return &u
}

// Authenticate returns the identity of a secret: issuer identity.Local, the
// token's name as subject, its roles. Whoever holds no valid secret gets
// ErrInvalid and no hint why; any other error means that the store could not
// be asked.
func (t *Tokens) Authenticate(ctx context.Context, secret string) (identity.Identity, error) {
	if !wellFormed(secret) {
		return identity.Identity{}, ErrInvalid
	}
	want := alias(secret)
	o, err := t.objects.GetByAlias(ctx, kind, want)
	if errors.Is(err, store.ErrNotFound) {
		return identity.Identity{}, ErrInvalid
	}
	if err != nil {
		return identity.Identity{}, fmt.Errorf("looking up token: %w", err)
	}
	// A store that answers with a near row (a collation, a prefix) must not
	// authenticate anybody.
	if subtle.ConstantTimeCompare([]byte(o.Alias), []byte(want)) != 1 {
		return identity.Identity{}, ErrInvalid
	}
	found, err := decode(o)
	if err != nil {
		return identity.Identity{}, err
	}
	if found.ExpiresAt != nil && !t.clock.Now().Before(*found.ExpiresAt) {
		return identity.Identity{}, ErrInvalid
	}
	return identity.Identity{Issuer: identity.Local, Subject: found.Name, Roles: found.Roles}, nil
}

// wellFormed accepts exactly the strings that Create can return.
func wellFormed(secret string) bool {
	encoded, ok := strings.CutPrefix(secret, Prefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(secretSize) {
		return false
	}
	// Strict refuses stray bits in the last character, and the decoder skips
	// line breaks: compare with what the bytes encode to.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	return err == nil && base64.RawURLEncoding.EncodeToString(raw) == encoded
}

func alias(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func decode(o store.Object) (Token, error) {
	var r record
	if err := strictjson.Unmarshal(o.Body, &r); err != nil {
		return Token{}, fmt.Errorf("reading token %q: %w", o.Name, err)
	}
	// A row without roles, or with one this build does not know, is not a
	// token that Create made.
	if err := checkRoles(r.Roles); err != nil {
		return Token{}, fmt.Errorf("reading token %q: %w", o.Name, err)
	}
	return Token{
		Name: o.Name, Roles: r.Roles, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Revision: o.Revision,
	}, nil
}

// Get returns a token by name, expired or not, or ErrNotFound.
func (t *Tokens) Get(ctx context.Context, name string) (Token, error) {
	o, err := t.objects.Get(ctx, kind, name)
	if errors.Is(err, store.ErrNotFound) {
		return Token{}, ErrNotFound
	}
	if err != nil {
		return Token{}, fmt.Errorf("reading token: %w", err)
	}
	return decode(o)
}

// List returns tokens ordered by name, expired ones included, and the cursor of
// the next page or "".
func (t *Tokens) List(ctx context.Context, page store.Page) ([]Token, string, error) {
	objects, next, err := t.objects.List(ctx, kind, page)
	if err != nil {
		return nil, "", fmt.Errorf("listing tokens: %w", err)
	}
	out := make([]Token, 0, len(objects))
	for _, o := range objects {
		decoded, err := decode(o)
		if err != nil {
			return nil, "", err
		}
		out = append(out, decoded)
	}
	return out, next, nil
}

// revokeAttempts bounds how often Revoke reads anew because the token was
// replaced in between.
const revokeAttempts = 5

// Revoke deletes a token; its secret authenticates nobody from the next
// request on. The name is free again, and grants that name it as a subject
// apply to whoever gets it next. ErrNotFound: there is none, also when it was
// revoked before.
func (t *Tokens) Revoke(ctx context.Context, name string) error {
	var err error
	for range revokeAttempts {
		if err = t.revokeOnce(ctx, name); !errors.Is(err, store.ErrStale) {
			return err
		}
	}
	return err
}

func (t *Tokens) revokeOnce(ctx context.Context, name string) error {
	o, err := t.objects.Get(ctx, kind, name)
	if err == nil {
		err = t.objects.Delete(ctx, kind, name, o.Revision)
	}
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("revoking token: %w", err)
	}
	return nil
}
