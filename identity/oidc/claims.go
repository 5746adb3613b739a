package oidc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// claims are what a verified token says.
type claims struct {
	Subject string `json:"sub"`
	ID      string `json:"jti"`

	audience          []string
	expires           time.Time
	notBefore, issued time.Time // zero when the token does not say
	flat              map[string]string
}

// claims reads the payload, which must have been verified.
func (t *token) claims() (claims, error) {
	var c claims
	if err := strictjson.UnmarshalOpen(t.payload, &c); err != nil {
		return claims{}, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if c.Subject == "" {
		return claims{}, fmt.Errorf("%w: no sub", ErrMalformed)
	}
	if err := c.readAudience(t.payload); err != nil {
		return claims{}, err
	}
	if err := c.readTimes(t.payload); err != nil {
		return claims{}, err
	}
	var err error
	c.flat, err = flatten(t.payload)
	return c, err
}

// readAudience reads aud, which is a text or a list of texts (RFC 7519 §4.1.3).
func (c *claims) readAudience(payload []byte) error {
	var several struct {
		Audience []string `json:"aud"`
	}
	if strictjson.UnmarshalOpen(payload, &several) == nil {
		c.audience = several.Audience
	} else {
		var one struct {
			Audience string `json:"aud"`
		}
		if err := strictjson.UnmarshalOpen(payload, &one); err != nil {
			return fmt.Errorf("%w: aud: %w", ErrMalformed, err)
		}
		c.audience = []string{one.Audience}
	}
	if len(c.audience) > limits.Audiences {
		return fmt.Errorf("%w: more than %d audiences", ErrMalformed, limits.Audiences)
	}
	return nil
}

func (c *claims) readTimes(payload []byte) error {
	var times struct {
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
		Issued    *float64 `json:"iat"`
	}
	if err := strictjson.UnmarshalOpen(payload, &times); err != nil {
		return fmt.Errorf("%w: exp, nbf or iat: %w", ErrMalformed, err)
	}
	if times.Expires == nil {
		return fmt.Errorf("%w: no exp", ErrMalformed)
	}
	for _, read := range []struct {
		seconds *float64
		to      *time.Time
	}{{times.Expires, &c.expires}, {times.NotBefore, &c.notBefore}, {times.Issued, &c.issued}} {
		if read.seconds == nil {
			continue
		}
		// 253402300799 is the end of the year 9999, the last that RFC 3339 has.
		if *read.seconds < 0 || *read.seconds > 253402300799 {
			return fmt.Errorf("%w: exp, nbf or iat is out of range", ErrMalformed)
		}
		*read.to = time.Unix(int64(*read.seconds), 0).UTC()
	}
	return nil
}

// check judges audience and times. Every audience of the token must be one of
// those trusted: a token for two services can be replayed by either to the
// other.
func (c claims) check(now time.Time, trusted []string) error {
	if len(c.audience) == 0 {
		return ErrAudience
	}
	for _, a := range c.audience {
		if a == "" || !slices.Contains(trusted, a) {
			return ErrAudience
		}
	}
	if !now.Before(c.expires) {
		return ErrExpired
	}
	latest := now.Add(limits.ClockSkew)
	if c.notBefore.After(latest) || c.issued.After(latest) {
		return ErrNotYetValid
	}
	return nil
}

// flatten makes texts of every claim: a member of an object is named
// path.member, an element of a list path.0. Texts are kept, numbers and truth
// values as they are written, null is left out. Two claims of one name are
// refused, as they would let one pass for the other.
func flatten(payload []byte) (map[string]string, error) {
	flat := map[string]string{}
	dec := jsontext.NewDecoder(bytes.NewReader(payload))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return nil, fmt.Errorf("%w: payload is not an object", ErrMalformed)
	}
	if err := flattenValue(dec, "", flat); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after the payload", ErrMalformed)
	}
	return flat, nil
}

// flattenValue reads one value. Its depth is bounded: the payload passed
// strictjson.Check.
func flattenValue(dec *jsontext.Decoder, path string, flat map[string]string) error {
	switch dec.PeekKind() {
	case jsontext.KindBeginObject:
		return flattenEach(dec, jsontext.KindEndObject, flat, func(int) (string, error) {
			name, err := dec.ReadToken()
			return join(path, name.String()), err
		})
	case jsontext.KindBeginArray:
		return flattenEach(dec, jsontext.KindEndArray, flat, func(n int) (string, error) {
			return join(path, strconv.Itoa(n)), nil
		})
	}
	value, err := dec.ReadToken()
	if err != nil {
		return fmt.Errorf("%w: payload", ErrMalformed)
	}
	if value.Kind() == jsontext.KindNull {
		return nil
	}
	if _, twice := flat[path]; twice {
		return fmt.Errorf("%w: two claims have the same path", ErrMalformed)
	}
	if len(flat) >= limits.Claims {
		return fmt.Errorf("%w: more than %d claims", ErrMalformed, limits.Claims)
	}
	flat[path] = value.String()
	return nil
}

func flattenEach(dec *jsontext.Decoder, end jsontext.Kind, flat map[string]string, path func(n int) (string, error)) error {
	if _, err := dec.ReadToken(); err != nil {
		return fmt.Errorf("%w: payload", ErrMalformed)
	}
	for n := 0; dec.PeekKind() != end; n++ {
		at, err := path(n)
		if err != nil {
			return fmt.Errorf("%w: payload", ErrMalformed)
		}
		if err := flattenValue(dec, at, flat); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
