package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// scope is what a token must allow. It is ours, never the challenge's: a
// registry must not choose what its token server is asked for in our name.
type scope struct {
	repository string
	actions    string
}

const (
	actionsPull = "pull"
	actionsPush = "pull,push"
)

func (s scope) String() string {
	if s.repository == "" {
		return ""
	}
	return "repository:" + s.repository + ":" + s.actions
}

// authState is what an origin learned about authentication.
type authState struct {
	mu sync.Mutex
	// basic is set once the registry asked for it; guarded by mu.
	basic bool
	// tokens by scope; guarded by mu.
	tokens map[scope]token
}

type token struct {
	value   string
	expires time.Time
}

// header is the Authorization to send without being asked, or "".
func (s *authState) header(c *Credentials, sc scope, now time.Time) string {
	if c != nil && c.Token != "" {
		return "Bearer " + string(c.Token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.basic {
		return basic(c)
	}
	if t, ok := s.tokens[sc]; ok && now.Before(t.expires) {
		return "Bearer " + t.value
	}
	return ""
}

func (s *authState) remember(sc scope, t token, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		s.tokens = make(map[scope]token)
	}
	for k, old := range s.tokens {
		if !now.Before(old.expires) {
			delete(s.tokens, k)
		}
	}
	s.tokens[sc] = t
}

func (s *authState) rememberBasic() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.basic = true
}

func basic(c *Credentials) string {
	if c == nil || c.Username == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+string(c.Password)))
}

// authenticate answers a 401. It returns the Authorization to repeat the
// request with, or "" if there is nothing to offer.
func (o *origin) authenticate(ctx context.Context, h http.Header, sc scope) (string, error) {
	c := o.rule.Credentials
	if c != nil && c.Token != "" {
		return "", nil // it was sent already, and refused
	}
	for _, line := range h.Values("WWW-Authenticate") {
		ch, ok := parseChallenge(line)
		switch {
		case ok && ch.scheme == "bearer":
			return o.fetchToken(ctx, ch, sc)
		case ok && ch.scheme == "basic" && basic(c) != "":
			o.auth.rememberBasic()
			return basic(c), nil
		}
	}
	return "", nil
}

// fetchToken asks the token server (distribution token specification: GET
// realm?service=…&scope=…, answered with token or access_token).
func (o *origin) fetchToken(ctx context.Context, ch challenge, sc scope) (string, error) {
	target, err := o.realm(ch.parameters["realm"])
	if err != nil {
		return "", err
	}
	q := target.Query()
	if service := ch.parameters["service"]; service != "" {
		q.Set("service", service)
	}
	if s := sc.String(); s != "" {
		q.Set("scope", s)
	}
	target.RawQuery = q.Encode()
	// The token server is part of the origin by realm's decision, so the
	// request carries the credentials.
	a, err := o.send(ctx, call{method: http.MethodGet, limit: limits.TokenResponse}, target, true, basic(o.rule.Credentials))
	switch {
	case err != nil:
		return "", err
	case isRedirect(a.status):
		return "", fmt.Errorf("%w: redirect of the token server", ErrUnsafe)
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return "", fmt.Errorf("%w: the token server of %s answered %d", ErrDenied, o.rule.Host, a.status)
	case a.status != http.StatusOK:
		return "", fmt.Errorf("%w: the token server of %s answered %d", ErrUnavailable, o.rule.Host, a.status)
	}
	t, err := parseToken(a.body, o.clock.Now())
	if err != nil {
		return "", fmt.Errorf("%w: the token server of %s: %w", ErrUnavailable, o.rule.Host, err)
	}
	o.auth.remember(sc, t, o.clock.Now())
	return "Bearer " + t.value, nil
}

// realm accepts a token server on the rule's own host and scheme, or on an
// https host of the same site: the same registrable domain by the public suffix
// list, as registry.gitlab.com and gitlab.com. An address that the dialer
// refuses is refused there.
func (o *origin) realm(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%w: the token server's address", ErrUnsafe)
	}
	if o.sameOrigin(u) || (u.Scheme == "https" && sameSite(u.Hostname(), hostname(o.rule.Host))) {
		return u, nil
	}
	return nil, fmt.Errorf("%w: the token server is not https on the site of %s", ErrUnsafe, o.rule.Host)
}

func hostname(authority string) string {
	u := url.URL{Host: authority}
	return u.Hostname()
}

func sameSite(a, b string) bool {
	for _, h := range []string{a, b} {
		if _, err := netip.ParseAddr(h); err == nil {
			return false
		}
	}
	siteA, errA := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	siteB, errB := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return errA == nil && errB == nil && siteA == siteB
}

// parseToken reads a token server's answer. A token without a life time lives
// 60 seconds, as the specification says.
func parseToken(body []byte, now time.Time) (token, error) {
	var v struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := strictjson.UnmarshalOpen(body, &v); err != nil {
		return token{}, err
	}
	value := v.Token
	if value == "" {
		value = v.AccessToken
	}
	if value == "" || strings.IndexFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return token{}, fmt.Errorf("%w: no usable token", strictjson.ErrInvalid)
	}
	// Renewed early, so that it does not expire on the way; never kept longer
	// than five minutes, whatever the server says.
	life := min(max(v.ExpiresIn, 60), 310) - 10
	return token{value: value, expires: now.Add(time.Duration(life) * time.Second)}, nil
}

// challenge is one WWW-Authenticate header.
type challenge struct {
	scheme     string
	parameters map[string]string
}

// parseChallenge reads SCHEME name="value",name=value,… (RFC 9110 §11.6.1, one
// challenge per header line). It refuses unbalanced quotes, a name twice and
// anything longer than limits.Challenge.
func parseChallenge(line string) (challenge, bool) {
	if len(line) > limits.Challenge {
		return challenge{}, false
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	c := challenge{scheme: strings.ToLower(scheme), parameters: map[string]string{}}
	for rest = strings.TrimLeft(rest, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" {
			return challenge{}, false
		}
		value, remaining, ok := parameterValue(after)
		if _, twice := c.parameters[name]; !ok || twice {
			return challenge{}, false
		}
		c.parameters[name], rest = value, remaining
	}
	return c, c.scheme != ""
}

func parameterValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, ',')
		if end < 0 {
			end = len(s)
		}
		return strings.TrimSpace(s[:end]), s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}
