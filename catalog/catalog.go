package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// Kinds of the objects in the store.
const (
	KindRegistry  = "registry"
	KindPolicy    = "policy"
	KindGrant     = "grant"
	KindIssuer    = "issuer"
	KindTrustRoot = "trust-root"
	KindException = "exception"
)

// sealPurpose separates registry credentials from everything else that is
// sealed under the same master key.
const sealPurpose = "registry-credentials"

// Sealer keeps secrets at rest. Open must fail for what was sealed for another
// purpose or name.
type Sealer interface {
	Seal(purpose, name string, plaintext []byte) ([]byte, error)
	Open(purpose, name string, sealed []byte) ([]byte, error)
}

// Config of a Catalog; both are required.
type Config struct {
	Objects store.Objects
	Sealer  Sealer
}

// Catalog is the managed objects. It is safe for concurrent use.
type Catalog struct {
	sealer   Sealer
	objects  store.Objects
	policies *Collection[*policy.Policy]
	grants   *Collection[*policy.Grant]
	rules    *Collection[registry.Rule]
	issuers  *Collection[oidc.Issuer]
	roots    *Collection[TrustRoot]

	exceptions *Collection[*policy.Exception]
}

// New makes a Catalog over a store.
func New(cfg Config) (*Catalog, error) {
	if cfg.Objects == nil || cfg.Sealer == nil {
		return nil, errors.New("catalog: objects and sealer are required")
	}
	c := &Catalog{sealer: cfg.Sealer, objects: cfg.Objects}
	c.policies = &Collection[*policy.Policy]{
		kind: KindPolicy, objects: cfg.Objects, most: limits.Policies,
		decode: func(o store.Object) (*policy.Policy, error) { return parsePolicy(o.Name, o.Body) },
	}
	c.grants = &Collection[*policy.Grant]{
		kind: KindGrant, objects: cfg.Objects, most: limits.Policies,
		decode: func(o store.Object) (*policy.Grant, error) { return parseGrant(o.Name, o.Body) },
	}
	c.rules = &Collection[registry.Rule]{kind: KindRegistry, objects: cfg.Objects, most: limits.Policies, decode: c.openRule}
	c.issuers = &Collection[oidc.Issuer]{
		kind: KindIssuer, objects: cfg.Objects, most: limits.Issuers,
		decode: func(o store.Object) (oidc.Issuer, error) { return oidc.ParseIssuer(o.Name, o.Body) },
	}
	c.roots = &Collection[TrustRoot]{
		kind: KindTrustRoot, objects: cfg.Objects, most: limits.TrustRoots,
		decode: func(o store.Object) (TrustRoot, error) { return parseTrustRoot(o.Body) },
	}
	c.exceptions = &Collection[*policy.Exception]{
		kind: KindException, objects: cfg.Objects, most: limits.Exceptions,
		decode: func(o store.Object) (*policy.Exception, error) { return parseException(o.Name, o.Body) },
	}
	return c, nil
}

// PolicyObjects are the trust policies.
func (c *Catalog) PolicyObjects() *Collection[*policy.Policy] { return c.policies }

// GrantObjects are the grants.
func (c *Catalog) GrantObjects() *Collection[*policy.Grant] { return c.grants }

// RegistryObjects are the listed registries, with their credentials.
func (c *Catalog) RegistryObjects() *Collection[registry.Rule] { return c.rules }

// Revision grows with every change of any managed object.
func (c *Catalog) Revision(ctx context.Context) (int64, error) {
	revision, err := c.objects.Revision(ctx)
	if err != nil {
		return 0, fmt.Errorf("asking for the revision: %w", err)
	}
	return revision, nil
}

// Policies returns every policy in force.
func (c *Catalog) Policies(ctx context.Context) ([]Entry[*policy.Policy], error) {
	return c.policies.All(ctx)
}

// Grants returns every grant in force.
func (c *Catalog) Grants(ctx context.Context) ([]policy.Grant, error) {
	entries, err := c.grants.All(ctx)
	if err != nil {
		return nil, err
	}
	grants := make([]policy.Grant, 0, len(entries))
	for _, e := range entries {
		grants = append(grants, *e.Value)
	}
	return grants, nil
}

// Rule returns the rule of a registry host with its credentials, or
// registry.ErrNotListed. It makes Catalog a registry.Rules.
func (c *Catalog) Rule(ctx context.Context, host string) (registry.Rule, error) {
	e, err := c.rules.Get(ctx, host)
	if errors.Is(err, store.ErrNotFound) {
		return registry.Rule{}, fmt.Errorf("%w: %w", registry.ErrNotListed, err)
	}
	return e.Value, err
}

// DraftPolicy checks a TrustPolicy (YAML or JSON) that is to be kept under
// name, which must be its own.
func (c *Catalog) DraftPolicy(name string, document []byte) (Draft[*policy.Policy], error) {
	p, err := parsePolicy(name, document)
	if err != nil {
		return Draft[*policy.Policy]{}, err
	}
	return Draft[*policy.Policy]{name: name, value: p, body: p.Document()}, nil
}

func parsePolicy(name string, document []byte) (*policy.Policy, error) {
	p, err := policy.Parse(document)
	if err != nil {
		return nil, err
	}
	if p.Name != name {
		return nil, fmt.Errorf("%w: metadata.name differs from the name in the path", ErrName)
	}
	return p, nil
}

// DraftRegistry checks a registry rule (the JSON of registry.Rule with or
// without host) and seals its credentials.
func (c *Catalog) DraftRegistry(host string, document []byte) (Draft[registry.Rule], error) {
	r, err := registry.ParseRule(host, document)
	if err != nil {
		return Draft[registry.Rule]{}, err
	}
	if r.Host != host {
		return Draft[registry.Rule]{}, fmt.Errorf("%w: write the host as %s", ErrName, r.Host)
	}
	kept, err := c.sealRule(r)
	if err != nil {
		return Draft[registry.Rule]{}, err
	}
	body, err := json.Marshal(kept)
	if err != nil {
		return Draft[registry.Rule]{}, fmt.Errorf("encoding a registry: %w", err)
	}
	return Draft[registry.Rule]{name: r.Host, value: r, body: body}, nil
}

// storedRule is a registry at rest.
type storedRule struct {
	Rule registry.Rule `json:"rule"`
	// Credentials is the JSON of registry.Credentials, sealed for the host.
	Credentials []byte `json:"credentials,omitempty"`
}

func (c *Catalog) sealRule(r registry.Rule) (storedRule, error) {
	kept := storedRule{Rule: r}
	kept.Rule.Credentials = nil
	if r.Credentials == nil {
		return kept, nil
	}
	plain, err := json.Marshal(r.Credentials) //nolint:gosec // sealed on the next lines
	if err != nil {
		return storedRule{}, fmt.Errorf("encoding credentials: %w", err)
	}
	if kept.Credentials, err = c.sealer.Seal(sealPurpose, r.Host, plain); err != nil {
		return storedRule{}, fmt.Errorf("sealing credentials: %w", err)
	}
	return kept, nil
}

// Reseal seals anew what the other sealer cannot open, under this catalog's own:
// credentials that were kept before others had to read them. It returns the hosts
// of the registries that it changed.
func (c *Catalog) Reseal(ctx context.Context, other Sealer) ([]string, error) {
	entries, err := c.rules.All(ctx)
	if err != nil {
		return nil, err
	}
	var changed []string
	for _, e := range entries {
		if e.Value.Credentials == nil {
			continue
		}
		done, err := c.reseal(ctx, e.Name, other)
		if err != nil {
			return changed, fmt.Errorf("sealing the credentials of %s anew: %w", e.Name, err)
		}
		if done {
			changed = append(changed, e.Name)
		}
	}
	return changed, nil
}

func (c *Catalog) reseal(ctx context.Context, host string, other Sealer) (bool, error) {
	o, err := c.objects.Get(ctx, KindRegistry, host)
	if err != nil {
		return false, err
	}
	var kept storedRule
	if err := strictjson.Unmarshal(o.Body, &kept); err != nil {
		return false, err
	}
	if _, err := other.Open(sealPurpose, host, kept.Credentials); err == nil {
		return false, nil
	}
	rule, err := c.openRule(o)
	if err != nil {
		return false, err
	}
	if kept, err = c.sealRule(rule); err != nil {
		return false, err
	}
	if o.Body, err = json.Marshal(kept); err != nil {
		return false, err
	}
	_, err = c.objects.Put(ctx, o)
	return err == nil, err
}

func (c *Catalog) openRule(o store.Object) (registry.Rule, error) {
	var kept storedRule
	if err := strictjson.Unmarshal(o.Body, &kept); err != nil {
		return registry.Rule{}, err
	}
	if kept.Rule.Credentials != nil || kept.Rule.Host != o.Name {
		return registry.Rule{}, errors.New("credentials in the clear, or a rule of another host")
	}
	if len(kept.Credentials) == 0 {
		return kept.Rule, nil
	}
	plain, err := c.sealer.Open(sealPurpose, o.Name, kept.Credentials)
	if err != nil {
		return registry.Rule{}, fmt.Errorf("opening credentials: %w", err)
	}
	kept.Rule.Credentials = &registry.Credentials{}
	if err := strictjson.Unmarshal(plain, kept.Rule.Credentials); err != nil {
		return registry.Rule{}, err
	}
	return kept.Rule, nil
}

// DraftGrant checks a grant (JSON or YAML) that is to be kept under name.
func (c *Catalog) DraftGrant(name string, document []byte) (Draft[*policy.Grant], error) {
	if !validName(name) {
		return Draft[*policy.Grant]{}, fmt.Errorf("%w: want 1 to %d letters, digits and inner . _ -", ErrName, limits.Name)
	}
	g, err := parseGrant(name, document)
	if err != nil {
		return Draft[*policy.Grant]{}, err
	}
	return Draft[*policy.Grant]{name: name, value: g, body: g.Document()}, nil
}

func parseGrant(name string, document []byte) (*policy.Grant, error) {
	g, err := policy.ParseGrant(document)
	if err != nil {
		return nil, err
	}
	g.Name = name
	return g, nil
}

func validName(name string) bool {
	if name == "" || len(name) > limits.Name {
		return false
	}
	for i, r := range name {
		inner := i > 0 && i < len(name)-1
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case inner && (r == '.' || r == '_' || r == '-'):
		default:
			return false
		}
	}
	return true
}
