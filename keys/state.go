package keys

import (
	"fmt"
	"slices"
)

// State is where a key version stands in the life cycle of SP 800-57 part 1 §7.
type State string

// The six states.
const (
	// PreActive: generated, its public half may be published, does not sign.
	PreActive State = "pre-active"
	// Active: signs.
	Active State = "active"
	// Suspended: does not sign until resumed; earlier signatures stay good.
	Suspended State = "suspended"
	// Deactivated: never signs again; earlier signatures stay good.
	Deactivated State = "deactivated"
	// Compromised: never signs again; only signatures with a proven time
	// before the compromise stay good.
	Compromised State = "compromised"
	// Destroyed: the private half no longer exists.
	Destroyed State = "destroyed"
)

// States lists every state in the order of a life.
func States() []State {
	return []State{PreActive, Active, Suspended, Deactivated, Compromised, Destroyed}
}

// CanMove reports whether the life cycle has a step between two states. A
// state is not a successor of itself: doing a thing twice is an error.
func CanMove(from, to State) bool { return slices.Contains(successors(from), to) }

func successors(s State) []State {
	switch s {
	case PreActive:
		return []State{Active, Compromised, Destroyed}
	case Active:
		return []State{Suspended, Deactivated, Compromised, Destroyed}
	case Suspended:
		return []State{Active, Deactivated, Compromised, Destroyed}
	case Deactivated:
		return []State{Compromised, Destroyed}
	case Compromised:
		return []State{Destroyed}
	default:
		return nil
	}
}

// TransitionError names the step that the life cycle does not have.
type TransitionError struct {
	Name     string
	From, To State
}

// Error names both states.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("key %s is %s and cannot become %s", e.Name, e.From, e.To)
}

// Unwrap makes errors.Is(err, ErrTransition) true.
func (e *TransitionError) Unwrap() error { return ErrTransition }
