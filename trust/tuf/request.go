package tuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/countersign/countersign/internal/strictjson"
)

// request is what work/rotate.json holds.
type request struct {
	// Roles get a new online key in the place of their online keys, Online in
	// the place of every key they have.
	Roles  []Role `json:"roles"`
	Online []Role `json:"online"`
}

// Request asks the service to replace its own key of roles. The next Refresh
// drafts the root for it, once there is no other draft; where the service holds
// the root keys, it also publishes it.
func (f *Folder) Request(ctx context.Context, roles ...Role) error {
	return f.ask(ctx, request{Roles: roles})
}

// RequestOnline is Request for roles whose keys are offline or lost: one new
// key of the service takes the place of all they have.
func (f *Folder) RequestOnline(ctx context.Context, roles ...Role) error {
	return f.ask(ctx, request{Online: roles})
}

func (f *Folder) ask(ctx context.Context, more request) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the kernel gives the lock back at the latest when the process ends
	there, err := f.requested()
	if err != nil {
		return err
	}
	for _, role := range slices.Concat(more.Roles, more.Online) {
		if _, err := ParseRole(string(role)); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(request{Roles: union(there.Roles, more.Roles), Online: union(there.Online, more.Online)})
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	return f.write(requestFile, raw)
}

func union(a, b []Role) []Role {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// requested is what is asked for; empty when nothing is.
func (f *Folder) requested() (request, error) {
	raw, err := f.read(requestFile)
	if errors.Is(err, ErrNotFound) {
		return request{}, nil
	}
	if err != nil {
		return request{}, err
	}
	var r request
	if err := strictjson.Unmarshal(raw, &r); err != nil {
		return request{}, damaged(requestFile, err)
	}
	for _, role := range slices.Concat(r.Roles, r.Online) {
		if _, err := ParseRole(string(role)); err != nil {
			return request{}, damaged(requestFile, err)
		}
	}
	return r, nil
}
