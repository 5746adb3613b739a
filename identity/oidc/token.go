package oidc

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// algorithms are those believed. HMAC is none of them: its key would be public.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.EdDSA,
	}
}

// token is a parsed token of which nothing is proven.
type token struct {
	issuer    string // as claimed
	algorithm jose.SignatureAlgorithm
	keyID     string
	payload   []byte
	jws       *jose.JSONWebSignature
}

// header is what of a JOSE header is read. A header may have more names (typ,
// x5t, a vendor's own); those in refusedHeaders it must not have.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

// refusedHeaders bring a key, say where one is, or change how the token is to
// be read.
type refusedHeaders struct {
	Key       any `json:"jwk"`
	KeyURL    any `json:"jku"`
	Chain     any `json:"x5c"`
	ChainURL  any `json:"x5u"`
	Critical  any `json:"crit"`
	Unencoded any `json:"b64"`
}

// parseToken reads a token without believing it. Its cost is bounded before
// anything is split or copied.
func parseToken(raw string) (*token, error) {
	if len(raw) > limits.IDToken {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, limits.IDToken)
	}
	if strings.Count(raw, ".") != 2 {
		return nil, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	parts := strings.Split(raw, ".")
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		// Go's decoder passes over line breaks.
		if err != nil || len(b) == 0 || strings.ContainsAny(part, "\r\n") {
			return nil, fmt.Errorf("%w: part %d is not canonical base64url", ErrMalformed, i+1)
		}
		decoded[i] = b
	}
	t := &token{payload: decoded[1]}
	if err := t.readHeader(decoded[0]); err != nil {
		return nil, err
	}
	if err := t.readIssuer(); err != nil {
		return nil, err
	}
	var err error
	if t.jws, err = jose.ParseSignedCompact(raw, algorithms()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return t, nil
}

func (t *token) readHeader(raw []byte) error {
	if len(raw) > limits.IDTokenHeader {
		return fmt.Errorf("%w: header larger than %d bytes", ErrMalformed, limits.IDTokenHeader)
	}
	var h header
	if err := strictjson.UnmarshalOpen(raw, &h); err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	var refused refusedHeaders
	if err := strictjson.UnmarshalOpen(raw, &refused); err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if refused != (refusedHeaders{}) {
		return fmt.Errorf("%w: the header brings a key or an extension", ErrMalformed)
	}
	t.algorithm, t.keyID = jose.SignatureAlgorithm(h.Algorithm), h.KeyID
	if !slices.Contains(algorithms(), t.algorithm) {
		return ErrAlgorithm
	}
	return nil
}

func (t *token) readIssuer() error {
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := strictjson.UnmarshalOpen(t.payload, &c); err != nil {
		return fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if c.Issuer == "" {
		return fmt.Errorf("%w: no iss", ErrMalformed)
	}
	t.issuer = c.Issuer
	return nil
}

// verify reports whether the signature is the key's. The bytes verified are
// those that claims reads.
func (t *token) verify(key publicKey) bool {
	payload, err := t.jws.Verify(key.public)
	return err == nil && string(payload) == string(t.payload)
}

// hash makes one identifier of several texts, none of which can reach into
// another.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// uniqueUse names a use that nothing repeats.
func uniqueUse() string { return rand.Text() }
