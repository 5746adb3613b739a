package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/verifier"
)

// recorded are the decisions that were made of one question about one digest,
// as the newest of them.
type recorded struct {
	archive.Decision
	// until is what the decision said of its own end.
	until    *verifier.Until
	request  verifier.Request
	platform string
	count    int
}

// recordedDecisions are the decisions since a moment by question, newest first, as
// far as the bounds let them be read.
type recordedDecisions struct {
	groups []recorded
	// read are the decisions looked at, unresolved those among them that name no
	// digest, and passed over.
	read, unresolved int
	truncated        bool
}

// recordedSince reads decisions until the bounds of a forecast or a replay.
func (s *Server) recordedSince(ctx context.Context, verdict string, since time.Time, wanted func(archive.Decision) bool) (recordedDecisions, error) {
	var out recordedDecisions
	known := map[string]int{}
	page := store.Page{Limit: limits.PageMax}
	for {
		decisions, next, err := s.cfg.Archive.Decisions(ctx, store.DecisionFilter{Verdict: verdict}, page)
		if err != nil {
			return out, err
		}
		for _, d := range decisions {
			if d.CreatedAt.Before(since) {
				return out, nil
			}
			if out.read == limits.RecordedDecisions {
				out.truncated = true
				return out, nil
			}
			out.read++
			if wanted(d) {
				out.take(d, known)
			}
		}
		if next == "" {
			return out, nil
		}
		page.Cursor = next
	}
}

// take puts a decision to those of its question.
func (r *recordedDecisions) take(d archive.Decision, known map[string]int) {
	one, ok := asQuestion(d)
	if !ok {
		r.unresolved++
		return
	}
	key, err := json.Marshal([]any{one.request.Images, one.request.Platform, d.Policy, d.Context})
	if err != nil {
		r.unresolved++
		return
	}
	if i, have := known[string(key)]; have {
		r.groups[i].count++
		return
	}
	if len(r.groups) == limits.RecordedImages {
		r.truncated = true
		return
	}
	known[string(key)] = len(r.groups)
	r.groups = append(r.groups, one)
}

// asQuestion is the question that a decision answered, about the digest that it
// resolved to then: a tag may name something else now.
func asQuestion(d archive.Decision) (recorded, bool) {
	out := recorded{Decision: d, count: 1}
	ref, err := registry.ParseReference(d.Pinned)
	if err != nil || ref.Digest.IsZero() {
		return out, false
	}
	var result verifier.Result
	if err := json.Unmarshal(d.Result, &result); err != nil {
		return out, false
	}
	image := d.Pinned
	if result.Index != "" {
		image, out.platform = ref.Name()+"@"+result.Index, result.Platform
	}
	out.until = result.Until
	out.request = verifier.Request{
		Images: []string{image}, Platform: out.platform, Policy: d.Policy, Context: d.Context, DryRun: true,
		Timeout: limits.VerifyTimeoutMax,
	}
	return out, true
}

// undecidedResult reports whether a FAILED says only that nothing could be found
// out.
func undecidedResult(verdict policy.Verdict, reasons []policy.Reason) bool {
	return verdict != policy.Passed && !slices.ContainsFunc(reasons, func(r policy.Reason) bool {
		return r.Code != policy.RegistryUnavailable && r.Code != policy.DeadlineExceeded
	})
}

// momentOf reads a time, or a duration from now in the direction of sign.
func momentOf(field, text string, now time.Time, sign int, most, byDefault time.Duration) (time.Time, error) {
	distance := byDefault
	if text != "" {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			distance = at.Sub(now) * time.Duration(sign)
		} else if distance, err = time.ParseDuration(text); err != nil {
			return time.Time{}, badField(field, "must be a time such as 2026-12-01T00:00:00Z or a duration such as 72h")
		}
	}
	if distance <= 0 || distance > most {
		return time.Time{}, badField(field, fmt.Sprintf("must lie within %d days", most/(24*time.Hour)))
	}
	return now.Add(distance * time.Duration(sign)), nil
}
