package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

const redacted = "[redacted]"

// Secret is a string that does not print: fmt and slog show "[redacted]".
// encoding/json writes it as it is, for storage; answers use Rule.Redacted.
type Secret string

// String is "[redacted]", or empty if there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Credentials are a user name and password, or a bearer token that the
// registry accepts as it is.
type Credentials struct {
	Username string `json:"username,omitempty"`
	Password Secret `json:"password,omitempty"`
	Token    Secret `json:"token,omitempty"`
}

// Rule lists one registry host and says how to talk to it.
type Rule struct {
	// Host is the authority as in Reference.Host.
	Host string `json:"host"`
	// Repositories are patterns (package glob) over the repository path; at
	// least one.
	Repositories []string `json:"repositories"`
	// InsecureHTTP talks plain http to the host, never https.
	InsecureHTTP bool `json:"insecureHttp,omitempty"`
	// CABundle is PEM; if set, only these authorities are trusted for the host.
	CABundle string `json:"caBundle,omitempty"`
	// Credentials go to the host and its token server; nil is anonymous.
	Credentials *Credentials `json:"credentials,omitempty"`
	// Mirrors are HOST[/PREFIX], asked in order for reads when the host cannot
	// be reached. Each must be listed by a rule of its own, which governs it:
	// this rule's credentials never go there.
	Mirrors []string `json:"mirrors,omitempty"`
	// AllowPrivateAddress lets the host have a private or loopback address.
	AllowPrivateAddress bool `json:"allowPrivateAddress,omitempty"`
}

// Rules finds the rule of a host.
type Rules interface {
	// Rule returns the rule whose Host equals host, or ErrNotListed. It is
	// asked once per operation, so a change takes effect on the next one.
	Rule(ctx context.Context, host string) (Rule, error)
}

// ParseRule reads a rule document: the fields of Rule under their JSON names,
// nothing else and no name twice. The document may leave out "host" or must
// repeat the host given; with an empty host the document must have it. The
// error wraps ErrRule and names the field, never its value.
func ParseRule(host string, document []byte) (Rule, error) {
	var r Rule
	if len(document) > limits.RequestBody {
		return Rule{}, fmt.Errorf("%w: larger than %d bytes", ErrRule, limits.RequestBody)
	}
	if err := strictjson.Unmarshal(document, &r); err != nil {
		return Rule{}, fmt.Errorf("%w: %w", ErrRule, err)
	}
	if r.Host == "" {
		r.Host = host
	}
	r.Host = normalHost(r.Host)
	if host != "" && r.Host != normalHost(host) {
		return Rule{}, ruleError("host", "must be the host the rule is kept under")
	}
	if len(r.Mirrors) == 0 {
		r.Mirrors = nil // an empty list and none are the same rule
	}
	if err := r.validate(); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// Redacted is a copy for answers: the user name stays, password and token are
// replaced by "[redacted]".
func (r Rule) Redacted() Rule {
	out := r.clone()
	if c := out.Credentials; c != nil {
		c.Password = Secret(c.Password.String())
		c.Token = Secret(c.Token.String())
	}
	return out
}

// Allows reports whether the rule covers the repository path.
func (r Rule) Allows(repository string) bool {
	return slices.ContainsFunc(r.Repositories, func(pattern string) bool {
		p, err := glob.CompileRepository(pattern)
		return err == nil && p.Match(repository)
	})
}

func (r Rule) clone() Rule {
	r.Repositories = slices.Clone(r.Repositories)
	r.Mirrors = slices.Clone(r.Mirrors)
	if r.Credentials != nil {
		c := *r.Credentials
		r.Credentials = &c
	}
	return r
}

func (r Rule) validate() error {
	if !validHost(r.Host) {
		return ruleError("host", "is not a registry host")
	}
	if n := len(r.Repositories); n == 0 || n > limits.RegistryPatterns {
		return ruleError("repositories", fmt.Sprintf("must have 1 to %d patterns", limits.RegistryPatterns))
	}
	for i, pattern := range r.Repositories {
		if _, err := glob.CompileRepository(pattern); err != nil {
			return fmt.Errorf("%w: repositories/%d: %w", ErrRule, i, err)
		}
	}
	if r.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(r.CABundle)) {
		return ruleError("caBundle", "has no PEM certificate")
	}
	if err := r.Credentials.validate(); err != nil {
		return err
	}
	return validateMirrors(r.Host, r.Mirrors)
}

func (c *Credentials) validate() error {
	switch {
	case c == nil:
		return nil
	case c.Password == redacted || c.Token == redacted:
		return ruleError("credentials", "is the redacted form of an answer; give the secret again")
	case c.Token != "" && (c.Username != "" || c.Password != ""):
		return ruleError("credentials", "must be username and password, or token")
	case c.Token == "" && (c.Username == "" || c.Password == ""):
		return ruleError("credentials", "must be username and password, or token")
	case strings.Contains(c.Username, ":") || hasControl(c.Username) || hasControl(string(c.Password)):
		return ruleError("credentials", "has a character that HTTP authentication cannot carry")
	case strings.IndexFunc(string(c.Token), func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		return ruleError("credentials/token", "has a character that HTTP authentication cannot carry")
	}
	return nil
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

func validateMirrors(host string, mirrors []string) error {
	if len(mirrors) > limits.RegistryMirrors {
		return ruleError("mirrors", fmt.Sprintf("must have at most %d entries", limits.RegistryMirrors))
	}
	for i, m := range mirrors {
		mirror, prefix, hasPrefix := strings.Cut(m, "/")
		if !validHost(mirror) || (hasPrefix && !validRepository(prefix)) {
			return ruleError(fmt.Sprintf("mirrors/%d", i), "is not HOST or HOST/PREFIX")
		}
		if mirror == host && !hasPrefix {
			return ruleError(fmt.Sprintf("mirrors/%d", i), "is the registry itself")
		}
	}
	return nil
}

func ruleError(field, problem string) error {
	return fmt.Errorf("%w: %s: %s", ErrRule, field, problem)
}
