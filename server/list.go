package server

import (
	"github.com/countersign/countersign/store"
)

// PageInput is the query of every list. It and the other embedded inputs are
// exported because huma passes over embedded types that are not.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"nextCursor of the page before."`
}

func (p PageInput) page() store.Page { return store.Page{Limit: p.Limit, Cursor: p.Cursor} }

// each converts a page's items. The answer is never nil: an empty list is [],
// not null.
func each[T, A any](items []T, convert func(T) A) []A {
	out := make([]A, 0, len(items))
	for _, item := range items {
		out = append(out, convert(item))
	}
	return out
}
