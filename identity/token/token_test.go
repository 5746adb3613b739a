package token_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

type bench struct {
	*token.Tokens
	objects store.Objects
	now     time.Time
}

func open(t testing.TB) *bench {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := &bench{objects: db.Objects(), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	b.Tokens = token.New(token.Config{Objects: b.objects, Clock: clock.Func(func() time.Time { return b.now })})
	return b
}

func (b *bench) create(t testing.TB, name string, expiresAt *time.Time, roles ...identity.Role) string {
	t.Helper()
	secret, _, err := b.Create(t.Context(), name, roles, expiresAt)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestCreateAndAuthenticate(t *testing.T) {
	ctx, b := t.Context(), open(t)
	expiry := b.now.Add(time.Hour)
	secret, made, err := b.Create(ctx, "ci", []identity.Role{identity.Signer, identity.Verifier}, &expiry)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, "cst_"))
	if err != nil || len(raw) != 32 || !strings.HasPrefix(secret, "cst_") {
		t.Errorf("secret has %d bytes, %v", len(raw), err)
	}
	got, err := b.Authenticate(ctx, secret)
	want := identity.Identity{Issuer: "local", Subject: "ci", Roles: []identity.Role{"signer", "verifier"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s%v", diff, err)
	}
	stored, err := b.Get(ctx, "ci")
	if diff := cmp.Diff(made, stored); diff != "" || err != nil {
		t.Errorf("%s%v", diff, err)
	}
	if stored.Revision != 1 || !stored.ExpiresAt.Equal(expiry) || !stored.CreatedAt.Equal(b.now) {
		t.Errorf("%+v", stored)
	}
}

// TestSecretIsNotStored: what the database holds opens nothing.
func TestSecretIsNotStored(t *testing.T) {
	ctx, b := t.Context(), open(t)
	secret := b.create(t, "ci", nil, identity.Admin)
	o, err := b.objects.Get(ctx, "token", "ci")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(o.Body, []byte(secret[4:])) || strings.Contains(o.Alias, secret[4:]) || len(o.Alias) != 64 {
		t.Errorf("alias %q, body %s", o.Alias, o.Body)
	}
	for _, stolen := range []string{o.Alias, "cst_" + o.Alias, "cst_" + o.Alias[:43]} {
		if _, err := b.Authenticate(ctx, stolen); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("the stored hash authenticates: %v", err)
		}
	}
}

// TestNoDefaultCredential: an empty store authenticates nobody, and no near
// miss of a good secret is told from a far one. K2
func TestNoDefaultCredential(t *testing.T) {
	ctx, b := t.Context(), open(t)
	guesses := []string{
		"", "cst_", "admin", "Harbor12345", "cst_admin",
		"cst_" + strings.Repeat("A", 43), "cst_" + strings.Repeat("A", 1<<20), strings.Repeat(".", 1<<20), // H5
	}
	for _, guess := range guesses {
		if _, err := b.Authenticate(ctx, guess); err != token.ErrInvalid { //nolint:errorlint // not even wrapped: one answer
			t.Errorf("empty store, %.20q: %v", guess, err)
		}
	}
	secret := b.create(t, "ci", nil, identity.Verifier)
	if _, err := b.Authenticate(ctx, secret); err != nil {
		t.Fatalf("control: %v", err)
	}
	last := "A"
	if strings.HasSuffix(secret, "A") {
		last = "B"
	}
	for what, bad := range map[string]string{
		"last character": secret[:len(secret)-1] + last,
		"stray bits":     strayBits(secret),
		"cut":            secret[:len(secret)-1],
		"longer":         secret + "A",
		"padding":        secret + "=",
		"line break":     secret[:20] + "\n" + secret[20:],
		"end of line":    secret + "\n",
		"space":          " " + secret,
		"upper prefix":   "CST_" + secret[4:],
		"no prefix":      secret[4:],
		"standard":       "cst_" + strings.Repeat("+", 43),
		"NUL":            secret + "\x00",
	} {
		if got, err := b.Authenticate(ctx, bad); err != token.ErrInvalid || !got.IsZero() { //nolint:errorlint // as above
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

// strayBits is another spelling of the same 32 bytes.
func strayBits(secret string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, secret[len(secret)-1])
	return secret[:len(secret)-1] + string(alphabet[i^1])
}

func TestExpiry(t *testing.T) {
	ctx, b := t.Context(), open(t)
	expiry := b.now.Add(time.Hour)
	secret := b.create(t, "ci", &expiry, identity.Signer)
	forever := b.create(t, "forever", nil, identity.Signer)
	b.now = expiry.Add(-time.Nanosecond)
	if _, err := b.Authenticate(ctx, secret); err != nil {
		t.Fatalf("control: %v", err)
	}
	b.now = expiry
	if _, err := b.Authenticate(ctx, secret); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := b.Authenticate(ctx, forever); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := b.Get(ctx, "ci"); err != nil {
		t.Errorf("an expired token is still listed: %v", err)
	}
}

// TestRevokeTakesEffectAtOnce. J4
func TestRevokeTakesEffectAtOnce(t *testing.T) {
	ctx, b := t.Context(), open(t)
	other := token.New(token.Config{Objects: b.objects, Clock: clock.Func(func() time.Time { return b.now })})
	secret := b.create(t, "ci", nil, identity.Admin)
	if _, err := b.Authenticate(ctx, secret); err != nil {
		t.Fatalf("control: %v", err)
	}
	if err := other.Revoke(ctx, "ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Authenticate(ctx, secret); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := b.Revoke(ctx, "ci"); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("revoking twice: %v", err)
	}
	if _, err := b.Get(ctx, "ci"); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("%v", err)
	}
	again := b.create(t, "ci", nil, identity.Verifier)
	if _, err := b.Authenticate(ctx, secret); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("the old secret came back with the name: %v", err)
	}
	if _, err := b.Authenticate(ctx, again); err != nil {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "taken", nil, identity.Verifier)
	verifier := []identity.Role{identity.Verifier}
	past, now := b.now.Add(-time.Second), b.now
	for what, c := range map[string]struct {
		name   string
		roles  []identity.Role
		expiry *time.Time
		want   error
	}{
		"empty name":   {"", verifier, nil, token.ErrName},
		"upper case":   {"CI", verifier, nil, token.ErrName},
		"path":         {"../ci", verifier, nil, token.ErrName},
		"line break":   {"ci\n", verifier, nil, token.ErrName},
		"long name":    {strings.Repeat("a", 129), verifier, nil, token.ErrName},
		"no role":      {"ci", nil, nil, token.ErrRoles},
		"unknown role": {"ci", []identity.Role{"root"}, nil, token.ErrRoles},
		"twice":        {"ci", []identity.Role{"admin", "admin"}, nil, token.ErrRoles},
		"past":         {"ci", verifier, &past, token.ErrExpiry},
		"now":          {"ci", verifier, &now, token.ErrExpiry},
		"exists":       {"taken", verifier, nil, token.ErrExists},
	} {
		secret, _, err := b.Create(ctx, c.name, c.roles, c.expiry)
		if !errors.Is(err, c.want) || secret != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestList(t *testing.T) {
	ctx, b := t.Context(), open(t)
	for _, name := range []string{"b", "a", "c"} {
		b.create(t, name, nil, identity.Verifier)
	}
	first, next, err := b.List(ctx, store.Page{Limit: 2})
	if err != nil || next == "" {
		t.Fatalf("%q, %v", next, err)
	}
	second, next, err := b.List(ctx, store.Page{Limit: 2, Cursor: next})
	if err != nil || next != "" {
		t.Fatalf("%q, %v", next, err)
	}
	var names []string
	for _, made := range append(first, second...) {
		names = append(names, made.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("%v", names)
	}
}

// TestRowsThatCreateDidNotMake: a row without roles or with unknown ones is an
// error, not an identity.
func TestRowsThatCreateDidNotMake(t *testing.T) {
	ctx, b := t.Context(), open(t)
	secret := b.create(t, "ci", nil, identity.Verifier)
	for _, body := range []string{
		`{}`, `{"roles":[],"createdAt":"2026-11-23T12:00:00Z"}`, `{"roles":["root"],"createdAt":"2026-11-23T12:00:00Z"}`,
		`{"roles":["admin"],"roles":["verifier"],"createdAt":"2026-11-23T12:00:00Z"}`, `{"roles":["admin"],"x":1}`, ``, `null`,
	} {
		o, err := b.objects.Get(ctx, "token", "ci")
		if err != nil {
			t.Fatal(err)
		}
		o.Body = []byte(body)
		if _, err := b.objects.Put(ctx, o); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Authenticate(ctx, secret); err == nil || !got.IsZero() {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
}

// nearStore answers a lookup with another row, as a case-insensitive or
// truncating collation would.
type nearStore struct {
	store.Objects
	row store.Object
}

func (n nearStore) GetByAlias(context.Context, string, string) (store.Object, error) {
	return n.row, nil
}

func TestNearRowAuthenticatesNobody(t *testing.T) {
	ctx, b := t.Context(), open(t)
	secret := b.create(t, "ci", nil, identity.Admin)
	row, err := b.objects.Get(ctx, "token", "ci")
	if err != nil {
		t.Fatal(err)
	}
	near := token.New(token.Config{Objects: nearStore{b.objects, row}, Clock: clock.System{}})
	if _, err := near.Authenticate(ctx, secret); err != nil {
		t.Fatalf("control: %v", err)
	}
	other := b.create(t, "other", nil, identity.Verifier)
	if _, err := near.Authenticate(ctx, other); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestStoreErrorIsNotInvalid: a store that is down must not look like a wrong
// token, nor like a good one.
func TestStoreErrorIsNotInvalid(t *testing.T) {
	b := open(t)
	secret := b.create(t, "ci", nil, identity.Admin)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Authenticate(ctx, secret); err == nil || errors.Is(err, token.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// FuzzAuthenticate: exactly one spelling authenticates.
func FuzzAuthenticate(f *testing.F) {
	b := open(f)
	secret := b.create(f, "ci", nil, identity.Verifier)
	ctx := f.Context()
	f.Add(secret)
	f.Add(strayBits(secret))
	f.Add("cst_")
	f.Add(secret + "\n")
	f.Fuzz(func(t *testing.T, guess string) {
		got, err := b.Authenticate(ctx, guess)
		if (err == nil) != (guess == secret) || (err != nil && !got.IsZero()) {
			t.Errorf("%q: %v, %v", guess, got, err)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	tokens := open(b)
	secret := tokens.create(b, "ci", nil, identity.Verifier)
	for b.Loop() {
		if _, err := tokens.Authenticate(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}
