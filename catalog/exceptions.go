package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// ExceptionObjects are the exceptions to policies, also those that expired.
func (c *Catalog) ExceptionObjects() *Collection[*policy.Exception] { return c.exceptions }

// Exceptions returns every exception that is kept; who asks must hold them
// against the time. A change of one makes Revision grow.
func (c *Catalog) Exceptions(ctx context.Context) ([]*policy.Exception, error) {
	entries, err := c.exceptions.All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*policy.Exception, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Value)
	}
	return out, nil
}

// DraftException checks an exception (JSON or YAML) that is to be kept under
// name. It must end after now and within limits.ExceptionLife, its policy must
// exist, and its patterns must lie within the repositories that are listed: a
// misspelt exception would seem to help and not do so.
func (c *Catalog) DraftException(ctx context.Context, name string, document []byte, now time.Time) (Draft[*policy.Exception], error) {
	none := Draft[*policy.Exception]{}
	if !validName(name) {
		return none, fmt.Errorf("%w: want 1 to %d letters, digits and inner . _ -", ErrName, limits.Name)
	}
	e, err := parseException(name, document)
	if err != nil {
		return none, err
	}
	switch {
	case !e.ExpiresAt.After(now):
		return none, exceptionFault("/expiresAt", "must lie in the future")
	case e.ExpiresAt.After(now.Add(limits.ExceptionLife)):
		return none, exceptionFault("/expiresAt", fmt.Sprintf("must be at most %d days from now", limits.ExceptionLife/(24*time.Hour)))
	}
	_, err = c.policies.Get(ctx, e.Policy)
	if errors.Is(err, store.ErrNotFound) {
		return none, exceptionFault("/policy", "is no policy under /v1/policies")
	}
	if err != nil {
		return none, err
	}
	for i, pattern := range e.Images {
		if err := c.within(ctx, pattern, fmt.Sprintf("/images/%d", i)); err != nil {
			return none, err
		}
	}
	return Draft[*policy.Exception]{name: name, value: e, body: e.Document()}, nil
}

// within refuses a pattern of images beyond the listed repositories. The name
// that stands for those of a pattern has "a" for every wildcard.
func (c *Catalog) within(ctx context.Context, pattern, at string) error {
	host, repository, _ := strings.Cut(pattern, "/")
	rule, err := c.Rule(ctx, host)
	if err != nil && !errors.Is(err, registry.ErrNotListed) {
		return err
	}
	if err != nil || !rule.Allows(strings.ReplaceAll(strings.ReplaceAll(repository, "**", "a"), "*", "a")) {
		return exceptionFault(at, "is not within the repositories that are listed under /v1/registries")
	}
	return nil
}

func exceptionFault(pointer, problem string) error {
	return fmt.Errorf("%w: %w", policy.ErrException, &policy.FieldError{Pointer: pointer, Problem: problem})
}

func parseException(name string, document []byte) (*policy.Exception, error) {
	e, err := policy.ParseException(document)
	if err != nil {
		return nil, err
	}
	e.Name = name
	return e, nil
}
