//go:build faults && linux && (amd64 || arm64)

package faultinject

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrForbidden says that this machine does not let a process trace its child.
var ErrForbidden = errors.New("tracing is not permitted here")

// Mode is what happens at a step.
type Mode int

// The modes.
const (
	// None counts only.
	None Mode = iota
	// Error reports an error for a call that is not executed.
	Error
	// Persisted reports an error for a call that is executed.
	Persisted
	// Kill ends the process before the call.
	Kill
	// KillAfter ends it after the call.
	KillAfter
)

// String is the mode in a report.
func (m Mode) String() string {
	return [...]string{"none", "error", "error but persisted", "kill before", "kill after"}[m]
}

// Fault is what to do to which step.
type Fault struct {
	// Step counts from 1; 0 injects nothing.
	Step int
	Mode Mode
	// Errno is what Error and Persisted report.
	Errno syscall.Errno
}

// String is the fault in a report.
func (f Fault) String() string {
	if f.Step == 0 {
		return "no fault"
	}
	return fmt.Sprintf("%s at step %d (%v)", f.Mode, f.Step, f.Errno)
}

// Step is a call that was counted.
type Step struct {
	Call string
	Path string
}

// Report is what a run did.
type Report struct {
	Steps []Step
	// Injected says that the step was reached.
	Injected bool
	// Status is how the program ended.
	Status syscall.WaitStatus
	// Output is what it wrote to the descriptors it was given.
	Output []byte
}
