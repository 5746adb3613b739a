package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Decision is one answered question: may this image run here?
type Decision struct {
	// ID is a UUIDv7; empty lets Decide make one.
	ID string `json:"id"`
	// Image is the reference as it was asked, Pinned the same with the digest
	// it resolved to, empty when it did not.
	Image      string `json:"image"`
	Pinned     string `json:"pinned,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Repository string `json:"repository,omitempty"`
	// Verdict is PASSED or FAILED.
	Verdict string `json:"verdict"`
	// Policy is the policy that was asked for, empty when all that match
	// applied.
	Policy string `json:"policy,omitempty"`
	// Caller is who asked, Context what they said of the place.
	Caller  string            `json:"caller"`
	Context map[string]string `json:"context,omitempty"`
	// Result is the whole result as answered.
	Result json.RawMessage `json:"result,omitempty"`
	// CreatedAt zero lets Decide fill it.
	CreatedAt time.Time `json:"createdAt"`
}

// Decide keeps decisions durably, all or none. A decision whose ID is kept
// already is passed over, so that a repeated call does no harm. Errors: ErrItem
// and those of the store.
func (a *Archive) Decide(ctx context.Context, ds ...Decision) error {
	rows := make([]store.Decision, 0, len(ds))
	for _, d := range ds {
		row, err := a.decisionRow(d.clone())
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return a.decisions.Add(ctx, rows...)
}

func (a *Archive) decisionRow(d Decision) (store.Decision, error) {
	if d.Verdict == "" {
		return store.Decision{}, fmt.Errorf("%w: a decision without a verdict", ErrItem)
	}
	if d.ID == "" {
		d.ID = a.newID()
	}
	if d.CreatedAt.IsZero() {
		d.CreatedAt = a.clock.Now()
	}
	d.CreatedAt = d.CreatedAt.UTC()
	body, err := json.Marshal(d)
	if err != nil {
		return store.Decision{}, fmt.Errorf("%w: %w", ErrItem, err)
	}
	return store.Decision{
		ID: d.ID, Image: column(d.Image), Digest: d.Digest, Verdict: d.Verdict, Policy: column(d.Policy),
		Caller: column(d.Caller), Body: body, CreatedAt: d.CreatedAt,
	}, nil
}

// column is s as the store can hold it as text. What was asked may be any
// string: a question must not go unrecorded because it holds a NUL. No valid
// reference is changed; the body keeps the whole.
func column(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > store.MaxText {
		s = strings.ToValidUTF8(s[:store.MaxText], "") // less a character cut in two
	}
	return s
}

// Decision returns one decision, or store.ErrNotFound.
func (a *Archive) Decision(ctx context.Context, id string) (Decision, error) {
	row, err := a.decisions.Get(ctx, id)
	if err != nil {
		return Decision{}, err
	}
	return parseDecision(row)
}

// Decisions returns decisions, newest first, and the cursor of the next page or
// "".
func (a *Archive) Decisions(ctx context.Context, filter store.DecisionFilter, page store.Page) ([]Decision, string, error) {
	filter.Image = column(filter.Image)
	rows, next, err := a.decisions.List(ctx, filter, page)
	if err != nil {
		return nil, "", err
	}
	decisions := make([]Decision, 0, len(rows))
	for _, row := range rows {
		d, err := parseDecision(row)
		if err != nil {
			return nil, "", err
		}
		decisions = append(decisions, d)
	}
	return decisions, next, nil
}

func parseDecision(row store.Decision) (Decision, error) {
	var d Decision
	if err := strictjson.Unmarshal(row.Body, &d); err != nil {
		return Decision{}, fmt.Errorf("reading decision %s: %w", row.ID, err)
	}
	return d, nil
}
