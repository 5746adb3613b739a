package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
)

const day = 24 * time.Hour

// term is how long a document of a role is valid.
type term struct {
	// valid is from signing on.
	valid time.Duration
	// renew is how long before its end the service makes the next one.
	renew time.Duration
	// warn is how long before its end somebody must look: either renewal does
	// not work, or it needs people.
	warn time.Duration
}

// terms keeps the shortest-lived document, which limits how long a client can
// be shown an old state, at a week, renewed daily.
func terms(role Role) term {
	switch role {
	case Timestamp:
		return term{valid: 7 * day, renew: 6 * day, warn: 3 * day}
	case Snapshot:
		return term{valid: 28 * day, renew: 21 * day, warn: 10 * day}
	case Targets:
		return term{valid: 182 * day, renew: 91 * day, warn: 60 * day}
	default:
		return term{valid: 365 * day, renew: 182 * day, warn: 90 * day}
	}
}

// KeyStatus is a key of a role.
type KeyStatus struct {
	ID string `json:"id"`
	// Online says that the service signs with it.
	Online bool `json:"online"`
}

// RoleStatus is the published document of a role.
type RoleStatus struct {
	Role      Role        `json:"role"`
	Version   int64       `json:"version"`
	Expires   time.Time   `json:"expires"`
	Threshold int         `json:"threshold"`
	Keys      []KeyStatus `json:"keys"`
	// Attention says that it runs out soon and was not renewed.
	Attention bool `json:"attention"`
}

// Status is what is published and what waits.
type Status struct {
	Roles  []RoleStatus `json:"roles"`
	Drafts []Draft      `json:"drafts"`
	// Requested are roles whose online key is to be replaced once there is no
	// draft of a root.
	Requested []Role `json:"requested"`
}

// Status reads the folder as it is at a time. ErrEmpty: nothing was published
// yet. ErrDamaged: the files do not prove each other.
func (f *Folder) Status(now time.Time) (Status, error) {
	s, err := f.load()
	if err != nil {
		return Status{}, err
	}
	if s.root() == nil {
		return Status{}, ErrEmpty
	}
	online, err := f.onlineKeys()
	if err != nil {
		return Status{}, err
	}
	out := Status{Roles: s.status(now, online), Drafts: []Draft{}, Requested: []Role{}}
	for _, role := range []Role{Root, Targets} {
		draft, err := f.draft(s, role)
		if err == nil {
			out.Drafts = append(out.Drafts, draft)
		} else if !errors.Is(err, ErrDraft) {
			return Status{}, err
		}
	}
	requested, err := f.requested()
	out.Requested = append(out.Requested, union(requested.Roles, requested.Online)...)
	return out, err
}

func (s *state) status(now time.Time, online []string) []RoleStatus {
	var out []RoleStatus
	add := func(role Role, version int64, expires time.Time) {
		rules := s.root().Signed.Roles[string(role)]
		status := RoleStatus{
			Role: role, Version: version, Expires: expires, Threshold: rules.Threshold,
			Attention: expires.Sub(now) < terms(role).warn,
		}
		for _, id := range rules.KeyIDs {
			status.Keys = append(status.Keys, KeyStatus{ID: id, Online: slices.Contains(online, id)})
		}
		out = append(out, status)
	}
	root := s.root().Signed
	add(Root, root.Version, root.Expires)
	add(Targets, s.targets.Signed.Version, s.targets.Signed.Expires)
	add(Snapshot, s.snapshot.Signed.Version, s.snapshot.Signed.Expires)
	add(Timestamp, s.timestamp.Signed.Version, s.timestamp.Signed.Expires)
	return out
}

// online is what work/online.json holds: which keys the service signs with, for
// readers of the folder that hold no keys.
type online struct {
	Keys []string `json:"keys"`
}

func (f *Folder) onlineKeys() ([]string, error) {
	raw, err := f.read(onlineFile)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var o online
	if err := strictjson.Unmarshal(raw, &o); err != nil {
		return nil, damaged(onlineFile, err)
	}
	return o.Keys, nil
}

func (f *Folder) saveOnline(ids []string) error {
	raw, err := json.Marshal(online{Keys: ids})
	if err != nil {
		return fmt.Errorf("encoding the list of online keys: %w", err)
	}
	return f.update(onlineFile, raw)
}
