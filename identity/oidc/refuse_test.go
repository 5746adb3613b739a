package oidc_test

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testissuer"
)

// TestClaimsThatAreRefused: audience, times and form. The control is the token
// without the change.
func TestClaimsThatAreRefused(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	now := h.Now()
	for name, test := range map[string]struct {
		claims map[string]any
		want   error
	}{
		"another audience":          {map[string]any{"aud": "elsewhere"}, oidc.ErrAudience},
		"audience and another":      {map[string]any{"aud": []string{testissuer.Audience, "elsewhere"}}, oidc.ErrAudience},
		"audience by prefix":        {map[string]any{"aud": testissuer.Audience + ".evil.example"}, oidc.ErrAudience},
		"audience in other case":    {map[string]any{"aud": strings.ToUpper(testissuer.Audience)}, oidc.ErrAudience},
		"empty audience":            {map[string]any{"aud": ""}, oidc.ErrAudience},
		"no audience in the list":   {map[string]any{"aud": []string{}}, oidc.ErrAudience},
		"no audience":               {map[string]any{"aud": nil}, oidc.ErrAudience},
		"audience of another type":  {map[string]any{"aud": 7}, oidc.ErrMalformed},
		"many audiences":            {map[string]any{"aud": strings.Split(strings.Repeat(testissuer.Audience+" ", 17), " ")}, oidc.ErrMalformed},
		"expired":                   {map[string]any{"exp": now.Add(-time.Second).Unix()}, oidc.ErrExpired},
		"no expiry":                 {map[string]any{"exp": nil}, oidc.ErrMalformed},
		"expiry as text":            {map[string]any{"exp": "never"}, oidc.ErrMalformed},
		"expiry beyond time":        {map[string]any{"exp": 1e300}, oidc.ErrMalformed},
		"negative expiry":           {map[string]any{"exp": -1}, oidc.ErrMalformed},
		"not yet valid":             {map[string]any{"nbf": now.Add(limits.ClockSkew + 10*time.Second).Unix()}, oidc.ErrNotYetValid},
		"issued in the future":      {map[string]any{"iat": now.Add(limits.ClockSkew + 10*time.Second).Unix()}, oidc.ErrNotYetValid},
		"no subject":                {map[string]any{"sub": nil}, oidc.ErrMalformed},
		"empty subject":             {map[string]any{"sub": ""}, oidc.ErrMalformed},
		"subject of another type":   {map[string]any{"sub": []string{"a"}}, oidc.ErrMalformed},
		"a second spelling of sub":  {map[string]any{"SUB": "admin"}, oidc.ErrMalformed},
		"another issuer":            {map[string]any{"iss": "https://token.actions.githubusercontent.com"}, oidc.ErrUnknownIssuer},
		"the issuer with a slash":   {map[string]any{"iss": i.URL + "/"}, oidc.ErrUnknownIssuer},
		"no issuer":                 {map[string]any{"iss": nil}, oidc.ErrMalformed},
		"issuer of another type":    {map[string]any{"iss": []string{i.URL}}, oidc.ErrMalformed},
		"more claims than anybody":  {manyClaims(), oidc.ErrMalformed},
		"larger than anybody's":     {map[string]any{"pad": strings.Repeat("a", limits.IDToken)}, oidc.ErrMalformed},
		"nested deeper than anyone": {map[string]any{"deep": deep(limits.JSONDepth + 1)}, oidc.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			h.accepts(i.GitHub(nil))
			h.refuses(i.GitHub(test.claims), test.want)
		})
	}
	h.accepts(i.GitHub(map[string]any{"nbf": now.Add(limits.ClockSkew / 2).Unix(), "iat": now.Add(limits.ClockSkew / 2).Unix()}))
	h.accepts(i.GitHub(map[string]any{"aud": []string{testissuer.Audience}}))
	h.accepts(i.GitHub(map[string]any{"nbf": nil, "iat": nil, "jti": nil}))
}

func manyClaims() map[string]any {
	claims := map[string]any{}
	for n := range limits.Claims {
		claims["c"+strings.Repeat("i", n%20)+string(rune('a'+n/20))] = n
	}
	return claims
}

func deep(n int) any {
	var v any = "bottom"
	for range n {
		v = []any{v}
	}
	return v
}

// TestHeadersThatAreRefused: E6. The attacker's key in the header, no
// signature, a MAC by the public key, a kid that leads elsewhere.
func TestHeadersThatAreRefused(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	key, mallory := i.Key(), testissuer.NewKey(t, jose.RS256)
	claims := i.Claims(testissuer.GitHubClaims())
	jwk := jose.JSONWebKey{Key: mallory.Private.Public(), KeyID: key.ID, Algorithm: "RS256", Use: "sig"}
	header := func(more map[string]any) map[string]any {
		all := map[string]any{"typ": "JWT", "alg": "RS256", "kid": key.ID}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	none := func([]byte) ([]byte, error) { return []byte{}, nil }
	one := func([]byte) ([]byte, error) { return []byte{0}, nil }
	h.accepts(i.Forge(header(nil), claims, key.Sign))
	h.accepts(i.Forge(header(map[string]any{"x5t": "qEt4IL0eNZUGuQ9bDPR0nB5ztYs"}), claims, key.Sign))

	for name, test := range map[string]struct {
		token string
		want  error
	}{
		"none":             {i.Forge(header(map[string]any{"alg": "none"}), claims, none), oidc.ErrMalformed},
		"none, signed":     {i.Forge(header(map[string]any{"alg": "none"}), claims, key.Sign), oidc.ErrAlgorithm},
		"None":             {i.Forge(header(map[string]any{"alg": "None"}), claims, one), oidc.ErrAlgorithm},
		"no alg":           {i.Forge(map[string]any{"kid": key.ID}, claims, key.Sign), oidc.ErrAlgorithm},
		"alg twice":        {raw(`{"alg":"RS256","alg":"none","kid":"`+key.ID+`"}`, claims, i, key), oidc.ErrMalformed},
		"alg and ALG":      {raw(`{"alg":"RS256","ALG":"none","kid":"`+key.ID+`"}`, claims, i, key), oidc.ErrMalformed},
		"HS256 public PEM": {i.Forge(header(map[string]any{"alg": "HS256"}), claims, mac(pemOf(t, key))), oidc.ErrAlgorithm},
		"HS256 public DER": {i.Forge(header(map[string]any{"alg": "HS256"}), claims, mac(derOf(t, key))), oidc.ErrAlgorithm},
		"HS256 modulus":    {i.Forge(header(map[string]any{"alg": "HS256"}), claims, mac(key.Private.Public().(*rsa.PublicKey).N.Bytes())), oidc.ErrAlgorithm},
		"ES256 for an RSA": {i.Forge(header(map[string]any{"alg": "ES256"}), claims, key.Sign), oidc.ErrAlgorithm},
		"PS256 for RS256":  {i.Forge(header(map[string]any{"alg": "PS256"}), claims, key.Sign), oidc.ErrAlgorithm},
		"jwk":              {i.Forge(header(map[string]any{"jwk": jwk}), claims, mallory.Sign), oidc.ErrMalformed},
		"jwk, own":         {i.Forge(header(map[string]any{"jwk": i.KeySet().Keys[0]}), claims, key.Sign), oidc.ErrMalformed},
		"jku":              {i.Forge(header(map[string]any{"jku": "https://evil.example/keys"}), claims, mallory.Sign), oidc.ErrMalformed},
		"x5c":              {i.Forge(header(map[string]any{"x5c": []string{"MIIB"}}), claims, mallory.Sign), oidc.ErrMalformed},
		"x5u":              {i.Forge(header(map[string]any{"x5u": "https://evil.example/c"}), claims, mallory.Sign), oidc.ErrMalformed},
		"crit":             {i.Forge(header(map[string]any{"crit": []string{"exp"}}), claims, key.Sign), oidc.ErrMalformed},
		"b64":              {i.Forge(header(map[string]any{"b64": false}), claims, key.Sign), oidc.ErrMalformed},
		"another's key":    {i.Forge(header(nil), claims, mallory.Sign), oidc.ErrSignature},
		"unknown kid":      {i.Forge(header(map[string]any{"kid": mallory.ID}), claims, key.Sign), oidc.ErrSignature},
		"kid as a path":    {i.Forge(header(map[string]any{"kid": "../../dev/null"}), claims, mac(nil)), oidc.ErrSignature},
		"kid as a URL":     {i.Forge(header(map[string]any{"kid": "https://evil.example/keys"}), claims, mallory.Sign), oidc.ErrSignature},
		"kid as SQL":       {i.Forge(header(map[string]any{"kid": "' UNION SELECT 'a"}), claims, mallory.Sign), oidc.ErrSignature},
		"kid of a type":    {i.Forge(header(map[string]any{"kid": 7}), claims, key.Sign), oidc.ErrMalformed},
		"kid Kid":          {raw(`{"alg":"RS256","kid":"`+key.ID+`","Kid":"x"}`, claims, i, key), oidc.ErrMalformed},
		"a large header":   {i.Forge(header(map[string]any{"typ": strings.Repeat("a", limits.IDTokenHeader)}), claims, key.Sign), oidc.ErrMalformed},
		"an empty one":     {i.Forge(header(nil), claims, one), oidc.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			h.refuses(test.token, test.want)
		})
	}
}

// raw signs a token with a header that a map cannot hold.
func raw(header string, claims map[string]any, i *testissuer.Issuer, key testissuer.Key) string {
	token := i.Forge(map[string]any{}, claims, key.Sign)
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + payload
	signature, _ := key.Sign([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func mac(secret []byte) func([]byte) ([]byte, error) {
	return func(input []byte) ([]byte, error) {
		h := hmac.New(sha256.New, secret)
		h.Write(input)
		return h.Sum(nil), nil
	}
}

func derOf(t *testing.T, key testissuer.Key) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemOf(t *testing.T, key testissuer.Key) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: derOf(t, key)})
}

// TestOneSpelling: a token that was changed without its meaning is another
// text, and not a token.
func TestOneSpelling(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	good := i.GitHub(nil)
	h.accepts(good)
	parts := strings.Split(good, ".")
	for name, bad := range map[string]string{
		"empty": "", "spaces": " " + good, "a line break": parts[0] + "." + parts[1] + ".\n" + parts[2],
		"padding": good + "=", "a fourth part": good + ".", "two parts": parts[0] + "." + parts[1],
		"a JSON serialization": `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"standard base64":      parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"no header":            "." + parts[1] + "." + parts[2],
		"no payload":           parts[0] + ".." + parts[2],
	} {
		if _, err := h.Authenticate(context.Background(), bad); !errors.Is(err, oidc.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.refuses(parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-4]+"AAAA", oidc.ErrSignature)
	other := strings.Split(i.GitHub(map[string]any{"sub": "repo:evil/app:ref:refs/heads/main"}), ".")
	h.refuses(parts[0]+"."+other[1]+"."+parts[2], oidc.ErrSignature)
}

// TestMegabyteOfDots: H5. What an attacker's text costs is bounded by its
// length.
func TestMegabyteOfDots(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	h.accepts(i.GitHub(nil))
	for name, text := range map[string]string{
		"a megabyte of dots":       strings.Repeat(".", 1<<20),
		"dots as long as a token":  strings.Repeat(".", limits.IDToken),
		"a megabyte of one part":   strings.Repeat("A", 1<<20),
		"a megabyte in two parts":  strings.Repeat("A", 1<<19) + "." + strings.Repeat("A", 1<<19),
		"brackets as deep as long": "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", limits.IDToken/2))) + ".AA",
	} {
		before := allocated()
		for range 16 {
			h.refuses(text, oidc.ErrMalformed)
		}
		if spent := (allocated() - before) / 16; spent > 2*limits.IDToken {
			t.Errorf("%s: %d bytes allocated, want at most twice a token's %d", name, spent, limits.IDToken)
		}
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestSingleUse: a replayed jti.
func TestSingleUse(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	ctx := context.Background()
	h.believe(i, oidc.GitHub, map[string]any{"oneTime": true})
	token := i.GitHub(nil)
	h.accepts(token) // what is not a signing call uses nothing up
	if _, err := h.AuthenticateOnce(ctx, token); err != nil {
		t.Fatalf("first use: %v", err)
	}
	for range 2 {
		if _, err := h.AuthenticateOnce(ctx, token); !errors.Is(err, oidc.ErrReplayed) || !errors.Is(err, oidc.ErrInvalid) {
			t.Errorf("second use: %v", err)
		}
	}
	h.accepts(token)
	for n, want := range []error{nil, nil, oidc.ErrReplayed, nil} {
		use := []string{"a", "a", "b", "a"}[n]
		_, err := h.AuthenticateFor(ctx, second(t, i), oidc.Demand{Once: true, Use: use})
		if !errors.Is(err, want) {
			t.Errorf("use %d for %s: %v", n, use, err)
		}
	}
	if _, err := h.AuthenticateOnce(ctx, i.GitHub(map[string]any{"jti": nil})); !errors.Is(err, oidc.ErrMalformed) {
		t.Errorf("a token for one use without jti: %v", err)
	}
	if _, err := h.AuthenticateOnce(ctx, i.GitHub(map[string]any{"jti": "j", "aud": "elsewhere"})); !errors.Is(err, oidc.ErrAudience) {
		t.Errorf("a token for another: %v", err)
	}
	if _, err := h.AuthenticateOnce(ctx, i.GitHub(map[string]any{"jti": "j"})); err != nil {
		t.Errorf("a refused token used up a jti: %v", err)
	}
	h.believe(i, oidc.GitHub, nil)
	if _, err := h.AuthenticateOnce(ctx, token); err != nil {
		t.Errorf("an issuer whose tokens may be used again: %v", err)
	}
	forgetful := open(t, func(c *oidc.Config) { c.Used = nil })
	forgetful.believe(i, oidc.GitHub, map[string]any{"oneTime": true})
	if _, err := forgetful.AuthenticateOnce(ctx, i.GitHub(nil)); !errors.Is(err, oidc.ErrReplayed) {
		t.Errorf("without a memory: %v", err)
	}
}

// second is one token for several calls.
func second(t *testing.T, i *testissuer.Issuer) string {
	t.Helper()
	return i.GitHub(map[string]any{"jti": "the second"})
}

// TestAudiencesOfADemand: a protocol with an audience of its own.
func TestAudiencesOfADemand(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.GitHub, nil)
	token := i.GitHub(map[string]any{"aud": "sigstore"})
	h.refuses(token, oidc.ErrAudience)
	demand := oidc.Demand{Audiences: []string{"sigstore"}}
	for _, good := range []string{token, i.GitHub(nil), i.GitHub(map[string]any{"aud": []string{"sigstore", testissuer.Audience}})} {
		if _, err := h.AuthenticateFor(context.Background(), good, demand); err != nil {
			t.Errorf("%v", err)
		}
	}
	if _, err := h.AuthenticateFor(context.Background(), i.GitHub(map[string]any{"aud": "other"}), demand); !errors.Is(err, oidc.ErrAudience) {
		t.Errorf("%v", err)
	}
}
