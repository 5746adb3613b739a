// Package oidc authenticates callers by the OpenID Connect tokens of configured
// issuers: CI systems, clusters, identity providers.
//
// A token is a JWS in compact serialization (RFC 7515) around a claims set
// (RFC 7519): header "." payload "." signature, each in canonical unpadded
// base64url. It authenticates when all of this holds:
//
//   - it has at most limits.IDToken bytes, and its header and payload are JSON
//     objects without duplicate names;
//   - iss equals the URL of a configured issuer, byte for byte;
//   - alg is one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and
//     EdDSA, and fits the key: there is no HMAC and no "none";
//   - the signature verifies with a key that the issuer publishes, found by kid.
//     A header that brings a key or says where one is (jwk, jku, x5c, x5u) or
//     that asks for extensions (crit, b64) is refused;
//   - aud names the audience asked for and none that was not (OpenID Connect
//     Core 1.0 §3.1.3.7, step 3);
//   - exp lies in the future; nbf and iat do not, but for limits.ClockSkew;
//   - sub is not empty.
//
// Nothing of the payload but iss is looked at before the signature is good.
//
// # Keys of issuers
//
// The keys come from the jwks_uri of URL/.well-known/openid-configuration, whose
// issuer must be the URL, or from JWKSURL when the operator names it. They are
// kept for limits.IssuerKeysFresh; a token with an unknown kid asks again, but
// no issuer is asked more often than every limits.IssuerPause, whatever tokens
// come. Answers are bounded, redirects stay on scheme, host and port, jwks_uri
// must be on the issuer's host and port, addresses are judged by package
// netguard, and no request carries a credential or anything of the caller's
// token. An issuer that leads elsewhere is ErrIssuerUnsafe; one that cannot be
// asked is ErrIssuerUnavailable, and for limits.IssuerKeysStale its last keys
// serve on.
//
// The package refuses to guess an issuer's shape: which claims a kind has is
// said by its tokens, and what they permit by policy.
package oidc

import "errors"

// ErrInvalid is wrapped by every error that says the token authenticates
// nobody. What is not ErrInvalid means that it could not be decided.
var ErrInvalid = errors.New("invalid identity token")

// Reasons why a token authenticates nobody, each of which is also ErrInvalid.
var (
	// ErrMalformed: not a token, or one whose parts break a rule of form.
	ErrMalformed = refusal("malformed identity token")
	// ErrUnknownIssuer: iss is not the URL of a configured issuer.
	ErrUnknownIssuer = refusal("issuer is not configured")
	// ErrAlgorithm: alg is not one of those believed, or not the key's.
	ErrAlgorithm = refusal("algorithm is not allowed")
	// ErrSignature: the signature does not verify with a key of the issuer.
	ErrSignature = refusal("signature does not verify with a key of the issuer")
	// ErrAudience: the token is meant for somebody else, or for others too.
	ErrAudience = refusal("audience is not this service alone")
	// ErrExpired: exp has passed.
	ErrExpired = refusal("identity token has expired")
	// ErrNotYetValid: nbf or iat lies in the future.
	ErrNotYetValid = refusal("identity token is not valid yet")
	// ErrReplayed: the token was used before and its issuer allows one use.
	ErrReplayed = refusal("identity token was used before")
	// ErrIssuerUnsafe: the issuer leads to another host, to an address that is
	// not allowed, or calls itself something else, so its keys are not had and
	// its tokens not believed until it is configured right.
	ErrIssuerUnsafe = refusal("issuer leads where it must not")
)

var (
	// ErrIssuerUnavailable says that the issuer cannot be asked for its keys just
	// now, or answers nothing of use. It says nothing of the token.
	ErrIssuerUnavailable = errors.New("issuer unavailable")
	// ErrIssuer says that an issuer document is not one.
	ErrIssuer = errors.New("invalid issuer")
)

// refusal makes a sentinel that is ErrInvalid too.
func refusal(text string) error { return &reason{text} }

type reason struct{ text string }

// Error is the reason.
func (r *reason) Error() string { return r.text }

// Unwrap makes every reason ErrInvalid.
func (r *reason) Unwrap() error { return ErrInvalid }
