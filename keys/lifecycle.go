package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/countersign/countersign/store"
)

// attempts bounds how often a change is applied anew because another process
// changed the same key in between.
const attempts = 5

// reasonSize bounds a revocation's reason, in bytes.
const reasonSize = 1024

// Activate makes a pre-active current version active.
func (r *Ring) Activate(ctx context.Context, name string) (Key, error) {
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		v := rec.current()
		if v.State != PreActive {
			return &TransitionError{Name: name, From: v.State, To: Active}
		}
		v.State, v.ActivatedAt = Active, &now
		return nil
	})
}

// Rotate makes a new active version current and deactivates the one before,
// which must be active, suspended or compromised; a compromised one stays so.
// A retired or destroyed key is not rotated: its name has come to its end.
// A key in another back end is never changed there: see RotateTo.
func (r *Ring) Rotate(ctx context.Context, name string) (Key, error) {
	return r.RotateTo(ctx, name, "")
}

func (r *Ring) rotateFile(ctx context.Context, rec record) (Key, error) {
	// An RSA key takes seconds to generate; nobody waits for it under the lock.
	private, err := rec.Algorithm.generate(r.rand)
	if err != nil {
		return Key{}, fmt.Errorf("generating %s key: %w", rec.Algorithm, err)
	}
	return r.change(ctx, rec.Name, func(rec *record, now time.Time) error {
		if err := rec.succeed(now); err != nil {
			return err
		}
		return r.addVersion(rec, private, Active, now)
	})
}

// succeed ends the current version's time because another follows.
func (r *record) succeed(now time.Time) error {
	v := r.current()
	switch v.State {
	case Active, Suspended:
		v.State, v.DeactivatedAt = Deactivated, &now
	case Compromised:
	default:
		return &TransitionError{Name: r.Name, From: v.State, To: Active}
	}
	return nil
}

// Suspend stops the current version from signing until Resume.
func (r *Ring) Suspend(ctx context.Context, name string) (Key, error) {
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		v := rec.current()
		if !CanMove(v.State, Suspended) {
			return &TransitionError{Name: name, From: v.State, To: Suspended}
		}
		v.State, v.SuspendedAt = Suspended, &now
		return nil
	})
}

// Resume lets a suspended version sign again.
func (r *Ring) Resume(ctx context.Context, name string) (Key, error) {
	return r.change(ctx, name, func(rec *record, _ time.Time) error {
		v := rec.current()
		if v.State != Suspended {
			return &TransitionError{Name: name, From: v.State, To: Active}
		}
		v.State, v.SuspendedAt = Active, nil
		return nil
	})
}

// Retire deactivates the current version for good; the key signs no more. A key
// of the service's own is not retired: nothing could take its place.
func (r *Ring) Retire(ctx context.Context, name string) (Key, error) {
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		v := rec.current()
		if !CanMove(v.State, Deactivated) || !slices.Contains(rec.Purposes, PurposeSign) {
			return &TransitionError{Name: name, From: v.State, To: Deactivated}
		}
		v.State, v.DeactivatedAt = Deactivated, &now
		return nil
	})
}

// Revoke declares the current version compromised, and with it every version
// that was in use at compromisedAt or later. Signatures of these versions are
// believed only with a proven time before compromisedAt. Nil says that nobody
// knows since when: then no version there was so far is believed in anything.
// Rotate makes a version that is.
//
// Revoking again is accepted when it narrows what is believed (an earlier time,
// a time that reaches an earlier version, or none after one) and ErrTransition
// otherwise.
// ErrReason: the reason is empty, longer than 1024 bytes or not UTF-8, or
// compromisedAt lies in the future.
func (r *Ring) Revoke(ctx context.Context, name, reason string, compromisedAt *time.Time) (Key, error) {
	if reason == "" || len(reason) > reasonSize || !utf8.ValidString(reason) {
		return Key{}, fmt.Errorf("%w: a reason of 1 to %d bytes is needed", ErrReason, reasonSize)
	}
	var since *time.Time
	if compromisedAt != nil {
		at := compromisedAt.UTC().Truncate(time.Microsecond)
		since = &at
	}
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		if since != nil && since.After(now) {
			return fmt.Errorf("%w: the compromise lies in the future", ErrReason)
		}
		narrowed := false
		for i := range rec.Versions {
			v := &rec.Versions[i]
			if v == rec.current() || v.usedSince(since) {
				narrowed = v.compromise(reason, since, now) || narrowed
			}
		}
		if !narrowed {
			return &TransitionError{Name: name, From: rec.current().State, To: Compromised}
		}
		return nil
	})
}

// usedSince reports whether the version could sign at t or later; nil is the
// beginning of time.
func (v *recordVersion) usedSince(t *time.Time) bool {
	return t == nil || v.DeactivatedAt == nil || !v.DeactivatedAt.Before(*t)
}

// compromise narrows what is believed of a version and reports whether it did.
// It never widens: an unknown time is not replaced by a known one, nor a known
// one by a later. A destroyed version stays destroyed and is judged alike.
func (v *recordVersion) compromise(reason string, since *time.Time, now time.Time) bool {
	narrower := v.RevokedAt == nil ||
		v.CompromisedAt != nil && (since == nil || since.Before(*v.CompromisedAt))
	if !narrower {
		return false
	}
	if CanMove(v.State, Compromised) {
		v.State = Compromised
	}
	v.RevokedAt, v.CompromisedAt, v.RevokedReason = &now, since, reason
	return true
}

// Destroy deletes the private half of every version. It is for keys that were
// retired or revoked; a key that could still sign is ErrTransition. A key in
// another back end is only forgotten here: it is for its operator to delete, and
// nothing signs through this ring with it any more. Copies in
// backups and in pages the database has not reused yet are out of its reach.
func (r *Ring) Destroy(ctx context.Context, name string) (Key, error) {
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		switch v := rec.current(); v.State {
		case PreActive, Deactivated, Compromised:
		default:
			return &TransitionError{Name: name, From: v.State, To: Destroyed}
		}
		for i := range rec.Versions {
			if v := &rec.Versions[i]; v.State != Destroyed {
				v.State, v.DestroyedAt, v.Sealed = Destroyed, &now, nil
			}
		}
		return nil
	})
}

// change applies a step to a managed key. It holds the key's
// lock from before the row is read until after it is durable: signatures in
// progress end before, later ones find the new state. Whatever the store
// answers, what is in memory is not believed afterwards, because a write cut
// short by its context may have happened.
func (r *Ring) change(ctx context.Context, name string, step func(*record, time.Time) error) (Key, error) {
	s, err := r.slot(ctx, name)
	if err != nil {
		return Key{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.forget()
	for range attempts {
		var k Key
		if k, err = r.changeOnce(ctx, name, step); !errors.Is(err, store.ErrStale) {
			return k, err
		}
	}
	return Key{}, err
}

func (r *Ring) changeOnce(ctx context.Context, name string, step func(*record, time.Time) error) (Key, error) {
	rec, err := r.read(ctx, name)
	if err != nil {
		return Key{}, err
	}
	k, err := rec.key()
	if err != nil {
		return Key{}, err
	}
	if !k.Managed() {
		return Key{}, fmt.Errorf("%w: %q belongs to the service", ErrPurpose, name)
	}
	now := r.now()
	if err := step(&rec, now); err != nil {
		return Key{}, err
	}
	return r.write(ctx, rec, now)
}
