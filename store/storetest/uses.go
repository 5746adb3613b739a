package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

func useLaws(t *testing.T, db *store.DB) {
	ctx, u := context.Background(), db.Uses()
	now, until := instant(0), instant(0).Add(time.Minute)
	// The end of the year 9999 is beyond what nanoseconds count.
	for _, id := range []string{"a", "b"} {
		wantUse(t, u, id, "first", now, until, true)
	}
	wantUse(t, u, "far", "first", now, time.Unix(253402300799, 0), true)
	wantUse(t, u, "a", "first", now, until, true)
	wantUse(t, u, "a", "second", now, until, false)
	wantUse(t, u, "a", "first", now, until, true)
	wantUse(t, u, "a", "second", until.Add(-time.Second), until, false)
	wantUse(t, u, "a", "second", until.Add(time.Second), until.Add(time.Hour), true)
	wantUse(t, u, "a", "first", until.Add(time.Second), until.Add(time.Hour), false)
	wantUse(t, u, "far", "second", until.Add(time.Hour), until, false)
	_, err := u.Use(ctx, "nul\x00", "x", now, until)
	wantError(t, err, store.ErrText)
}

func wantUse(t *testing.T, u store.Uses, id, purpose string, now, until time.Time, want bool) {
	t.Helper()
	got, err := u.Use(context.Background(), id, purpose, now, until)
	noError(t, err)
	if got != want {
		t.Errorf("use of %s for %s: %t, want %t", id, purpose, got, want)
	}
}

func useOneWinner(t *testing.T, db *store.DB) {
	var winners atomic.Int32
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			won, err := db.Uses().Use(context.Background(), "one", fmt.Sprint(n), instant(0), instant(0).Add(time.Hour))
			if err != nil {
				t.Error(err)
			}
			if won {
				winners.Add(1)
			}
		})
	}
	wg.Wait()
	if n := winners.Load(); n != 1 {
		t.Errorf("%d callers won, want 1", n)
	}
}
