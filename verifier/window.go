package verifier

import (
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
)

// stampGrain is how far a proven time may be from the act: authorities cut
// times to whole seconds and state an accuracy of one second.
const stampGrain = time.Second

// window judges a managed key's version at the proven times of a signature
// (row D2). Every proven time must fall into the window, so a second,
// backdated stamp gains nothing.
//
// A version revoked with an unknown moment of compromise is good for nothing;
// with a known one, signatures proven to be older stay good (SP 800-57 part 1
// section 5.5).
func window(v keys.Version, times []time.Time) *fault {
	if v.RevokedAt != nil && v.CompromisedAt == nil {
		return faultf(policy.KeyRevoked, "the signing key was revoked")
	}
	if v.ActivatedAt == nil {
		return faultf(policy.KeyOutsideWindow, "the signing key was never activated")
	}
	for _, at := range times {
		switch {
		case v.CompromisedAt != nil && !at.Add(stampGrain).Before(*v.CompromisedAt):
			return faultf(policy.KeyRevoked, "the signature is not proven to be older than the compromise of its key")
		case at.Add(stampGrain).Before(*v.ActivatedAt):
			return faultf(policy.KeyOutsideWindow, "the signature is older than its key's activation")
		case v.DeactivatedAt != nil && at.After(*v.DeactivatedAt):
			return faultf(policy.KeyOutsideWindow, "the signature is younger than its key's deactivation")
		case v.SuspendedAt != nil && at.After(*v.SuspendedAt):
			return faultf(policy.KeyOutsideWindow, "the signature was made while its key was suspended")
		}
	}
	return nil
}

// notFuture refuses proven times after now: an authority's clock that runs
// ahead would carry signatures past a compromise.
func notFuture(now time.Time, times []time.Time) *fault {
	for _, at := range times {
		if at.After(now.Add(limits.ClockSkew)) {
			return faultf(policy.TimestampInvalid, "the proven time of the signature lies in the future")
		}
	}
	return nil
}
