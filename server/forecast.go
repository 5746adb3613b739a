package server

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

type forecastInput struct {
	Before string `query:"before" maxLength:"64" doc:"How far to look: a time, or a duration from now; default 720h."`
	Since  string `query:"since" maxLength:"64" doc:"Whose images: those that PASSED since this time, or this long ago; default 168h."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most, the first to stop."`
}

func (s *Server) forecastRoutes() {
	register(s, huma.Operation{
		OperationID: "forecast", Method: http.MethodGet, Path: "/v1/forecast", Tags: []string{"Audit"},
		Summary: "Which images that PASSED will stop passing, when and why",
		Description: "Each is judged again now and at every moment at which time alone may change its verdict, under the trust of now. " +
			"Nothing is recorded. truncated says that there were more decisions, images or time than are looked at at once.",
	}, s.forecast)
}

func (s *Server) forecast(ctx context.Context, in *forecastInput) (*bodyOutput[api.Forecast], error) {
	now := s.cfg.Clock.Now()
	before, err := momentOf("query.before", in.Before, now, 1, limits.ForecastAhead, 30*24*time.Hour)
	if err != nil {
		return nil, err
	}
	since, err := momentOf("query.since", in.Since, now, -1, limits.RecordedWindow, 7*24*time.Hour)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limits.RecordedTime)
	defer cancel()
	found, err := s.recordedSince(ctx, string(policy.Passed), since, func(archive.Decision) bool { return true })
	if err != nil {
		return nil, err
	}
	items := s.foresee(ctx, found.groups, before)
	out := api.Forecast{Before: before, Decisions: found.read, Images: len(found.groups), Truncated: found.truncated, Items: items}
	if len(items) > in.Limit {
		out.Items, out.Truncated = items[:in.Limit], true
	}
	return &bodyOutput[api.Forecast]{Body: out}, nil
}

// foresee is what becomes of each question, those that stop first in front.
func (s *Server) foresee(ctx context.Context, groups []recorded, before time.Time) []api.ForecastItem {
	items := []api.ForecastItem{}
	var mu sync.Mutex
	var work errgroup.Group
	work.SetLimit(limits.VerifyParallel)
	for _, g := range groups {
		work.Go(func() error {
			if item, stops := s.foreseeOne(ctx, g, before); stops {
				mu.Lock()
				defer mu.Unlock()
				items = append(items, item)
			}
			return nil
		})
	}
	_ = work.Wait() // each item says by itself what it rests on
	slices.SortFunc(items, func(a, b api.ForecastItem) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return slices.Compare([]string{a.Image, a.DecisionID}, []string{b.Image, b.DecisionID})
	})
	return items
}

// foreseeOne judges one image ahead. When it cannot be judged now, its own
// decision says when it was to be asked again.
func (s *Server) foreseeOne(ctx context.Context, g recorded, before time.Time) (api.ForecastItem, bool) {
	item := api.ForecastItem{
		Image: g.Image, Pinned: g.Pinned, Platform: g.platform, Policy: g.Policy, Context: g.Context,
		DecisionID: g.ID, PassedAt: g.CreatedAt, Basis: "judged",
	}
	ahead, err := s.cfg.Verifier.Ahead(ctx, g.request, before)
	if err == nil && !undecidedResult(ahead.Result.Verdict, ahead.Result.Reasons) && !undecidedAt(ahead.FailsAt, ahead.Reasons) {
		item.At, item.Reasons = ahead.FailsAt, each(ahead.Reasons, same)
		return item, !ahead.FailsAt.IsZero()
	}
	if g.until == nil || !g.until.At.Before(before) {
		return item, false
	}
	item.Basis, item.At, item.Reasons = "recorded", g.until.At, []policy.Reason{g.until.Reason}
	return item, true
}

func undecidedAt(at time.Time, reasons []policy.Reason) bool {
	return !at.IsZero() && undecidedResult(policy.Failed, reasons)
}
