package verifier

import (
	"context"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
)

// Ahead is what becomes of an image by time alone, under the trust of now.
type Ahead struct {
	// Result is the verdict now.
	Result Result
	// FailsAt is when it stops to be PASSED: now if it is FAILED, zero if not
	// before the moment asked for.
	FailsAt time.Time
	// Reasons are why it is FAILED then.
	Reasons []policy.Reason
}

// Ahead judges the one image of a request now and at each moment before
// another at which time alone may change the verdict, until it is FAILED. No
// decision is kept. Errors are those of Verify.
func (v *Verifier) Ahead(ctx context.Context, request Request, before time.Time) (Ahead, error) {
	request.DryRun = true
	now := v.clock.Now()
	var out Ahead
	for step, at := 0, now; step < limits.ForecastSteps; step++ {
		answer, err := v.Verify(ctx, request)
		if err != nil {
			return Ahead{}, err
		}
		r := answer.Results[0]
		if step == 0 {
			out.Result = r
		}
		switch {
		case r.Verdict != policy.Passed:
			out.FailsAt, out.Reasons = at, r.Reasons
			return out, nil
		case r.Until == nil || !r.Until.At.Before(before):
			return out, nil
		case step > 0 && !r.Until.At.After(at), step == limits.ForecastSteps-1:
			// It does not get further: what is known of its end is told.
			out.FailsAt, out.Reasons = r.Until.At, []policy.Reason{r.Until.Reason}
			return out, nil
		}
		at = r.Until.At
		request.At = at.Add(time.Nanosecond) // an attestation that is exactly as old as it may be still counts
	}
	return out, nil
}
