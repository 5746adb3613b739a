package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/store"
)

// MatchInput are the preconditions of a PUT or DELETE (RFC 9110 §13.1).
type MatchInput struct {
	IfMatch     string `header:"If-Match" maxLength:"256" doc:"ETag of the revision to replace."`
	IfNoneMatch string `header:"If-None-Match" maxLength:"256" doc:"* to create only."`
}

// etag is the strong entity tag of a revision.
func etag(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }

// matches reports whether a list of entity tags holds a revision's. Weak tags
// never do (RFC 9110 §8.8.3.2).
func matches(header string, revision int64) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == etag(revision) || tag == "*" {
			return true
		}
	}
	return false
}

// replaces finds the revision a PUT replaces: 0 to create. stored is 0 when
// there is none.
func (in MatchInput) replaces(stored int64) (int64, error) {
	switch {
	case stored == 0 && in.IfMatch != "":
		return 0, errMatch
	case stored == 0:
		return 0, nil
	case in.IfNoneMatch != "" && matches(in.IfNoneMatch, stored):
		return 0, errMatch
	case in.IfMatch == "":
		return 0, errNeedsMatch
	case !matches(in.IfMatch, stored):
		return 0, errMatch
	}
	return stored, nil
}

// removes is the same for a DELETE, where If-Match may be left out.
func (in MatchInput) removes(stored int64) error {
	if in.IfMatch != "" && !matches(in.IfMatch, stored) {
		return errMatch
	}
	return nil
}

// managedOutput is the answer that carries one managed object.
type managedOutput[T any] struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     T
}

// GetInput is the precondition of a GET.
type GetInput struct {
	IfNoneMatch string `header:"If-None-Match" maxLength:"256" doc:"ETags the caller has; 304 if one is current."`
}

// change journals that something is about to be done, does it, and journals a
// failure. When the first record cannot be written, nothing is done: no change
// of trust is without a record.
func (s *Server) change(ctx context.Context, action, resource string, detail map[string]string, do func() error) error {
	if err := s.journal(ctx, action, resource, audit.Allowed, detail); err != nil {
		return err
	}
	err := do()
	outcome := audit.Done
	if err != nil {
		outcome = audit.Failed
		detail = map[string]string{"code": s.rowOf(err).code}
	}
	// What is done is done: if this record cannot be written, the first one
	// still tells of the change.
	if late := s.journal(context.WithoutCancel(ctx), action, resource, outcome, detail); late != nil && err == nil {
		s.cfg.Logger.ErrorContext(ctx, "journalling an outcome", "action", action, "resource", resource, "cause", late)
	}
	return err
}

func (s *Server) journal(ctx context.Context, action, resource, outcome string, detail map[string]string) error {
	caller := callerOf(ctx)
	_, err := s.cfg.Journal.Append(ctx, audit.Record{
		Actor: caller.String(), ActorIssuer: caller.Issuer, ActorSubject: caller.Subject,
		Action: action, Resource: resource, Outcome: outcome, Detail: detail, RequestID: requestOf(ctx).id,
	})
	if err != nil {
		return errors.Join(errJournal, err)
	}
	return nil
}

// putManaged writes a draft under the preconditions of the request.
func putManaged[T any](ctx context.Context, s *Server, c *catalog.Collection[T], noun string, in MatchInput, d catalog.Draft[T]) (catalog.Entry[T], bool, error) {
	var entry catalog.Entry[T]
	stored, err := c.Stored(ctx, d.Name())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return entry, false, err
	}
	revision, err := in.replaces(stored)
	if err != nil {
		return entry, false, err
	}
	detail := map[string]string{"replaces": strconv.FormatInt(revision, 10), "sha256": d.Hash()}
	err = s.change(ctx, noun+".put", noun+"/"+d.Name(), detail, func() (err error) {
		entry, err = c.Put(ctx, d, revision)
		return err
	})
	return entry, revision == 0, err
}

// deleteManaged removes an object under the preconditions of the request.
func deleteManaged[T any](ctx context.Context, s *Server, c *catalog.Collection[T], noun, name string, in MatchInput) error {
	stored, err := c.Stored(ctx, name)
	if err != nil {
		return err
	}
	if err := in.removes(stored); err != nil {
		return err
	}
	detail := map[string]string{"revision": strconv.FormatInt(stored, 10)}
	return s.change(ctx, noun+".delete", noun+"/"+name, detail, func() error {
		return c.Delete(ctx, name, stored)
	})
}

// managed makes the answer of an entry.
func managed[T, A any](e catalog.Entry[T], convert func(catalog.Entry[T]) A) *managedOutput[A] {
	return &managedOutput[A]{Status: http.StatusOK, ETag: etag(e.Revision), Body: convert(e)}
}

// as makes it the answer of a PUT.
func (o *managedOutput[T]) as(isNew bool, location string) *managedOutput[T] {
	if isNew {
		o.Status, o.Location = http.StatusCreated, location
	}
	return o
}

// unless answers 304 when the caller has the revision.
func (o *managedOutput[T]) unless(in GetInput, revision int64) *managedOutput[T] {
	if in.IfNoneMatch != "" && matches(in.IfNoneMatch, revision) {
		o.Status = http.StatusNotModified
	}
	return o
}
