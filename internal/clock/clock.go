// Package clock is the one source of time. Everything that judges or records
// time takes a Clock by constructor, so that tests can move it and no layer
// asks the machine behind another's back.
package clock

import "time"

// Clock tells the time. Implementations are safe for concurrent use.
type Clock interface {
	// Now is the current time in UTC.
	Now() time.Time
}

// System is the machine's clock.
type System struct{}

// Now is the machine's current time in UTC.
func (System) Now() time.Time { return time.Now().UTC() } //nolint:forbidigo // the one place that asks the machine

// Func makes a Clock of a function.
type Func func() time.Time

// Now calls the function.
func (f Func) Now() time.Time { return f() }
